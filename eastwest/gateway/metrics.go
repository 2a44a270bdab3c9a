package gateway

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
)

// The metrics. Counters are read when they are asked for, so that counting costs nothing but an addition.
var (
	openDesc     = prometheus.NewDesc("hansa_gateway_connections", "Connections of clients that are open.", nil, nil)
	acceptedDesc = prometheus.NewDesc("hansa_gateway_accepted_total", "Connections that were accepted, those that were refused then included.", nil, nil)
	refusedDesc  = prometheus.NewDesc("hansa_gateway_refused_total", "Connections that were refused, by reason.", []string{"reason"}, nil)
	pipesDesc    = prometheus.NewDesc("hansa_gateway_pipes", "Pipes for bulk that are open.", nil, nil)

	perService  = []string{"namespace", "service", "port"}
	relayedDesc = prometheus.NewDesc("hansa_gateway_service_connections", "Connections to a service that are open.", perService, nil)
	endedDesc   = prometheus.NewDesc("hansa_gateway_service_ended_total", "Connections to a service that have ended, by outcome.", append([]string{"outcome"}, perService...), nil)
	bytesDesc   = prometheus.NewDesc("hansa_gateway_service_bytes_total", "Bytes delivered to a service (up) and to its clients (down).", append([]string{"direction"}, perService...), nil)
	dialsDesc   = prometheus.NewDesc("hansa_gateway_service_dial_failures_total", "Endpoints of a service that did not take a connection.", perService, nil)
)

// Describe sends the metrics that there are.
func (s *Server) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{openDesc, acceptedDesc, refusedDesc, pipesDesc, relayedDesc, endedDesc, bytesDesc, dialsDesc} {
		to <- d
	}
}

// Collect sends their values.
func (s *Server) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	pipes, _ := s.pipes.Open()
	gauge(openDesc, float64(s.limits.count()))
	gauge(pipesDesc, float64(pipes))
	counter(acceptedDesc, s.accepted.Load())
	for r := Refusal(1); r < refusals; r++ {
		counter(refusedDesc, s.refusals[r].Load(), r.String())
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for service, t := range s.services {
		labels := []string{service.Namespace, service.Name, strconv.Itoa(int(service.Port))}
		with := func(first string) []string { return append([]string{first}, labels...) }
		gauge(relayedDesc, float64(t.open.Load()), labels...)
		counter(dialsDesc, t.dialFailures.Load(), labels...)
		counter(bytesDesc, t.Up.Load(), with("up")...)
		counter(bytesDesc, t.Down.Load(), with("down")...)
		for o := range relay.Outcomes {
			counter(endedDesc, t.outcomes[o].Load(), with(o.String())...)
		}
	}
}
