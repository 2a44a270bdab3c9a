package xds

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/xds/translate"
)

// metrics are those of one Source. Package ads measures what comes after: sending and being accepted.
type metrics struct {
	translation *prometheus.HistogramVec
	resources   *prometheus.GaugeVec
	refused     *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		translation: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hansa_xds_translate_seconds", Help: "Time to translate what a new snapshot changes for one view, by flavour: grpc, proxy, agent.",
			Buckets: prometheus.ExponentialBuckets(10e-6, 2, 16),
		}, []string{"flavour"}),
		resources: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hansa_xds_view_resources", Help: "Resources in a view, named FLAVOUR/CLUSTER/ZONE.",
		}, []string{"view"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hansa_xds_policies_left_out_total",
			Help: "Translations of services without their policy's part for clients, because it made invalid resources, by flavour.",
		}, []string{"flavour"}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.translation, m.resources, m.refused}
}

func (m *metrics) translated(client translate.Client, resources int, took time.Duration) {
	m.translation.WithLabelValues(string(client.Flavour)).Observe(took.Seconds())
	m.resources.WithLabelValues(client.String()).Set(float64(resources))
}

func (m *metrics) leftOut(f translate.Flavour) { m.refused.WithLabelValues(string(f)).Inc() }

func (m *metrics) gone(client translate.Client) { m.resources.DeleteLabelValues(client.String()) }
