package dns

import (
	"context"
	"encoding/binary"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Responder answers queries. It is a listen.Handler, listen.Waiter and listen.Streamer, for any number of goroutines.
type Responder struct {
	options Options
	now     func() time.Time
	views   *views
	metrics *metrics
	limiter *limiter
	cookies *cookies
	tap     Tap

	stale   atomic.Bool
	arrived atomic.Int64 // when the newest snapshot did, in nanoseconds
	// external are the zones whose answers depend on networks.
	external map[string]bool
	// forwardFor has the networks for whom names outside are forwarded.
	forwardFor prefixes[bool]
}

var (
	_ listen.Handler  = (*Responder)(nil)
	_ listen.Waiter   = (*Responder)(nil)
	_ listen.Streamer = (*Responder)(nil)
)

// New returns a responder that answers from the snapshot there is. To follow later ones it has to Run.
func New(o Options) *Responder {
	o = o.orDefault()
	r := &Responder{
		options: o, now: o.Now, views: newViews(o.Askers, o.Views, o.Unused, o.Now), cookies: newCookies(o.CookieSecrets),
		limiter: newLimiter(o.RateLimit, o.Now()), external: map[string]bool{},
	}
	r.metrics = newMetrics(r.state)
	allowed := map[netip.Prefix]bool{}
	for _, network := range o.ForwardFor {
		allowed[network] = true
	}
	r.forwardFor = newPrefixes(allowed)
	r.views.make, r.views.remember = r.tree, o.Transfer != nil
	snapshot := &clusterset.Snapshot{}
	if o.Snapshots != nil {
		snapshot, _ = o.Snapshots.Current()
	}
	for _, external := range o.Zone.External {
		r.external[zoneName(external.Zone)] = true
	}
	r.arrived.Store(o.Now().UnixNano())
	r.views.snapshot = snapshot
	r.views.current(r.views.all[0])
	return r
}

// zoneName returns the name of a zone as its Apex has it.
func zoneName(name string) string {
	wire, err := zone.Wire(name)
	if err != nil {
		return name
	}
	return zone.Presentation(wire)
}

// forwards tells whether names outside are forwarded for who sent a query.
func (r *Responder) forwards(from *listen.Source) bool {
	if r.options.Forward == nil {
		return false
	}
	peer := from.Peer.Addr().Unmap()
	_, _, allowed := r.forwardFor.find(peer, peer.BitLen())
	return allowed
}

// recursion returns the flag RA, if names outside are forwarded.
func (r *Responder) recursion(from *listen.Source) uint16 {
	if r.forwards(from) {
		return flagRA
	}
	return 0
}

// tree makes the tree of an asker.
func (r *Responder) tree(old *zone.Tree, snapshot *clusterset.Snapshot, from zone.Asker) *zone.Tree {
	tree := r.options.Static
	if tree == nil {
		tree = zone.Next(old, snapshot, from, r.options.Zone)
	}
	var names []string
	for apex := range tree.Zones() {
		names = append(names, apex.Name())
	}
	r.metrics.know(names)
	return tree
}

// Run follows the snapshots, and tells secondaries of changes, until ctx ends.
func (r *Responder) Run(ctx context.Context) {
	var snapshots Snapshots = clusterset.NewLatest(r.views.snapshot)
	if r.options.Snapshots != nil {
		snapshots = r.options.Snapshots
	}
	if transfers := r.options.Transfer; transfers != nil {
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { transfers.Run(ctx) })
		r.announce()
	}
	sweep := time.NewTicker(max(r.options.Unused/4, time.Millisecond))
	defer sweep.Stop()
	rotate := time.NewTicker(secretAge)
	defer rotate.Stop()
	for {
		snapshot, changed := snapshots.Current()
		r.followTo(snapshot)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-sweep.C:
			r.views.sweep(r.now())
		case <-rotate.C:
			r.cookies.rotate()
		}
	}
}

func (r *Responder) followTo(snapshot *clusterset.Snapshot) {
	if snapshot == r.views.snapshot {
		return
	}
	r.views.follow(snapshot)
	r.arrived.Store(r.now().UnixNano())
	r.announce()
}

// Sequence returns that of the snapshot from which the default asker is answered.
func (r *Responder) Sequence() uint64 { return r.views.current(r.views.all[0]).Sequence() }

// Ready tells whether there is something to answer from.
func (r *Responder) Ready() bool { return r.options.Static != nil || r.Sequence() != 0 }

// SetStale says whether the snapshot may be behind because nobody vouches for it, after a start from disk for example.
// Answers then say so (EDE 3, RFC 8914); they are the same otherwise.
func (r *Responder) SetStale(stale bool) { r.stale.Store(stale) }

