package agents_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/agents"
	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/eastwest/health"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Two hubs are told by three agents; one cluster dies, and comes back.
func TestEveryHubConcludes(t *testing.T) {
	hubs := []*hub{newHub(t, nil), newHub(t, nil)}
	addresses := []string{hubs[0].addr, hubs[1].addr}
	a, b, c := runAgent(t, "a", 1, addresses, nil), runAgent(t, "b", 2, addresses, nil), runAgent(t, "c", 3, addresses, nil)
	up := clusterset.Up
	a.peers.see(sight("b", 2, up), sight("c", 3, up))
	b.peers.see(sight("a", 1, up), sight("c", 3, up))
	c.peers.see(sight("a", 1, up), sight("b", 2, up))
	for _, h := range hubs {
		for _, cluster := range []string{"a", "b", "c"} {
			h.untilHealth(cluster, up)
		}
	}
	o := hubs[1].observed["c"]
	want := clusterset.Gateway{
		Addr: netip.MustParseAddr("192.0.2.3"), Port: 15443, Tunnel: 15445, Inside: netip.MustParseAddr("10.0.0.3"), Node: "c-node", Health: up,
	}
	if len(o.Gateways) != 1 || o.Gateways[0] != want || o.Seen[tunnelOf(3)] != up {
		t.Errorf("observed of c: %+v", o)
	}
	c.stop()
	a.peers.see(sight("b", 2, up), sight("c", 3, clusterset.Down))
	b.peers.see(sight("a", 1, up), sight("c", 3, clusterset.Down))
	for _, h := range hubs {
		h.untilHealth("c", clusterset.Down)
		o := h.until("its gateway staying known", "c", func(o agents.Observed) bool { return len(o.Gateways) == 1 })
		if o.Gateways[0].Health != clusterset.Down {
			t.Errorf("the gateway of a dead cluster: %+v", o.Gateways[0])
		}
	}
	runAgent(t, "c", 3, addresses, nil)
	a.peers.see(sight("b", 2, up), sight("c", 3, up))
	b.peers.see(sight("a", 1, up), sight("c", 3, up))
	for _, h := range hubs {
		h.untilHealth("c", up)
	}
}

// A gateway that ends on purpose is not dead.
func TestLeave(t *testing.T) {
	h := newHub(t, nil)
	a, b := runAgent(t, "a", 1, []string{h.addr}, nil), runAgent(t, "b", 2, []string{h.addr}, nil)
	a.peers.see(sight("b", 2, clusterset.Up))
	h.untilHealth("b", clusterset.Up)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b.Leave(ctx)
	h.until("leaving", "b", func(o agents.Observed) bool { return len(o.Gateways) == 0 })
	a.peers.see(sight("b", 2, clusterset.Down))
	b.stop()
	answer, err := h.admin().ListGateways(ctx, &agentpb.ListGatewaysRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range answer.GetGateways() {
		if g.GetCluster() == "b" && (!g.GetLeaving() || g.GetHealth() == agentpb.Health_HEALTH_DOWN) {
			t.Errorf("the gateway that left: %v", g)
		}
	}
	again := runAgent(t, "b", 2, []string{h.addr}, nil)
	h.until("coming back", "b", func(o agents.Observed) bool { return len(o.Gateways) == 1 })
	if ctx.Err() != nil {
		t.Error("it took too long")
	}
	if states := again.State(); len(states) != 1 || states[0].Address != h.addr {
		t.Errorf("states %+v", states)
	}
}

// Who is no gateway is refused, and so is one whose certificate is revoked, also while it is connected.
func TestRefusals(t *testing.T) {
	h := newHub(t, func(o *agents.ServerOptions) { o.Limits.Streams = 2 })
	for _, id := range []string{
		spiffe("a", identity.RoleClient), spiffe("a", identity.RoleDNS), spiffe("a", identity.RoleAgent),
		identity.AdminID(identity.DefaultTrustDomain()).String(), identity.HubID(identity.DefaultTrustDomain()).String(),
	} {
		if _, err := h.openAs(id).Recv(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v, want to be refused", id, err)
		}
	}
	if _, err := h.openAs("spiffe://elsewhere/x").Recv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a stranger: %v", err)
	}
	first, second := h.open("a"), h.open("a")
	hello(t, first, "n1")
	hello(t, second, "n2")
	if _, err := h.open("a").Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more than there may be of a cluster: %v", err)
	}
	hello(t, h.open("b"), "n1")
	h.mu.Lock()
	h.revoked[spiffe("a", identity.RoleGateway)] = true
	h.mu.Unlock()
	h.server.Recheck()
	for _, stream := range []agentpb.ConnectClient{first, second} {
		if _, err := stream.Recv(); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("a revoked one that is connected: %v", err)
		}
	}
}

