package ads_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr/testr"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

// The types of the tests, as short as in the story. OWN is a kind that is appended to the default ones.
const (
	LDS = ads.ListenerType
	RDS = ads.RouteType
	CDS = ads.ClusterType
	EDS = ads.EndpointType
	OWN = "type.googleapis.com/google.protobuf.StringValue"
)

const patience = 10 * time.Second

// resource makes a resource of "name=content".
func resource(tb testing.TB, encoder *ads.Encoder, url, text string) ads.Resource {
	tb.Helper()
	name, content, _ := strings.Cut(text, "=")
	var m proto.Message
	switch url {
	case LDS:
		m = &listenerv3.Listener{Name: name, StatPrefix: content}
	case RDS:
		m = &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{{Name: content}}}
	case CDS:
		m = &clusterv3.Cluster{Name: name, AltStatName: content}
	case EDS:
		m = &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{
			{Locality: &corev3.Locality{SubZone: content}},
		}}
	case OWN:
		m = wrapperspb.String(text)
	}
	r, err := encoder.Encode(name, m)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// text is the reverse of resource.
func text(t *testing.T, packed *anypb.Any) string {
	t.Helper()
	m, err := packed.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	switch m := m.(type) {
	case *listenerv3.Listener:
		return m.GetName() + "=" + m.GetStatPrefix()
	case *routev3.RouteConfiguration:
		return m.GetName() + "=" + m.GetVirtualHosts()[0].GetName()
	case *clusterv3.Cluster:
		return m.GetName() + "=" + m.GetAltStatName()
	case *endpointv3.ClusterLoadAssignment:
		return m.GetClusterName() + "=" + m.GetEndpoints()[0].GetLocality().GetSubZone()
	case *wrapperspb.StringValue:
		return m.GetValue()
	}
	t.Fatalf("unexpected %s", packed.GetTypeUrl())
	return ""
}

// world is a Source that a test fills by hand. Views hold nothing until a test changes them.
type world struct {
	tb       testing.TB
	encoder  ads.Encoder
	mu       sync.Mutex
	sequence uint64
	content  map[string]map[ads.Key]ads.Resource
	live     map[string]*ads.View
	admit    func(ads.Client) (ads.Admission, error)
	fillErr  chan error
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	return &world{
		tb: tb, content: map[string]map[ads.Key]ads.Resource{}, live: map[string]*ads.View{}, fillErr: make(chan error, 1),
		admit: func(ads.Client) (ads.Admission, error) { return ads.Admission{View: "v"}, nil },
	}
}

func (w *world) Admit(_ context.Context, c ads.Client) (ads.Admission, error) { return w.admit(c) }

