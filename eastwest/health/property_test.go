package health_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/health"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

func gateways(names ...string) []health.Gateway {
	var all []health.Gateway
	for _, name := range names {
		all = append(all, gateway(name))
	}
	return all
}

// anything has an agent say something of the others at random.
func anything(r *rand.Rand, self string, others []string) string {
	var words []string
	for _, other := range others {
		if agent(other).Cluster != self {
			words = append(words, other+":"+[]string{"Up", "Down", "Down", "Unknown"}[r.IntN(4)])
		}
	}
	return strings.Join(words, " ")
}

// Whatever is said, some cluster is not Down.
func TestNeverAllDown(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		names := []string{"a", "a/2", "b", "c", "c/2", "d"}[:2+r.IntN(5)]
		if names[len(names)-1] == "a/2" {
			names = []string{"a", "b"}
		}
		w := newWorld(t, names...)
		var log []string
		for range 120 {
			who := names[r.IntN(len(names))]
			switch r.IntN(10) {
			case 0:
				w.die(who)
				log = append(log, who+" dies")
			case 1:
				w.hello(who)
				log = append(log, who+" comes")
			case 2:
				w.silence(who)
				log = append(log, who+" falls silent")
			default:
				words := anything(r, agent(who).Cluster, names)
				if r.IntN(6) == 0 {
					words += "! broken"
				}
				w.say(who, words)
				log = append(log, who+" says "+words)
			}
			w.pass(time.Duration(r.IntN(1500)) * time.Millisecond)
			down, all := 0, w.machine.Clusters()
			for _, id := range all {
				if v, _ := w.machine.OfCluster(id); v.Health == clusterset.Down {
					down++
				}
			}
			if down == len(all) {
				t.Fatalf("seed %d: all are Down:\n%s", seed, strings.Join(log, "\n"))
			}
		}
	}
}

// While the others see each other and are here, nothing that one cluster's agents say of them takes any of them out, however
// they say it.
func TestOneObserverMovesNobody(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		w := three(t)
		w.hello("a/2")
		for range 100 {
			switch who := []string{"a", "a/2"}[r.IntN(2)]; r.IntN(8) {
			case 0:
				w.die(who)
			case 1:
				w.hello(who)
			default:
				w.say(who, anything(r, "a", []string{"b", "c"}))
			}
			w.pass(time.Duration(r.IntN(1500)) * time.Millisecond)
			if got := w.verdicts(); !strings.Contains(got, "b:Up c:Up") {
				t.Fatalf("seed %d: %s", seed, got)
			}
		}
	}
}

// With two clusters the same holds while the other's agent is here and well.
func TestOneOfTwoMovesNobodyWhoIsHere(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := two(t)
		for range 100 {
			w.say("a", anything(r, "a", []string{"b"}))
			w.pass(time.Duration(r.IntN(1500)) * time.Millisecond)
			if got := w.verdicts(); !strings.Contains(got, "b:Up") {
				t.Fatalf("seed %d: %s", seed, got)
			}
		}
	}
}

// However many gateways and agents the other has, and whatever it invents: one cluster alone takes out no gateway that is
// here and well.
func TestOneOfTwoMovesNobodyByMany(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 6))
		w := two(t)
		w.machine.Expect(gateways("t"))
		names := []string{"b", "b/2", "b/3"}
		for _, name := range names[1:] {
			w.hello(name)
			w.say(name, "a:Up")
		}
		w.say("a", "b:Up b/2:Up b/3:Up")
		w.pass(2 * time.Second)
		for range 100 {
			who := []string{"a", "a/2", "a/3", "a/4"}[r.IntN(4)]
			w.hello(who)
			w.say(who, anything(r, "a", append([]string{"g", "g/2", "t"}, names...)))
			w.pass(time.Duration(r.IntN(1500)) * time.Millisecond)
			for _, g := range gateways(names...) {
				if v, _ := w.machine.OfGateway(g); v.Health != clusterset.Up {
					t.Fatalf("seed %d: %s of b is %s: %s", seed, g.Addr, name(v.Health), v.Reason)
				}
			}
		}
	}
}

// A better sight of a gateway never makes its verdict worse: of two worlds that differ in what is said of it only, the one in
// which it looks better has the better verdict once it has lasted.
func TestMonotone(t *testing.T) {
	rank := map[clusterset.Health]int{clusterset.Down: 0, clusterset.Unknown: 1, clusterset.Up: 2}
	observers := []string{"a", "a/2", "b", "c", "d", "e"}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 4))
		var verdicts [2]clusterset.Health
		var said [2]string
		count := 1 + r.IntN(len(observers))
		words := make([]string, count)
		for i, who := range observers[:count] {
			words[i] = anything(r, agent(who).Cluster, observers[:count])
		}
		worse := make([]int, count)
		better := make([]int, count)
		for i := range worse {
			worse[i] = r.IntN(2)
			better[i] = max(worse[i], r.IntN(2))
		}
		here := r.IntN(2) == 0
		for side, levels := range [][]int{worse, better} {
			w := newWorld(t, observers[:count]...)
			w.machine.Expect(gateways("z"))
			if here {
				w.hello("z")
				w.say("z", "a:Up")
			}
			for i, who := range observers[:count] {
				line := words[i] + " z:" + []string{"Down", "Up"}[levels[i]]
				w.say(who, line)
				said[side] += fmt.Sprintf("%s says %s\n", who, line)
			}
			w.pass(10 * time.Second)
			v, _ := w.machine.OfGateway(gateway("z"))
			verdicts[side] = v.Health
		}
		if rank[verdicts[0]] > rank[verdicts[1]] {
			t.Fatalf("seed %d: %q with\n%s%q with\n%s", seed, verdicts[0], said[0], verdicts[1], said[1])
		}
	}
}

// However fast what is said changes, a verdict changes a bounded number of times.
func TestFlappingIsBounded(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 5))
		w := three(t)
		changes, was := 0, "c:Up"
		for end := w.now.Add(time.Minute); w.now.Before(end); {
			h := []string{"Up", "Down"}[r.IntN(2)]
			w.say("a", "b:Up c:"+h)
			w.say("b", "a:Up c:"+h)
			for range r.IntN(20) {
				w.pass(100 * time.Millisecond)
				if is := strings.Fields(w.verdicts())[2]; is != was {
					changes, was = changes+1, is
				}
			}
		}
		if changes > 12 {
			t.Errorf("seed %d: the verdict changed %d times in a minute", seed, changes)
		}
	}
}
