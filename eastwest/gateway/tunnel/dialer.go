package tunnel

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// IdentifyFunc says who the other side of a connection proved to be, and when its certificate was issued. It is asked again
// and again while there is a tunnel, so it has to check everything as of now, the chain and its end included, as
// identity.Peering's Identify does.
type IdentifyFunc func(*tls.ConnectionState) (id identity.ID, issued time.Time, err error)

// MaxTunnels is how many tunnels to a peer there can be.
const MaxTunnels = 16

// Options say how a Dialer reaches gateways. A zero field has the default beside it.
type Options struct {
	// TLS returns the configuration for a cluster: our certificate, and whom to trust. Required.
	TLS      func(cluster string) *tls.Config
	Identify IdentifyFunc         // required
	Revoked  identity.RevokedFunc // nil: nothing is
	// Dial connects to a gateway: by TCP.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

	Tunnels int // per peer; at most MaxTunnels: 4
	Streams int // per tunnel: 1024

	Heartbeat    time.Duration // 250 ms
	Dead         time.Duration // of silence, after which a tunnel is dead: 1 s
	DialTimeout  time.Duration // until the TLS handshake is done: 3 s
	Recheck      time.Duration // between two looks at whether a tunnel's other side would still be let in: 1 min
	Backoff      time.Duration // between attempts that fail, at most: 2 s
	MaxAge       time.Duration // after which a tunnel is replaced by one with today's certificates: 12 h
	DrainTimeout time.Duration // for the streams of a tunnel that the other side, or SetPeers, ends: 30 s
	Linger       time.Duration // for which the other side may go on after Close: 30 s

	// WindowMemory is how many octets all streams may have on their way to us or unread, beyond 256 KiB each, which nothing
	// takes from them; those of one tunnel at most a quarter of it: 256 MiB
	WindowMemory int64

	Log logr.Logger // zero: none
}

func (o Options) orDefault() Options {
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	o.Tunnels = min(cmp.Or(max(o.Tunnels, 0), 4), MaxTunnels)
	o.Streams = cmp.Or(o.Streams, 1024)
	o.Heartbeat = cmp.Or(o.Heartbeat, 250*time.Millisecond)
	o.Dead = cmp.Or(o.Dead, time.Second)
	o.DialTimeout = cmp.Or(o.DialTimeout, 3*time.Second)
	o.Recheck = cmp.Or(o.Recheck, time.Minute)
	o.Backoff = cmp.Or(o.Backoff, 2*time.Second)
	o.MaxAge = cmp.Or(o.MaxAge, 12*time.Hour)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 30*time.Second)
	o.Linger = cmp.Or(o.Linger, 30*time.Second)
	o.WindowMemory = cmp.Or(o.WindowMemory, 256<<20)
	return o
}

// Errors of Open, beside *Refused and that of its context.
var (
	// ErrUnknownPeer says that the peer is not one of SetPeers.
	ErrUnknownPeer = errors.New("there are no tunnels to it, because it is not known as a gateway")
	// ErrNotUp says that there is no tunnel.
	ErrNotUp = errors.New("no tunnel to it is up")
	// ErrFull says that no tunnel takes another stream.
	ErrFull = errors.New("its tunnels have as many streams as they may")
	// ErrUncertain says that Request.Data may have been delivered. Without it, and without Data, nothing was.
	ErrUncertain = errors.New("what the client has said already may have been delivered")
)

// Dialer keeps tunnels to other gateways, and opens streams in them. It is a prometheus.Collector too.
type Dialer struct {
	options  Options
	traffics traffics
	budget   budget
	meters   *meters
	running  sync.WaitGroup

	mu      sync.Mutex
	pools   map[Peer]*pool
	leaving map[*session]bool // take no new streams, or none yet
	closed  bool
	changed chan struct{}
}

// NewDialer returns a Dialer that has no peers.
func NewDialer(o Options) (*Dialer, error) {
	if o.TLS == nil || o.Identify == nil {
		return nil, errors.New("a dialer of tunnels needs to know who it is and whom to trust: set TLS and Identify")
	}
	o = o.orDefault()
	return &Dialer{
		options: o, budget: budget{limit: o.WindowMemory}, meters: newMeters("dialer"),
		pools: map[Peer]*pool{}, leaving: map[*session]bool{}, changed: make(chan struct{}),
	}, nil
}

