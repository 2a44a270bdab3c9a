package health_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

func TestThreeClusters(t *testing.T) {
	tests := map[string]func(w *world){
		"a cluster dies": func(w *world) {
			w.die("c")
			w.say("a", "b:Up c:Down")
			w.want("a moment is not enough", "a:Up b:Up c:Up")
			w.say("b", "a:Up c:Down")
			w.pass(499 * time.Millisecond)
			w.want("it has to last for half a second", "a:Up b:Up c:Up")
			w.pass(time.Millisecond)
			w.want("both observers have said so for half a second", "a:Up b:Up c:Down")
			w.pass(5 * time.Minute)
			w.want("it stays", "a:Up b:Up c:Down")
		},
		"and comes back": func(w *world) {
			w.die("c")
			w.say("a", "b:Up c:Down")
			w.say("b", "a:Up c:Down")
			w.pass(time.Minute)
			w.hello("c")
			w.say("c", "a:Up b:Up")
			w.pass(time.Minute)
			w.want("I am here does not outvote those who do not reach it", "a:Up b:Up c:Down")
			w.say("a", "b:Up c:Up")
			w.pass(5 * time.Second)
			w.want("one of two is no agreement", "a:Up b:Up c:Down")
			w.say("b", "a:Up c:Up")
			w.pass(999 * time.Millisecond)
			w.want("it has to last for a second", "a:Up b:Up c:Down")
			w.pass(time.Millisecond)
			w.want("both have said so for a second", "a:Up b:Up c:Up")
		},
		"one says Down, another Up": func(w *world) {
			w.say("a", "b:Up c:Down")
			w.pass(time.Minute)
			w.want("one of two is no quorum: a link is cut, not a cluster dead", "a:Up b:Up c:Up")
		},
		"an observer sees nobody": func(w *world) {
			w.say("a", "b:Down c:Down")
			w.pass(time.Minute)
			w.want("a is cut off; the others still see it", "a:Up b:Up c:Up")
			w.say("b", "a:Down c:Up")
			w.say("c", "a:Down b:Up")
			w.pass(time.Second)
			w.want("nor do they: a is Down, and its own word takes nobody out", "a:Down b:Up c:Up")
		},
		"all links are cut": func(w *world) {
			w.say("a", "b:Down c:Down")
			w.say("b", "a:Down c:Down")
			w.say("c", "a:Down b:Down")
			w.pass(time.Minute)
			w.want("all are well and talk to the hub: links are cut, no cluster is dead", "a:Up b:Up c:Up")
		},
		"a short failure": func(w *world) {
			w.say("a", "b:Up c:Down")
			w.say("b", "a:Up c:Down")
			w.pass(400 * time.Millisecond)
			w.say("b", "a:Up c:Up")
			w.pass(time.Minute)
			w.want("it did not last", "a:Up b:Up c:Up")
		},
		"a short disagreement begins the count anew": func(w *world) {
			w.say("a", "b:Up c:Down")
			w.say("b", "a:Up c:Down")
			w.pass(300 * time.Millisecond)
			w.say("b", "a:Up c:Up")
			w.say("b", "a:Up c:Down")
			w.pass(300 * time.Millisecond)
			w.want("0.6 s in all, but not together", "a:Up b:Up c:Up")
			w.pass(200 * time.Millisecond)
			w.want("now it lasted", "a:Up b:Up c:Down")
		},
		"a stale observer": func(w *world) {
			w.die("c")
			w.silence("b") // it saw c, and says nothing more
			w.say("a", "b:Up c:Down")
			w.pass(2400 * time.Millisecond)
			w.want("what b said last counts", "a:Up b:Up c:Up")
			w.pass(700 * time.Millisecond)
			w.want("b's word is too old; a sees b, and c's agent is gone, so a's word counts", "a:Up b:Up c:Down")
			w.hello("c")
			w.say("c", "a:Up b:Up")
			w.pass(time.Minute)
			w.want("c is well again, which a contradicts: nothing changes", "a:Up b:Up c:Down")
		},
		"one observer is left, and the accused is well": func(w *world) {
			w.silence("b")
			w.say("a", "b:Up c:Down")
			w.pass(time.Minute)
			w.want("one cluster alone takes out nobody who is here and well", "a:Up b:Up c:Up")
		},
		"all observers are gone": func(w *world) {
			for _, id := range []string{"a", "b", "c"} {
				w.die(id)
			}
			w.pass(5 * time.Minute)
			w.want("nobody says anything else", "a:Up b:Up c:Up")
		},
		"its own pods are not reached": func(w *world) {
			w.say("c", "a:Up b:Up ! no pod answers")
			w.pass(500 * time.Millisecond)
			w.want("the gateway knows best", "a:Up b:Up c:Down")
			w.say("c", "a:Up b:Up")
			w.pass(time.Second)
			w.want("and when it is well again", "a:Up b:Up c:Up")
		},
		"a broken agent is gone": func(w *world) {
			w.say("c", "a:Up b:Up ! no pod answers")
			w.pass(time.Second)
			w.die("c")
			w.pass(5 * time.Second)
			w.want("what it said of itself is old; the others reach it", "a:Up b:Up c:Up")
		},
		"a gateway leaves": func(w *world) {
			w.goodbye("c")
			w.say("a", "b:Up c:Down")
			w.say("b", "a:Up c:Down")
			w.pass(time.Minute)
			w.want("leaving is not to be dead", "a:Up b:Up c:Unknown")
			w.die("c")
			w.pass(time.Minute)
			w.hello("c")
			w.say("a", "b:Up c:Up")
			w.say("b", "a:Up c:Up")
			w.want("it is back", "a:Up b:Up c:Up")
		},
		"an observer invents a gateway": func(w *world) {
			w.say("a", "b:Up c:Up c/9:Up b/8:Down")
			w.die("c")
			w.say("b", "a:Up c:Down")
			w.say("a", "b:Up c:Down c/9:Up b/8:Down")
			w.pass(time.Second)
			w.want("what agents of c did not say is no gateway of it", "a:Up b:Up c:Down")
		},
		"an observer speaks of itself": func(w *world) {
			w.say("c", "a:Up b:Up c:Up")
			w.say("a", "b:Up c:Down")
			w.say("b", "a:Up c:Down")
			w.pass(time.Second)
			w.want("its own word on how it is reached does not count", "a:Up b:Up c:Down")
		},
		"the last one": func(w *world) {
			w.say("b", "a:Up c:Up ! broken")
			w.pass(time.Second)
			w.say("c", "a:Up b:Up ! broken")
			w.pass(time.Second)
			w.say("a", "b:Down c:Down ! broken")
			w.pass(time.Second)
			w.want("there is nowhere else to go", "a:Up(held) b:Down c:Down a/1:Down")
			w.say("b", "a:Up c:Up")
			w.say("a", "b:Up c:Down ! broken")
			w.pass(2 * time.Second)
			w.want("now there is", "a:Down b:Up c:Down")
		},
	}
	for name, play := range tests {
		t.Run(name, func(t *testing.T) {
			w := three(t)
			w.t = t
			play(w)
		})
	}
}

