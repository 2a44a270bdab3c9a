package hub_test

import (
	"slices"
	"testing"

	"github.com/hansa-dev/hansa/cmd/internal/hub"
)

func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for name, tc := range map[string]struct {
		reason string
		live   uint64
		want   int
	}{
		"Nothing":   {"Before the first collection nothing is known to live.", 0, 200},
		"Small":     {"A small heap is collected seldom.", 20 * mib, 200},
		"Edge":      {"From here on the garbage is bounded.", 32 * mib, 200},
		"Middle":    {"As much garbage as content.", 64 * mib, 100},
		"Large":     {"Less garbage than content.", 85 * mib, 70},
		"VeryLarge": {"A heap that takes long to collect is not collected all the time.", 1000 * mib, 50},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hub.GCPercent(tc.live); got != tc.want {
				t.Errorf("%s\n%d MiB may grow by %d %%; want %d", tc.reason, tc.live/mib, got, tc.want)
			}
		})
	}
}

func TestMemoryIsGivenBack(t *testing.T) {
	const idle, work = 1 << 20, 100 << 20
	for _, row := range []struct {
		why     string
		periods []uint64
		want    []int
	}{
		{"while it works it needs what it has", []uint64{work, work, work, work, work, work, work}, nil},
		{"a pause is no rest", []uint64{work, idle, idle, idle, idle, work, idle}, nil},
		{"once it is at rest, once", []uint64{work, idle, idle, idle, idle, idle, idle, idle}, []int{5}},
		{"and again after more work", []uint64{idle, idle, idle, idle, idle, idle, work, idle, idle, idle, idle, idle}, []int{4, 11}},
	} {
		if got := hub.Looks(row.periods...); !slices.Equal(got, row.want) {
			t.Errorf("%s: given back at %v, want %v", row.why, got, row.want)
		}
	}
	if got := hub.RestingGCPercent(130 << 20); got != 20 {
		t.Errorf("a hub at rest lets its heap grow by %d %%, want 20", got)
	}
}
