package health_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/health"
)

// One member can say hello by ten thousand names of nodes: no more are kept than a cluster may have, the newest, and neither
// its agents that are connected nor anything of others.
func TestManyNames(t *testing.T) {
	w := three(t)
	w.machine.Goodbye(agent("c")) // an agent of c that left is the first to be forgotten
	w.machine.Gone(agent("c"), w.now)
	name := func(n int) health.Agent { return health.Agent{Cluster: "c", Node: fmt.Sprintf("n%05d", n)} }
	const names = 10_000
	for n := range names {
		w.now = w.now.Add(time.Millisecond)
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), 15445)
		if !w.machine.Hello(name(n), addr, w.now) {
			t.Fatalf("name %d was not taken: those before are gone", n)
		}
		if n != 5 { // stays
			w.machine.Gone(name(n), w.now)
		}
	}
	w.step()
	count := map[string]int{}
	for _, g := range w.machine.Gateways() {
		count[g.Cluster]++
	}
	if count["a"] != 1 || count["b"] != 1 || count["c"] != health.MaxAgents {
		t.Errorf("gateways %v, want %d of c and one of each other", count, health.MaxAgents)
	}
	for n := range names {
		want := n == 5 || n > names-health.MaxAgents
		if got := w.machine.Knows(name(n)); got != want {
			t.Errorf("name %d is known: %v, want %v", n, got, want)
		}
	}
	if w.machine.Knows(agent("c")) {
		t.Error("an agent that left is known, and newer ones were forgotten")
	}
}

// As many as a cluster may have are connected: one more is not taken until one of them is gone.
func TestAsManyAsThereMayBe(t *testing.T) {
	w := newWorld(t, "b")
	name := func(n int) health.Agent { return health.Agent{Cluster: "a", Node: strconv.Itoa(n)} }
	for n := range health.MaxAgents {
		if !w.machine.Hello(name(n), netip.AddrPort{}, w.now) {
			t.Fatalf("number %d was not taken", n)
		}
	}
	if w.machine.Hello(name(1000), netip.AddrPort{}, w.now) || w.machine.Knows(name(1000)) {
		t.Error("one more was taken")
	}
	if !w.machine.Hello(name(3), netip.AddrPort{}, w.now) {
		t.Error("one that is known was not taken again")
	}
	w.machine.Gone(name(3), w.now)
	if !w.machine.Hello(name(1000), netip.AddrPort{}, w.now) || w.machine.Knows(name(3)) {
		t.Error("one that is gone did not make room")
	}
}

// A step with many names of many clusters does not ask every agent for every gateway, which takes seconds.
func TestStepIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	m := crowd(now, 300, health.MaxAgents)
	m.Step(now)
	begin := time.Now()
	m.Step(now)
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("a step took %v", took)
	}
}
