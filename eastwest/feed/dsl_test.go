package feed_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr/testr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const patience = 20 * time.Second

var (
	web = clusterset.Key{Namespace: "shop", Name: "web"}
	api = clusterset.Key{Namespace: "shop", Name: "api"}
)

// table is the hub's table in the hands of a test. Changes count with Publish.
type table struct {
	tb testing.TB
	*clusterset.Builder
	*clusterset.Latest
}

func newTable(tb testing.TB, sequence uint64, clusters ...string) *table {
	tb.Helper()
	b := clusterset.NewBuilder(sequence)
	for _, id := range clusters {
		b.SetCluster(clusterset.Cluster{ID: id, Network: "flat", Region: "r-" + id})
	}
	return &table{tb: tb, Builder: b, Latest: clusterset.NewLatest(b.Publish())}
}

// Publish hands all changes out.
func (t *table) Publish() *clusterset.Snapshot {
	t.Latest.Publish(t.Builder.Publish())
	return t.snapshot()
}

// Current returns what was handed out last.
func (t *table) Current() (*clusterset.Snapshot, <-chan struct{}) { return t.Latest.Current() }

func (t *table) snapshot() *clusterset.Snapshot {
	snapshot, _ := t.Current()
	return snapshot
}

// Export has clusters export the service, with one port.
func (t *table) Export(key clusterset.Key, clusters ...string) {
	for i, cluster := range clusters {
		t.SetExport(cluster, key, clusterset.Export{
			Created: time.Unix(int64(i), 0), Properties: &clusterset.Properties{Ports: []clusterset.Port{{Name: "http", Port: 80}}},
		})
	}
}

// Serve sets the ready endpoints of a service in a cluster, by address.
func (t *table) Serve(key clusterset.Key, cluster string, addresses ...string) {
	group := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: 8080}}}
	for _, address := range addresses {
		group.Endpoints = append(group.Endpoints, clusterset.Endpoint{
			Addr: netip.MustParseAddr(address), Conditions: clusterset.Ready | clusterset.Serving,
		})
	}
	t.SetEndpoints(cluster, key, clusterset.Endpoints{Groups: []clusterset.Group{group}})
}

// shop is a table in which two clusters serve web.
func shop(tb testing.TB, sequence uint64) *table {
	tb.Helper()
	w := newTable(tb, sequence, "m1", "m2", "m3")
	w.Export(web, "m1", "m2")
	w.Serve(web, "m1", "10.1.0.1", "10.1.0.2")
	w.Serve(web, "m2", "10.2.0.1")
	w.Publish()
	return w
}

// hub is a server on loopback.
type hub struct {
	*ads.Server
	address string
	stop    func()
}

// serve serves a table to agents of one cluster.
func serve(t *testing.T, snapshots xds.Snapshots, cluster string, limits ads.Limits) *hub {
	t.Helper()
	return serveSource(t, xds.NewSource(xds.Options{Snapshots: snapshots, Log: testr.New(t), Identify: func(*peer.Peer) (xds.Identity, error) {
		return xds.Identity{Cluster: cluster, Role: "agent", Name: "agent of " + cluster}, nil
	}}), limits)
}

func serveSource(t *testing.T, source ads.Source, limits ads.Limits) *hub {
	t.Helper()
	return listenWith(t, ads.Config{Source: source, Kinds: xds.Kinds(), Limits: limits, Log: testr.New(t)})
}

