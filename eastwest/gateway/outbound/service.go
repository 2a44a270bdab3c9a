package outbound

import (
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Port is one port of a service.
type Port struct {
	clusterset.Key

	Name     string
	Protocol corev1.Protocol // never empty
}

func (p Port) datagrams() bool { return p.Protocol == corev1.ProtocolUDP }

// service is what is known of one port of a service: where its connections may go, and what became of those that went.
type service struct {
	gateway *Gateway
	port    Port
	routes  atomic.Pointer[routes]
	count   atomic.Int64 // connections, those that are being made included
	races   atomic.Uint64

	mu        sync.Mutex
	ejections *route.Ejections
	budget    route.Budget
	open      map[route.Way]int64
	peers     map[string]*peer
	refused   map[string]uint64 // connections that were reset, by reason
}

// routes is where connections may go, as of one snapshot.
type routes struct {
	priorities [][]route.Candidate
	reason     clusterset.Reason
	number     uint16 // of the port
	flight     bool   // what clients say at once may go with the request
}

// peer counts what happened between a service's clients here and one cluster.
type peer struct {
	relay.Bytes

	open        atomic.Int64
	connections atomic.Uint64
	outcomes    [relay.Outcomes]atomic.Uint64
	lost, won   atomic.Uint64 // races; won are those that it entered as a second way
	ejections   atomic.Uint64
	latency     histogram

	errors map[string]uint64 // attempts that failed, by reason; guarded by the service's mu
}

func newService(g *Gateway, p Port) *service {
	s := &service{
		gateway: g, port: p, ejections: route.NewEjections(g.options.Timing), budget: g.options.Budget,
		open: map[route.Way]int64{}, peers: map[string]*peer{}, refused: map[string]uint64{},
	}
	s.routes.Store(&routes{reason: clusterset.NoSuchService})
	return s
}

// follow takes on what a snapshot says.
func (s *service) follow(snapshot *clusterset.Snapshot, from clusterset.Consumer) {
	found := snapshot.Service(s.port.Key)
	next := &routes{number: route.Number(found, s.port.Name, s.port.Protocol)}
	next.priorities, next.reason = route.For(snapshot, from, s.port.Key, s.port.Name, s.port.Protocol)
	next.flight = found != nil && found.Policy != nil && found.Policy.FirstFlight
	s.routes.Store(next)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ejections.Keep(next.priorities)
	maps.DeleteFunc(s.open, func(_ route.Way, n int64) bool { return n == 0 })
}

// look is a service as route.Next sees it, with its mu held.
type look struct {
	*service

	now time.Time
}

// Usable tells whether a way is not left out.
func (l look) Usable(w route.Way) bool { return l.ejections.Usable(w, l.now) }

// Open returns how many connections a way has.
func (l look) Open(w route.Way) int64 { return l.open[w] }

// connection notes that there is a connection to be made.
func (s *service) connection() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget.Connection(time.Now())
}

// choice is what next has to say.
type choice uint8

const (
	found  choice = iota
	none          // everything was tried
	denied        // the budget is used up
)

// next begins an attempt on the next way, and returns after which time another one should be tried beside it.
func (s *service) next(r *routes, tried []route.Way) (a route.Attempt, delay time.Duration, c choice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	w, ok := route.Next(r.priorities, tried, look{s, now}, rand.Uint64N)
	if !ok {
		return a, 0, none
	}
	if len(tried) > 0 && !s.budget.Take(now) {
		return a, 0, denied
	}
	s.open[w]++
	return s.ejections.Begin(w, now), s.ejections.Delay(w), found
}

// end notes what became of an attempt. Unless it connected, the way has one connection less.
func (s *service) end(a route.Attempt, result route.Result, why string) {
	now := time.Now()
	s.mu.Lock()
	out := s.ejections.End(a, result, now, rand.Float64()) //nolint:gosec // G404: to spread load
	p := s.peerLocked(a.Way.Cluster)
	if result != route.Connected {
		s.leaveLocked(a.Way)
	}
	if result == route.Failed || result == route.Refused || result == route.Absent || why == reasonLocal {
		p.errors[why]++
	}
	s.mu.Unlock()
	switch result {
	case route.Connected:
		p.connections.Add(1)
		p.latency.observe(now.Sub(a.Started))
	case route.Lost:
		p.lost.Add(1)
	case route.Failed, route.Refused, route.Absent, route.Dropped:
	}
	if out {
		p.ejections.Add(1)
		s.gateway.log.V(1).Info("way left out for a while", "service", s.port.String(), "port", s.port.Name, "way", a.Way.String())
	}
}

// release notes that a connection has ended.
func (s *service) release(w route.Way) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(w)
}

func (s *service) leaveLocked(w route.Way) {
	if s.open[w]--; s.open[w] <= 0 {
		delete(s.open, w)
	}
}

func (s *service) peer(cluster string) *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peerLocked(cluster)
}

func (s *service) peerLocked(cluster string) *peer {
	p := s.peers[cluster]
	if p == nil {
		p = &peer{errors: map[string]uint64{}}
		s.peers[cluster] = p
	}
	return p
}

// refuse counts a connection that is reset, by reason.
func (s *service) refuse(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[why]++
}
