package inbound_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/inbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// patience is after which a test that waits has failed.
const patience = 20 * time.Second

var (
	web     = clusterset.Key{Namespace: "shop", Name: "web"}
	request = tunnel.Request{Service: web, Port: 80}
	m1      = who("m1", identity.RoleGateway)
)

func who(cluster string, role identity.Role) identity.ID {
	return identity.ClusterID(identity.DefaultTrustDomain(), cluster, role)
}

// pod says its name and then what it hears; over UDP it says both in one datagram.
func pod(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.WriteString(conn, name+":")
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	u, err := net.ListenPacket("udp", l.Addr().String()) //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = u.WriteTo([]byte(name+":"+string(b[:n])), from)
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// nobody is an address at which nothing listens.
func nobody(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// host is a pod with a hostname.
type host struct {
	name string
	addr netip.AddrPort
}

// table has m2, the own cluster, export a service with some pods. m1 is a member, too.
func table(hosts ...host) *clusterset.Builder {
	b := clusterset.NewBuilder(1)
	b.SetCluster(clusterset.Cluster{ID: "m1"})
	b.SetCluster(clusterset.Cluster{ID: "m2"})
	b.SetExport("m2", web, clusterset.Export{Created: time.Unix(1, 0), Properties: &clusterset.Properties{Ports: []clusterset.Port{
		{Name: "http", Port: 80}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
	}}})
	var groups []clusterset.Group
	for _, h := range hosts {
		groups = append(groups, clusterset.Group{
			Ports: []clusterset.TargetPort{
				{Name: clusterset.Intern("http"), Port: h.addr.Port()}, {Name: clusterset.Intern("dns"), Protocol: corev1.ProtocolUDP, Port: h.addr.Port()},
			},
			Endpoints: []clusterset.Endpoint{{Addr: h.addr.Addr(), Hostname: clusterset.Intern(h.name), Conditions: clusterset.Ready}},
		})
	}
	b.SetEndpoints("m2", web, clusterset.Endpoints{Groups: groups})
	return b
}

// incoming is a tunnel.Incoming whose other end the test has.
type incoming struct {
	mine, theirs net.Conn
	failAccept   error

	mu       sync.Mutex
	accepted bool
	refused  *tunnel.Refused
}

func newIncoming(t *testing.T) *incoming {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	mine, err := net.Dial("tcp", l.Addr().String()) //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = mine.Close(), theirs.Close() })
	_ = mine.SetDeadline(time.Now().Add(patience))
	return &incoming{mine: mine, theirs: theirs}
}

// opaque hides that a stream is a socket.
type opaque struct{ relay.Stream }

func (i *incoming) Accept() (tunnel.Stream, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.accepted = true
	return opaque{relay.TCP(i.theirs.(*net.TCPConn))}, i.failAccept
}

func (i *incoming) Refuse(code tunnel.Code, message string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.refused = &tunnel.Refused{Code: code, Message: message}
}

func handler(t *testing.T, b *clusterset.Builder, change func(*inbound.Options)) *inbound.Handler {
	t.Helper()
	o := inbound.Options{Snapshots: clusterset.NewLatest(b.Publish()), Cluster: "m2"}
	if change != nil {
		change(&o)
	}
	h, err := inbound.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// say opens a stream, says something, and returns what comes back.
func say(t *testing.T, h *inbound.Handler, r tunnel.Request, text string) (string, *tunnel.Refused) {
	t.Helper()
	in := newIncoming(t)
	done := make(chan struct{})
	go func() {
		h.Serve(t.Context(), m1, time.Now(), r, in)
		close(done)
	}()
	_, _ = io.WriteString(in.mine, text)
	_ = in.mine.(*net.TCPConn).CloseWrite()
	heard := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(in.mine)
		heard <- string(all)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("Serve does not return")
	}
	if in.refused != nil {
		if in.accepted {
			t.Error("accepted and refused")
		}
		return "", in.refused
	}
	return <-heard, nil
}

func TestServe(t *testing.T) {
	b := table(host{"web-0", pod(t, "zero")}, host{"web-1", pod(t, "one")}, host{"dead", nobody(t)})
	h := handler(t, b, nil)
	heard := map[string]int{}
	for range 40 {
		text, no := say(t, h, request, "hello")
		if no != nil {
			t.Fatal(no)
		}
		heard[text]++
	}
	if len(heard) != 2 || heard["zero:hello"] < 5 || heard["one:hello"] < 5 {
		t.Errorf("heard %v", heard)
	}
	byName := request
	byName.Hostname, byName.Data = "web-1", []byte("first ")
	if text, no := say(t, h, byName, "and more"); text != "one:first and more" {
		t.Errorf("heard %q, %v", text, no)
	}
	if text, no := say(t, h, tunnel.Request{}, strings.Repeat("?", 600)); text != strings.Repeat("?", 600) {
		t.Errorf("a probe heard %d octets, %v", len(text), no)
	}
	flows, refusals := h.Stats()
	if len(flows) != 1 || len(refusals) != 0 || flows[0].Connections != 41 || flows[0].Open != 0 || flows[0].Outcomes[relay.Done] != 41 || flows[0].Up != 40*5+14 {
		t.Errorf("got %+v, %v", flows, refusals)
	}
}

func TestRefuse(t *testing.T) {
	alive := host{"", pod(t, "")}
	with := func(change func(*tunnel.Request)) tunnel.Request {
		r := request
		change(&r)
		return r
	}
	for name, test := range map[string]struct {
		reason  string
		table   func(*clusterset.Builder)
		options func(*inbound.Options)
		from    identity.ID
		request tunnel.Request
		code    tunnel.Code
		why     inbound.Refusal
	}{
		"Agent":   {"an agent is no gateway", nil, nil, who("m1", identity.RoleAgent), request, tunnel.Forbidden, inbound.NoGateway},
		"Client":  {"a client is no gateway, and must not probe either", nil, nil, who("m1", identity.RoleClient), tunnel.Request{}, tunnel.Forbidden, inbound.NoGateway},
		"Nowhere": {"a gateway is in a cluster", nil, nil, identity.ID{Role: identity.RoleGateway}, request, tunnel.Forbidden, inbound.NoGateway},
		"Revoked": {"its certificate was issued before", func(b *clusterset.Builder) {
			b.SetRevocations([]clusterset.Revocation{{Cluster: "m1", Before: time.Now().Add(time.Hour)}})
		}, nil, m1, request, tunnel.Forbidden, inbound.Revoked},
		"NotMember":      {"its certificate is good, and its cluster has left", func(b *clusterset.Builder) { b.RemoveCluster("m1") }, nil, m1, request, tunnel.Forbidden, inbound.NotMember},
		"NotMemberProbe": {"who has left must not probe", func(b *clusterset.Builder) { b.RemoveCluster("m1") }, nil, m1, tunnel.Request{}, tunnel.Forbidden, inbound.NotMember},
		"NothingKnown":   {"nobody has said who is a member", func(b *clusterset.Builder) { *b = *clusterset.NewBuilder(1) }, nil, m1, request, tunnel.Forbidden, inbound.NotMember},
		"NotAllowed": {"the policy lists others", func(b *clusterset.Builder) {
			b.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"m3"}}})
		}, nil, m1, request, tunnel.Forbidden, inbound.NotAllowed},
		"NoService":   {"there is none", nil, nil, m1, with(func(r *tunnel.Request) { r.Service.Name = "api" }), tunnel.NotFound, inbound.NotExported},
		"NotExported": {"others export it", func(b *clusterset.Builder) { export(b, "m3"); b.RemoveExport("m2", web) }, nil, m1, request, tunnel.NotFound, inbound.NotExported},
		"NoPort":      {"the service has no such port", nil, nil, m1, with(func(r *tunnel.Request) { r.Port = 81 }), tunnel.NotFound, inbound.NoPort},
		"NoUDP":       {"it is one of TCP", nil, nil, m1, with(func(r *tunnel.Request) { r.Datagrams = true }), tunnel.NotFound, inbound.NoPort},
		"NoHost":      {"no pod has the name", nil, nil, m1, with(func(r *tunnel.Request) { r.Hostname = "web-9" }), tunnel.NoEndpoint, inbound.NotReady},
		"NotReady":    {"there are no pods", func(b *clusterset.Builder) { b.SetEndpoints("m2", web, clusterset.Endpoints{}) }, nil, m1, request, tunnel.NoEndpoint, inbound.NotReady},
		"Unreachable": {"the pod is gone", func(b *clusterset.Builder) {
			b.SetEndpoints("m2", web, clusterset.Endpoints{Groups: []clusterset.Group{{
				Ports:     []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: 1}},
				Endpoints: []clusterset.Endpoint{{Addr: netip.MustParseAddr("127.0.0.1"), Conditions: clusterset.Ready}},
			}}})
		}, nil, m1, request, tunnel.Unreachable, inbound.Unreachable},
		"TooMany":          {"there are all that there may be", nil, func(o *inbound.Options) { o.Streams = -1 }, m1, request, tunnel.Busy, inbound.TooMany},
		"TooManyProbes":    {"probes count", nil, func(o *inbound.Options) { o.PerCluster = -1 }, m1, tunnel.Request{}, tunnel.Busy, inbound.TooMany},
		"TooManyOfCluster": {"others may still come", nil, func(o *inbound.Options) { o.PerCluster = -1 }, m1, request, tunnel.Busy, inbound.TooMany},
	} {
		t.Run(name, func(t *testing.T) {
			b := table(alive)
			if test.table != nil {
				test.table(b)
			}
			h := handler(t, b, test.options)
			in := newIncoming(t)
			h.Serve(t.Context(), test.from, time.Now(), test.request, in)
			if in.refused == nil || in.refused.Code != test.code || in.refused.Message == "" || in.accepted {
				t.Errorf("%s: got %v, want %s", test.reason, in.refused, test.code)
			}
			_, refusals := h.Stats()
			if len(refusals) != 1 || refusals[0].Reason != test.why || refusals[0].Cluster != test.from.Cluster || refusals[0].Count != 1 {
				t.Errorf("%s: counted %v, want %s", test.reason, refusals, test.why)
			}
			registry := prometheus.NewPedanticRegistry()
			registry.MustRegister(h)
			if families, err := registry.Gather(); err != nil || len(families) != 1 {
				t.Errorf("%d metrics, %v", len(families), err)
			}
		})
	}
}

