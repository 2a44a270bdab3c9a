package connect_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const ms = time.Millisecond

var (
	port = connect.Port{Key: clusterset.Key{Namespace: "shop", Name: "web"}, Name: "http", Protocol: corev1.ProtocolTCP}
	m2   = netip.MustParseAddrPort("192.0.2.2:15445")
	m3   = netip.MustParseAddrPort("192.0.2.3:15445")
	m4   = netip.MustParseAddrPort("192.0.2.4:15445")
)

// behavior is what a gateway does with a request.
type behavior struct {
	after time.Duration // it answers; negative: never
	err   error
}

var silence = behavior{after: -1}

// gateways are an Opener whose time is that of the test.
type gateways struct {
	mu      sync.Mutex
	now     map[netip.AddrPort]behavior
	log     []string
	streams []*stream
	start   time.Time
}

func newGateways(now map[netip.AddrPort]behavior) *gateways {
	return &gateways{now: now, start: time.Now()}
}

func (g *gateways) Open(ctx context.Context, to tunnel.Peer, _ tunnel.Request) (tunnel.Stream, error) {
	g.mu.Lock()
	b := g.now[to.Addr]
	g.log = append(g.log, fmt.Sprintf("%v %s", time.Since(g.start), to.Cluster))
	g.mu.Unlock()
	var answer <-chan time.Time
	if b.after >= 0 {
		answer = time.After(b.after)
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-answer:
	}
	if b.err != nil {
		return nil, b.err
	}
	s := &stream{cluster: to.Cluster}
	g.mu.Lock()
	g.streams = append(g.streams, s)
	g.mu.Unlock()
	return s, nil
}

func (g *gateways) set(at netip.AddrPort, b behavior) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now[at] = b
}

// opened returns what was opened, and when, since it was asked last.
func (g *gateways) opened() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	log := g.log
	g.log = nil
	return log
}

// stream is a connection that notes its end.
type stream struct {
	net.Conn

	cluster string
	ended   bool
}

func (s *stream) Close() error      { s.ended = true; return nil }
func (s *stream) Reset() error      { s.ended = true; return nil }
func (s *stream) CloseWrite() error { return nil }

// finder returns a Finder for clusters behind the gateways, one priority each.
func finder(g *gateways, change func(*connect.Options), order ...netip.AddrPort) *connect.Finder {
	o := connect.Options{Opener: g}
	if change != nil {
		change(&o)
	}
	f := connect.New(o, port)
	routes := &connect.Routes{Number: 80}
	for _, at := range order {
		routes.Priorities = append(routes.Priorities, []route.Candidate{{
			Cluster: fmt.Sprintf("m%d", at.Addr().As4()[3]), Gateways: []netip.AddrPort{at}, Weight: 1,
		}})
	}
	f.Follow(routes)
	return f
}

// outcome is what a connection came to: the cluster or the reason, and the time it took.
type outcome struct {
	to   string
	took time.Duration
}

func try(f *connect.Finder, data []byte) outcome {
	began := time.Now()
	l, err := f.Connect(context.Background(), connect.Client{Data: data})
	o := outcome{took: time.Since(began)}
	if failed, ok := errors.AsType[*connect.UnconnectedError](err); ok {
		o.to = failed.Reason
		return o
	}
	o.to = l.Way.Cluster
	_ = l.Reset()
	l.Release()
	return o
}

