package xds_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"github.com/go-logr/logr/testr"
	"github.com/google/go-cmp/cmp"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

const (
	LDS = ads.ListenerType
	RDS = ads.RouteType
	CDS = ads.ClusterType
	EDS = ads.EndpointType
	SVC = xds.ServiceType
)

const patience = 10 * time.Second

// web is the service of most tests.
var web = clusterset.Key{Namespace: "shop", Name: "web"}

const (
	webTarget  = "web.shop.svc.clusterset.local:80"
	webCluster = "outbound|80||web.shop.svc.clusterset.local"
)

// table is the table of services in the hands of a test. Changes count with Publish.
type table struct {
	tb testing.TB
	*clusterset.Builder
	*clusterset.Latest
}

func newTable(tb testing.TB, clusters ...string) *table {
	tb.Helper()
	b := clusterset.NewBuilder(0)
	for _, id := range clusters {
		b.SetCluster(clusterset.Cluster{ID: id, Network: "flat", Region: "r-" + id})
	}
	t := &table{tb: tb, Builder: b, Latest: clusterset.NewLatest(b.Publish())}
	return t
}

// Publish hands all changes out.
func (t *table) Publish() { t.Latest.Publish(t.Builder.Publish()) }

// Current returns what was handed out last.
func (t *table) Current() (*clusterset.Snapshot, <-chan struct{}) { return t.Latest.Current() }

// snapshot is Current without the channel.
func (t *table) snapshot() *clusterset.Snapshot {
	snapshot, _ := t.Current()
	return snapshot
}

var httpPort = clusterset.Port{Name: "http", Port: 80, AppProtocol: "http"}

// Export has clusters export the service with ports, http if none is given.
func (t *table) Export(key clusterset.Key, clusters []string, ports ...clusterset.Port) {
	if len(ports) == 0 {
		ports = []clusterset.Port{httpPort}
	}
	for i, cluster := range clusters {
		t.SetExport(cluster, key, clusterset.Export{
			Created: time.Unix(int64(i), 0), Properties: &clusterset.Properties{Ports: ports},
		})
	}
}

// Serve sets the ready endpoints of a service in a cluster: "IP:PORT" or "IP:PORT@ZONE", for its port http.
func (t *table) Serve(key clusterset.Key, cluster string, endpoints ...string) {
	t.tb.Helper()
	t.SetEndpoints(cluster, key, serving(t.tb, endpoints...))
}

func serving(tb testing.TB, endpoints ...string) clusterset.Endpoints {
	tb.Helper()
	var made clusterset.Endpoints
	for _, text := range endpoints {
		addr, zone, _ := strings.Cut(text, "@")
		parsed, err := netip.ParseAddrPort(addr)
		if err != nil {
			tb.Fatal(err)
		}
		made.Groups = append(made.Groups, clusterset.Group{
			Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: parsed.Port()}},
			Endpoints: []clusterset.Endpoint{{
				Addr: parsed.Addr(), Zone: clusterset.Intern(zone), Conditions: clusterset.Ready | clusterset.Serving,
			}},
		})
	}
	return made
}

// Policy sets what a policy says to clients.
func (t *table) Policy(key clusterset.Key, l7 servicepolicy.L7) {
	t.SetPolicy(key, clusterset.Policy{L7: &l7})
}

// hub is a server that can be reached in memory.
type hub struct {
	*ads.Server
	t        *testing.T
	source   *xds.Source
	listener *bufconn.Listener
}

// serve serves a table. All clients are from one cluster.
func serve(t *testing.T, snapshots xds.Snapshots, cluster string, limits ads.Limits) *hub {
	t.Helper()
	h := &hub{t: t, listener: bufconn.Listen(1 << 16)}
	h.source = xds.NewSource(xds.Options{Snapshots: snapshots, Log: testr.New(t), Identify: func(p *peer.Peer) (xds.Identity, error) {
		if p == nil {
			return xds.Identity{}, net.ErrClosed
		}
		return xds.Identity{Cluster: cluster, Role: "client", Name: "spiffe://clusterset.local/cluster/" + cluster + "/client"}, nil
	}})
	h.Server = ads.New(ads.Config{
		Source: h.source, Kinds: xds.Kinds(), Limits: limits, Log: testr.New(t),
		Register: func(to grpc.ServiceRegistrar) {
			statusv3.RegisterClientStatusDiscoveryServiceServer(to, xds.NewStatus(later{h}, allow))
		},
	})
	done := make(chan error, 1)
	go func() { done <- h.Serve(h.listener) }()
	t.Cleanup(func() {
		h.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return h
}

// later is the server that is made with the service that asks it.
type later struct{ hub *hub }

func (l later) Clients() []ads.ClientState { return l.hub.Clients() }

// allow admits those who say admin.
func allow(ctx context.Context) error {
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("admin")) > 0 {
		return nil
	}
	return net.ErrClosed
}

func (h *hub) dial() *grpc.ClientConn {
	h.t.Helper()
	conn, err := grpc.NewClient("passthrough:///ads", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return h.listener.DialContext(ctx) }))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// who is a client's node.
type who func(*corev3.Node)

func grpcClient(n *corev3.Node) { n.UserAgentName = "gRPC Go" }

func agentClient(n *corev3.Node) {
	n.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"hansa.dev/kind": structpb.NewStringValue("agent")}}
}

func proxyClient(n *corev3.Node) { n.UserAgentName = "envoy" }

func in(zone string, of who) who {
	return func(n *corev3.Node) {
		of(n)
		n.Locality = &corev3.Locality{Zone: zone}
	}
}

