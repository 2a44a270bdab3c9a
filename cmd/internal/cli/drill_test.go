package cli

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// sums are what m1's gateway has counted of calls to shop/web, by cluster.
type sums struct{ toM2, toM3, open, failed uint64 }

func (s sums) stats() []*agentpb.AgentStats {
	counter := func(peer string, connections, active, errs uint64) *agentpb.Counter {
		return &agentpb.Counter{Namespace: "shop", Name: "web", Port: 80, Peer: peer, Connections: connections, Active: active, Errors: errs}
	}
	return []*agentpb.AgentStats{
		{Cluster: "im1", Node: "n1", Stats: &agentpb.Stats{StartedMs: 1, Counters: []*agentpb.Counter{
			counter("im2", s.toM2, s.open, s.failed), counter("im3", s.toM3, 0, 0),
			{Namespace: "shop", Name: "web", Peer: "im2", Inbound: true, Connections: 1000 * s.toM2, Errors: 1000},
		}}},
		{Cluster: "im2", Node: "n1", Stats: &agentpb.Stats{StartedMs: 1, Counters: []*agentpb.Counter{counter("im2", 5000+s.toM3, 0, 77+s.toM3)}}},
	}
}

// story plays a drill: a look each half second of the hub's time.
func story(looks ...sums) func(send func(*agentpb.WatchResponse)) {
	return func(send func(*agentpb.WatchResponse)) {
		at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, look := range looks {
			send(&agentpb.WatchResponse{AtMs: at.UnixMilli(), Agents: look.stats()})
			at = at.Add(500 * time.Millisecond)
		}
	}
}

func times(n int, from, step sums) (looks []sums) {
	for range n {
		looks = append(looks, from)
		from = sums{from.toM2 + step.toM2, from.toM3 + step.toM3, step.open, from.failed + step.failed}
	}
	return looks
}

// drillable is a hub with three clusters and a story.
func drillable(t *testing.T, looks ...sums) *hub {
	t.Helper()
	h := newHub(t)
	h.infos(t, "m1", "m2", "m3")
	for _, name := range []string{"m2", "m3"} {
		if err := h.client.Create(t.Context(), member(name)); err != nil {
			t.Fatal(err)
		}
	}
	h.announce(t, h.serve(t, &operator{watch: story(looks...)}))
	return h
}

func TestDrill(t *testing.T) {
	looks := times(11, sums{}, sums{toM2: 10, open: 4})                                         // 5 s before
	looks = append(looks, sums{110, 0, 4, 0}, sums{115, 8, 2, 1}, sums{115, 20, 0, 1})          // it begins
	looks = append(looks, times(10, sums{115, 30, 0, 1}, sums{toM3: 10})...)                    // and is over
	looks = append(looks, times(11, sums{125, 130, 3, 1}, sums{toM2: 10, toM3: 0, open: 3})...) // 5 s after
	h := drillable(t, looks...)
	out, told, err := execute(t, h.host, "drill", "m2", "--for", "6s", "--yes", "--max-errors", "10%")
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, told)
	}
	for _, line := range [][]string{
		{"cluster m2 is out of traffic for 6s ..."},
		{"cluster m2 has its traffic back"},
		{"PHASE", "LENGTH", "CONNECTIONS", "TO M2", "FAILED", "SHARE", "WORST HALF SECOND"},
		{"before", "5s", "100", "100", "0", "0%", "0"},
		{"during", "6s", "125", "15", "1", "0.8%", "1"},
		{"after", "5s", "110", "90", "0"},
		{"shop/web", "125", "1", "im3 (110), im2 (15)"},
		{"The last new connection to cluster m2 was seen after 1s. The last error was seen after 1s."},
	} {
		if !has(out, line...) {
			t.Errorf("there is no line %q in\n%s", line, out)
		}
	}
	if info := h.info(t, "m2"); info.Spec.DataPlane != "" || len(info.Annotations) > 0 {
		t.Errorf("it was left as %+v %v", info.Spec, info.Annotations)
	}
}