func hello(t *testing.T, stream agentpb.ConnectClient, node string) {
	t.Helper()
	err := stream.Send(&agentpb.AgentMessage{Message: &agentpb.AgentMessage_Hello{Hello: &agentpb.Hello{Node: node, Outside: "192.0.2.9", Tunnel: 15445}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.Recv()
	if err != nil || m.GetWelcome().GetHub() != "hub-1" {
		t.Fatalf("the answer to hello: %v, %v", m, err)
	}
}

// What is wrong ends the stream, with a reason.
func TestInvalidMessages(t *testing.T) {
	report := func(r *agentpb.Report) *agentpb.AgentMessage {
		return &agentpb.AgentMessage{Message: &agentpb.AgentMessage_Report{Report: r}}
	}
	say := func(h *agentpb.Hello) *agentpb.AgentMessage {
		return &agentpb.AgentMessage{Message: &agentpb.AgentMessage_Hello{Hello: h}}
	}
	outside := func(addr string) *agentpb.AgentMessage {
		return say(&agentpb.Hello{Node: "a", Outside: addr, Tunnel: 15445})
	}
	tests := map[string]struct {
		reason string
		first  bool
		m      *agentpb.AgentMessage
		want   string
	}{
		"no hello":       {"who it is comes first", true, report(&agentpb.Report{}), "has to be a Hello"},
		"no node":        {"gateways are told apart by it", true, say(&agentpb.Hello{}), "no name of a node"},
		"a strange node": {"it is printed and logged", true, say(&agentpb.Hello{Node: "a\nb"}), "no name of a node"},
		"a strange port": {"", true, say(&agentpb.Hello{Node: "a", Tunnel: 70000}), "no port 70000"},
		"a name":         {"names are not looked up", true, say(&agentpb.Hello{Node: "a", Outside: "example.org"}), "no IP address"},
		"unspecified":    {"", true, say(&agentpb.Hello{Node: "a", Inside: "0.0.0.0"}), "nobody is reached"},
		"unspecified, mapped": {
			"it is 0.0.0.0", true, say(&agentpb.Hello{Node: "a", Inside: "::ffff:0.0.0.0"}), "nobody is reached at 0.0.0.0",
		},
		"loopback":         {"all others would dial themselves", true, outside("127.0.0.1"), "nobody elsewhere is reached at 127.0.0.1"},
		"loopback, IPv6":   {"", true, outside("::1"), "nobody elsewhere"},
		"loopback, mapped": {"", true, outside("::ffff:127.1.2.3"), "nobody elsewhere"},
		"link-local":       {"it differs from link to link; clouds have their secrets there", true, outside("169.254.169.254"), "nobody elsewhere"},
		"link-local, IPv6": {"", true, outside("fe80::1"), "nobody elsewhere"},
		"a zone":           {"", true, outside("fe80::1%eth0"), "nobody is reached"},
		"multicast":        {"", true, outside("224.0.0.1"), "nobody is reached"},
		"broadcast":        {"", true, outside("255.255.255.255"), "nobody is reached"},
		"outside, no host": {"", true, outside("0.0.0.0"), "nobody is reached"},
		"another node":     {"it is another agent", false, say(&agentpb.Hello{Node: "other"}), "cannot become"},
		"too many sights":  {"a hub keeps them all", false, report(&agentpb.Report{Sights: make1025()}), "1025 sights"},
		"a strange target": {"", false, report(&agentpb.Report{Sights: []*agentpb.Sight{{Cluster: "b", Address: "x:1"}}}), "no address and port"},
		"a strange cluster": {
			"", false, report(&agentpb.Report{Sights: []*agentpb.Sight{{Cluster: "B/..", Address: "192.0.2.1:1"}}}), "no DNS label",
		},
		"too many counters": {
			"", false, &agentpb.AgentMessage{Message: &agentpb.AgentMessage_Stats{Stats: &agentpb.Stats{Counters: make([]*agentpb.Counter, 2049)}}}, "2049 counters",
		},
	}
	h := newHub(t, nil)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			stream := h.open("a")
			if !test.first {
				hello(t, stream, "n1")
			}
			if test.m.GetStats() != nil {
				for i := range test.m.GetStats().GetCounters() {
					test.m.GetStats().Counters[i] = &agentpb.Counter{}
				}
			}
			if err := stream.Send(test.m); err != nil {
				t.Fatal(err)
			}
			_, err := stream.Recv()
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q: %s", err, test.want, test.reason)
			}
		})
	}
}