func TestConnect(t *testing.T) {
	gone := behavior{after: ms, err: &tunnel.Refused{Code: tunnel.NoEndpoint}}
	down := behavior{err: tunnel.ErrNotUp}
	for name, test := range map[string]struct {
		reason  string
		now     map[netip.AddrPort]behavior
		data    string
		options func(*connect.Options)
		want    outcome
	}{
		"First":        {"nobody waits", map[netip.AddrPort]behavior{m2: {after: 20 * ms}, m3: {}}, "", nil, outcome{"m2", 20 * ms}},
		"Silent":       {"the second way begins after the delay", map[netip.AddrPort]behavior{m2: silence, m3: {after: 20 * ms}}, "", nil, outcome{"m3", 120 * ms}},
		"Slow":         {"the first way is slow, and still the first", map[netip.AddrPort]behavior{m2: {after: 110 * ms}, m3: {after: 20 * ms}}, "", nil, outcome{"m2", 110 * ms}},
		"TwoSilent":    {"the third way begins after another delay", map[netip.AddrPort]behavior{m2: silence, m3: silence, m4: {after: 5 * ms}}, "", nil, outcome{"m4", 205 * ms}},
		"Refused":      {"the next way begins at once", map[netip.AddrPort]behavior{m2: gone, m3: {after: 5 * ms}}, "", nil, outcome{"m3", 6 * ms}},
		"Down":         {"no tunnel: no time is lost", map[netip.AddrPort]behavior{m2: down, m3: down, m4: {after: 5 * ms}}, "", nil, outcome{"m4", 5 * ms}},
		"FailsLate":    {"when the first fails at last, the third begins at once beside the second", map[netip.AddrPort]behavior{m2: {after: 110 * ms, err: errors.New("broken")}, m3: {after: 20 * ms}, m4: {after: 5 * ms}}, "", nil, outcome{"m4", 115 * ms}},
		"AllRefuse":    {"said at once", map[netip.AddrPort]behavior{m2: gone, m3: gone, m4: gone}, "", nil, outcome{connect.AllFailed, 3 * ms}},
		"AllSilent":    {"an attempt has its time", map[netip.AddrPort]behavior{m2: silence, m3: silence, m4: silence}, "", nil, outcome{connect.AllFailed, 3200 * ms}},
		"AllTooSlow":   {"all together have theirs", map[netip.AddrPort]behavior{m2: silence, m3: silence, m4: silence}, "", func(o *connect.Options) { o.ConnectTimeout = time.Second }, outcome{connect.OverTime, time.Second}},
		"NoRace":       {"the next way begins when the first has failed", map[netip.AddrPort]behavior{m2: silence, m3: {after: 20 * ms}}, "", func(o *connect.Options) { o.NoRace = true }, outcome{"m3", 3020 * ms}},
		"Flight":       {"what goes with the request is on one way at a time", map[netip.AddrPort]behavior{m2: {after: 2 * time.Second}, m3: {}}, "GET /", nil, outcome{"m2", 2 * time.Second}},
		"FlightAgain":  {"and goes to the next when nobody can have got it", map[netip.AddrPort]behavior{m2: gone, m3: {}}, "GET /", nil, outcome{"m3", ms}},
		"FlightUnsure": {"but not when somebody may", map[netip.AddrPort]behavior{m2: {after: ms, err: tunnel.ErrUncertain}, m3: {}}, "GET /", nil, outcome{connect.Uncertain, ms}},
		"Attempts":     {"there is an end of trying", map[netip.AddrPort]behavior{m2: gone, m3: gone, m4: {}}, "", func(o *connect.Options) { o.Attempts = 2 }, outcome{connect.AllFailed, 2 * ms}},
		"Budget":       {"too much has failed already", map[netip.AddrPort]behavior{m2: gone, m3: {}, m4: {}}, "", func(o *connect.Options) { o.Budget = route.Budget{Share: 0.1, Burst: 1} }, outcome{connect.OverBudget, ms}},
		"BudgetSlow":   {"without a budget the first has all the time", map[netip.AddrPort]behavior{m2: {after: time.Second}, m3: {}, m4: {}}, "", func(o *connect.Options) { o.Budget = route.Budget{Share: 0.1, Burst: 1} }, outcome{"m2", time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGateways(test.now)
				f := finder(g, test.options, m2, m3, m4)
				if got := try(f, []byte(test.data)); got != test.want {
					t.Errorf("%s: got %v, want %v; opened %v", test.reason, got, test.want, g.opened())
				}
				synctest.Wait()
				for _, s := range g.streams {
					if !s.ended {
						t.Errorf("%s: a stream to %s is left", test.reason, s.cluster)
					}
				}
			})
		})
	}
}

// TestFault is a cluster that goes silent and comes back, with a connection every 20 ms: the first few are delayed by hardly
// more than what it takes; then nobody is, not even when the cluster is tried again; and it is used again when it answers.
func TestFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateways(map[netip.AddrPort]behavior{m2: {after: 20 * ms}, m3: {after: 40 * ms}})
		f := finder(g, nil, m2, m3)
		for range 50 {
			if got := try(f, nil); got != (outcome{"m2", 20 * ms}) {
				t.Fatalf("before: %v", got)
			}
		}
		g.set(m2, silence)
		var mu sync.Mutex
		var all sync.WaitGroup
		var slow, late []outcome
		for i := range 3000 { // a minute
			all.Go(func() {
				got := try(f, nil)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case got.to != "m3" || got.took > 100*ms:
					t.Errorf("connection %d: %v", i, got)
				case got.took > 40*ms && i > 10:
					late = append(late, got)
				case got.took > 40*ms:
					slow = append(slow, got)
				}
			})
			<-time.After(20 * ms)
		}
		all.Wait()
		if len(slow) == 0 || len(slow) > 8 || len(late) > 0 {
			t.Errorf("delayed: %v, and later %v", slow, late)
		}
		tried := 0
		for range g.opened() {
			tried++
		}
		if tried > 3000+50+20 {
			t.Errorf("%d streams were opened for 3050 connections", tried)
		}
		p := f.Stats().Peers[0]
		if p.Cluster != "m2" || p.Lost < 2 || p.Ejections < 4 || p.Ejections > 8 {
			t.Errorf("got %+v", p)
		}
		g.set(m2, behavior{after: 20 * ms})
		back := time.Now()
		for try(f, nil).to != "m2" {
			<-time.After(20 * ms)
		}
		if took := time.Since(back); took > 45*time.Second {
			t.Errorf("it is used again after %v", took)
		}
		if out := f.Stats().Ejected; len(out) != 0 {
			t.Errorf("still left out: %v", out)
		}
	})
}

