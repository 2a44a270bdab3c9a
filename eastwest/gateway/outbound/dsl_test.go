package outbound_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/sockets"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// patience is after which a test that waits has failed.
const patience = 20 * time.Second

var (
	web       = clusterset.Key{Namespace: "shop", Name: "web"}
	loopback  = netip.MustParseAddr("127.0.0.1")
	gateway2  = netip.MustParseAddrPort("192.0.2.2:15445")
	gateway3  = netip.MustParseAddrPort("192.0.2.3:15445")
	httpPort  = clusterset.Port{Name: "http", Port: 80}
	dnsPort   = clusterset.Port{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}
	bothPorts = []clusterset.Port{httpPort, dnsPort}
)

const (
	httpListener = 20000
	dnsListener  = 20001
)

// far is a cluster behind a gateway, as its Opener sees it.
type far struct {
	pod    *pod
	delay  time.Duration // until it acknowledges
	hole   atomic.Bool   // it never does
	oneWay atomic.Bool   // the pod is connected, and the acknowledgement gets lost
	fail   atomic.Pointer[error]

	opens, undone atomic.Int64 // undone: given up by who opened
	data          atomic.Pointer[string]
}

func (f *far) breaks(err error) { f.fail.Store(&err) }

// tunnels are an Opener.
type tunnels map[netip.AddrPort]*far

func (o tunnels) Open(ctx context.Context, to tunnel.Peer, r tunnel.Request) (tunnel.Stream, error) {
	f := o[to.Addr]
	if f == nil {
		return nil, tunnel.ErrUnknownPeer
	}
	f.opens.Add(1)
	f.data.Store(new(string(r.Data)))
	if f.hole.Load() {
		<-ctx.Done()
		f.undone.Add(1)
		return nil, ctx.Err()
	}
	if err := f.fail.Load(); err != nil && *err != nil {
		return nil, *err
	}
	network := "tcp"
	if r.Datagrams {
		network = "udp"
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, f.pod.addr.String())
	if err != nil {
		return nil, &tunnel.Refused{Code: tunnel.Unreachable, Message: err.Error()}
	}
	var stream relay.Stream
	if r.Datagrams {
		stream = relay.UDP(conn.(*net.UDPConn))
	} else {
		stream = relay.TCP(conn.(*net.TCPConn))
	}
	wait := time.After(f.delay)
	if f.oneWay.Load() {
		wait = nil
	}
	select {
	case <-ctx.Done():
		f.undone.Add(1)
		_ = stream.Reset()
		return nil, ctx.Err()
	case <-wait:
	}
	if len(r.Data) > 0 {
		if _, err := stream.Write(r.Data); err != nil {
			return nil, errors.Join(tunnel.ErrUncertain, err)
		}
	}
	return opaque{stream}, nil
}

// opaque hides that a stream is a socket.
type opaque struct{ relay.Stream }

// places are Sockets at any free port.
type places struct {
	mu       sync.Mutex
	at       map[netip.AddrPort]string // by what was asked for
	released []netip.AddrPort
	refuse   error
}

func (p *places) Listen(network string, addr netip.AddrPort) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return nil, p.refuse
	}
	l, err := sockets.Direct{}.Listen(network, netip.AddrPortFrom(addr.Addr(), 0))
	if err == nil {
		p.at[addr] = l.Addr().String()
	}
	return l, err
}

func (p *places) ListenPacket(network string, addr netip.AddrPort) (net.PacketConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, err := sockets.Direct{}.ListenPacket(network, netip.AddrPortFrom(addr.Addr(), 0))
	if err == nil {
		p.at[addr] = l.LocalAddr().String()
	}
	return l, err
}

func (p *places) Release(addr netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.released = append(p.released, addr)
	delete(p.at, addr)
}

// where returns the address of a listener by the port in the table; "" while there is none.
func (p *places) where(port uint16) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[netip.AddrPortFrom(loopback, port)]
}

// world is a gateway of m1 with its table.
type world struct {
	t       *testing.T
	builder *clusterset.Builder
	latest  *clusterset.Latest
	places  *places
	opener  tunnels
	gateway *outbound.Gateway
	stop    func() // stops the gateway and waits
}

// start runs a gateway; change may modify its options and its table before.
func start(t *testing.T, opener tunnels, change func(*clusterset.Builder, *outbound.Options)) *world {
	t.Helper()
	w := &world{t: t, builder: table(opener), places: &places{at: map[netip.AddrPort]string{}}, opener: opener}
	w.latest = clusterset.NewLatest(w.builder.Publish())
	o := outbound.Options{
		Snapshots: w.latest, Cluster: "m1", Address: loopback, Sockets: w.places,
		Connect: connect.Options{Opener: opener}, DrainTimeout: time.Millisecond, Loops: 2,
	}
	if change != nil {
		change(w.builder, &o)
		w.latest.Publish(w.builder.Publish())
	}
	g, err := outbound.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.gateway = g
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(w.stop)
	<-g.Ready()
	return w
}

