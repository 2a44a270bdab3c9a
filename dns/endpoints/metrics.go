package endpoints

import (
	"github.com/prometheus/client_golang/prometheus"
)

var (
	writes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hansa_external_dns_writes_total",
		Help: "Writes of DNSEndpoints to the host cluster, by verb.",
	}, []string{"verb"})
	failures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "hansa_external_dns_errors_total",
		Help: "Attempts to bring the DNSEndpoint of a service up to date that failed and are tried again.",
	})
)

// Collectors returns the metrics of this package for registration.
func Collectors() []prometheus.Collector { return []prometheus.Collector{writes, failures} }
