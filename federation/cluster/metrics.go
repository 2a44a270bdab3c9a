package cluster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
)

// Names and meanings of the first three are KubeFed's.
var (
	membersTotal = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubefedcluster_total",
		Help: "Number of member clusters by state: ready, notready, offline.",
	}, []string{"state", "cluster"})
	joinedTotal = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "joined_cluster_total",
		Help: "Number of joined clusters.",
	})
	probeDuration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "cluster_health_status_duration_seconds",
		Help:    "Time of one probe of a member's API server.",
		Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
	})
	probeDurationByCluster = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "hansa_cluster_probe_seconds",
		Help: "Time of the latest probe of a member's API server.",
	}, []string{"cluster"})
	tokenExpiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "hansa_cluster_token_expiry_timestamp_seconds",
		Help: "When the hub's token for a member ends, in seconds since 1970. Absent for tokens that do not end.",
	}, []string{"cluster"})
)

// Collectors returns the metrics of this package for registration.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{membersTotal, joinedTotal, probeDuration, probeDurationByCluster, tokenExpiry}
}

func countMembers(members []*Member) {
	membersTotal.Reset()
	joinedTotal.Set(float64(len(members)))
	for _, m := range members {
		state := "notready"
		switch {
		case m.Health.Ready == corev1.ConditionTrue:
			state = "ready"
		case m.Health.Offline == corev1.ConditionTrue:
			state = "offline"
		}
		membersTotal.WithLabelValues(state, m.Name).Set(1)
	}
}

// forgetMember drops the metrics of a member that is not registered any more.
func forgetMember(cluster string) {
	tokenExpiry.DeleteLabelValues(cluster)
	probeDurationByCluster.DeleteLabelValues(cluster)
}

func observeProbe(cluster string, took time.Duration) {
	probeDuration.Observe(took.Seconds())
	probeDurationByCluster.WithLabelValues(cluster).Set(took.Seconds())
}
