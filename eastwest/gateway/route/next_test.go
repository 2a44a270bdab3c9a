package route_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/hansa-dev/hansa/eastwest/gateway/route"
)

// known is a Look.
type known struct {
	out  func(route.Way) bool
	open map[route.Way]int64
}

func (k known) Usable(w route.Way) bool { return k.out == nil || !k.out(w) }
func (k known) Open(w route.Way) int64  { return k.open[w] }
func in(cluster string) func(route.Way) bool {
	return func(w route.Way) bool { return w.Cluster == cluster }
}

// order returns all ways for one connection, in their order, by cluster.
func order(priorities [][]route.Candidate, look route.Look, random *rand.Rand) []route.Way {
	var tried []route.Way
	for {
		w, ok := route.Next(priorities, tried, look, random.Uint64N)
		if !ok {
			return tried
		}
		tried = append(tried, w)
	}
}

func clusters(ways []route.Way) []string {
	var names []string
	for _, w := range ways {
		names = append(names, w.Cluster)
	}
	return names
}

var (
	ownPods = route.Candidate{Cluster: "m1", Pods: addrs("10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"), Weight: 3}
	onePod  = route.Candidate{Cluster: "m1", Pods: addrs("10.1.0.1:80"), Weight: 1}
	second  = route.Candidate{Cluster: "m2", Gateways: addrs("192.0.2.1:1", "192.0.2.2:1"), Weight: 3}
	third   = route.Candidate{Cluster: "m3", Gateways: addrs("192.0.2.3:1"), Weight: 1}
)

func TestNextOrder(t *testing.T) {
	for name, test := range map[string]struct {
		reason     string
		priorities [][]route.Candidate
		out        func(route.Way) bool
		want       []string
	}{
		"Nothing":  {"there is nothing", nil, nil, nil},
		"Own":      {"another pod, since pods die alone; then another cluster, since nodes do not; what is left at the end", [][]route.Candidate{{ownPods}, {third}}, nil, []string{"m1", "m1", "m3", "m1"}},
		"Gateways": {"what stopped one gateway may stop the other: another cluster comes first", [][]route.Candidate{{second}, {third}}, nil, []string{"m2", "m3", "m2"}},
		"Ejected":  {"what is left out comes last, not never", [][]route.Candidate{{onePod}, {third}, {second}}, in("m1"), []string{"m3", "m2", "m2", "m1"}},
		"Panic":    {"when everything is left out, everything is used in its order", [][]route.Candidate{{onePod}, {third}, {second}}, func(route.Way) bool { return true }, []string{"m1", "m3", "m2", "m2"}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				got := clusters(order(test.priorities, known{out: test.out}, rand.New(rand.NewPCG(seed, 1))))
				if !slices.Equal(got, test.want) {
					t.Fatalf("%s: got %v, want %v", test.reason, got, test.want)
				}
			}
		})
	}
}

// TestNextProperties holds, for any candidates: every way is tried exactly once, none that is left out before one that is
// not, and the same chance gives the same order.
func TestNextProperties(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 7))
		priorities, all := anyCandidates(random)
		bad := map[route.Way]bool{}
		for _, w := range all {
			bad[w] = random.IntN(3) == 0
		}
		look := known{out: func(w route.Way) bool { return bad[w] }, open: map[route.Way]int64{}}
		for _, w := range all {
			look.open[w] = random.Int64N(5)
		}
		ways := order(priorities, look, rand.New(rand.NewPCG(seed, 9)))
		if again := order(priorities, look, rand.New(rand.NewPCG(seed, 9))); !slices.Equal(ways, again) {
			t.Fatalf("seed %d: the same chance gives %v and %v", seed, ways, again)
		}
		seen, out := map[route.Way]bool{}, false
		for _, w := range ways {
			if seen[w] {
				t.Fatalf("seed %d: %s is tried twice", seed, w)
			}
			seen[w] = true
			if out && !bad[w] {
				t.Fatalf("seed %d: %s comes after ways that are left out", seed, w)
			}
			out = bad[w]
		}
		if len(seen) != len(all) {
			t.Fatalf("seed %d: %d of %d ways are tried", seed, len(seen), len(all))
		}
	}
}

func anyCandidates(random *rand.Rand) (priorities [][]route.Candidate, all []route.Way) {
	next := byte(1)
	for range random.IntN(4) {
		var candidates []route.Candidate
		for range 1 + random.IntN(3) {
			c := route.Candidate{Cluster: fmt.Sprintf("m%d", random.IntN(5)), Weight: random.Uint32N(4)}
			tunnel := random.IntN(2) == 0
			for range 1 + random.IntN(4) {
				a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, next}), 80)
				next++
				all = append(all, route.Way{Cluster: c.Cluster, Addr: a, Tunnel: tunnel})
				if tunnel {
					c.Gateways = append(c.Gateways, a)
				} else {
					c.Pods = append(c.Pods, a)
				}
			}
			candidates = append(candidates, c)
		}
		priorities = append(priorities, candidates)
	}
	return priorities, all
}

// TestNextShares holds that clusters get connections by weight and ways by the connections they have.
func TestNextShares(t *testing.T) {
	heavy := route.Candidate{Cluster: "m1", Pods: addrs("10.1.0.1:80", "10.1.0.2:80"), Weight: 9000}
	light := route.Candidate{Cluster: "m2", Gateways: addrs("192.0.2.1:1"), Weight: 1000}
	random := rand.New(rand.NewPCG(1, 2))
	const n = 20000
	t.Run("AtRest", func(t *testing.T) {
		count := map[string]int{}
		for range n {
			w, _ := route.Next([][]route.Candidate{{heavy, light}}, nil, known{}, random.Uint64N)
			count[w.Cluster]++
		}
		if got := float64(count["m1"]) / n; got < 0.88 || got > 0.92 {
			t.Errorf("m1 gets %.3f of the connections, want 0.9", got)
		}
	})
	t.Run("ThatStay", func(t *testing.T) {
		open := map[route.Way]int64{}
		for range n {
			w, _ := route.Next([][]route.Candidate{{heavy, light}}, nil, known{open: open}, random.Uint64N)
			open[w]++
		}
		for w, got := range open {
			want := 0.45 * n
			if w.Cluster == "m2" {
				want = 0.1 * n
			}
			if float64(got) < 0.95*want || float64(got) > 1.05*want {
				t.Errorf("%s has %d connections, want %.0f", w, got, want)
			}
		}
	})
	t.Run("Busy", func(t *testing.T) {
		busy := route.Way{Cluster: "m1", Addr: heavy.Pods[0]}
		count := 0
		for range n {
			if w, _ := route.Next([][]route.Candidate{{heavy}}, nil, known{open: map[route.Way]int64{busy: 100}}, random.Uint64N); w == busy {
				count++
			}
		}
		if got := float64(count) / n; got > 0.27 {
			t.Errorf("the busy pod of two gets %.2f of the connections, want those that chance gives it twice", got)
		}
	})
}

// TestNextIsCheap holds that the first choice, which every connection makes, costs no memory.
func TestNextIsCheap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)).Uint64N
	var look route.Look = known{}
	priorities := [][]route.Candidate{{ownPods}, {second, third}}
	if n := testing.AllocsPerRun(1000, func() { route.Next(priorities, nil, look, random) }); n > 4 {
		t.Errorf("%.0f allocations", n)
	}
}