func export(b *clusterset.Builder, cluster string) {
	b.SetExport(cluster, web, clusterset.Export{Created: time.Unix(1, 0), Properties: &clusterset.Properties{Ports: []clusterset.Port{{Name: "http", Port: 80}}}})
}

// TestDraining holds that who sends something here has decided so.
func TestDraining(t *testing.T) {
	for _, state := range []clusterset.State{clusterset.Draining, clusterset.Cordoned} {
		b := table(host{"", pod(t, "p")})
		b.SetCluster(clusterset.Cluster{ID: "m2", State: state})
		if text, no := say(t, handler(t, b, nil), request, "x"); text != "p:x" {
			t.Errorf("%s: heard %q, %v", state, text, no)
		}
	}
}

// TestFollows holds that changes count for the next stream.
func TestFollows(t *testing.T) {
	b := table(host{"", pod(t, "old")})
	latest := clusterset.NewLatest(b.Publish())
	h := handler(t, b, func(o *inbound.Options) { o.Snapshots = latest })
	if text, _ := say(t, h, request, "x"); text != "old:x" {
		t.Fatalf("heard %q", text)
	}
	next := table(host{"", pod(t, "new")})
	latest.Publish(next.Publish())
	for range 5 {
		if text, no := say(t, h, request, "x"); text != "new:x" {
			t.Errorf("heard %q, %v", text, no)
		}
	}
	next.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{}})
	latest.Publish(next.Publish())
	if _, no := say(t, h, request, "x"); no == nil || no.Code != tunnel.Forbidden {
		t.Errorf("got %v", no)
	}
}