func TestTwoClusters(t *testing.T) {
	tests := map[string]func(w *world){
		"one dies": func(w *world) {
			w.die("b")
			w.say("a", "b:Down")
			w.pass(time.Second)
			w.want("a sees nobody, but b's agent is gone too", "a:Up b:Down")
			w.hello("b")
			w.say("b", "a:Up")
			w.say("a", "b:Up")
			w.pass(time.Second)
			w.want("both are back", "a:Up b:Up")
		},
		"one is black-holed": func(w *world) {
			w.silence("b")
			w.pass(time.Second)
			w.say("a", "b:Down")
			w.pass(1400 * time.Millisecond)
			w.want("what b's agent said last is not old enough", "a:Up b:Up")
			w.pass(700 * time.Millisecond)
			w.want("it is silent, and a has said so since", "a:Up b:Down")
		},
		"the link is cut": func(w *world) {
			w.say("a", "b:Down")
			w.say("b", "a:Down")
			w.pass(5 * time.Minute)
			w.want("each sees nobody, and both are well: they disagree", "a:Up b:Up")
		},
		"the link is cut one way": func(w *world) {
			w.say("a", "b:Down")
			w.pass(5 * time.Minute)
			w.want("a sees nobody, and b is well", "a:Up b:Up")
		},
		"one is not well": func(w *world) {
			w.say("b", "a:Up ! no pod answers")
			w.say("a", "b:Down")
			w.pass(time.Second)
			w.want("b says so itself", "a:Up b:Down")
		},
		"one of two gateways": func(w *world) {
			w.hello("b/2")
			w.say("b/2", "a:Up")
			w.say("a", "b:Up b/2:Up")
			w.pass(time.Second)
			w.die("b/2")
			w.say("a", "b:Up b/2:Down")
			w.pass(time.Second)
			w.want("a sees the other one, so it is not cut off", "a:Up b:Up b/2:Down")
			w.pass(10 * time.Minute)
			w.want("it is forgotten: another of its cluster is there", "a:Up b:Up")
		},
		"an observer invents a gateway so as not to be cut off": func(w *world) {
			w.say("b", "a:Down g:Up")
			w.pass(time.Minute)
			w.want("nobody knows g; a is well and connected", "a:Up b:Up")
			w.say("a", "g:Up b:Down ! broken")
			w.pass(time.Minute)
			w.want("by what a says of itself it is Down; a's word on b does not count", "a:Down b:Up")
		},
		"an observer sees a gateway that only the table has": func(w *world) {
			w.machine.Expect(gateways("t"))
			w.say("b", "a:Down t:Up")
			w.pass(time.Minute)
			w.want("b sees somebody, but is one alone, and a is well", "a:Up b:Up t:Up")
			w.die("a")
			w.pass(time.Minute)
			w.want("now nobody stands for a", "a:Down b:Up t:Up")
		},
		"a gateway that only the table has": func(w *world) {
			w.machine.Expect(gateways("b/9"))
			w.say("a", "b:Up b/9:Down")
			w.pass(time.Minute)
			w.want("an agent of b is well: the gateway has none of its own, so that one stands for it", "a:Up b:Up b/9:Unknown")
			w.say("b", "a:Up ! broken")
			w.pass(time.Minute)
			w.want("now nobody does", "a:Up b:Down")
		},
		"one of two gateways, and its agent is well": func(w *world) {
			w.hello("b/2")
			w.say("b/2", "a:Up")
			w.say("a", "b:Up b/2:Up")
			w.pass(time.Second)
			w.say("a", "b:Up b/2:Down")
			w.pass(time.Minute)
			w.want("a sees the other one, but is one alone", "a:Up b:Up")
		},
		"one of two observers of a cluster is cut off": func(w *world) {
			w.hello("a/2")
			w.say("a/2", "b:Down")
			w.pass(time.Minute)
			w.want("the other agent of a sees b", "a:Up b:Up a/2:Unknown")
		},
		"both are broken": func(w *world) {
			w.say("a", "b:Up ! broken")
			w.say("b", "a:Up ! broken")
			w.pass(time.Second)
			w.want("one of them stays", "a:Down b:Up(held) b/1:Down")
		},
	}
	for name, play := range tests {
		t.Run(name, func(t *testing.T) {
			w := two(t)
			w.t = t
			play(w)
		})
	}
}

