package inbound

import (
	"cmp"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Flow is what comes from one cluster for one port of a service.
type Flow struct {
	clusterset.Key

	Port      uint16
	Datagrams bool
	Cluster   string // that it comes from
}

// traffic counts what happened in a flow.
type traffic struct {
	relay.Bytes

	open        atomic.Int64
	connections atomic.Uint64
	outcomes    [relay.Outcomes]atomic.Uint64
}

// traffic returns the counters of a flow. There are not more than services that exist, times clusters that may use them.
func (h *Handler) traffic(f Flow) *traffic {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.traffics[f]
	if t == nil {
		t = &traffic{}
		h.traffics[f] = t
	}
	return t
}

// refused is what was refused. Services are not in it: there is no end of those that others can name.
type refused struct {
	cluster string
	why     Refusal
}

// refused counts and logs a stream that is turned away.
func (h *Handler) refused(from identity.ID, r *tunnel.Request, no *refusal) {
	h.mu.Lock()
	h.refusals[refused{from.Cluster, no.why}]++
	h.mu.Unlock()
	if log := h.log.V(1); log.Enabled() {
		log.Info("stream refused", "from", from.String(), "service", r.Service.String(), "port", r.Port, "reason", string(no.why), "detail", no.message)
	}
}

// FlowStats is what became of the streams of a flow.
type FlowStats struct {
	Flow        Flow
	Open        int64
	Connections uint64
	Outcomes    [relay.Outcomes]uint64 // how they ended, by relay.Outcome
	Up, Down    uint64                 // bytes to pods, and from them
}

// RefusalStats is how many streams of a cluster were refused for a reason.
type RefusalStats struct {
	Cluster string // empty for who proved to be in none
	Reason  Refusal
	Count   uint64
}

// Stats returns what became of all streams, sorted.
func (h *Handler) Stats() ([]FlowStats, []RefusalStats) {
	h.mu.Lock()
	defer h.mu.Unlock()
	flows := make([]FlowStats, 0, len(h.traffics))
	for f, t := range h.traffics {
		s := FlowStats{Flow: f, Open: t.open.Load(), Connections: t.connections.Load(), Up: t.Up.Load(), Down: t.Down.Load()}
		for o := range s.Outcomes {
			s.Outcomes[o] = t.outcomes[o].Load()
		}
		flows = append(flows, s)
	}
	slices.SortFunc(flows, func(a, b FlowStats) int {
		return a.Flow.compare(b.Flow)
	})
	refusals := make([]RefusalStats, 0, len(h.refusals))
	for r, n := range h.refusals {
		refusals = append(refusals, RefusalStats{r.cluster, r.why, n})
	}
	slices.SortFunc(refusals, func(a, b RefusalStats) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Reason, b.Reason))
	})
	return flows, refusals
}

func (f Flow) compare(g Flow) int {
	return cmp.Or(cmp.Compare(f.Namespace, g.Namespace), cmp.Compare(f.Name, g.Name), cmp.Compare(f.Port, g.Port),
		cmp.Compare(f.protocol(), g.protocol()), cmp.Compare(f.Cluster, g.Cluster))
}

// protocol is that of the port, as metrics have it.
func (f Flow) protocol() string {
	if f.Datagrams {
		return "udp"
	}
	return "tcp"
}

// The metrics.
var (
	perFlow = []string{"namespace", "service", "port", "protocol", "from"}

	openDesc        = prometheus.NewDesc("hansa_inbound_streams", "Streams of other clusters that are open.", perFlow, nil)
	connectionsDesc = prometheus.NewDesc("hansa_inbound_streams_total", "Streams of other clusters that were connected to a pod.", perFlow, nil)
	endedDesc       = prometheus.NewDesc("hansa_inbound_ended_total", "Streams that have ended, by outcome.", append([]string{"outcome"}, perFlow...), nil)
	bytesDesc       = prometheus.NewDesc("hansa_inbound_bytes_total", "Bytes delivered to pods (up) and to other clusters (down).", append([]string{"direction"}, perFlow...), nil)
	refusedDesc     = prometheus.NewDesc("hansa_inbound_refused_total", "Streams that were refused, by who opened them and reason.", []string{"from", "reason"}, nil)
)

// Describe sends the metrics that there are.
func (h *Handler) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{openDesc, connectionsDesc, endedDesc, bytesDesc, refusedDesc} {
		to <- d
	}
}

// Collect sends their values.
func (h *Handler) Collect(to chan<- prometheus.Metric) {
	flows, refusals := h.Stats()
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	for _, f := range flows {
		labels := []string{f.Flow.Namespace, f.Flow.Name, strconv.Itoa(int(f.Flow.Port)), f.Flow.protocol(), f.Flow.Cluster}
		with := func(first string) []string { return append([]string{first}, labels...) }
		to <- prometheus.MustNewConstMetric(openDesc, prometheus.GaugeValue, float64(f.Open), labels...)
		counter(connectionsDesc, f.Connections, labels...)
		counter(bytesDesc, f.Up, with("up")...)
		counter(bytesDesc, f.Down, with("down")...)
		for o, n := range f.Outcomes {
			counter(endedDesc, n, with(relay.Outcome(o).String())...)
		}
	}
	for _, r := range refusals {
		counter(refusedDesc, r.Count, r.Cluster, string(r.Reason))
	}
}
