package route_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/route"
)

const (
	isIn  = "in"
	isOut = "out"
	isDue = "due"
)

func stands(e *route.Ejections, w route.Way, now time.Time) string {
	switch {
	case e.Usable(w):
		return isIn
	case e.Due(w, now):
		return isDue
	default:
		return isOut
	}
}

var (
	pod      = route.Way{Cluster: "m1", Addr: addrs("10.1.0.1:80")[0]}
	gateway1 = route.Way{Cluster: "m2", Addr: addrs("192.0.2.1:1")[0], Tunnel: true}
	gateway2 = route.Way{Cluster: "m2", Addr: addrs("192.0.2.2:1")[0], Tunnel: true}
)

// step is something that happens some time after the start, and what holds then.
type step struct {
	at     time.Duration
	way    route.Way
	began  time.Duration // of the attempt that ends; negative: there is none
	result route.Result
	then   string // how the way stands afterwards
}

const never = -1

func TestEjections(t *testing.T) {
	const s = time.Second
	timing := route.Timing{BackOff: s, MaxBackOff: 4 * s}
	for name, test := range map[string]struct {
		reason string
		steps  []step
	}{
		"New":         {"nothing is known against it", []step{{0, pod, never, 0, isIn}}},
		"Failed":      {"out at once, and back when the time is over", []step{{0, pod, 0, route.Failed, isOut}, {s - 1, pod, never, 0, isOut}, {s, pod, never, 0, isDue}}},
		"LostOnce":    {"once may be bad luck", []step{{0, pod, 0, route.Lost, isIn}}},
		"LostTwice":   {"twice in a row is not", []step{{0, pod, 0, route.Lost, isIn}, {1, pod, 1, route.Lost, isOut}}},
		"LostAndWon":  {"not in a row", []step{{0, pod, 0, route.Lost, isIn}, {1, pod, 1, route.Connected, isIn}, {2, pod, 2, route.Lost, isIn}}},
		"Client":      {"a client that leaves says nothing about the way", []step{{0, pod, 0, route.Dropped, isIn}, {1, pod, 1, route.Dropped, isIn}}},
		"Grows":       {"the back-off doubles, up to the longest", []step{{0, pod, 0, route.Failed, isOut}, {s, pod, s, route.Failed, isOut}, {3*s - 1, pod, never, 0, isOut}, {3 * s, pod, 3 * s, route.Lost, isOut}, {7*s - 1, pod, never, 0, isOut}, {7 * s, pod, 7 * s, route.Failed, isOut}, {11*s - 1, pod, never, 0, isOut}, {11 * s, pod, never, 0, isDue}}},
		"Absent":      {"without a tunnel the back-off does not grow", []step{{0, gateway1, 0, route.Absent, isOut}, {s, gateway1, s, route.Absent, isOut}, {2 * s, gateway1, 2 * s, route.Absent, isOut}, {3 * s, gateway1, never, 0, isDue}}},
		"Readmitted":  {"a connection sets everything back", []step{{0, pod, 0, route.Failed, isOut}, {s, pod, s, route.Connected, isIn}, {s + 1, pod, s + 1, route.Lost, isIn}, {s + 2, pod, s + 2, route.Failed, isOut}, {2*s + 2, pod, never, 0, isDue}}},
		"Stale":       {"what began before it was left out does not count twice", []step{{2, pod, 1, route.Failed, isOut}, {3, pod, 1, route.Failed, isOut}, {s + 2, pod, never, 0, isDue}}},
		"StaleGood":   {"nor does it let it in", []step{{2, pod, 1, route.Failed, isOut}, {3, pod, 1, route.Connected, isOut}}},
		"PanicGood":   {"used because nothing else was there, it worked", []step{{0, pod, 0, route.Failed, isOut}, {5, pod, 4, route.Connected, isIn}}},
		"PanicBad":    {"used because nothing else was there, it did not: the back-off stays", []step{{0, pod, 0, route.Failed, isOut}, {5, pod, 4, route.Failed, isOut}, {s, pod, never, 0, isDue}}},
		"Refused":     {"the service does not work in the cluster: the other gateway has no other pods", []step{{0, gateway1, 0, route.Refused, isOut}, {1, gateway2, never, 0, isOut}, {s, gateway2, never, 0, isDue}}},
		"OneGateway":  {"a gateway that is gone says nothing about the other", []step{{0, gateway1, 0, route.Failed, isOut}, {1, gateway2, never, 0, isIn}}},
		"RefusedBack": {"one gateway has proved that the service works again", []step{{0, gateway1, 0, route.Refused, isOut}, {s, gateway2, s, route.Connected, isIn}, {s, gateway1, never, 0, isIn}}},
	} {
		t.Run(name, func(t *testing.T) {
			e, start := route.NewEjections(timing), time.Unix(1000, 0)
			for _, step := range test.steps {
				now := start.Add(step.at)
				if step.began >= 0 {
					e.End(e.Begin(step.way, start.Add(step.began)), step.result, now, 0)
				}
				if got := stands(e, step.way, now); got != step.then {
					t.Errorf("%s: %s after %v is %s, want %s", test.reason, step.way, step.at, got, step.then)
				}
			}
		})
	}
}

