package ads

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one server.
type metrics struct {
	streams   *prometheus.GaugeVec
	views     prometheus.Gauge
	resources *prometheus.GaugeVec
	refused   *prometheus.CounterVec
	pushes    *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	nacks     *prometheus.CounterVec
	toSend    *prometheus.HistogramVec
	toACK     *prometheus.HistogramVec
}

var latencies = []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

func newMetrics() *metrics {
	byType := []string{"type"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: latencies}, byType)
	}
	return &metrics{
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hansa_xds_streams", Help: "Open ADS streams by protocol: sotw, delta.",
		}, []string{"protocol"}),
		views: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hansa_xds_views", Help: "Views that are kept up to date because clients see them.",
		}),
		resources: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hansa_xds_resources", Help: "Resources in all views together, by type.",
		}, byType),
		refused: counter("hansa_xds_refused_streams_total", "Streams that were not let in, and connections (tls), by reason.", "reason"),
		pushes:  counter("hansa_xds_pushes_total", "Responses sent, by type.", "type"),
		bytes:   counter("hansa_xds_pushed_bytes_total", "Bytes of the resources in responses sent, by type.", "type"),
		nacks:   counter("hansa_xds_nacks_total", "Responses that clients refused, by type.", "type"),
		toSend:  histogram("hansa_xds_publish_to_send_seconds", "Time from the publication of a change to its sending, by type."),
		toACK:   histogram("hansa_xds_publish_to_ack_seconds", "Time from the publication of a change to the client's ACK, by type."),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.streams, m.views, m.refused, m.pushes, m.bytes, m.nacks, m.toSend, m.toACK,
	}
}

// sent counts a response that went out.
func (m *metrics) sent(label string, out *outgoing, now time.Time) {
	size := 0
	for _, c := range out.items {
		size += len(c.body.any.GetValue())
	}
	m.pushes.WithLabelValues(label).Inc()
	m.bytes.WithLabelValues(label).Add(float64(size))
	if !out.since.IsZero() {
		m.toSend.WithLabelValues(label).Observe(now.Sub(out.since).Seconds())
	}
}

// answered counts what a client said about responses, of which it may have refused the last one.
func (m *metrics) answered(label string, responses []response, refused bool, now time.Time) {
	if refused && len(responses) > 0 {
		m.nacks.WithLabelValues(label).Inc()
		responses = responses[:len(responses)-1]
	}
	for _, out := range responses {
		if !out.since.IsZero() {
			m.toACK.WithLabelValues(label).Observe(now.Sub(out.since).Seconds())
		}
	}
}
