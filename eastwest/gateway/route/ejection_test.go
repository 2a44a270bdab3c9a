package route_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/route"
)

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
	usable bool // of way, afterwards
}

const never = -1

func TestEjections(t *testing.T) {
	const s = time.Second
	timing := route.Timing{BackOff: s, MaxBackOff: 4 * s}
	for name, test := range map[string]struct {
		reason string
		steps  []step
	}{
		"New":         {"nothing is known against it", []step{{0, pod, never, 0, true}}},
		"Failed":      {"out at once, and back when the time is over", []step{{0, pod, 0, route.Failed, false}, {s - 1, pod, never, 0, false}, {s, pod, never, 0, true}}},
		"LostOnce":    {"once may be bad luck", []step{{0, pod, 0, route.Lost, true}}},
		"LostTwice":   {"twice in a row is not", []step{{0, pod, 0, route.Lost, true}, {1, pod, 1, route.Lost, false}}},
		"LostAndWon":  {"not in a row", []step{{0, pod, 0, route.Lost, true}, {1, pod, 1, route.Connected, true}, {2, pod, 2, route.Lost, true}}},
		"Client":      {"a client that leaves says nothing about the way", []step{{0, pod, 0, route.Dropped, true}, {1, pod, 1, route.Dropped, true}}},
		"Grows":       {"the back-off doubles, up to the longest", []step{{0, pod, 0, route.Failed, false}, {s, pod, s, route.Failed, false}, {3*s - 1, pod, never, 0, false}, {3 * s, pod, 3 * s, route.Lost, false}, {7*s - 1, pod, never, 0, false}, {7 * s, pod, 7 * s, route.Failed, false}, {11*s - 1, pod, never, 0, false}, {11 * s, pod, never, 0, true}}},
		"Absent":      {"without a tunnel the back-off does not grow", []step{{0, gateway1, 0, route.Absent, false}, {s, gateway1, s, route.Absent, false}, {2 * s, gateway1, 2 * s, route.Absent, false}, {3 * s, gateway1, never, 0, true}}},
		"Readmitted":  {"a connection sets everything back", []step{{0, pod, 0, route.Failed, false}, {s, pod, s, route.Connected, true}, {s + 1, pod, s + 1, route.Lost, true}, {s + 2, pod, s + 2, route.Failed, false}, {2*s + 2, pod, never, 0, true}}},
		"Stale":       {"what began before it was left out does not count twice", []step{{2, pod, 1, route.Failed, false}, {3, pod, 1, route.Failed, false}, {s + 2, pod, never, 0, true}}},
		"StaleGood":   {"nor does it let it in", []step{{2, pod, 1, route.Failed, false}, {3, pod, 1, route.Connected, false}}},
		"PanicGood":   {"used because nothing else was there, it worked", []step{{0, pod, 0, route.Failed, false}, {5, pod, 4, route.Connected, true}}},
		"PanicBad":    {"used because nothing else was there, it did not: the back-off stays", []step{{0, pod, 0, route.Failed, false}, {5, pod, 4, route.Failed, false}, {s, pod, never, 0, true}}},
		"Refused":     {"the service does not work in the cluster: the other gateway has no other pods", []step{{0, gateway1, 0, route.Refused, false}, {1, gateway2, never, 0, false}, {s, gateway2, never, 0, true}}},
		"OneGateway":  {"a gateway that is gone says nothing about the other", []step{{0, gateway1, 0, route.Failed, false}, {1, gateway2, never, 0, true}}},
		"RefusedBack": {"one gateway has proved that the service works again", []step{{0, gateway1, 0, route.Refused, false}, {s, gateway2, s, route.Connected, true}, {s, gateway1, never, 0, true}}},
	} {
		t.Run(name, func(t *testing.T) {
			e, start := route.NewEjections(timing), time.Unix(1000, 0)
			for _, step := range test.steps {
				now := start.Add(step.at)
				if step.began >= 0 {
					e.End(e.Begin(step.way, start.Add(step.began)), step.result, now, 0)
				}
				if got := e.Usable(step.way, now); got != step.usable {
					t.Errorf("%s: %s after %v usable: %t, want %t", test.reason, step.way, step.at, got, step.usable)
				}
			}
		})
	}
}

// TestTrial holds that what comes back is tried by one connection at a time.
func TestTrial(t *testing.T) {
	e, start := route.NewEjections(route.Timing{}), time.Unix(1000, 0)
	if !e.End(e.Begin(pod, start), route.Failed, start, 0) {
		t.Fatal("End does not say that the way is left out")
	}
	later := start.Add(2 * time.Second)
	first := e.Begin(pod, later)
	if e.Usable(pod, later.Add(1)) {
		t.Error("a second connection may try it beside the first")
	}
	e.End(first, route.Dropped, later, 0)
	if !e.Usable(pod, later.Add(1)) {
		t.Error("when the client of the trial has left, nobody may try it")
	}
	e.Begin(pod, later)
	if !e.Usable(pod, later.Add(time.Minute)) {
		t.Error("a trial that nobody ended goes on for ever")
	}
	if e.Usable(pod, later.Add(time.Second)) {
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
		"Near":    {"at least the least", []time.Duration{ms(1)}, ms(20)},
		"Usual":   {"four times what it takes", []time.Duration{ms(20)}, ms(80)},
		"Far":     {"at most the most", []time.Duration{ms(90)}, ms(250)},
		"Moving":  {"a fifth of the news", []time.Duration{ms(20), ms(30)}, ms(88)},
	} {
		t.Run(name, func(t *testing.T) {
			e, now := route.NewEjections(route.Timing{}), time.Unix(1000, 0)
			for _, took := range test.took {
				e.End(e.Begin(pod, now), route.Connected, now.Add(took), 0)
			}
			if got := e.Delay(pod); got != test.want {
				t.Errorf("%s: got %v, want %v", test.reason, got, test.want)
			}
		})
	}
	e, now := route.NewEjections(route.Timing{}), time.Unix(1000, 0)
	e.End(e.Begin(pod, now), route.Connected, now.Add(ms(10)), 0)
	e.End(e.Begin(pod, now), route.Lost, now.Add(ms(60)), 0)
	if got := e.Delay(pod); got != ms(80) {
		t.Errorf("after a race that a slower way lost: %v, want 80ms: it may just be slower than it was", got)
	}
}

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
			was := e.Usable(a.Way, now)
			result := route.Result(random.IntN(6))
			e.End(a, result, now, random.Float64())
			if result == route.Dropped && was && !e.Usable(a.Way, now) {
				t.Fatalf("seed %d: a client that left has taken %s out", seed, a.Way)
			}
			for _, w := range ways {
				if d := e.Delay(w); d < timing.MinDelay || d > timing.MaxDelay {
					t.Fatalf("seed %d: delay %v", seed, d)
				}
				if !e.Usable(w, now.Add(timing.MaxBackOff*3/2+timing.Trial)) {
					t.Fatalf("seed %d: %s does not come back", seed, w)
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
