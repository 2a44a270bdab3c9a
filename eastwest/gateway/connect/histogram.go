package connect

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

func (h *histogram) read() Latency {
	l := Latency{Count: h.count.Load(), Sum: time.Duration(h.sum.Load())}
	sum := uint64(0)
	for i := range bounds {
		sum += h.buckets[i].Load()
		l.buckets[i] = sum
	}
	return l
}

// Latency is how long connections took until they were acknowledged.
type Latency struct {
	Count   uint64
	Sum     time.Duration
	buckets [len(bounds)]uint64 // at most as long as the bound
}

// Buckets returns how many were at most as long as each bound, in seconds.
func (l *Latency) Buckets() map[float64]uint64 {
	buckets := make(map[float64]uint64, len(bounds))
	for i, bound := range bounds {
		buckets[bound.Seconds()] = l.buckets[i]
	}
	return buckets
}

// Mean returns the average; 0: there is none.
func (l *Latency) Mean() time.Duration {
	if l.Count == 0 {
		return 0
	}
	return time.Duration(uint64(l.Sum) / l.Count) //nolint:gosec // G115: not negative
}

// Quantile returns a bound below which a share of them are; the largest one when that is above all, 0 when there are none.
func (l *Latency) Quantile(share float64) time.Duration {
	if l.Count == 0 {
		return 0
	}
	for i, bound := range bounds {
		if float64(l.buckets[i]) >= share*float64(l.Count) {
			return bound
		}
	}
	return bounds[len(bounds)-1]
}
