package outbound

import (
	"sync/atomic"
	"time"
)

// bounds are the upper bounds of a histogram's buckets; what is above the last one counts in the sum only.
var bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

// histogram counts durations.
type histogram struct {
	buckets [len(bounds)]atomic.Uint64
	count   atomic.Uint64
	sum     atomic.Int64 // in nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	for i, bound := range bounds {
		if d <= bound {
			h.buckets[i].Add(1)
			break
		}
	}
	h.count.Add(1)
	h.sum.Add(int64(d))
}

// cumulative returns how many durations are at most as long as each bound, in seconds.
func (h *histogram) cumulative() map[float64]uint64 {
	buckets, sum := make(map[float64]uint64, len(bounds)), uint64(0)
	for i, bound := range bounds {
		sum += h.buckets[i].Load()
		buckets[bound.Seconds()] = sum
	}
	return buckets
}

// mean returns the average; 0: there is none.
func (h *histogram) mean() time.Duration {
	n := h.count.Load()
	if n == 0 {
		return 0
	}
	return time.Duration(h.sum.Load() / int64(n)) //nolint:gosec // G115: no gateway lives to see that many
}

// quantile returns the bound below which a share of the durations are; the largest one for those above it, 0 for none.
func (h *histogram) quantile(share float64) time.Duration {
	n := h.count.Load()
	if n == 0 {
		return 0
	}
	sum := uint64(0)
	for i, bound := range bounds {
		if sum += h.buckets[i].Load(); float64(sum) >= share*float64(n) {
			return bound
		}
	}
	return bounds[len(bounds)-1]
}