// A drill that costs too much ends by itself; so does one whose hub goes away. The cluster gets its traffic back.
func TestDrillAborts(t *testing.T) {
	before := times(11, sums{}, sums{toM2: 10})
	for name, test := range map[string]struct {
		looks []sums
		want  string
	}{
		"too many errors": {append(before, sums{toM2: 110}, sums{toM2: 110, toM3: 10, failed: 12}), "the drill was ended early: 12 of 20 connections failed, more than 5% (--max-errors)"},
		"the hub goes":    {append(before, sums{toM2: 110}), "the story is over"},
	} {
		t.Run(name, func(t *testing.T) {
			h := drillable(t, test.looks...)
			out, _, err := execute(t, h.host, "drill", "m2", "--for", "1m", "--yes", "-o", "json")
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			var decoded drillResult
			if err := json.Unmarshal([]byte(out), &decoded); err != nil || decoded.Outcome != "Aborted" || len(decoded.Phases) != 2 {
				t.Errorf("json: %v\n%s", err, out)
			}
			if info := h.info(t, "m2"); info.Spec.DataPlane != "" || len(info.Annotations) > 0 {
				t.Errorf("it was left as %+v %v", info.Spec, info.Annotations)
			}
		})
	}
}

// While a drill goes on the object says so, for the hub to end it.
func TestDrillIsWrittenDown(t *testing.T) {
	h := drillable(t)
	o := &operator{}
	o.watch = func(send func(*agentpb.WatchResponse)) {
		story(times(12, sums{}, sums{toM2: 1})...)(send)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
			info := h.info(t, "m2")
			if until, drilling := info.Drill(); drilling {
				if info.Spec.DataPlane != v1alpha1.Down || until.Before(time.Now().Add(time.Minute)) || until.After(time.Now().Add(2*time.Minute)) {
					t.Errorf("during the drill: %+v %v", info.Spec, info.Annotations)
				}
				return
			}
		}
		t.Error("the drill never began")
	}
	addr := h.serve(t, o)
	h.reannounce(t, addr)
	if _, _, err := execute(t, h.host, "drill", "m2", "--for", "1m", "--yes"); err == nil {
		t.Error("the hub went away, and the drill went on")
	}
}