// Ports that are 0 are none: nobody is sent to them, and nobody judges them.
func TestNoPorts(t *testing.T) {
	h := newHub(t, nil)
	runAgent(t, "a", 1, []string{h.addr}, func(o *agents.Options) {
		o.Hello = func() agents.Hello {
			return agents.Hello{Node: "n", Outside: tunnelOf(1).Addr(), Inside: netip.MustParseAddr("10.0.0.1")}
		}
	})
	b := runAgent(t, "b", 2, []string{h.addr}, nil)
	none := sight("a", 1, clusterset.Up)
	none.Addr = netip.AddrPortFrom(none.Addr.Addr(), 0)
	b.peers.see(none)
	o := h.until("coming", "a", func(o agents.Observed) bool { return len(o.Gateways) == 1 })
	if g := o.Gateways[0]; g.Addr.IsValid() || g.Port != 0 || g.Tunnel != 0 || g.Inside != netip.MustParseAddr("10.0.0.1") || o.Seen != nil {
		t.Errorf("observed %+v; others reach it at no port, so at no address", o)
	}
}

func make1025() []*agentpb.Sight {
	sights := make([]*agentpb.Sight, 1025)
	for i := range sights {
		sights[i] = &agentpb.Sight{Cluster: "b", Address: "192.0.2.1:1"}
	}
	return sights
}

// Gateways that are gone hold no places that others of their cluster need, whatever their names are: those that are connected
// are told of, and no more than the table takes.
func TestTheGoneMakeRoom(t *testing.T) {
	h := newHub(t, nil)
	conn := h.dial(spiffe("a", identity.RoleGateway))
	connect := func(node string, n int) (end context.CancelFunc, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		stream, err := agentpb.Connect(ctx, conn)
		if err != nil {
			t.Fatal(err)
		}
		greet := &agentpb.Hello{Node: node, Outside: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}).String(), Tunnel: 15445}
		if err := stream.Send(&agentpb.AgentMessage{Message: &agentpb.AgentMessage_Hello{Hello: greet}}); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		_, err = stream.Recv() // says why sending failed
		return cancel, err
	}
	come := func(node string, n int) context.CancelFunc {
		for { // until the hub has heard that those before are gone
			end, err := connect(node, n)
			if err == nil {
				return end
			}
			end()
			if status.Code(err) != codes.ResourceExhausted {
				t.Fatalf("%s: %v", node, err)
			}
		}
	}
	begin := time.Now()
	for n := range 2 * health.MaxAgents {
		come(fmt.Sprintf("a%03d", n), n)()
	}
	for n := range health.MaxAgents {
		defer come(fmt.Sprintf("z%03d", n), 128+n)()
	}
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("it took %v: those that are gone are noticed by their silence only", took)
	}
	h.until("being those that are connected", "a", func(o agents.Observed) bool {
		return len(o.Gateways) == health.MaxAgents && o.Gateways[0].Node == "z000" && o.Gateways[health.MaxAgents-1].Node == "z063"
	})
	end, err := connect("y", 1)
	defer end()
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more than there may be: %v", err)
	}
}

// The newest stream of an agent counts.
func TestReplaced(t *testing.T) {
	h := newHub(t, nil)
	old := h.open("a")
	hello(t, old, "n1")
	fresh := h.open("a")
	hello(t, fresh, "n1")
	if _, err := old.Recv(); status.Code(err) != codes.Aborted {
		t.Errorf("the older stream: %v", err)
	}
	answer, err := h.admin().ListGateways(t.Context(), &agentpb.ListGatewaysRequest{})
	if err != nil || len(answer.GetGateways()) != 1 || !answer.GetGateways()[0].GetConnected() {
		t.Errorf("gateways %v, %v", answer, err)
	}
}

func TestSilentStreamsEnd(t *testing.T) {
	h := newHub(t, func(o *agents.ServerOptions) {
		o.Limits.First, o.Limits.Silence = 50*time.Millisecond, 50*time.Millisecond
	})
	never, once := h.open("a"), h.open("a")
	hello(t, once, "n1")
	for _, stream := range []agentpb.ConnectClient{never, once} {
		if _, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a stream that says nothing: %v", err)
		}
	}
}

