package tunnel

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is how the opening of a stream ended.
type outcome uint8

const (
	opened outcome = iota
	refused
	failed   // the tunnel did not last, or there was none
	canceled // who wanted it does not any more
	outcomes
)

func (o outcome) String() string {
	return [...]string{"opened", "refused", "failed", "canceled"}[o]
}

// traffic counts what there is with one cluster.
type traffic struct {
	tunnels, streams atomic.Int64
	in, out          atomic.Uint64 // octets, TLS not included
	died             atomic.Uint64
	missed           atomic.Uint64 // heartbeats
	dropped          atomic.Uint64 // datagrams
	opens            [outcomes]atomic.Uint64
}

// clustersCounted is how many clusters are counted each for itself. Only those with a certificate are counted at all.
const clustersCounted = 1024

// others stands for the clusters beyond.
const others = "_others"

// traffics has the counters by cluster.
type traffics struct {
	mu       sync.Mutex
	clusters map[string]*traffic
}

func (t *traffics) of(cluster string) *traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.clusters) >= clustersCounted && t.clusters[cluster] == nil {
		cluster = others
	}
	if t.clusters == nil {
		t.clusters = map[string]*traffic{}
	}
	if t.clusters[cluster] == nil {
		t.clusters[cluster] = &traffic{}
	}
	return t.clusters[cluster]
}

// meters describe the metrics of one side.
type meters struct {
	tunnels, streams, windows               *prometheus.Desc
	bytes, died, missed, dropped, opens, no *prometheus.Desc
	rtt                                     *prometheus.Desc
}

// newMeters describes the metrics of a side: "dialer" or "server".
func newMeters(side string) *meters {
	labels := prometheus.Labels{"side": side}
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("hansa_tunnel_"+name, help, variable, labels)
	}
	return &meters{
		tunnels: desc("tunnels", "Tunnels that are up, by the other cluster.", "cluster"),
		streams: desc("streams", "Streams that are open, by the other cluster.", "cluster"),
		windows: desc("window_bytes", "What streams may have on their way beyond what each has at first."),
		bytes:   desc("bytes_total", "Octets in tunnels, without what TLS adds, by direction and the other cluster.", "cluster", "direction"),
		died:    desc("died_total", "Tunnels that ended though nobody wanted it, by the other cluster.", "cluster"),
		missed:  desc("heartbeats_missed_total", "Heartbeats that were not answered before the next, by the other cluster.", "cluster"),
		dropped: desc("datagrams_dropped_total", "Datagrams that were dropped because nobody read them in time, by the other cluster.", "cluster"),
		opens:   desc("opens_total", "Streams that were asked for, by result and the other cluster.", "cluster", "result"),
		no:      desc("refused_total", "Connections that became no tunnel, by reason.", "reason"),
		rtt:     desc("rtt_seconds", "Time to the other side and back, the mean over tunnels, by the other cluster.", "cluster"),
	}
}

func (m *meters) describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.tunnels, m.streams, m.windows, m.bytes, m.died, m.missed, m.dropped, m.opens, m.no, m.rtt} {
		to <- d
	}
}

func gauge(to chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func counter(to chan<- prometheus.Metric, d *prometheus.Desc, value uint64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

// collect sends what both sides count. sessions are those that are up.
func (m *meters) collect(to chan<- prometheus.Metric, t *traffics, b *budget, sessions []*session) {
	gauge(to, m.windows, float64(b.used.Load()))
	type mean struct{ sum, n float64 }
	means := map[*traffic]mean{}
	for _, s := range sessions {
		if rtt := s.rtt.Load(); rtt > 0 {
			old := means[s.traffic]
			means[s.traffic] = mean{old.sum + float64(rtt)/1e9, old.n + 1}
		}
	}
	t.mu.Lock()
	clusters := maps.Clone(t.clusters)
	t.mu.Unlock()
	for _, cluster := range slices.Sorted(maps.Keys(clusters)) {
		c := clusters[cluster]
		gauge(to, m.tunnels, float64(c.tunnels.Load()), cluster)
		gauge(to, m.streams, float64(c.streams.Load()), cluster)
		counter(to, m.bytes, c.in.Load(), cluster, "in")
		counter(to, m.bytes, c.out.Load(), cluster, "out")
		counter(to, m.died, c.died.Load(), cluster)
		counter(to, m.missed, c.missed.Load(), cluster)
		counter(to, m.dropped, c.dropped.Load(), cluster)
		if at, known := means[c]; known {
			gauge(to, m.rtt, at.sum/at.n, cluster)
		}
		for o := range outcomes {
			counter(to, m.opens, c.opens[o].Load(), cluster, o.String())
		}
	}
}