func (w *world) Fill(ctx context.Context, v *ads.View) error {
	w.mu.Lock()
	var all []ads.Resource
	for _, r := range w.content[v.Name()] {
		all = append(all, r)
	}
	for i := range 40 { // for Quiet
		all = append(all, resource(w.tb, &w.encoder, OWN, fmt.Sprintf("quiet-%02d=", i)))
	}
	w.live[v.Name()] = v
	v.Apply(ads.Update{Sequence: w.sequence, Changed: all, Whole: true})
	w.mu.Unlock()
	select {
	case err := <-w.fillErr:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Change sets resources ("name=content") and removes others ("name") in the view v.
func (w *world) Change(url string, texts ...string) { w.ChangeIn("v", change(url, texts...)...) }

type step struct{ url, text string }

func change(url string, texts ...string) []step {
	steps := make([]step, 0, len(texts))
	for _, text := range texts {
		steps = append(steps, step{url, text})
	}
	return steps
}

// ChangeIn is Change for one step with several types.
func (w *world) ChangeIn(view string, steps ...step) {
	w.tb.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sequence++
	update := ads.Update{Sequence: w.sequence}
	if w.content[view] == nil {
		w.content[view] = map[ads.Key]ads.Resource{}
	}
	for _, s := range steps {
		if name, _, ok := strings.Cut(s.text, "="); ok {
			r := resource(w.tb, &w.encoder, s.url, s.text)
			update.Changed = append(update.Changed, r)
			w.content[view][r.Key] = r
		} else {
			update.Removed = append(update.Removed, ads.Key{Type: s.url, Name: name})
			delete(w.content[view], ads.Key{Type: s.url, Name: name})
		}
	}
	if v := w.live[view]; v != nil {
		v.Apply(update)
	}
}

// place is a server that can be reached in memory.
type place struct {
	*ads.Server
	listener *bufconn.Listener
	done     chan error
}

func serve(t *testing.T, w *world, limits ads.Limits) *place {
	t.Helper()
	server := ads.New(ads.Config{
		Source: w, Limits: limits, Log: testr.New(t),
		Kinds: append(ads.DefaultKinds(), ads.Kind{URL: OWN}),
	})
	p := &place{Server: server, listener: bufconn.Listen(1 << 16), done: make(chan error, 1)}
	go func() { p.done <- server.Serve(p.listener) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-p.done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *place) dial(t *testing.T) discoveryv3.AggregatedDiscoveryServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///ads", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
}

// client is a stream of either protocol in the hands of a test.
type client struct {
	t       *testing.T
	ctx     context.Context //nolint:containedctx // the test's
	node    *corev3.Node
	send    func(ask) error
	replies chan *reply
	ended   chan error
	asked   map[string][]string // names by type: State of the World
	last    map[string]*reply
	version map[string]string // accepted last
	quiet   int
}

// ask is a request of either protocol.
type ask struct {
	url                     string
	names, unsubscribe      []string
	nonce, version, refusal string
	versions                map[string]string
}

// reply is a response of either protocol.
type reply struct {
	c              *client
	url            string
	nonce, version string
	texts          []string          // name=content
	versions       map[string]string // delta
	removed        []string
}

func (p *place) SotW(t *testing.T, node string) *client {
	t.Helper()
	c := newClient(t, node)
	stream, err := p.dial(t).StreamAggregatedResources(c.ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.send = func(a ask) error {
		req := &discoveryv3.DiscoveryRequest{
			Node: c.node, TypeUrl: a.url, ResourceNames: a.names, ResponseNonce: a.nonce, VersionInfo: a.version,
		}
		if a.refusal != "" {
			req.ErrorDetail = &status.Status{Message: a.refusal}
		}
		return stream.Send(req)
	}
	go c.hear(func() (*reply, error) {
		res, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		r := &reply{c: c, url: res.GetTypeUrl(), nonce: res.GetNonce(), version: res.GetVersionInfo()}
		for _, packed := range res.GetResources() {
			r.texts = append(r.texts, text(t, packed))
		}
		return r, nil
	})
	return c
}

func (p *place) Delta(t *testing.T, node string) *client {
	t.Helper()
	c := newClient(t, node)
	stream, err := p.dial(t).DeltaAggregatedResources(c.ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.send = func(a ask) error {
		req := &discoveryv3.DeltaDiscoveryRequest{
			Node: c.node, TypeUrl: a.url, ResourceNamesSubscribe: a.names, ResourceNamesUnsubscribe: a.unsubscribe,
			ResponseNonce: a.nonce, InitialResourceVersions: a.versions,
		}
		if a.refusal != "" {
			req.ErrorDetail = &status.Status{Message: a.refusal}
		}
		return stream.Send(req)
	}
	go c.hear(func() (*reply, error) {
		res, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		r := &reply{
			c: c, url: res.GetTypeUrl(), nonce: res.GetNonce(), version: res.GetSystemVersionInfo(),
			removed: res.GetRemovedResources(), versions: map[string]string{},
		}
		for _, packed := range res.GetResources() {
			r.texts = append(r.texts, text(t, packed.GetResource()))
			r.versions[packed.GetName()] = packed.GetVersion()
		}
		return r, nil
	})
	return c
}

func newClient(t *testing.T, node string) *client {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return &client{
		t: t, ctx: ctx, node: &corev3.Node{Id: node}, replies: make(chan *reply, 1), ended: make(chan error, 1),
		asked: map[string][]string{}, last: map[string]*reply{}, version: map[string]string{},
	}
}

func (c *client) hear(receive func() (*reply, error)) {
	for {
		r, err := receive()
		if err != nil {
			c.ended <- err
			return
		}
		select {
		case c.replies <- r:
		case <-c.ctx.Done():
			return
		}
	}
}

// Ask sends a request and waits for nothing.
func (c *client) Ask(a ask) {
	c.t.Helper()
	c.asked[a.url] = a.names
	if err := c.send(a); err != nil {
		c.t.Fatal(err)
	}
}

// Request asks for resources, by name or all of them, and waits for a response. In State of the World the names are all
// that the client wants; in delta they are added.
func (c *client) Request(url string, names ...string) *reply {
	c.t.Helper()
	a := ask{url: url, names: names}
	if last := c.last[url]; last != nil {
		a.nonce, a.version = last.nonce, c.version[url]
	}
	c.Ask(a)
	return c.Next(url)
}

// Next waits for a response, which has to be of a type.
func (c *client) Next(url string) *reply {
	c.t.Helper()
	select {
	case r := <-c.replies:
		if r.url != url {
			c.t.Fatalf("got %s %v, removed %v; want a response of type %s", r.url, r.texts, r.removed, url)
		}
		c.last[url] = r
		return r
	case err := <-c.ended:
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
		case err := <-c.ended:
			return err
		case <-c.replies:
		case <-time.After(patience):
			c.t.Fatal("the stream did not end")
		}
	}
}

// Quiet proves that nothing is on its way: what is asked for now comes next, twice, so that removals had their chance.
func (c *client) Quiet() {
	c.t.Helper()
	for range 2 {
		name := fmt.Sprintf("quiet-%02d", c.quiet)
		c.quiet++
		c.Request(OWN, name).Equals(name + "=")
	}
}

// Equals compares and accepts.
func (r *reply) Equals(texts ...string) *reply {
	r.c.t.Helper()
	r.Says(texts...)
	return r.Accept()
}

// Says compares.
func (r *reply) Says(texts ...string) *reply {
	r.c.t.Helper()
	got, want := slices.Sorted(slices.Values(r.texts)), slices.Sorted(slices.Values(texts))
	if diff := cmp.Diff(want, got); diff != "" {
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

// Accept sends an ACK.
func (r *reply) Accept() *reply {
	r.c.t.Helper()
	r.c.version[r.url] = r.version
	r.answer("")
	return r
}

// Refuse sends a NACK.
func (r *reply) Refuse(message string) *reply {
	r.c.t.Helper()
	r.answer(message)
	return r
}

func (r *reply) answer(refusal string) {
	r.c.t.Helper()
	a := ask{url: r.url, nonce: r.nonce, version: r.c.version[r.url], refusal: refusal}
	if r.versions == nil { // State of the World repeats its names
		a.names = r.c.asked[r.url]
	}
	if err := r.c.send(a); err != nil {
		r.c.t.Fatal(err)
	}
}