func listenWith(t *testing.T, config ads.Config) *hub {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{Server: ads.New(config), address: listener.Addr().String()}
	done := make(chan error, 1)
	go func() { done <- h.Serve(listener) }()
	h.stop = sync.OnceFunc(func() {
		h.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// Stop ends the hub, and waits for its end.
func (h *hub) Stop() { h.stop() }

// announced is where hubs are said to be.
type announced struct {
	mu        sync.Mutex
	addresses []string
}

func announce(addresses ...string) *announced { return &announced{addresses: addresses} }

// Addresses returns them.
func (a *announced) Addresses() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.addresses
}

// Set replaces them.
func (a *announced) Set(addresses ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addresses = addresses
}

// quick is for most tests. What waits for nothing but a slow machine waits long, so that numbers are exact.
var quick = feed.Timing{
	Heartbeat: time.Second, Silence: patience, Backoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond,
	Hold: patience, First: patience, Save: time.Millisecond,
}

// agent is a client in the hands of a test.
type agent struct {
	*feed.Client
	t    *testing.T
	sent *counter
	stop func()
}

// counter counts what hubs send.
type counter struct {
	mu sync.Mutex
	tally
}

// tally is what was counted.
type tally struct {
	resources, bytes int
	names, removed   []string
	refusals         []string
}

// start runs a client of some hubs. It is quick unless the options say otherwise.
func start(t *testing.T, o feed.Options, hubs ...*hub) *agent {
	t.Helper()
	a := &agent{t: t, sent: &counter{}}
	if o.Hubs == nil {
		o.Hubs = func() []string {
			var addresses []string
			for _, h := range hubs {
				addresses = append(addresses, h.address)
			}
			return addresses
		}
	}
	if o.Credentials == nil {
		o.Credentials = insecure.NewCredentials()
	}
	if o.Timing == (feed.Timing{}) {
		o.Timing = quick
	}
	o.Node, o.Program, o.Log = t.Name(), "hansa-agent", testr.New(t)
	o.Dial = append(o.Dial, grpc.WithStreamInterceptor(a.sent.intercept))
	a.Client = feed.New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(a.stop)
	return a
}

func (c *counter) intercept(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := streamer(ctx, desc, conn, method, opts...)
	return counted{stream, c}, err
}

// counted is a stream that is counted.
type counted struct {
	grpc.ClientStream
	counter *counter
}

func (s counted) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	response, ok := m.(*discoveryv3.DeltaDiscoveryResponse)
	if err != nil || !ok || response.GetTypeUrl() == servicepb.TableType {
		return err
	}
	s.counter.mu.Lock()
	defer s.counter.mu.Unlock()
	s.counter.resources += len(response.GetResources())
	s.counter.bytes += proto.Size(response)
	for _, r := range response.GetResources() {
		s.counter.names = append(s.counter.names, r.GetName())
	}
	s.counter.removed = append(s.counter.removed, response.GetRemovedResources()...)
	return nil
}

func (s counted) SendMsg(m any) error {
	if request, ok := m.(*discoveryv3.DeltaDiscoveryRequest); ok && request.GetErrorDetail() != nil {
		s.counter.mu.Lock()
		s.counter.refusals = append(s.counter.refusals, request.GetErrorDetail().GetMessage())
		s.counter.mu.Unlock()
	}
	return s.ClientStream.SendMsg(m)
}

// take returns what was counted, and begins anew.
func (c *counter) take() tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.tally
	c.tally = tally{}
	slices.Sort(taken.names)
	return taken
}

// until waits for something to hold of the client, which it asks at each new snapshot and from time to time.
func (a *agent) until(what string, holds func() bool) {
	a.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		_, newer := a.Current()
		select {
		case <-newer:
		case <-tick.C:
		case <-deadline.C:
			a.t.Fatalf("it never came true that %s; the client is %+v", what, a.State())
		}
	}
}

// reaches waits until the client has a snapshot with a number, all of it.
func (a *agent) reaches(number uint64) *clusterset.Snapshot {
	a.t.Helper()
	a.until(fmt.Sprintf("the client has all of snapshot %d", number), func() bool {
		state := a.State()
		return state.Sequence == number && state.Complete
	})
	return a.snapshot()
}

func (a *agent) snapshot() *clusterset.Snapshot {
	snapshot, _ := a.Current()
	return snapshot
}

// addresses returns the addresses that a consumer in a cluster uses of a service.
func addresses(s *clusterset.Snapshot, key clusterset.Key, cluster string) string {
	var all []string
	for _, p := range s.View(key, clusterset.Consumer{Cluster: cluster}).Hosts.Priorities {
		for _, l := range p.Localities {
			for _, target := range l.Targets {
				all = append(all, target.Addr.Addr().String())
			}
		}
	}
	return strings.Join(all, " ")
}

// valve is a hub's address behind which traffic can be stopped: neither data nor the end of a connection comes through.
type valve struct {
	address string
	shut    chan struct{}
}

func newValve(t *testing.T, behind string) *valve {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{address: listener.Addr().String(), shut: make(chan struct{})}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := (&net.Dialer{}).DialContext(ctx, "tcp", behind)
			if err != nil {
				_ = in.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _, _ = in.Close(), out.Close() })
			all.Go(func() { v.copy(ctx, in, out) })
			all.Go(func() { v.copy(ctx, out, in) })
		}
	})
	return v
}

func (v *valve) copy(ctx context.Context, to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-v.shut: // swallows everything, and never closes
			if err != nil {
				<-ctx.Done()
				return
			}
			continue
		default:
		}
		if _, wrong := to.Write(buffer[:n]); errors.Join(err, wrong) != nil {
			_ = to.Close()
			return
		}
	}
}

// Shut stops all traffic for good.
func (v *valve) Shut() { close(v.shut) }
