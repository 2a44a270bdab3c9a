package agents

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/eastwest/health"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Observed is what agents say of one cluster, and what was concluded of it.
type Observed struct {
	// DataPlane is the verdict on the cluster.
	DataPlane clusterset.Health
	// Gateways are those that agents of the cluster said of themselves and that are not leaving, with the verdict on each;
	// sorted by node. Nil means that no agent of it has spoken yet, and for the first seconds of a hub that not all have that
	// its table knows: they are about to come. Empty means that there are none.
	Gateways []clusterset.Gateway
	// Seen are the verdicts on all gateways of the cluster that have one, by the address of their tunnels: those in Gateways,
	// and those that only the hub's table has.
	Seen map[netip.AddrPort]clusterset.Health
}

func (o Observed) equal(other Observed) bool {
	return o.DataPlane == other.DataPlane && (o.Gateways == nil) == (other.Gateways == nil) &&
		slices.Equal(o.Gateways, other.Gateways) && maps.Equal(o.Seen, other.Seen)
}

// Snapshots hands out the table of services: clusterset.Latest does.
type Snapshots interface {
	Current() (*clusterset.Snapshot, <-chan struct{})
}

// ServerOptions say what a Server needs.
type ServerOptions struct {
	// Name is what the hub calls itself to agents.
	Name string
	// Identify says who is at the other end. Its error refuses them. It is asked again every few seconds, and on Recheck:
	// whoever it refuses then is cut off. So it is the place to refuse certificates that were revoked.
	Identify func(*peer.Peer) (identity.ID, error)
	// Observe is told of a cluster whenever something of it changes, by one goroutine. It must not wait.
	Observe func(cluster string, o Observed)
	// Snapshots have the gateways that the hub's table knows: they are judged too. Nil: none.
	Snapshots Snapshots
	// Health has defaults for fields that are zero, as has Limits.
	Health health.Options
	Limits Limits
	Log    logr.Logger
}

// Limits bound what agents and admins can make a Server do or keep.
type Limits struct {
	Streams           int           // of one cluster: 128
	AllStreams        int           // in all: 4096
	MessagesPerSecond float64       // of one stream, read later if there are more: 20
	Burst             int           // that may come at once: 40
	First             time.Duration // until a new stream has said Hello: 10 s
	Silence           time.Duration // until a stream that says nothing ends: 10 s
	Traces            int           // at a time: 64
	Watches           int           // at a time: 32
}

func (l Limits) orDefault() Limits {
	return Limits{
		Streams: cmp.Or(l.Streams, 128), AllStreams: cmp.Or(l.AllStreams, 4096), MessagesPerSecond: cmp.Or(l.MessagesPerSecond, 20),
		Burst: cmp.Or(l.Burst, 40), First: cmp.Or(l.First, 10*time.Second), Silence: cmp.Or(l.Silence, 10*time.Second),
		Traces: cmp.Or(l.Traces, 64), Watches: cmp.Or(l.Watches, 32),
	}
}

// leastRest is how long nothing is concluded after a conclusion, unless its time has come.
const leastRest = 2 * time.Millisecond

// recheckPeriod is how often all streams are identified again.
const recheckPeriod = 5 * time.Second

// Server talks with agents. It serves once it is registered, and concludes while it runs.
type Server struct {
	options ServerOptions
	metrics *metrics
	wake    chan struct{} // holds one: something was said
	drained chan struct{} // closed when draining begins

	mu       sync.Mutex
	draining bool
	streams  map[*stream]struct{}
	agents   map[health.Agent]*agent
	begun    time.Time
	machine  *health.Machine
	observed map[string]Observed
	traces   map[uint64]pendingTrace
	traceID  uint64
	watches  int
	told     map[chan struct{}]struct{} // those who wait for Stats
}

// agent is what is known of one, connected or not.
type agent struct {
	hello    Hello
	stream   *stream // nil: not connected
	since    time.Time
	leaving  bool
	reported time.Time
	report   *agentpb.Report
	counted  time.Time
	stats    *agentpb.Stats
}

// NewServer returns a server that knows no agents.
func NewServer(o ServerOptions) *Server {
	o.Limits, o.Health = o.Limits.orDefault(), o.Health.OrDefault()
	now := time.Now()
	return &Server{
		options: o, begun: now, metrics: newMetrics(), wake: make(chan struct{}, 1), drained: make(chan struct{}), streams: map[*stream]struct{}{}, agents: map[health.Agent]*agent{},
		machine: health.New(o.Health, now), observed: map[string]Observed{}, traces: map[uint64]pendingTrace{},
		told: map[chan struct{}]struct{}{},
	}
}

// Register adds the services to a gRPC server. Admit is asked before every answer to an admin; its error refuses.
func (s *Server) Register(registrar grpc.ServiceRegistrar, admit func(context.Context) error) {
	agentpb.RegisterAgentsServer(registrar, s)
	agentpb.RegisterOperationsServer(registrar, operations{server: s, admit: admit})
}