// TestTrial holds that what may come back has one trial at a time, and which way that is.
func TestTrial(t *testing.T) {
	e, start := route.NewEjections(route.Timing{}), time.Unix(1000, 0)
	candidates := [][]route.Candidate{{onePod}, {second}}
	if _, ok := e.Trial(candidates, start); ok {
		t.Fatal("there is a trial although nothing is left out")
	}
	if !e.End(e.Begin(pod, start), route.Failed, start, 0) || !e.End(e.Begin(gateway1, start), route.Refused, start, 0) {
		t.Fatal("End does not say that the way is left out")
	}
	if w, ok := e.Trial(candidates, start); ok {
		t.Fatalf("%s has a trial at once", w)
	}
	later := start.Add(2 * time.Second)
	if w, ok := e.Trial(candidates[1:], later); !ok || w.Cluster != "m2" || !w.Addr.IsValid() {
		t.Errorf("got %s, want a gateway of m2: the cluster is left out", w)
	}
	w, ok := e.Trial(candidates, later)
	if !ok || w != pod {
		t.Fatalf("got %s, want the pod", w)
	}
	first := e.Begin(pod, later)
	if e.Due(pod, later.Add(1)) {
		t.Error("a second trial may begin beside the first")
	}
	e.End(first, route.Dropped, later, 0)
	if !e.Due(pod, later.Add(1)) {
		t.Error("when the trial has said nothing, there may be none")
	}
	e.Begin(pod, later)
	if !e.Due(pod, later.Add(time.Minute)) {
		t.Error("a trial that nobody ended goes on for ever")
	}
	if e.Due(pod, later.Add(time.Second)) {
		t.Error("a trial that goes on is over")
	}
}

// TestJitter holds that the back-off grows by up to half.
func TestJitter(t *testing.T) {
	e, start := route.NewEjections(route.Timing{}), time.Unix(1000, 0)
	e.End(e.Begin(pod, start), route.Failed, start, 0.5)
	if got := e.Out(); len(got) != 1 || got[0].Until != start.Add(1250*time.Millisecond) {
		t.Errorf("got %v, want 1.25 s", got)
	}
	e.Keep([][]route.Candidate{{second}})
	if got := e.Out(); len(got) != 0 {
		t.Errorf("what is no candidate any more is remembered: %v", got)
	}
}

