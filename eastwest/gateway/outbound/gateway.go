package outbound

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Gateway serves all ports that its cluster's gateways have for global services. It is a prometheus.Collector too.
type Gateway struct {
	options Options
	log     logr.Logger
	dialer  net.Dialer
	loops   *relay.Loops

	life   context.Context //nolint:containedctx // of connections, which go on when Run's has ended
	abort  context.CancelCauseFunc
	count  atomic.Int64
	active sync.WaitGroup
	ready  chan struct{}

	mu        sync.RWMutex
	snapshot  *clusterset.Snapshot // that was followed last
	from      clusterset.Consumer  // by which it was
	listeners map[Port]*listener
	broken    map[Port]wish // that could not be opened
}

// wish is where a port should be served.
type wish struct {
	port uint16
	why  error
}

// retry is after which time a listener that could not be opened is tried again.
const retry = time.Second

// New returns a gateway that serves when Run is called.
func New(o Options) (*Gateway, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o = o.orDefault()
	g := &Gateway{options: o, log: o.Log, listeners: map[Port]*listener{}, broken: map[Port]wish{}, ready: make(chan struct{})}
	g.dialer.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}
	g.dialer.SetMultipathTCP(false)
	g.life, g.abort = context.WithCancelCause(context.Background())
	return g, nil
}

// Ready returns a channel that is closed when the listeners of the first snapshot have been opened.
func (g *Gateway) Ready() <-chan struct{} { return g.ready }

// Run serves until ctx ends. Then it closes its listeners, lets connections go on for at most Options.DrainTimeout, and
// resets those that are left. It may be called once.
func (g *Gateway) Run(ctx context.Context) error {
	pipes := relay.NewPipes(g.options.Pipes, g.options.PipeSize)
	defer pipes.Close()
	loops, err := relay.NewLoops(g.options.Loops, g.options.IdleTimeout, pipes)
	if err != nil {
		return err
	}
	defer loops.Close()
	g.loops = loops
	again := time.NewTicker(retry)
	defer again.Stop()
	for first := true; ; first = false {
		snapshot, changed := g.options.Snapshots.Current()
		g.follow(snapshot)
		if first {
			close(g.ready)
		}
		select {
		case <-ctx.Done():
			g.drain()
			return nil
		case <-changed:
		case <-again.C:
		}
	}
}

// errStopping says that the gateway stops.
var errStopping = errors.New("the gateway stops")

// drain ends everything: listeners at once, connections when their time is over.
func (g *Gateway) drain() {
	g.mu.Lock()
	for _, l := range g.listeners {
		l.close()
	}
	g.mu.Unlock()
	for _, l := range g.listeners {
		l.wait()
	}
	done := make(chan struct{})
	go func() {
		g.active.Wait()
		close(done)
	}()
	patience := time.NewTimer(g.options.DrainTimeout)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
		g.log.Info("connections are cut off because the time to drain is over", "connections", g.count.Load())
	}
	g.abort(errStopping)
	g.loops.Abort()
	<-done
}

// follow takes on a snapshot: listeners are closed and opened, and connections go where it says from now on.
func (g *Gateway) follow(snapshot *clusterset.Snapshot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	from := clusterset.Consumer{Cluster: g.options.Cluster, Zone: g.options.Zone(), Gateway: true}
	changes := snapshot.Since(g.snapshot)
	everything := from != g.from || len(changes.Moved) > 0
	g.snapshot, g.from = snapshot, from
	wishes := map[Port]wish{}
	for _, key := range changes.Services {
		g.list(snapshot.Service(key), wishes)
	}
	touched := func(p Port) bool {
		_, found := slices.BinarySearchFunc(changes.Services, p.Key, compareKeys)
		return found
	}
	g.closeOthers(touched, wishes)
	for p, w := range g.broken {
		if _, listed := wishes[p]; !listed {
			wishes[p] = w
		}
	}
	before := g.broken
	g.broken = map[Port]wish{}
	for p, w := range wishes {
		g.open(p, w.port, before[p].why == nil)
	}
	for p, l := range g.listeners {
		if everything || touched(p) {
			l.service.follow(snapshot, from)
		}
	}
}

func compareKeys(a, b clusterset.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// list adds what a service should be served at.
func (g *Gateway) list(s *clusterset.Service, to map[Port]wish) {
	if s == nil {
		return
	}
	at := slices.IndexFunc(s.Imports, func(i clusterset.Import) bool { return i.Cluster == g.options.Cluster })
	if at < 0 {
		return
	}
	for _, p := range s.Imports[at].GatewayPorts {
		protocol := cmp.Or(p.Protocol, corev1.ProtocolTCP)
		if p.Port == 0 || protocol != corev1.ProtocolTCP && protocol != corev1.ProtocolUDP {
			continue
		}
		to[Port{Key: s.Key, Name: p.Name, Protocol: protocol}] = wish{port: p.Port}
	}
}

// closeOthers closes the listeners of services that have changed and that are not wished for where they are.
func (g *Gateway) closeOthers(touched func(Port) bool, wishes map[Port]wish) {
	for p, l := range g.listeners {
		if w, wished := wishes[p]; touched(p) && (!wished || w.port != l.addr.Port()) {
			l.close()
			delete(g.listeners, p)
			if !g.shares(l.addr) {
				g.options.Sockets.Release(l.addr)
			}
		}
	}
	for p := range g.broken {
		if touched(p) {
			delete(g.broken, p)
		}
	}
}

// shares tells whether another listener has the same address, for the other protocol.
func (g *Gateway) shares(addr netip.AddrPort) bool {
	for _, l := range g.listeners {
		if l.addr == addr {
			return true
		}
	}
	return false
}

// open opens a listener, unless it is there. What cannot be opened is tried again.
func (g *Gateway) open(p Port, port uint16, news bool) {
	if g.listeners[p] != nil {
		return
	}
	l := &listener{gateway: g, service: newService(g, p), addr: netip.AddrPortFrom(g.options.Address, port)}
	if err := l.open(); err != nil {
		if news {
			g.log.Error(err, "a port of a service is not served; it will be tried again", "service", p.String(), "port", p.Name, "address", l.addr.String())
		}
		g.broken[p] = wish{port, err}
		return
	}
	l.service.follow(g.snapshot, g.from)
	g.listeners[p] = l
	l.start()
}