// SetPeers says which gateways there are. Tunnels to those that are new are built and kept; those to others take no new
// streams, and end with their last stream, or after DrainTimeout.
func (d *Dialer) SetPeers(peers []Peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	wanted := map[Peer]bool{}
	for _, p := range peers {
		wanted[p] = true
		if d.pools[p] == nil {
			d.pools[p] = d.newPool(p)
		}
	}
	for p, pool := range d.pools {
		if !wanted[p] {
			d.leaving = pool.stop(d.leaving)
			delete(d.pools, p)
		}
	}
	d.notify()
}

// Close ends all tunnels at once, with their streams, and returns when everything has ended.
func (d *Dialer) Close() {
	d.SetPeers(nil)
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.each(func(s *session) { s.end(errClosed) })
	d.running.Wait()
}

func (d *Dialer) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// Recheck looks at once at what the other gateways have shown, and ends the tunnels of those that would not be let in now:
// their certificates were revoked, say. One that is being built is looked at again before it takes streams.
func (d *Dialer) Recheck() {
	d.each(func(s *session) { _ = s.recheck() })
}

// each calls f with every session.
func (d *Dialer) each(f func(*session)) {
	for _, s := range d.sessions() {
		f(s)
	}
}

func (d *Dialer) sessions() []*session {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*session
	for _, p := range d.pools {
		all = append(all, p.sessions()...)
	}
	for s := range d.leaving {
		all = append(all, s)
	}
	return all
}

// openAttempts is how many tunnels are tried for a stream, when nothing was delivered.
const openAttempts = 3

// Open opens a stream to a peer, and returns when the other gateway has connected it. It returns *Refused when the other
// gateway said no. While the tunnels of a peer are being built, and nothing has failed, it waits for one; when they
// died, it fails at once with ErrNotUp. When ctx ends,
// so does what the other gateway does.
func (d *Dialer) Open(ctx context.Context, to Peer, r Request) (Stream, error) {
	d.mu.Lock()
	p := d.pools[to]
	d.mu.Unlock()
	if p == nil {
		return nil, fmt.Errorf("opening a stream to %s: %w", to, ErrUnknownPeer)
	}
	t, err := p.open(ctx, &r)
	p.traffic.opens[outcomeOf(ctx, err)].Add(1)
	if err != nil {
		if no, ok := errors.AsType[*Refused](err); ok {
			return nil, no
		}
		return nil, fmt.Errorf("opening a stream to %s: %w", to, err)
	}
	if r.Datagrams {
		return newDatagrams(t), nil
	}
	return t, nil
}

func outcomeOf(ctx context.Context, err error) outcome {
	_, no := errors.AsType[*Refused](err)
	switch {
	case err == nil:
		return opened
	case no:
		return refused
	case ctx.Err() != nil:
		return canceled
	}
	return failed
}

// PeerState says how it stands with the tunnels to a peer.
type PeerState struct {
	Peer

	Tunnels   int           // that are up
	Wanted    int           // tunnels
	RTT       time.Duration // there and back, the least of all tunnels; 0: not known
	Up        bool          // there is a tunnel, or the peer said that it leaves and another process may take over
	Since     time.Time     // Up is what it is
	LastHeard time.Time     // zero: never
	Streams   int
	Problem   string // with the tunnels that are not up; empty: none is known
}

// State returns the state of all peers, sorted.
func (d *Dialer) State() []PeerState {
	d.mu.Lock()
	defer d.mu.Unlock()
	states := make([]PeerState, 0, len(d.pools))
	for _, p := range d.pools {
		states = append(states, p.state())
	}
	slices.SortFunc(states, func(a, b PeerState) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), a.Addr.Compare(b.Addr))
	})
	return states
}

// Changed returns a channel that is closed when tunnels come or go. Get it before State, so as to miss nothing.
func (d *Dialer) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// notify is called under mu.
func (d *Dialer) notify() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// Describe sends the metrics that there are.
func (d *Dialer) Describe(to chan<- *prometheus.Desc) { d.meters.describe(to) }

// Collect sends their values.
func (d *Dialer) Collect(to chan<- prometheus.Metric) {
	d.meters.collect(to, &d.traffics, &d.budget, d.sessions())
}
