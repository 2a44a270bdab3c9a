// Package tally plans an open-loop load and counts what became of it. It is pure: times are offsets from the start of
// the run and come in as arguments.
//
// Open loop means that requests are due by a schedule and by nothing else. Slow answers do not slow the schedule down,
// and a latency counts from the time a request was due, so that a client or a server that stalls cannot hide it.
//
// Every request belongs to the interval in which it was due, however late its answer. An interval is reported when it
// is over and all its requests have an outcome.
package tally

import (
	"math"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Others is what answers are counted under when there are more names than anybody would read.
const Others = "(others)"

// maxNames bounds the names in Counts.Answers, Counts.Seen and Counts.Errors.
const maxNames = 1000

// Schedule says when requests are due.
type Schedule struct {
	Rate     float64       // per second, more than 0
	Duration time.Duration // 0: without end
}

// At returns when request i, from 0 on, is due, and false if the schedule ends before.
func (s Schedule) At(i int64) (time.Duration, bool) {
	seconds := float64(i) / s.Rate
	if seconds > math.MaxInt64/float64(time.Second)/2 {
		return 0, false
	}
	at := time.Duration(math.Round(seconds * float64(time.Second)))
	return at, s.Duration == 0 || at < s.Duration
}

// Outcome is what became of a request.
type Outcome struct {
	Due    time.Duration // when it was due
	Done   time.Duration // when it ended
	Target string        // where it went
	Error  string        // class of the error; empty for a success
	Who    string        // who answered, for a success; empty if that is not known
}

// Latency are quantiles of the time from when requests were due to their successful end, in milliseconds. All are 0
// if there was no success.
type Latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Counts are outcomes of requests. Sent is the sum of OK, Failed and Abandoned.
type Counts struct {
	Sent      int64            `json:"sent"`
	OK        int64            `json:"ok"`
	Failed    int64            `json:"failed"`
	Abandoned int64            `json:"abandoned"` // still under way when the run was ended from outside
	Errors    map[string]int64 `json:"errors"`    // failures by class
	LatencyMS Latency          `json:"latencyMs"`
	Answers   map[string]int64 `json:"answers"` // successes by cluster/zone/pod
	Seen      map[string]Span  `json:"seen"`    // when those came, by the same names
}

// Span is from the end of the first to the end of the last success of somebody.
type Span struct {
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// with returns the span that has another moment in it.
func (s Span) with(at time.Time) Span {
	if s.First.IsZero() || at.Before(s.First) {
		s.First = at
	}
	if at.After(s.Last) {
		s.Last = at
	}
	return s
}

// Interval reports the requests that were due in a stretch of time.
type Interval struct {
	Type    string    `json:"type"` // "interval"
	Start   time.Time `json:"start"`
	At      float64   `json:"at"`      // seconds from the start of the run
	Seconds float64   `json:"seconds"` // length; the last one may be shorter
	Counts
}

// Gap is a time without a success.
type Gap struct {
	MS   float64   `json:"ms"`
	From time.Time `json:"from"` // end of the last success before, or start of the run
	To   time.Time `json:"to"`   // end of the next success, or end of the run
	At   float64   `json:"at"`   // From, in seconds from the start of the run
}

// Summary reports a run.
type Summary struct {
	Type    string    `json:"type"` // "summary"
	Start   time.Time `json:"start"`
	Seconds float64   `json:"seconds"`
	Rate    float64   `json:"rate"` // requests per second that were asked for
	Counts
	WorstGap Gap               `json:"worstGap"`
	Targets  map[string]Target `json:"targets"`
}

// Target counts the outcomes of one target.
type Target struct {
	OK     int64 `json:"ok"`
	Failed int64 `json:"failed"`
}

// Tally counts. It is not safe for concurrent use.
type Tally struct {
	start    time.Time
	interval time.Duration
	rate     float64

	total   *window
	open    []*window // the intervals from next on
	next    int64     // index of the first interval that was not reported
	spare   []*hdrhistogram.Histogram
	targets map[string]Target

	last     time.Duration // end of the last success
	gap      time.Duration // the longest so far
	gapStart time.Duration
}

// window collects the outcomes of a stretch of time.
type window struct {
	counts    Counts
	latencies *hdrhistogram.Histogram // microseconds
}

// New returns a Tally for a run that starts now and is reported by intervals. Targets are those with a row in the
// summary, also when nothing was sent there.
func New(start time.Time, interval time.Duration, rate float64, targets []string) *Tally {
	t := &Tally{start: start, interval: interval, rate: rate, targets: map[string]Target{}}
	for _, target := range targets {
		t.targets[target] = Target{}
	}
	t.total = t.window()
	return t
}

// Sent notes that a request which was due then is on its way.
func (t *Tally) Sent(due time.Duration) {
	t.total.counts.Sent++
	t.at(due).counts.Sent++
}

// Done notes the outcome of a request that was noted by Sent.
func (t *Tally) Done(o Outcome) {
	t.total.add(o, t.start)
	t.at(o.Due).add(o, t.start)
	target := t.targets[o.Target]
	if o.Error == "" {
		target.OK++
		t.success(o.Done)
	} else {
		target.Failed++
	}
	t.targets[o.Target] = target
}

// success moves the end of the gap under way. Outcomes come in roughly in order; one that is late closes no gap that
// was not closed before.
func (t *Tally) success(at time.Duration) {
	if at-t.last > t.gap {
		t.gap, t.gapStart = at-t.last, t.last
	}
	t.last = max(t.last, at)
}

// Intervals returns those that are over and have all their outcomes, in order, each once. Done may not be called any
// more for requests that were due in them.
func (t *Tally) Intervals(now time.Duration) []Interval {
	var over []Interval
	for {
		end := time.Duration(t.next+1) * t.interval
		if end > now {
			return over
		}
		if len(t.open) > 0 && t.open[0].pending() > 0 {
			return over
		}
		over = append(over, t.pop(end))
	}
}

// Finish returns the intervals that were not reported yet, and the summary of the run, which ended at the given time.
// Requests without an outcome are abandoned.
func (t *Tally) Finish(end time.Duration) ([]Interval, Summary) {
	var rest []Interval
	for time.Duration(t.next)*t.interval < end || len(t.open) > 0 {
		rest = append(rest, t.pop(min(max(end, time.Duration(t.next)*t.interval), time.Duration(t.next+1)*t.interval)))
	}
	gap, from := t.gap, t.gapStart
	if end-t.last > gap {
		gap, from = end-t.last, t.last
	}
	return rest, Summary{
		Type: "summary", Start: t.start, Seconds: seconds(max(end, t.last)), Rate: t.rate,
		Counts:   t.total.report(),
		WorstGap: Gap{MS: milliseconds(gap), From: t.start.Add(from), To: t.start.Add(from + gap), At: seconds(from)},
		Targets:  t.targets,
	}
}

// at returns the window of the interval in which a request was due.
func (t *Tally) at(due time.Duration) *window {
	index := int64(due/t.interval) - t.next
	for int64(len(t.open)) <= index {
		t.open = append(t.open, t.window())
	}
	return t.open[index]
}

// pop reports the first open interval, which ends at the given time.
func (t *Tally) pop(end time.Duration) Interval {
	if len(t.open) == 0 { // nothing was due
		t.open = append(t.open, t.window())
	}
	begin := time.Duration(t.next) * t.interval
	w := t.open[0]
	t.open = slices.Delete(t.open, 0, 1)
	t.next++
	report := Interval{Type: "interval", Start: t.start.Add(begin), At: seconds(begin), Seconds: seconds(end - begin), Counts: w.report()}
	w.latencies.Reset()
	t.spare = append(t.spare, w.latencies)
	return report
}

// window returns an empty one; histograms are large, hence used again.
func (t *Tally) window() *window {
	w := &window{counts: Counts{Errors: map[string]int64{}, Answers: map[string]int64{}, Seen: map[string]Span{}}}
	if n := len(t.spare); n > 0 {
		w.latencies, t.spare = t.spare[n-1], t.spare[:n-1]
	} else {
		w.latencies = hdrhistogram.New(1, time.Hour.Microseconds(), 3)
	}
	return w
}

func (w *window) pending() int64 { return w.counts.Sent - w.counts.OK - w.counts.Failed }

// add counts an outcome of a run that began at start.
func (w *window) add(o Outcome, start time.Time) {
	if o.Error != "" {
		w.counts.Failed++
		count(w.counts.Errors, o.Error)
		return
	}
	w.counts.OK++
	who := o.Who
	if who == "" {
		who = "unknown"
	}
	name := count(w.counts.Answers, who)
	w.counts.Seen[name] = w.counts.Seen[name].with(start.Add(o.Done))
	latency := min(max(o.Done-o.Due, time.Microsecond), time.Hour)
	_ = w.latencies.RecordValue(latency.Microseconds()) // it is in range
}

func (w *window) report() Counts {
	c := w.counts
	c.Abandoned = w.pending()
	if c.OK > 0 {
		quantile := func(q float64) float64 { return float64(w.latencies.ValueAtQuantile(q)) / 1000 }
		c.LatencyMS = Latency{P50: quantile(50), P90: quantile(90), P99: quantile(99), Max: float64(w.latencies.Max()) / 1000}
	}
	return c
}

// count returns the name that was counted: there are not too many.
func count(names map[string]int64, name string) string {
	if _, known := names[name]; !known && len(names) >= maxNames {
		name = Others
	}
	names[name]++
	return name
}

// milliseconds and seconds round to what a reader may care about.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

func seconds(d time.Duration) float64 { return d.Round(time.Microsecond).Seconds() }
