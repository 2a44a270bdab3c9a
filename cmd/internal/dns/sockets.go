package dns

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/dns/listen"
)

// sockets are the metrics of package listen.
type sockets struct {
	stats func() listen.Stats

	packets, responses, lost, streams, queries, panics, open, buffer *prometheus.Desc
}

func newSockets(stats func() listen.Stats) *sockets {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hansa_dns_"+name, help, labels, nil)
	}
	return &sockets{
		stats:     stats,
		packets:   desc("udp_packets_total", "Packets received over UDP."),
		responses: desc("udp_responses_total", "Responses sent over UDP."),
		lost:      desc("udp_lost_total", "Packets over UDP that came to nothing, by reason: the kernel's queue was full, too large, too many waited for upstreams, or the kernel did not take the response.", "reason"),
		streams:   desc("connections_total", "Connections, by transport and what became of them.", "transport", "fate"),
		queries:   desc("connection_queries_total", "Queries over connections.", "transport"),
		panics:    desc("panics_total", "Queries that brought the responder to a panic, which is a bug."),
		open:      desc("connections", "Connections that are open.", "transport"),
		buffer:    desc("udp_receive_buffer_bytes", "What the kernel gives the queue of each socket; the smallest."),
	}
}

// Describe implements prometheus.Collector.
func (s *sockets) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{s.packets, s.responses, s.lost, s.streams, s.queries, s.panics, s.open, s.buffer} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (s *sockets) Collect(out chan<- prometheus.Metric) {
	stats := s.stats()
	counter := func(desc *prometheus.Desc, value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counter(s.packets, stats.Packets)
	counter(s.responses, stats.Responses)
	counter(s.lost, stats.Overflows, "overflow")
	counter(s.lost, stats.Oversized, "oversized")
	counter(s.lost, stats.Crowded, "crowded")
	counter(s.lost, stats.Unsent, "unsent")
	counter(s.panics, stats.Panics)
	gauge(s.buffer, float64(stats.ReceiveBuffer))
	for over, stream := range stats.Streams {
		transport := listen.Transport(over)
		if !transport.Stream() {
			continue
		}
		name := transport.String()
		counter(s.streams, stream.Accepted, name, "accepted")
		counter(s.streams, stream.Refused, name, "refused")
		counter(s.streams, stream.Evicted, name, "evicted")
		counter(s.streams, stream.TimedOut, name, "timed out")
		counter(s.queries, stream.Queries, name)
		gauge(s.open, float64(stream.Open), name)
	}
}