// TestGone holds that a stream that is given up before a pod has it is undone.
func TestGone(t *testing.T) {
	h := handler(t, table(host{"", pod(t, "")}), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in := newIncoming(t)
	h.Serve(ctx, m1, time.Now(), request, in)
	in = newIncoming(t)
	in.failAccept = errors.New("the tunnel died")
	h.Serve(t.Context(), m1, time.Now(), request, in)
	_, refusals := h.Stats()
	if len(refusals) != 1 || refusals[0].Reason != inbound.Gone || refusals[0].Count != 2 {
		t.Errorf("got %v", refusals)
	}
}

// TestMemory holds that others cannot fill the memory by asking.
func TestMemory(t *testing.T) {
	h := handler(t, table(host{"", pod(t, "")}), func(o *inbound.Options) { o.Connect = connect.Options{Attempts: 1} })
	for i := range 2000 {
		r := request
		r.Service.Name, r.Hostname = fmt.Sprint("s", i), fmt.Sprint("h", i)
		h.Serve(t.Context(), m1, time.Now(), r, discard{})
	}
	flows, refusals := h.Stats()
	if len(flows) != 0 || len(refusals) != 1 || refusals[0].Count != 2000 {
		t.Errorf("%d flows, %d kinds of refusals", len(flows), len(refusals))
	}
}

// discard refuses to be accepted.
type discard struct{}

func (discard) Accept() (tunnel.Stream, error) { return nil, errors.New("gone") }
func (discard) Refuse(tunnel.Code, string)     {}