// client is a delta stream in the hands of a test, or one of State of the World.
type client struct {
	t       *testing.T
	node    *corev3.Node
	delta   discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	whole   discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	replies chan *reply
	failed  chan error
	names   map[string][]string
}

// reply is a response of either protocol.
type reply struct {
	c              *client
	url            string
	version, nonce string
	resources      map[string]proto.Message
	versions       map[string]string
	removed        []string
}

func newClient(t *testing.T, of who) *client {
	t.Helper()
	c := &client{
		t: t, node: &corev3.Node{Id: t.Name()}, replies: make(chan *reply, 16), failed: make(chan error, 1), names: map[string][]string{},
	}
	of(c.node)
	return c
}

// Delta opens an incremental stream.
func (h *hub) Delta(of who) *client {
	h.t.Helper()
	c := newClient(h.t, of)
	var err error
	if c.delta, err = discoveryv3.NewAggregatedDiscoveryServiceClient(h.dial()).DeltaAggregatedResources(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	go c.hear(func() (*reply, error) {
		res, err := c.delta.Recv()
		if err != nil {
			return nil, err
		}
		r := &reply{
			c: c, url: res.GetTypeUrl(), version: res.GetSystemVersionInfo(), nonce: res.GetNonce(), removed: res.GetRemovedResources(),
			resources: map[string]proto.Message{}, versions: map[string]string{},
		}
		for _, packed := range res.GetResources() {
			if r.resources[packed.GetName()], err = packed.GetResource().UnmarshalNew(); err != nil {
				return nil, err
			}
			r.versions[packed.GetName()] = packed.GetVersion()
		}
		return r, nil
	})
	return c
}

// SotW opens a stream of State of the World. Resources are known by the name inside.
func (h *hub) SotW(of who) *client {
	h.t.Helper()
	c := newClient(h.t, of)
	var err error
	if c.whole, err = discoveryv3.NewAggregatedDiscoveryServiceClient(h.dial()).StreamAggregatedResources(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	go c.hear(func() (*reply, error) {
		res, err := c.whole.Recv()
		if err != nil {
			return nil, err
		}
		r := &reply{c: c, url: res.GetTypeUrl(), version: res.GetVersionInfo(), nonce: res.GetNonce(), resources: map[string]proto.Message{}}
		for _, packed := range res.GetResources() {
			m, err := packed.UnmarshalNew()
			if err != nil {
				return nil, err
			}
			r.resources[nameOf(m)] = m
		}
		return r, nil
	})
	return c
}

func nameOf(m proto.Message) string {
	switch m := m.(type) {
	case interface{ GetClusterName() string }:
		return m.GetClusterName()
	case interface{ GetName() string }:
		return m.GetName()
	}
	return ""
}

func (c *client) hear(receive func() (*reply, error)) {
	for {
		r, err := receive()
		if err != nil {
			c.failed <- err
			return
		}
		c.replies <- r
	}
}

func (c *client) send(url, nonce, refusal string, names []string, have map[string]string) {
	c.t.Helper()
	var detail *rpcstatus.Status
	if refusal != "" {
		detail = &rpcstatus.Status{Message: refusal}
	}
	var err error
	if c.delta != nil {
		err = c.delta.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: c.node, TypeUrl: url, ResponseNonce: nonce, ErrorDetail: detail, ResourceNamesSubscribe: names, InitialResourceVersions: have,
		})
	} else {
		err = c.whole.Send(&discoveryv3.DiscoveryRequest{
			Node: c.node, TypeUrl: url, ResponseNonce: nonce, ErrorDetail: detail, ResourceNames: names,
		})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// Ask asks for resources, by name or all of them, and waits for nothing.
func (c *client) Ask(url string, names ...string) {
	c.t.Helper()
	c.names[url] = names
	c.send(url, "", "", names, nil)
}

// Request asks and waits for a response.
func (c *client) Request(url string, names ...string) *reply {
	c.t.Helper()
	c.Ask(url, names...)
	return c.Next(url)
}

// Next waits for a response, which has to be of a type, and accepts it.
func (c *client) Next(url string) *reply {
	c.t.Helper()
	r := c.next(url)
	var names []string
	if c.delta == nil {
		names = c.names[url]
	}
	c.send(url, r.nonce, "", names, nil)
	return r
}

// next is Next without an answer; any type will do if url is empty.
func (c *client) next(url string) *reply {
	c.t.Helper()
	select {
	case r := <-c.replies:
		if url != "" && r.url != url {
			c.t.Fatalf("got %s; want %s", r.url, url)
		}
		return r
	case err := <-c.failed:
		c.t.Fatalf("the stream ended: %v", err)
	case <-time.After(patience):
		c.t.Fatalf("no response of type %s", url)
	}
	return nil
}

// Fails waits for the end of the stream.
func (c *client) Fails() error {
	c.t.Helper()
	for {
		select {
		case <-c.replies:
		case err := <-c.failed:
			return err
		case <-time.After(patience):
			c.t.Fatal("the stream did not end")
		}
	}
}

// Names compares the names of the resources, sorted.
func (r *reply) Names(names ...string) *reply {
	r.c.t.Helper()
	got := make([]string, 0, len(r.resources))
	for name := range r.resources {
		got = append(got, name)
	}
	slices.Sort(got)
	if diff := cmp.Diff(append([]string{}, names...), got); diff != "" {
		r.c.t.Fatalf("%s (-want +got):\n%s", r.url, diff)
	}
	return r
}

// Removed compares what a delta response removes.
func (r *reply) Removed(names ...string) *reply {
	r.c.t.Helper()
	if diff := cmp.Diff(names, r.removed); diff != "" {
		r.c.t.Fatalf("%s removed (-want +got):\n%s", r.url, diff)
	}
	return r
}
