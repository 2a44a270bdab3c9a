package connect

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
)

// Finder finds ways for the connections to one port of a service. Its methods may be called by several goroutines.
type Finder struct {
	options Options
	port    Port
	routes  atomic.Pointer[Routes]
	races   atomic.Uint64

	mu        sync.Mutex
	ejections *route.Ejections
	budget    route.Budget
	open      map[route.Way]int64
	peers     map[string]*Peer
	refused   map[string]uint64 // connections for which there was no way, by reason
}

// Peer counts what happened with one cluster. What is exported is counted by who relays.
type Peer struct {
	relay.Bytes

	Open     atomic.Int64
	Outcomes [relay.Outcomes]atomic.Uint64

	connections atomic.Uint64
	lost, won   atomic.Uint64 // races; won are those that it entered as a second way
	ejections   atomic.Uint64
	latency     histogram
	errors      map[string]uint64 // attempts that failed, by reason; guarded by the Finder's mu
}

// New returns a Finder that knows no way yet.
func New(o Options, p Port) *Finder {
	o = o.OrDefault()
	f := &Finder{
		options: o, port: p, ejections: route.NewEjections(o.Timing), budget: o.Budget,
		open: map[route.Way]int64{}, peers: map[string]*Peer{}, refused: map[string]uint64{},
	}
	f.routes.Store(&Routes{Problem: errors.New("the service table has not been read yet")})
	return f
}

// Port returns what the Finder is for.
func (f *Finder) Port() Port { return f.port }

// Routes returns where connections go at the moment. It must not be modified.
func (f *Finder) Routes() *Routes { return f.routes.Load() }

// Follow says where connections go from now on. It must not be modified afterwards.
func (f *Finder) Follow(r *Routes) {
	f.routes.Store(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ejections.Keep(r.Priorities)
}

// look is a Finder as route.Next sees it, with its mu held.
type look struct{ *Finder }

// Usable tells whether a way is not left out.
func (l look) Usable(w route.Way) bool { return l.ejections.Usable(w) }

// Open returns how many connections a way has.
func (l look) Open(w route.Way) int64 { return l.open[w] }

// connection notes that there is a connection to be made. It is also when ways that were left out have their trial, beside
// the connection, so that no client waits for it.
func (f *Finder) connection(r *Routes) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.budget.Connection(now)
	if w, due := f.ejections.Trial(r.Priorities, now); due {
		f.open[w]++
		go f.try(f.ejections.Begin(w, now), r.Number)
	}
}

// try finds out whether a way works again: it connects, and says nothing.
func (f *Finder) try(a route.Attempt, number uint16) {
	ctx, cancel := context.WithTimeout(context.Background(), f.options.AttemptTimeout)
	defer cancel()
	stream, err := f.dial(ctx, a.Way, number, nil)
	if err != nil {
		result, _ := verdict(a.Way, err)
		f.end(a, result, "") // it is no error of a client's
		return
	}
	_ = stream.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ejections.End(a, route.Connected, time.Now(), 0)
	f.leaveLocked(a.Way)
}

// choice is what next has to say.
type choice uint8

const (
	found  choice = iota
	none          // everything was tried
	denied        // the budget is used up
)

// next begins an attempt on the next way, and returns after which time another one should be tried beside it. A client that
// should stay where it was waits for that as long as anybody may.
func (f *Finder) next(r *Routes, client route.Affinity, tried []route.Way) (a route.Attempt, delay time.Duration, c choice) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	var w route.Way
	var ok bool
	if client != 0 {
		w, ok = route.Same(r.Priorities, tried, look{f}, client)
	} else {
		w, ok = route.Next(r.Priorities, tried, look{f}, rand.Uint64N)
	}
	if !ok {
		return a, 0, none
	}
	if len(tried) > 0 && !f.budget.Take(now) {
		return a, 0, denied
	}
	f.open[w]++
	delay = f.ejections.Delay(w)
	if client != 0 {
		delay = f.options.Timing.MaxDelay
	}
	return f.ejections.Begin(w, now), delay, found
}

// end notes what became of an attempt. Unless it connected, the way has one connection less.
func (f *Finder) end(a route.Attempt, result route.Result, why string) {
	now := time.Now()
	f.mu.Lock()
	out := f.ejections.End(a, result, now, rand.Float64()) //nolint:gosec // G404: to spread load
	p := f.peerLocked(a.Way.Cluster)
	if result != route.Connected {
		f.leaveLocked(a.Way)
	}
	if why != "" {
		p.errors[why]++
	}
	f.mu.Unlock()
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
		f.options.Log.V(1).Info("way left out for a while", "service", f.port.String(), "port", f.port.Name, "way", a.Way.String(), "reason", why)
	}
}

// Blame notes that a way has failed that had acknowledged.
func (f *Finder) Blame(w route.Way) {
	f.mu.Lock()
	f.open[w]++
	a := f.ejections.Begin(w, time.Now())
	f.mu.Unlock()
	f.end(a, route.Failed, reasonBroken)
}

func (f *Finder) release(w route.Way) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaveLocked(w)
}

func (f *Finder) leaveLocked(w route.Way) {
	if f.open[w]--; f.open[w] <= 0 {
		delete(f.open, w)
	}
}

// Peer returns the counters of a cluster.
func (f *Finder) Peer(cluster string) *Peer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.peerLocked(cluster)
}

func (f *Finder) peerLocked(cluster string) *Peer {
	p := f.peers[cluster]
	if p == nil {
		p = &Peer{errors: map[string]uint64{}}
		f.peers[cluster] = p
	}
	return p
}

// Refuse counts a connection that was turned away, by reason. Those that Connect returns are counted already.
func (f *Finder) Refuse(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused[why]++
}

// Stats returns what happened since New.
func (f *Finder) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	stats := Stats{Races: f.races.Load(), Refused: maps.Clone(f.refused), Ejected: f.ejections.Out()}
	for _, cluster := range sortedKeys(f.peers) {
		stats.Peers = append(stats.Peers, f.peers[cluster].stats(cluster))
	}
	return stats
}
