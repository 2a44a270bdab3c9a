package lifecycle_test

import (
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/lifecycle"
)

func TestBackoff(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		reason string
		runs   []time.Duration // how long each instance ran before it ended
		want   []time.Duration // how long it was waited then
	}{
		{
			reason: "the first restart comes at once, the others after delays that double up to five minutes",
			runs:   []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0},
			want:   []time.Duration{0, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 300 * time.Second, 300 * time.Second, 300 * time.Second},
		},
		{
			reason: "a container that has run for more than ten minutes is forgiven",
			runs:   []time.Duration{0, 0, 0, 11 * time.Minute, 0},
			want:   []time.Duration{0, 10 * time.Second, 20 * time.Second, 0, 10 * time.Second},
		},
		{
			reason: "one that has run for less is not",
			runs:   []time.Duration{0, 9 * time.Minute, 9 * time.Minute},
			want:   []time.Duration{0, 10 * time.Second, 20 * time.Second},
		},
	} {
		var b lifecycle.Backoff
		now := start
		for i, run := range test.runs {
			ended := now.Add(run)
			now = b.Until(ended)
			if got := now.Sub(ended); got != test.want[i] {
				t.Errorf("%s: restart %d came after %s, want %s", test.reason, i+1, got, test.want[i])
			}
			b = b.Next(ended, now)
		}
	}
}