func TestDelay(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for name, test := range map[string]struct {
		reason string
		took   []time.Duration
		want   time.Duration
	}{
		"Unknown": {"nothing is known", nil, ms(100)},
		"Near":    {"at least the least", repeat(ms(1), 20), ms(20)},
		"First":   {"the first says little about the next", []time.Duration{ms(20)}, ms(60)},
		"Steady":  {"hardly longer than it takes, when that is always the same", repeat(ms(20), 30), ms(30)},
		"Far":     {"at most the most", repeat(ms(245), 30), ms(250)},
		"Erratic": {"however far they differ, not for long", []time.Duration{ms(100)}, ms(175)},
		"Moving":  {"an eighth of the news, a quarter of what it differs by", append(repeat(ms(20), 60), ms(60)), ms(25) + 4*ms(10)},
	} {
		t.Run(name, func(t *testing.T) {
			e, now := route.NewEjections(route.Timing{}), time.Unix(1000, 0)
			for _, took := range test.took {
				e.End(e.Begin(pod, now), route.Connected, now.Add(took), 0)
			}
			if got := e.Delay(pod).Round(ms(1)); got != test.want {
				t.Errorf("%s: got %v, want %v", test.reason, got, test.want)
			}
		})
	}
}

func repeat(d time.Duration, n int) []time.Duration { return slices.Repeat([]time.Duration{d}, n) }

// TestEjectionsProperties holds, whatever happens: a way that is out comes back without anybody's doing, the back-off has
// bounds, and a delay too.
func TestEjectionsProperties(t *testing.T) {
	timing := route.Timing{}.OrDefault()
	ways := []route.Way{pod, gateway1, gateway2}
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 3))
		e, now := route.NewEjections(timing), time.Unix(1000, 0)
		var running []route.Attempt
		for range 200 {
			now = now.Add(time.Duration(random.Int64N(int64(time.Second))))
			if random.IntN(2) == 0 || len(running) == 0 {
				running = append(running, e.Begin(ways[random.IntN(len(ways))], now))
				continue
			}
			at := random.IntN(len(running))
			a := running[at]
			running = append(running[:at], running[at+1:]...)
			was := e.Usable(a.Way)
			result := route.Result(random.IntN(6))
			e.End(a, result, now, random.Float64())
			if result == route.Dropped && was && !e.Usable(a.Way) {
				t.Fatalf("seed %d: a client that left has taken %s out", seed, a.Way)
			}
			for _, w := range ways {
				if d := e.Delay(w); d < timing.MinDelay || d > timing.MaxDelay {
					t.Fatalf("seed %d: delay %v", seed, d)
				}
				if stands(e, w, now.Add(timing.MaxBackOff*3/2+timing.Trial)) == isOut {
					t.Fatalf("seed %d: %s never has a trial", seed, w)
				}
			}
			for _, out := range e.Out() {
				if out.Until.After(now.Add(timing.MaxBackOff * 3 / 2)) {
					t.Fatalf("seed %d: %s is out for %v", seed, out.Way, out.Until.Sub(now))
				}
			}
		}
	}
}

func TestBudget(t *testing.T) {
	b, now := route.Budget{Share: 0.2, Floor: 1, Burst: 12}, time.Unix(1000, 0)
	spend := func() (n int) {
		for b.Take(now) {
			n++
		}
		return n
	}
	if got := spend(); got != 10 {
		t.Errorf("at first %d, want 10: what ten seconds bring", got)
	}
	for range 25 {
		b.Connection(now)
	}
	if got := spend(); got != 5 {
		t.Errorf("of 25 connections %d, want 5", got)
	}
	now = now.Add(3 * time.Second)
	if got := spend(); got != 3 {
		t.Errorf("in three seconds %d, want 3", got)
	}
	now = now.Add(time.Hour)
	if got := spend(); got != 12 {
		t.Errorf("in an hour %d, want 12: no more is kept", got)
	}
	now = now.Add(-time.Hour)
	if got := spend(); got != 0 {
		t.Errorf("when the clock goes back %d", got)
	}
	if d := route.DefaultBudget(); !d.Take(now) {
		t.Error("nothing may be spent at first")
	}
	if none := (route.Budget{}); none.Take(now) {
		t.Error("the zero value allows something")
	}
}