// table has a service that m1 imports, and that clusters behind the opener's gateways export: m2 in m1's region, m3 beyond.
func table(opener tunnels) *clusterset.Builder {
	b := clusterset.NewBuilder(1)
	b.SetCluster(clusterset.Cluster{ID: "m1", Region: "eu"})
	for at, region := range map[netip.AddrPort]string{gateway2: "eu", gateway3: "us"} {
		if opener[at] == nil {
			continue
		}
		id := fmt.Sprintf("m%d", at.Addr().As4()[3])
		b.SetCluster(clusterset.Cluster{ID: id, Region: region, Gateways: []clusterset.Gateway{{Addr: at.Addr(), Tunnel: at.Port()}}})
		export(b, id, []clusterset.Group{podGroup(netip.MustParseAddrPort("10.2.0.1:8080"))})
	}
	b.SetPolicy(web, clusterset.Policy{Failover: []clusterset.Tier{{By: clusterset.ByCluster}, {By: clusterset.ByRegion}, {By: clusterset.Any}}})
	b.SetImport("m1", web, clusterset.Import{GatewayPorts: []clusterset.GatewayPort{
		{Name: "http", Port: httpListener}, {Name: "dns", Protocol: corev1.ProtocolUDP, Port: dnsListener},
	}})
	return b
}

func export(b *clusterset.Builder, cluster string, groups []clusterset.Group) {
	b.SetExport(cluster, web, clusterset.Export{Created: time.Unix(1, 0), Properties: &clusterset.Properties{Ports: bothPorts}})
	b.SetEndpoints(cluster, web, clusterset.Endpoints{Groups: groups})
}

func podGroup(addr netip.AddrPort) clusterset.Group {
	return clusterset.Group{
		Ports: []clusterset.TargetPort{
			{Name: clusterset.Intern("http"), Port: addr.Port()}, {Name: clusterset.Intern("dns"), Protocol: corev1.ProtocolUDP, Port: addr.Port()},
		},
		Endpoints: []clusterset.Endpoint{{Addr: addr.Addr(), Conditions: clusterset.Ready}},
	}
}

// local has m1 export the service with some pods.
func local(pods ...*pod) func(*clusterset.Builder, *outbound.Options) {
	return func(b *clusterset.Builder, _ *outbound.Options) {
		var groups []clusterset.Group
		for _, p := range pods {
			groups = append(groups, podGroup(p.addr))
		}
		export(b, "m1", groups)
	}
}

func (w *world) publish() { w.latest.Publish(w.builder.Publish()) }

// dial connects a client to the service.
func (w *world) dial() *net.TCPConn {
	w.t.Helper()
	conn, err := net.DialTimeout("tcp", w.places.where(httpListener), patience) //nolint:noctx // a test's
	if err != nil {
		w.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// ask makes one request on a connection of its own, and returns how long it took.
func (w *world) ask(id string) (time.Duration, error) {
	began := time.Now()
	conn, err := net.DialTimeout("tcp", w.places.where(httpListener), patience) //nolint:noctx // a test's
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(conn, id); err != nil {
		return 0, err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && strings.TrimSpace(answer) != id {
		err = fmt.Errorf("asked %q, answered %q", id, answer)
	}
	return time.Since(began), err
}

// must asks and fails the test when there is no answer.
func (w *world) must(id string) time.Duration {
	w.t.Helper()
	took, err := w.ask(id)
	if err != nil {
		w.t.Fatalf("request %s: %v", id, err)
	}
	return took
}

// stats returns those of the TCP port.
func (w *world) stats() outbound.ServiceStats {
	for _, s := range w.gateway.Stats() {
		if s.Port.Name == "http" {
			return s
		}
	}
	return outbound.ServiceStats{}
}

// peer returns the stats of a cluster.
func (w *world) peer(cluster string) connect.PeerStats {
	for _, p := range w.stats().Peers {
		if p.Cluster == cluster {
			return p
		}
	}
	return connect.PeerStats{}
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// duplicates fails the test when a request was seen twice, wherever.
func duplicates(t *testing.T, pods ...*pod) {
	t.Helper()
	all := map[string]int{}
	for _, p := range pods {
		p.mu.Lock()
		for line, n := range p.lines {
			all[line] += n
		}
		p.mu.Unlock()
	}
	for line, n := range all {
		if n != 1 {
			t.Errorf("request %s was delivered %d times", line, n)
		}
	}
}

func addrPort(port int) netip.AddrPort { return netip.AddrPortFrom(loopback, uint16(port)) }
