package hub_test

import (
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
		"Edge":      {"From here on the garbage is bounded.", 48 * mib, 200},
		"Middle":    {"As much garbage as content.", 96 * mib, 100},
		"Large":     {"Less garbage than content.", 130 * mib, 70},
		"VeryLarge": {"A heap that takes long to collect is not collected all the time.", 1000 * mib, 50},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hub.GCPercent(tc.live); got != tc.want {
				t.Errorf("%s\n%d MiB may grow by %d %%; want %d", tc.reason, tc.live/mib, got, tc.want)
			}
		})
	}
}
