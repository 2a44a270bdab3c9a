package eds

import (
	"slices"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/result"
)

// sample is the life of one change: when its request was sent, when the reference had the event, and when each client had
// the new assignment, all in nanoseconds since 1970.
type sample struct {
	sent, event int64
	arrivals    []int64
}

func (s sample) first() int64 { return slices.Min(s.arrivals) }
func (s sample) last() int64  { return slices.Max(s.arrivals) }

// samples puts together what was noted of some changes in different places, which all count them in the same order.
func samples(sent, events []int64, arrivals [][]int64) []sample {
	all := make([]sample, 0, len(sent))
	for i := range sent {
		all = append(all, sample{sent[i], events[i], arrivals[i]})
	}
	return all
}

// apart returns how long, in milliseconds, the second moment of each sample came after the first.
func apart(all []sample, from, to func(sample) int64) result.Runs {
	took := make(result.Runs, len(all))
	for i, s := range all {
		took[i] = milliseconds(to(s) - from(s))
	}
	return took
}

// The moments of a sample, for apart.
func sent(s sample) int64    { return s.sent }
func event(s sample) int64   { return s.event }
func toFirst(s sample) int64 { return s.first() }
func toLast(s sample) int64  { return s.last() }

// burst sums up changes that were made at the same time.
type burst struct {
	events float64 // seconds from the first request to the last event of the reference
	all    float64 // seconds from the first request until all clients had everything
	after  float64 // seconds from the last event of the reference until all clients had everything
}

func burstOf(all []sample) burst {
	began, seen, final := all[0].sent, all[0].event, all[0].last()
	for _, s := range all[1:] {
		began, seen, final = min(began, s.sent), max(seen, s.event), max(final, s.last())
	}
	return burst{events: seconds(seen - began), all: seconds(final - began), after: seconds(final - seen)}
}

// quantiles adds the median and the 99th percentile of a series to the details of a row.
func quantiles(f *result.Figures, name string, series result.Runs) {
	f.With(name+"_p50_ms", series.Median()).With(name+"_p99_ms", result.Percentile(series, 99))
}

func megabytes(bytes int64) float64          { return float64(bytes) / 1e6 }
func milliseconds(nanoseconds int64) float64 { return float64(nanoseconds) / float64(time.Millisecond) }
func seconds(nanoseconds int64) float64      { return float64(nanoseconds) / float64(time.Second) }