// A new hub knows nobody: that an agent is not there yet says nothing.
func TestNewHub(t *testing.T) {
	w := newWorld(t, "a")
	w.machine.Expect(nil)
	w.say("a", "b:Down")
	w.pass(time.Second)
	w.want("nobody said that b has this gateway", "a:Unknown")

	w = newWorld(t)
	w.machine.Expect(gateways("b"))
	w.hello("a")
	w.say("a", "b:Down")
	w.pass(4 * time.Second)
	w.want("b's agent may be about to come", "a:Unknown b:Unknown")
	w.pass(2 * time.Second)
	w.want("it did not", "a:Unknown b:Down")

	w = newWorld(t)
	w.machine.Expect(gateways("b", "t"))
	w.hello("a")
	w.say("a", "b:Down t:Up")
	w.pass(4 * time.Second)
	w.want("a sees somebody, but it is the only one that has come", "a:Unknown b:Unknown t:Up")
	w.pass(2 * time.Second)
	w.want("b's agent did not", "a:Unknown b:Down t:Up")

	w = newWorld(t)
	w.machine.Expect(gateways("b"))
	w.hello("a")
	w.say("a", "b:Down")
	w.pass(2 * time.Second)
	w.hello("b")
	w.say("b", "a:Down")
	w.pass(5 * time.Minute)
	w.want("it did: the link is cut", "a:Unknown b:Unknown")
}

// Each time that a gateway goes down within a minute makes the next way up longer.
func TestFlapping(t *testing.T) {
	w := three(t)
	flip := func(h string) {
		w.say("a", "b:Up c:"+h)
		w.say("b", "a:Up c:"+h)
	}
	var ups []time.Duration
	for range 7 {
		flip("Down")
		w.pass(time.Second)
		w.want("it goes down at once, however often", "a:Up b:Up c:Down")
		flip("Up")
		begin := w.now
		for strings.Contains(w.verdicts(), "c:Down") {
			w.pass(100 * time.Millisecond)
		}
		ups = append(ups, w.now.Sub(begin))
	}
	least := time.Second
	for i, got := range ups[:5] {
		if got < least || got > least+100*time.Millisecond {
			t.Errorf("the way up %d took %v, want %v", i+1, got, least)
		}
		least *= 2
	}
	for _, up := range ups {
		if up > 30*time.Second+100*time.Millisecond {
			t.Errorf("a way up took %v, more than the most", up)
		}
	}
	w.pass(2 * time.Minute)
	flip("Down")
	w.pass(time.Second)
	flip("Up")
	w.pass(time.Second)
	w.want("all that is forgotten after a minute", "a:Up b:Up c:Up")
}

func TestReasons(t *testing.T) {
	w := three(t)
	w.die("c")
	w.say("a", "b:Up c:Down")
	w.say("b", "a:Up c:Down")
	w.pass(time.Second)
	v, _ := w.machine.OfCluster("c")
	if want := "2 of 2 observing clusters do not reach it: a, b"; v.Reason != want {
		t.Errorf("reason %q, want %q", v.Reason, want)
	}
	if since := w.now.Sub(v.Since); since != 500*time.Millisecond {
		t.Errorf("since %v ago, want half a second", since)
	}
	if v, ok := w.machine.OfGateway(gateway("c")); !ok || v.Health != clusterset.Down {
		t.Errorf("its gateway: %+v, %v", v, ok)
	}
	if _, ok := w.machine.OfGateway(gateway("c/9")); ok {
		t.Error("a gateway is known that nobody has")
	}
	if v, _ := w.machine.OfCluster("z"); v.Health != clusterset.Unknown || v.Reason == "" {
		t.Errorf("a cluster that nobody has: %+v", v)
	}
}
