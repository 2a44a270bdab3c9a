package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/feed"
)

// feedMetrics tell how a feed stands.
type feedMetrics struct {
	state func() feed.State
	now   func() time.Time

	connected, age, sequence, hubSequence, services, clusters, refused *prometheus.Desc
}

func newFeedMetrics(state func() feed.State, now func() time.Time) []prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hansa_feed_"+name, help, nil, nil)
	}
	return []prometheus.Collector{&feedMetrics{
		state: state, now: now,
		connected:   desc("connected", "1 while a hub answers."),
		age:         desc("age_seconds", "Time since a hub was last heard; 0 while one answers, -1 if none ever was."),
		sequence:    desc("sequence", "Number of the snapshot that is handed out, or of the hub's later one with the same content; 0 while nothing is known. Nanoseconds since 1970, in steps of 2^22."),
		hubSequence: desc("hub_sequence", "Number of the hub's snapshot as of its last response; 0 before the first of a connection."),
		services:    desc("services", "Services that are known."),
		clusters:    desc("clusters", "Clusters that are known."),
		refused:     desc("refused", "Services and clusters whose current facts could not be read; those before are used."),
	}}
}

// Describe implements prometheus.Collector.
func (m *feedMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{m.connected, m.age, m.sequence, m.hubSequence, m.services, m.clusters, m.refused} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *feedMetrics) Collect(out chan<- prometheus.Metric) {
	state := m.state()
	gauge := func(desc *prometheus.Desc, value float64) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	connected, age := 0.0, state.Age(m.now()).Seconds()
	switch {
	case state.Connected:
		connected = 1
	case state.Heard.IsZero():
		age = -1
	}
	gauge(m.connected, connected)
	gauge(m.age, age)
	gauge(m.sequence, float64(state.Sequence))
	gauge(m.hubSequence, float64(state.HubSequence))
	gauge(m.services, float64(state.Services))
	gauge(m.clusters, float64(state.Clusters))
	gauge(m.refused, float64(len(state.Refused)))
}