// Tap returns where to look at queries.
func (r *Responder) Tap() *Tap { return &r.tap }

// Collector returns the responder's metrics.
func (r *Responder) Collector() prometheus.Collector { return r.metrics }

// Respond implements listen.Handler.
func (r *Responder) Respond(dst, message []byte, from listen.Source) []byte {
	var begin time.Time
	timed := sample(idOf(message), from.Peer.Port())%sampled == 0
	if timed {
		begin = r.now()
	}
	base := len(dst)
	dst = r.respond(dst, message, &from)
	if timed {
		r.metrics.latency.Observe(r.now().Sub(begin).Seconds())
	}
	if held := r.tap.subscribers.Load(); held != nil && dst != nil {
		r.tap.answered(*held, message, dst[base:], from, r.views.of(&from).label, r.now())
	}
	return dst
}

func (r *Responder) respond(dst, message []byte, from *listen.Source) []byte {
	var q query
	kind := q.parse(message)
	if kind == noise {
		r.metrics.noise.Add(1)
		return dst
	}
	trusted, fresh := false, false
	var now time.Time
	if kind == plain && q.cookie != nil {
		now = r.now()
		trusted, fresh = r.cookies.check(q.cookie, from.Peer.Addr(), now)
	}
	if r.limiter != nil && !trusted && from.Transport == listen.UDP {
		switch r.limiter.take(from.Peer.Addr().Unmap(), r.now()) {
		case drop:
			r.metrics.dropped.Add(1)
			return dst
		case slip:
			r.metrics.slipped.Add(1)
			return r.truncated(dst, message, &q, kind, from)
		case send:
		}
	}
	if kind == plain {
		if response, ok := r.hot(dst, &q, from, fresh, now); ok {
			return response
		}
	}
	return r.slow(context.Background(), dst, message, *from, false)
}

// Wait implements listen.Waiter: it is for names that upstreams are asked for.
func (r *Responder) Wait(ctx context.Context, dst, message []byte, from listen.Source) []byte {
	base := len(dst)
	dst = r.slow(ctx, dst, message, from, true)
	if held := r.tap.subscribers.Load(); held != nil {
		r.tap.answered(*held, message, dst[base:], from, r.views.of(&from).label, r.now())
	}
	return dst
}

// truncated appends a response that sends its client to TCP. One with a cookie may as well come back with that.
func (r *Responder) truncated(dst, message []byte, q *query, kind kind, from *listen.Source) []byte {
	p := response{out: dst, base: len(dst), flags: flagQR | flagTC | q.flags&(flagRD|flagCD|opcodeMask), ede: -1}
	p.out = append(p.out, make([]byte, headerSize)...)
	if kind == plain {
		p.out = append(p.out, q.question...)
		if q.edns {
			p.out = r.appendOPT(&p, q, from, false, r.now())
		}
		p.finish(q.id, q.edns)
		return p.out
	}
	length := nameLength(message[headerSize:])
	if length == 0 || len(message) < headerSize+length+4 {
		return dst
	}
	p.out = append(p.out, message[headerSize:headerSize+length+4]...)
	p.finish(q.id, false)
	return p.out
}

// idOf returns the id of a message; 0 of what is too short to have one.
func idOf(message []byte) uint16 {
	if len(message) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(message)
}

// made returns when the snapshot was made, which its number says; when it arrived, if the number is that of somebody who counts
// otherwise.
func (r *Responder) made() time.Time {
	arrived := time.Unix(0, r.arrived.Load())
	made := time.Unix(0, int64(min(r.Sequence(), math.MaxInt64)))
	if made.After(arrived) || arrived.Sub(made) > credible {
		return arrived
	}
	return made
}

// credible is the age up to which the number of a snapshot is taken for a time.
const credible = 10 * 365 * 24 * time.Hour

func (r *Responder) state() state {
	s := state{
		sequence: r.Sequence(), trees: float64(r.views.kept()), tapLost: r.tap.Lost(),
		age: r.now().Sub(r.made()).Seconds(),
	}
	if r.stale.Load() {
		s.stale = 1
	}
	if f := r.options.Forward; f != nil {
		stats := f.Stats()
		s.forwardHits, s.forwardMisses, s.remembered = stats.Hits, stats.Misses, float64(stats.Remembers)
		s.forwarded, s.forwardFailed = stats.Attempts, stats.Failures
	}
	if r.options.Sign != nil {
		stats := r.options.Sign.Stats()
		s.signed, s.signaturesHit = stats.Made, stats.Remembered
	}
	return s
}
