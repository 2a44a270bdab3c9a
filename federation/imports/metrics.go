package imports

import (
	"github.com/prometheus/client_golang/prometheus"
)

var (
	writes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hansa_imports_writes_total",
		Help: "Writes to members for global services, by cluster, kind and verb.",
	}, []string{"cluster", "kind", "verb"})
	failures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hansa_imports_errors_total",
		Help: "Attempts to bring a global service up to date in a member that failed and are tried again.",
	}, []string{"cluster"})
	lag = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "hansa_imports_lag_seconds",
		Help:    "Time from a snapshot, or a change in the member, until what it asks for is written in a member. Changes that ask for no write do not count.",
		Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
	}, []string{"cluster"})
	waiting = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "hansa_imports_waiting",
		Help: "Global services that are still to be looked at in a member.",
	}, []string{"cluster"})
)

// Collectors returns the metrics of this package for registration.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{writes, failures, lag, waiting}
}

// forget drops the metrics of a member that is not registered any more.
func forget(cluster string) {
	labels := prometheus.Labels{"cluster": cluster}
	writes.DeletePartialMatch(labels)
	failures.DeletePartialMatch(labels)
	lag.DeletePartialMatch(labels)
	waiting.DeletePartialMatch(labels)
}