// Run draws conclusions until ctx ends. Then it sends the agents away: they are connected to the other hubs already.
func (s *Server) Run(ctx context.Context) error {
	recheck := time.NewTicker(recheckPeriod)
	defer recheck.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	changed, wake := s.expect(), s.wake
	for {
		select {
		case <-ctx.Done():
			s.Drain()
			return nil
		case <-recheck.C:
			s.Recheck()
			continue
		case <-changed:
			changed = s.expect()
			continue
		case <-rest.C:
			wake = s.wake
			continue
		case <-wake:
		case <-timer.C:
		}
		begin := time.Now()
		next := s.conclude(begin)
		wake = nil // what is said meanwhile is taken together
		rest.Reset(max(leastRest, 3*time.Since(begin)))
		if first := s.begun.Add(s.options.Health.Settle); time.Until(first) > 0 && (next.IsZero() || next.After(first)) {
			next = first
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// Drain ends all streams, and takes no new ones.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.draining = true
		close(s.drained)
	}
	for st := range s.streams {
		st.end(errDraining)
	}
}

// Recheck identifies all who are connected again, and cuts off whom that refuses.
func (s *Server) Recheck() {
	s.mu.Lock()
	streams := slices.Collect(maps.Keys(s.streams))
	s.mu.Unlock()
	for _, st := range streams {
		if _, err := s.identify(st.peer); err != nil {
			st.end(err)
		}
	}
}

func (s *Server) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// expect tells the machine which gateways the table has, and returns what is closed when it may have others.
func (s *Server) expect() <-chan struct{} {
	if s.options.Snapshots == nil {
		return nil
	}
	snapshot, changed := s.options.Snapshots.Current()
	var expected []health.Gateway
	for _, cluster := range snapshot.Clusters() {
		for _, g := range cluster.Gateways {
			if g.Tunnel != 0 {
				expected = append(expected, health.Gateway{Cluster: cluster.ID, Addr: netip.AddrPortFrom(g.Addr.Unmap(), g.Tunnel)})
			}
		}
	}
	s.mu.Lock()
	s.machine.Expect(expected)
	s.mu.Unlock()
	s.wakeUp()
	return changed
}

// conclude has the machine judge, and tells of what changed. It returns when to come again; zero: when something is said.
func (s *Server) conclude(now time.Time) time.Time {
	s.mu.Lock()
	next := s.machine.Step(now)
	s.forget()
	changed := map[string]Observed{}
	for id, p := range s.parts() {
		o, was := s.observe(id, p, now), s.observed[id]
		if o.equal(was) {
			continue
		}
		changed[id], s.observed[id] = o, o
		if o.equal(Observed{}) {
			delete(s.observed, id)
		}
		s.metrics.judged(id, was, o)
		if was.DataPlane != o.DataPlane {
			v, _ := s.machine.OfCluster(id)
			s.options.Log.Info("The verdict on a cluster's data plane changed", "cluster", id, "was", orUnknown(was.DataPlane), "is", orUnknown(o.DataPlane), "why", v.Reason)
		}
	}
	s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(changed)) {
		s.options.Observe(id, changed[id])
	}
	return next
}

func orUnknown(h clusterset.Health) string { return cmp.Or(string(h), "Unknown") }

// part is what there is of one cluster.
type part struct {
	gateways []health.Gateway
	agents   []*agent
}

// parts returns what there is by cluster, also for those that were told of and are gone. The lock is held.
func (s *Server) parts() map[string]*part {
	parts := map[string]*part{}
	of := func(cluster string) *part {
		if parts[cluster] == nil {
			parts[cluster] = &part{}
		}
		return parts[cluster]
	}
	for _, id := range s.machine.Clusters() {
		of(id)
	}
	for id := range s.observed {
		of(id)
	}
	for _, g := range s.machine.Gateways() {
		p := of(g.Cluster)
		p.gateways = append(p.gateways, g)
	}
	for id, a := range s.agents {
		p := of(id.Cluster)
		p.agents = append(p.agents, a)
	}
	return parts
}

// observe puts together what is known of a cluster. The lock is held.
func (s *Server) observe(cluster string, p *part, now time.Time) Observed {
	verdict, held := s.machine.OfCluster(cluster)
	o := Observed{DataPlane: verdict.Health}
	healthOf := func(addr netip.AddrPort) clusterset.Health {
		v, _ := s.machine.OfGateway(health.Gateway{Cluster: cluster, Addr: addr})
		if held {
			return clusterset.Unknown // where all are out, none is taken out
		}
		return v.Health
	}
	for _, g := range p.gateways {
		if h := healthOf(g.Addr); h != clusterset.Unknown {
			if o.Seen == nil {
				o.Seen = map[netip.AddrPort]clusterset.Health{}
			}
			o.Seen[g.Addr] = h
		}
	}
	if !s.listed(p, now) {
		return o
	}
	for _, a := range p.agents {
		h := a.hello
		if o.Gateways == nil {
			o.Gateways = []clusterset.Gateway{}
		}
		if a.leaving || !h.Outside.IsValid() && !h.Inside.IsValid() {
			continue
		}
		o.Gateways = append(o.Gateways, clusterset.Gateway{
			Addr: h.Outside, Port: h.Passthrough, Tunnel: h.Tunnel, Inside: h.Inside, Node: h.Node,
			Health: healthOf(h.tunnelAddr()),
		})
	}
	slices.SortFunc(o.Gateways, func(a, b clusterset.Gateway) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), a.Addr.Compare(b.Addr), cmp.Compare(a.Tunnel, b.Tunnel))
	})
	return o
}

// listed tells whether what agents of a cluster said is all that there is. A hub that has just started has heard from some
// only: what its table knows of the others is not to be lost until they come. The lock is held.
func (s *Server) listed(p *part, now time.Time) bool {
	if now.Sub(s.begun) >= s.options.Health.Settle {
		return true
	}
	said := map[netip.AddrPort]bool{}
	for _, a := range p.agents {
		said[a.hello.tunnelAddr()] = true
	}
	for _, g := range p.gateways {
		if !said[g.Addr] {
			return false
		}
	}
	return true
}

// tunnelAddr is where others open tunnels to the gateway; zero: nowhere.
func (h Hello) tunnelAddr() netip.AddrPort {
	if !h.Outside.IsValid() || h.Tunnel == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(h.Outside, h.Tunnel)
}

// Collectors returns the server's metrics for registration.
func (s *Server) Collectors() []prometheus.Collector {
	return append(s.metrics.collectors(), gauges{s})
}
