package route_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// client returns one of many.
func client(n int) route.Affinity {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 10<<24+uint32(n))
	return route.ByAddress(netip.AddrFrom4(a))
}

const many = 20000

// TestSameShares holds that clients are spread by weight, and evenly within a cluster.
func TestSameShares(t *testing.T) {
	heavy := route.Candidate{Cluster: "m1", Pods: addrs("10.1.0.1:80", "10.1.0.2:80"), Weight: 9000}
	light := route.Candidate{Cluster: "m2", Gateways: addrs("192.0.2.1:1"), Weight: 1000}
	count := map[route.Way]int{}
	for n := range many {
		w, ok := route.Same([][]route.Candidate{{heavy, light}, {third}}, nil, known{}, client(n))
		if !ok {
			t.Fatal("no way")
		}
		count[w]++
	}
	for w, got := range count {
		want := 0.45 * many
		if w.Cluster == "m2" {
			want = 0.1 * many
		}
		if float64(got) < 0.93*want || float64(got) > 1.07*want {
			t.Errorf("%s has %d clients, want %.0f", w, got, want)
		}
	}
	if len(count) != 3 {
		t.Errorf("used are %v", count)
	}
}

// TestSameStays holds that clients stay where they are, however busy that is, unless it is left out, and that only the
// clients of what is left out move.
func TestSameStays(t *testing.T) {
	priorities := [][]route.Candidate{{ownPods, second}}
	moved, homes := map[route.Way]int{}, map[route.Way]int{}
	for n := range many {
		home, _ := route.Same(priorities, nil, known{}, client(n))
		homes[home]++
		busy := known{open: map[route.Way]int64{home: 1 << 20}}
		if again, _ := route.Same(priorities, nil, busy, client(n)); again != home {
			t.Fatalf("client %d leaves %s for %s", n, home, again)
		}
		gone := route.Way{Cluster: "m1", Addr: ownPods.Pods[0]}
		next, _ := route.Same(priorities, nil, known{out: func(w route.Way) bool { return w == gone }}, client(n))
		if home != gone && next != home {
			t.Fatalf("client %d leaves %s although %s is what is left out", n, home, gone)
		}
		if home == gone {
			moved[next]++
		}
		fewer := ownPods
		fewer.Pods = slices.Clone(ownPods.Pods[1:])
		if after, _ := route.Same([][]route.Candidate{{fewer, second}}, nil, known{}, client(n)); home != gone && after != home {
			t.Fatalf("client %d leaves %s for %s when %s is gone", n, home, after, gone)
		}
	}
	if len(homes) != 5 || len(moved) != 2 {
		t.Errorf("clients were at %v; those of a pod went to %v, want the cluster's other two", homes, moved)
	}
}

// TestSameOrder holds, for any candidates, that every way is tried once and those that are left out last, as Next has it.
func TestSameOrder(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 11))
		priorities, all := anyCandidates(random)
		bad := map[route.Way]bool{}
		for _, w := range all {
			bad[w] = random.IntN(3) == 0
		}
		var tried []route.Way
		for out := false; ; {
			w, ok := route.Same(priorities, tried, known{out: func(w route.Way) bool { return bad[w] }}, client(int(seed)))
			if !ok {
				break
			}
			if slices.Contains(tried, w) || out && !bad[w] {
				t.Fatalf("seed %d: %s comes after %v", seed, w, tried)
			}
			tried, out = append(tried, w), bad[w]
		}
		if len(tried) != len(all) {
			t.Fatalf("seed %d: %d of %d ways are tried", seed, len(tried), len(all))
		}
	}
}

func TestAffinity(t *testing.T) {
	mapped := netip.MustParseAddr("::ffff:10.0.0.1")
	if route.ByAddress(mapped) != route.ByAddress(mapped.Unmap()) {
		t.Error("how an address is written makes two clients of one")
	}
	if route.ByName("m1") == route.ByName("m2") || route.ByName("") == 0 {
		t.Error("names are not told apart")
	}
	// A new process, and an older one on another node, have to agree.
	if got := route.ByName("m1"); got != 0xb1f1c6d5119a7801 {
		t.Errorf("m1 is %#x", uint64(got))
	}
	b := table()
	if route.Sticky(b.Publish().Service(web)) || route.Sticky(nil) {
		t.Error("affinity where nobody asked for it")
	}
	for _, cluster := range []string{"m1", "m2", "flat"} {
		b.SetExport(cluster, web, clusterset.Export{Properties: &clusterset.Properties{SessionAffinity: corev1.ServiceAffinityClientIP}})
	}
	if !route.Sticky(b.Publish().Service(web)) {
		t.Error("no affinity where it was asked for")
	}
}