func TestDrillIsRefused(t *testing.T) {
	h := drillable(t, sums{}, sums{})
	fails := func(reason, want string, args ...string) {
		t.Helper()
		_, told, err := execute(t, h.host, append([]string{"drill"}, args...)...)
		if err == nil || !strings.Contains(err.Error()+told, want) {
			t.Errorf("%s: %v, %q; want %q", reason, err, told, want)
		}
		if info := h.info(t, "m2"); info.Annotations != nil {
			t.Errorf("%s: it began: %v", reason, info.Annotations)
		}
	}
	fails("nobody confirms", "Type m2 to go on", "m2")
	fails("a share", "want a share such as 1% or 0.01", "m2", "--max-errors", "200%")
	fails("a length", "want from 1s", "m2", "--for", "2h")
	fails("no such cluster", "the clusters are: m1, m2, m3", "m9", "--yes")
	fails("the story ends before it begins", "the story is over", "m2", "--yes")

	info := h.info(t, "m2")
	info.Spec.DataPlane = v1alpha1.Down
	if err := h.client.Update(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	fails("Down by hand", "is Down already", "m2", "--yes")
	for _, name := range []string{"m1", "m3"} {
		info := h.info(t, name)
		info.Spec.State = v1alpha1.Draining
		if err := h.client.Update(t.Context(), info); err != nil {
			t.Fatal(err)
		}
	}
	info = h.info(t, "m2")
	info.Spec.DataPlane = ""
	if err := h.client.Update(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	fails("nowhere else to go", "its traffic has nowhere to go", "m2", "--yes")
}

func TestDrain(t *testing.T) {
	h := newHub(t)
	h.infos(t, "m1", "m2")
	looks := []sums{{toM2: 50, open: 3}, {toM2: 52, open: 1}, {toM2: 52}, {toM2: 52}}
	o := &operator{stats: func() *agentpb.StatsResponse {
		now := looks[0]
		if len(looks) > 1 {
			looks = looks[1:]
		}
		return &agentpb.StatsResponse{Agents: now.stats()[:1]}
	}}
	h.announce(t, h.serve(t, o))
	out, told, err := execute(t, h.host, "drain", "m2", "--timeout", "1m")
	if err != nil || h.info(t, "m2").Spec.State != v1alpha1.Draining {
		t.Fatalf("%v %q, %+v", err, told, h.info(t, "m2").Spec)
	}
	for _, line := range []string{
		"cluster m2 is draining", "3 connections left: shop/web from im1 (3)", "1 connections left, 2 new: shop/web from im1 (1)", "no traffic is left in cluster m2",
	} {
		if !has(out, line) {
			t.Errorf("there is no line %q in\n%s", line, out)
		}
	}
	looks = []sums{{open: 2}}
	out, _, err = execute(t, h.host, "drain", "m2", "--timeout", "10ms")
	if err == nil || !strings.Contains(err.Error(), "cluster m2 is not empty after 10ms: 2 connections left: shop/web from im1 (2). It stays Draining") || !has(out, "draining already") {
		t.Errorf("some stay: %v\n%s", err, out)
	}
	out, _, err = execute(t, h.host, "drain", "m2", "--wait=false", "-o", "json")
	var decoded drained
	if err := errors.Join(err, json.Unmarshal([]byte(out), &decoded)); err != nil || decoded.Done || len(decoded.Connections) != 1 || decoded.Connections[0].Open != 2 {
		t.Errorf("json: %v\n%s", err, out)
	}
	if out, _, err = execute(t, h.host, "undrain", "im2"); err != nil || !has(out, "cluster m2 takes traffic again") || h.info(t, "m2").Spec.State != "" {
		t.Errorf("undrain: %v\n%s", err, out)
	}
	if out, _, err = execute(t, h.host, "undrain", "m2"); err != nil || !has(out, "cluster m2 is not draining: it is Active") {
		t.Errorf("undrain again: %v\n%s", err, out)
	}
}

// Counters of gateways that restart, come and go count once.
func TestCountsChange(t *testing.T) {
	begun := time.UnixMilli(1000)
	agent := func(node string, started int64, connections uint64) *agentpb.AgentStats {
		return &agentpb.AgentStats{Cluster: "a", Node: node, Stats: &agentpb.Stats{StartedMs: started, Counters: []*agentpb.Counter{
			{Namespace: "shop", Name: "web", Peer: "b", Connections: connections},
		}}}
	}
	for name, test := range map[string]struct {
		reason        string
		earlier, then []*agentpb.AgentStats
		want          uint64
	}{
		"goes on":     {"the difference", []*agentpb.AgentStats{agent("n1", 1, 10)}, []*agentpb.AgentStats{agent("n1", 1, 15)}, 5},
		"restarts":    {"all since its start", []*agentpb.AgentStats{agent("n1", 1, 10)}, []*agentpb.AgentStats{agent("n1", 2000, 3)}, 3},
		"was away":    {"what it counted before is not known to be new", nil, []*agentpb.AgentStats{agent("n1", 1, 900)}, 0},
		"is new":      {"it began after the beginning", []*agentpb.AgentStats{agent("n1", 1, 10)}, []*agentpb.AgentStats{agent("n1", 1, 10), agent("n2", 1500, 4)}, 4},
		"goes away":   {"nothing is lost that was counted", []*agentpb.AgentStats{agent("n1", 1, 10)}, nil, 0},
		"wraps round": {"a lesser sum is a new one", []*agentpb.AgentStats{agent("n1", 1, 10)}, []*agentpb.AgentStats{agent("n1", 1, 2)}, 2},
	} {
		var got uint64
		for _, c := range countAll(test.then).changes(countAll(test.earlier), begun, "z") {
			got += c.connections
		}
		if got != test.want {
			t.Errorf("%s: %d, want %d: %s", name, got, test.want, test.reason)
		}
	}
}

func TestParseShare(t *testing.T) {
	for text, want := range map[string]float64{"1%": 0.01, "0.5": 0.5, "0": 0, "100%": 1} {
		if got, err := parseShare(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "%", "NaN", "-1%", "1.5", "x"} {
		if got, err := parseShare(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// The next replica goes on when one fails.
func TestWatchReplicas(t *testing.T) {
	h := newHub(t)
	h.announce(t, h.serve(t, &operator{watch: story(sums{}, sums{toM2: 1})}), h.serve(t, &operator{watch: story(sums{toM2: 2})}))
	r, err := h.openReplicas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.close() }()
	var seen []string
	err = watchReplicas(t.Context(), r, func(w *agentpb.WatchResponse) error {
		seen = append(seen, strconv.FormatUint(w.GetAgents()[0].GetStats().GetCounters()[0].GetConnections(), 10))
		return nil
	})
	if status.Code(err) == codes.OK || strings.Join(seen, " ") != "0 1 2" {
		t.Errorf("seen %v, %v", seen, err)
	}
}