// A hub that goes away sends its agents away; they come back when it is there again, and to no hub that is not listed.
func TestDrain(t *testing.T) {
	h := newHub(t, nil)
	a := runAgent(t, "a", 1, []string{h.addr}, nil)
	h.until("coming", "a", func(o agents.Observed) bool { return len(o.Gateways) == 1 })
	h.server.Drain()
	deadline := time.After(patience)
	for {
		states := a.State()
		if len(states) == 1 && !states[0].Connected && strings.Contains(states[0].Problem, "going away") {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("states %+v", states)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestOperations(t *testing.T) {
	h := newHub(t, nil)
	asked := make(chan agents.TraceRequest, 1)
	var counted uint64
	a := runAgent(t, "a", 1, []string{h.addr}, func(o *agents.Options) {
		o.Timing.Stats = time.Hour
		o.Stats = func() agents.Stats {
			counted++
			return agents.Stats{Started: time.Now(), Counters: []agents.Counter{{
				Service: clusterset.Key{Namespace: "shop", Name: "web"}, Port: 80, Peer: "b", Connections: counted, Errors: 2,
			}}}
		}
		o.Tracer = agents.TracerFunc(func(_ context.Context, r agents.TraceRequest) ([]agents.Hop, error) {
			asked <- r
			if r.Port == "nowhere" {
				return nil, errors.New("no such port")
			}
			return []agents.Hop{{Name: "tunnel", Cluster: "b", Took: 3 * time.Millisecond, Problem: "timeout\x1b[31m", Next: "look"}}, nil
		})
	})
	runAgent(t, "b", 2, []string{h.addr}, nil)
	a.peers.see(sight("b", 2, clusterset.Up))
	h.untilHealth("b", clusterset.Up)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := h.admin()

	gateways, err := admin.ListGateways(ctx, &agentpb.ListGatewaysRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if list := gateways.GetGateways(); len(list) != 2 || list[1].GetCluster() != "b" || list[1].GetHealth() != agentpb.Health_HEALTH_UP ||
		list[1].GetReason() == "" || list[0].GetNode() != "a-node" || !list[0].GetConnected() {
		t.Errorf("gateways %v", list)
	}
	if list := gateways.GetClusters(); len(list) != 2 || list[1].GetHealth() != agentpb.Health_HEALTH_UP || list[1].GetAgents() != 1 {
		t.Errorf("clusters %v", list)
	}
	tunnels, err := admin.ListTunnels(ctx, &agentpb.ListTunnelsRequest{})
	if err != nil || len(tunnels.GetTunnels()) != 1 || tunnels.GetTunnels()[0].GetSight().GetRttUs() != 20000 || tunnels.GetTunnels()[0].GetCluster() != "a" {
		t.Errorf("tunnels %v, %v", tunnels, err)
	}

	var last uint64
	for range 3 {
		stats, err := admin.GetStats(ctx, &agentpb.StatsRequest{Cluster: "a", Fresh: true})
		if err != nil || len(stats.GetAgents()) != 1 {
			t.Fatalf("stats %v, %v", stats, err)
		}
		c := stats.GetAgents()[0].GetStats().GetCounters()[0]
		if c.GetConnections() <= last || c.GetErrors() != 2 || c.GetPeer() != "b" {
			t.Errorf("counter %v after %d: it was not asked for anew", c, last)
		}
		last = c.GetConnections()
	}
	watch, err := admin.Watch(ctx, &agentpb.WatchRequest{EveryMs: 200})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		seen, err := watch.Recv()
		if err != nil || len(seen.GetClusters()) != 2 || len(seen.GetAgents()) != 1 || seen.GetAgents()[0].GetStats().GetCounters()[0].GetConnections() <= last {
			t.Fatalf("watched %v, %v", seen, err)
		}
		last = seen.GetAgents()[0].GetStats().GetCounters()[0].GetConnections()
	}

	traced, err := admin.Trace(ctx, &agentpb.TraceRequest{Cluster: "a", Namespace: "shop", Name: "web", Port: "http"})
	if err != nil || len(traced.GetHops()) != 1 || traced.GetNode() != "a-node" || traced.GetHops()[0].GetProblem() != "timeout[31m" {
		t.Errorf("traced %v, %v", traced, err)
	}
	if r := <-asked; r.Service.String() != "shop/web" || r.Port != "http" {
		t.Errorf("the agent was asked for %+v", r)
	}
	traced, err = admin.Trace(ctx, &agentpb.TraceRequest{Cluster: "a", Namespace: "shop", Name: "web", Port: "nowhere"})
	if err != nil || traced.GetProblem() != "no such port" {
		t.Errorf("traced to nowhere: %v, %v", traced, err)
	}
	traced, err = admin.Trace(ctx, &agentpb.TraceRequest{Cluster: "b", Namespace: "shop", Name: "web"})
	if err != nil || traced.GetProblem() == "" {
		t.Errorf("by a gateway that sends none: %v, %v", traced, err)
	}
	if _, err = admin.Trace(ctx, &agentpb.TraceRequest{Cluster: "z", Namespace: "shop", Name: "web"}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("by nobody: %v", err)
	}
}

// Nobody but an admin learns anything.
func TestOperationsAreForAdmins(t *testing.T) {
	h := newHub(t, nil)
	somebody := agentpb.Operations{Conn: h.dial(spiffe("a", identity.RoleGateway))}
	for what, ask := range map[string]func() error{
		"gateways": func() error {
			_, err := somebody.ListGateways(t.Context(), &agentpb.ListGatewaysRequest{})
			return err
		},
		"tunnels": func() error {
			_, err := somebody.ListTunnels(t.Context(), &agentpb.ListTunnelsRequest{})
			return err
		},
		"stats": func() error {
			_, err := somebody.GetStats(t.Context(), &agentpb.StatsRequest{})
			return err
		},
		"trace": func() error {
			_, err := somebody.Trace(t.Context(), &agentpb.TraceRequest{Namespace: "a", Name: "b"})
			return err
		},
		"watch": func() error {
			stream, err := somebody.Watch(t.Context(), &agentpb.WatchRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	} {
		if err := ask(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The table's own gateways are judged too.
func TestExpected(t *testing.T) {
	builder := clusterset.NewBuilder(0)
	latest := clusterset.NewLatest(builder.Current())
	h := newHub(t, func(o *agents.ServerOptions) { o.Snapshots = latest })
	a, b := runAgent(t, "a", 1, []string{h.addr}, nil), runAgent(t, "b", 2, []string{h.addr}, nil)
	up := clusterset.Up
	a.peers.see(sight("b", 2, up), sight("c", 3, clusterset.Down))
	b.peers.see(sight("a", 1, up), sight("c", 3, clusterset.Down))
	h.untilHealth("b", up)
	builder.SetCluster(clusterset.Cluster{ID: "c", Gateways: []clusterset.Gateway{{Addr: tunnelOf(3).Addr(), Port: 15443, Tunnel: 15445}}})
	latest.Publish(builder.Publish())
	o := h.until("being judged", "c", func(o agents.Observed) bool { return o.DataPlane == clusterset.Down })
	if len(o.Gateways) != 0 || o.Seen[tunnelOf(3)] != clusterset.Down {
		t.Errorf("observed %+v", o)
	}
}

// A hub that has just started tells nothing of a cluster's gateways until all have spoken that its table knows, or for so long
// that they will not.
func TestNewHubWaitsForGatewaysItKnows(t *testing.T) {
	builder := clusterset.NewBuilder(0)
	known := func(n int) clusterset.Gateway {
		return clusterset.Gateway{Addr: tunnelOf(n).Addr(), Port: 15443, Tunnel: 15445}
	}
	builder.SetCluster(clusterset.Cluster{ID: "b", Gateways: []clusterset.Gateway{known(2), known(3)}})
	latest := clusterset.NewLatest(builder.Publish())
	begin := time.Now()
	h := newHub(t, func(o *agents.ServerOptions) {
		o.Snapshots, o.Health.Settle = latest, time.Second
	})
	a, _ := runAgent(t, "a", 1, []string{h.addr}, nil), runAgent(t, "b", 2, []string{h.addr}, nil)
	a.peers.see(sight("b", 2, clusterset.Up), sight("b", 3, clusterset.Up))
	o := h.until("being seen", "b", func(o agents.Observed) bool { return o.Seen[tunnelOf(2)] == clusterset.Up })
	if o.Gateways != nil && time.Since(begin) < time.Second {
		t.Errorf("one of two has spoken: %+v", o)
	}
	h.until("being told", "b", func(o agents.Observed) bool { return len(o.Gateways) == 1 })
	if took := time.Since(begin); took < time.Second {
		t.Errorf("the gateway that is about to come was taken away after %v", took)
	}
}
