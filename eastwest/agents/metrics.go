package agents

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// metrics are those of one Server.
type metrics struct {
	reports  *prometheus.CounterVec
	verdicts *prometheus.CounterVec
	refused  prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hansa_agents_reports_total", Help: "Reports of agents of gateways, by their cluster.",
		}, []string{"cluster"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hansa_agents_verdict_changes_total", Help: "Changes of the verdict on a cluster's data plane, by what it became: Up, Down, Unknown.",
		}, []string{"cluster", "verdict"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hansa_agents_refused_total", Help: "Streams that were refused, since they were not of a gateway, or too many.",
		}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.reports, m.verdicts, m.refused}
}

// judged counts a change, and forgets clusters that are gone.
func (m *metrics) judged(cluster string, was, is Observed) {
	if is.equal(Observed{}) {
		m.reports.DeleteLabelValues(cluster)
		m.verdicts.DeletePartialMatch(prometheus.Labels{"cluster": cluster})
		return
	}
	if was.DataPlane != is.DataPlane {
		m.verdicts.WithLabelValues(cluster, orUnknown(is.DataPlane)).Inc()
	}
}

var (
	connectedDesc = prometheus.NewDesc("hansa_agents_connected", "Agents of gateways that are connected to this hub, by cluster.", []string{"cluster"}, nil)
	ageDesc       = prometheus.NewDesc("hansa_agents_report_age_seconds",
		"How old the last report of a cluster's agents is: the newest one.", []string{"cluster"}, nil)
	verdictDesc = prometheus.NewDesc("hansa_agents_verdict", "The verdict on a cluster's data plane: 1 Up, 0 Down, 0.5 Unknown.", []string{"cluster"}, nil)
)

// gauges computes what stands when it is asked.
type gauges struct{ *Server }

// Describe implements prometheus.Collector.
func (g gauges) Describe(to chan<- *prometheus.Desc) {
	to <- connectedDesc
	to <- ageDesc
	to <- verdictDesc
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(to chan<- prometheus.Metric) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	connected, newest := map[string]int{}, map[string]time.Time{}
	for id, a := range g.agents {
		connected[id.Cluster] += 0
		if a.stream != nil {
			connected[id.Cluster]++
		}
		if a.reported.After(newest[id.Cluster]) {
			newest[id.Cluster] = a.reported
		}
	}
	for _, cluster := range slices.Sorted(maps.Keys(connected)) {
		to <- prometheus.MustNewConstMetric(connectedDesc, prometheus.GaugeValue, float64(connected[cluster]), cluster)
		if at, ok := newest[cluster]; ok {
			to <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, max(0, now.Sub(at).Seconds()), cluster)
		}
	}
	for _, cluster := range g.machine.Clusters() {
		v, _ := g.machine.OfCluster(cluster)
		to <- prometheus.MustNewConstMetric(verdictDesc, prometheus.GaugeValue, level(v.Health), cluster)
	}
}

// level is a verdict as a number.
func level(h clusterset.Health) float64 {
	switch h {
	case clusterset.Up:
		return 1
	case clusterset.Down:
		return 0
	case clusterset.Unknown:
	}
	return 0.5
}
