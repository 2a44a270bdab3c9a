package eds_test

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/bench/eds"
	"github.com/hansa-dev/hansa/e2e/bench/result"
)

func TestApart(t *testing.T) {
	all := []eds.Sample{eds.NewSample(100, 103, 108, 104, 120), eds.NewSample(200, 205, 204, 209)}
	for name, test := range map[string]struct {
		reason   string
		from, to func(eds.Sample) int64
		want     result.Runs
	}{
		"Event": {"the reference counts from the request", eds.Sent, eds.Event, result.Runs{3, 5}},
		"First": {"clients count from the reference's event, and may be earlier", eds.Event, eds.First, result.Runs{1, -1}},
		"Last":  {"the last client is the latest one, wherever it stands", eds.Event, eds.Last, result.Runs{17, 4}},
		"Whole": {"the whole way counts from the request", eds.Sent, eds.Last, result.Runs{20, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, eds.Apart(all, test.from, test.to)); diff != "" {
				t.Errorf("%s: -want +got:\n%s", test.reason, diff)
			}
		})
	}
}

func TestFreeMemory(t *testing.T) {
	for name, test := range map[string]struct {
		reason, meminfo string
		want            float64
	}{
		"Told":    {"What can be had without swapping, in bytes.", "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:    2000 kB\n", 2_048_000},
		"Untold":  {"Where nobody says there is no limit.", "MemTotal: 9000 kB\n", math.Inf(1)},
		"Strange": {"What is no number says nothing.", "MemAvailable: much\n", math.Inf(1)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := eds.FreeOf(test.meminfo); got != test.want {
				t.Errorf("%s\nfree are %g bytes, want %g", test.reason, got, test.want)
			}
		})
	}
}

func TestBurst(t *testing.T) {
	// The second change was sent first, the first one arrived last, and the third has the last event.
	all := []eds.Sample{eds.NewSample(1500, 1600, 1700, 3000), eds.NewSample(1000, 1300, 1400, 1450), eds.NewSample(1600, 2000, 1900, 2100)}
	if diff := cmp.Diff([3]float64{1, 2, 1}, eds.BurstOf(all).Moments()); diff != "" {
		t.Errorf("a burst runs from its first request to its last event and its last arrival: -want +got:\n%s", diff)
	}
}

func TestSamplesKeepTheOrder(t *testing.T) {
	got := eds.Samples([]int64{1, 2}, []int64{11, 12}, [][]int64{{21}, {22}})
	if eds.Sent(got[1]) != 2 || eds.Event(got[1]) != 12 || eds.Last(got[1]) != 22 {
		t.Errorf("the second sample is %v, want what was noted second in all three places", got[1])
	}
}

func TestMarkers(t *testing.T) {
	seen := map[string]bool{}
	for i := range 30_000 {
		address := eds.Marker(i)
		switch {
		case len(address) != len(eds.Marker(0)):
			t.Fatalf("marker %d is %s: one could be the beginning of another", i, address)
		case seen[address]:
			t.Fatalf("marker %d is %s, which another change has", i, address)
		}
		if _, err := netip.ParseAddr(address); err != nil {
			t.Fatal(err)
		}
		seen[address] = true
	}
	for member := range 3 {
		for service := range 1000 {
			for pod := range 9 {
				address := eds.PodAddress(member, service, pod)
				if seen[address] {
					t.Fatalf("pod %d of service %d in member %d has %s, which another one has", pod, service, member, address)
				}
				if _, err := netip.ParseAddr(address); err != nil {
					t.Fatal(err)
				}
				seen[address] = true
			}
		}
	}
}

func TestSpread(t *testing.T) {
	members, services, addresses := eds.Spread(3, 1000, 900, 500)
	for member := range 3 {
		if !slices.Contains(members, member) {
			t.Errorf("no change is in member %d", member)
		}
	}
	slices.Sort(services)
	if len(slices.Compact(services)) != 500 {
		t.Error("a service changes twice in a burst: the first change could be skipped, rightly, and would be waited for")
	}
	if addresses[0] != eds.Marker(900) {
		t.Errorf("the first address is %s, want that of change 900: later series go on where earlier ones ended", addresses[0])
	}
}

func TestParseHeap(t *testing.T) {
	const profile = "heap profile: 1: 2 [3: 4] @ heap/5\n\n# runtime.MemStats\n# Alloc = 7\n# HeapAlloc = 12345\n# HeapSys = 99\n"
	if got, err := eds.ParseHeap(profile); got != 12345 || err != nil {
		t.Errorf("ParseHeap = %d, %v; want 12345", got, err)
	}
	for _, bad := range []string{"", "# HeapAlloc = many\n", strings.ReplaceAll(profile, "HeapAlloc", "HeapIdle")} {
		if got, err := eds.ParseHeap(bad); err == nil {
			t.Errorf("ParseHeap(%q) = %d, want an error", bad, got)
		}
	}
}
