package exports

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// delays are the bounds of histograms of what happens within the hub, in seconds.
var delays = []float64{0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1}

var (
	eventsSeen = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hansa_exports_events_total",
		Help: "Objects of members that came, changed or went, as watches told.",
	}, []string{"cluster", "kind"})
	watchRunning = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "hansa_exports_watch_running",
		Help: "Whether a watch is in step with its member: 1, or 0 beside the state that it is in.",
	}, []string{"cluster", "kind", "state"})
	watchStarts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hansa_exports_lists_total",
		Help: "Complete lists that workers began with, at the start and after each failure.",
	}, []string{"cluster", "kind"})
	seenDelay = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "hansa_exports_seen_seconds",
		Help:    "Time from the first bytes of a watch's event being read until the table has it, by kind; lists are not counted.",
		Buckets: delays,
	}, []string{"kind"})
	publishDelay = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "hansa_exports_publish_seconds",
		Help:    "Time from a change being decoded until the snapshot with it is published.",
		Buckets: delays,
	})
	snapshotSequence = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hansa_snapshot_sequence",
		Help: "Number of the newest snapshot of the global service table.",
	})
	snapshotServices = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hansa_snapshot_services",
		Help: "Services in the newest snapshot, those without a valid export included.",
	})
	leftOut = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hansa_exports_left_out_total",
		Help: "Objects of a cluster that were not taken in, since it has more than the hub keeps of one cluster.",
	}, []string{"cluster", "kind"})
	archiveWrites = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hansa_exports_archive_writes_total",
		Help: "Shards of what is known of a cluster that were written to ConfigMaps.",
	}, []string{"cluster"})
	clusterEndpoints = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "hansa_exports_endpoints",
		Help: "Endpoints of exported services by cluster.",
	}, []string{"cluster"})
	ages = &ageCollector{since: map[string]time.Time{}, desc: prometheus.NewDesc("hansa_exports_stale_seconds",
		"How old what is known of a cluster is; 0 while the hub is in step with it.", []string{"cluster"}, nil)}
)

// Collectors returns the metrics of this package for registration.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		eventsSeen, watchRunning, watchStarts, seenDelay, publishDelay, snapshotSequence, snapshotServices, clusterEndpoints, ages, archiveWrites, leftOut,
	}
}

// ageCollector computes ages when it is asked.
type ageCollector struct {
	desc *prometheus.Desc

	mu    sync.Mutex
	since map[string]time.Time
}

// Describe implements prometheus.Collector.
func (c *ageCollector) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

// Collect implements prometheus.Collector.
func (c *ageCollector) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cluster := range slices.Sorted(maps.Keys(c.since)) {
		age := 0.0
		if since := c.since[cluster]; !since.IsZero() {
			age = max(0, time.Since(since).Seconds())
		}
		to <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, age, cluster)
	}
}

func noteAge(cluster string, since time.Time) {
	ages.mu.Lock()
	defer ages.mu.Unlock()
	ages.since[cluster] = since
}

// observeSeen notes how long it took from the events of watches until the table has them.
func observeSeen(changes []change, now time.Time) {
	for i := range changes {
		if c := &changes[i]; !c.came.IsZero() {
			seenDelay.WithLabelValues(c.fact.kind.String()).Observe(max(0, now.Sub(c.came).Seconds()))
		}
	}
}

func observePublished(snapshot *clusterset.Snapshot, changes []change, now time.Time) {
	snapshotSequence.Set(float64(snapshot.Sequence()))
	snapshotServices.Set(float64(snapshot.Len()))
	for i := range changes {
		if seen := changes[i].seen; !seen.IsZero() {
			publishDelay.Observe(now.Sub(seen).Seconds())
		}
	}
}

func observeState(cluster string, kind Kind, old, state State) {
	if old != "" && old != state {
		watchRunning.DeleteLabelValues(cluster, kind.String(), string(old))
	}
	running := 0.0
	if state == StateRunning || state == StateNotInstalled {
		running = 1
	}
	watchRunning.WithLabelValues(cluster, kind.String(), string(state)).Set(running)
}

// forgetCluster drops the metrics of a member that is not registered any more.
func forgetCluster(cluster string) {
	labels := prometheus.Labels{"cluster": cluster}
	eventsSeen.DeletePartialMatch(labels)
	watchRunning.DeletePartialMatch(labels)
	watchStarts.DeletePartialMatch(labels)
	clusterEndpoints.DeletePartialMatch(labels)
	archiveWrites.DeletePartialMatch(labels)
	leftOut.DeletePartialMatch(labels)
	ages.mu.Lock()
	delete(ages.since, cluster)
	ages.mu.Unlock()
}