// TestGone holds that a client that leaves undoes everything, and nobody is blamed.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateways(map[netip.AddrPort]behavior{m2: silence, m3: {after: time.Second}})
		f := finder(g, nil, m2, m3)
		ctx, cancel := context.WithCancelCause(context.Background())
		slow := time.Duration(0)
		began := time.Now()
		time.AfterFunc(500*ms, func() { cancel(connect.ErrGone) })
		_, err := f.Connect(ctx, connect.Client{Slow: func() { slow = time.Since(began) }})
		failed, ok := errors.AsType[*connect.UnconnectedError](err)
		if !ok || failed.Reason != connect.ClientGone || !errors.Is(err, connect.ErrGone) || time.Since(began) != 500*ms {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		if slow != 100*ms {
			t.Errorf("slow was called after %v, want once after 100ms", slow)
		}
		synctest.Wait()
		s := f.Stats()
		if len(s.Ejected) != 0 || s.Refused[connect.ClientGone] != 1 || s.Races != 1 || s.Peers[0].Lost != 0 {
			t.Errorf("got %+v", s)
		}
	})
}

// TestRefusedCluster holds that what one gateway says of the service holds for the others of its cluster.
func TestRefusedCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := netip.MustParseAddrPort("192.0.2.9:15445")
		none := behavior{err: &tunnel.Refused{Code: tunnel.NoEndpoint}}
		g := newGateways(map[netip.AddrPort]behavior{m2: none, other: none, m3: {}})
		f := finder(g, nil)
		f.Follow(&connect.Routes{Number: 80, Priorities: [][]route.Candidate{
			{{Cluster: "m2", Gateways: []netip.AddrPort{m2, other}, Weight: 1}}, {{Cluster: "m3", Gateways: []netip.AddrPort{m3}, Weight: 1}},
		}})
		for range 5 {
			if got := try(f, nil); got.to != "m3" {
				t.Fatalf("got %v", got)
			}
		}
		if opened := g.opened(); len(opened) != 6 {
			t.Errorf("opened %v, want m2 once", opened)
		}
		// One of its gateways has nothing against it when the other is gone.
		g.set(m2, behavior{err: errors.New("broken")})
		g.set(other, behavior{})
		<-time.After(2 * time.Second)
		for range 10 {
			try(f, nil)
			synctest.Wait()
			<-time.After(2 * time.Second)
		}
		g.opened()
		if got := try(f, nil); got.to != "m2" {
			t.Errorf("got %v, opened %v", got, g.opened())
		}
	})
}

// TestBlame holds that a way that breaks after it has acknowledged is left out.
func TestBlame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateways(map[netip.AddrPort]behavior{m2: {}, m3: {}})
		f := finder(g, nil, m2, m3)
		l, err := f.Connect(t.Context(), connect.Client{})
		if err != nil {
			t.Fatal(err)
		}
		f.Blame(l.Way)
		l.Release()
		if got := try(f, nil); got.to != "m3" {
			t.Errorf("got %v", got)
		}
	})
}

// TestDirect holds what becomes of the errors of pods that are reached directly.
func TestDirect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	alive := l.Addr().(*net.TCPAddr).AddrPort()
	closed := netip.AddrPortFrom(alive.Addr(), 1)
	f := connect.New(connect.Options{}, port)
	if _, err := f.Connect(t.Context(), connect.Client{}); err == nil || f.Routes().Explain() == "" {
		t.Errorf("connected to nobody: %v", err)
	}
	f.Follow(&connect.Routes{Number: 80, Priorities: [][]route.Candidate{
		{{Cluster: "m1", Pods: []netip.AddrPort{closed}, Weight: 1}}, {{Cluster: "m2", Gateways: []netip.AddrPort{m2}, Weight: 1}}, {{Cluster: "m1", Pods: []netip.AddrPort{alive}, Weight: 1}},
	}})
	link, err := f.Connect(t.Context(), connect.Client{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := relay.Socket(link.Stream); !ok || link.Way.Addr != alive {
		t.Errorf("got %v", link.Way)
	}
	_ = link.Close()
	link.Release()
	s := f.Stats()
	if s.Peers[0].Errors["refused"] != 1 || s.Peers[1].Errors["tunnel"] != 1 || s.Peers[0].Connections != 1 || s.Peers[0].Latency.Mean() <= 0 || s.Peers[0].Latency.Quantile(0.5) <= 0 {
		t.Errorf("got %+v", s)
	}
}
