package clusterset_test

import (
	"testing"
	"time"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

func TestNextSequence(t *testing.T) {
	const step = clusterset.Step
	at := func(nanoseconds int64) time.Time { return time.Unix(0, nanoseconds) }
	for _, c := range []struct {
		reason string
		before uint64
		now    time.Time
		want   uint64
	}{
		{"the first is the time, in steps", 0, at(7*step + 12), 7 * step},
		{"the same time is a step more", 7 * step, at(7*step + 13), 8 * step},
		{"so is a clock that was put back", 7 * step, at(3), 8 * step},
		{"a later time is the time", 8 * step, at(100*step - 1), 99 * step},
		{"what is no multiple is followed by one", 8*step + 1, at(0), 9 * step},
		{"without a clock it is a step more", 8 * step, time.Time{}, 9 * step},
		{"a time before 1970 does not count", 0, at(-1), step},
	} {
		got := clusterset.NextSequence(c.before, c.now)
		if got != c.want {
			t.Errorf("%s: got %d steps, want %d", c.reason, got/step, c.want/step)
		}
		if got <= c.before || uint64(float64(got)) != got {
			t.Errorf("%s: %d is no later than %d, or not exact", c.reason, got, c.before)
		}
	}
	// For centuries, numbers are exact in metrics.
	last := clusterset.NextSequence(0, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC))
	if next := clusterset.NextSequence(last, time.Time{}); float64(next) == float64(last) || uint64(float64(next)) != next {
		t.Errorf("%d and %d are the same in a metric", last, next)
	}
}
