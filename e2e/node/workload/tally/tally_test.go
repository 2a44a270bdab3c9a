package tally_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/node/workload/tally"
)

const ms = time.Millisecond

func TestSchedule(t *testing.T) {
	tests := []struct {
		reason   string
		schedule tally.Schedule
		i        int64
		want     time.Duration
		over     bool
	}{
		{reason: "the first request is due at once", schedule: tally.Schedule{Rate: 50, Duration: time.Second}},
		{reason: "the others at equal distances", schedule: tally.Schedule{Rate: 50, Duration: time.Second}, i: 49, want: 980 * ms},
		{reason: "none at the end, so that 50 per second are 50", schedule: tally.Schedule{Rate: 50, Duration: time.Second}, i: 50, want: time.Second, over: true},
		{reason: "rounding errors do not add up", schedule: tally.Schedule{Rate: 3}, i: 3_000_000, want: 1_000_000 * time.Second},
		{reason: "less than one per second", schedule: tally.Schedule{Rate: 0.1}, i: 2, want: 20 * time.Second},
		{reason: "no end is no reason to overflow", schedule: tally.Schedule{Rate: 1e-9}, i: 1 << 62, over: true},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			at, ok := test.schedule.At(test.i)
			if at != test.want || ok == test.over {
				t.Errorf("At(%d) = %s, %t, want %s, %t", test.i, at, ok, test.want, !test.over)
			}
		})
	}
}

func start() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func newTally() *tally.Tally { return tally.New(start(), time.Second, 10, []string{"a", "b"}) }

func ok(due, took time.Duration) tally.Outcome {
	return tally.Outcome{Due: due, Done: due + took, Target: "a", Who: "m1/z/p"}
}

func failed(due, took time.Duration) tally.Outcome {
	return tally.Outcome{Due: due, Done: due + took, Target: "b", Error: "timeout"}
}

func TestIntervalsWaitForOutcomes(t *testing.T) {
	counter := newTally()
	steps := []struct {
		reason string
		do     func()
		now    time.Duration
		want   []int64 // requests of each interval that is reported
	}{
		{"the first interval is not over", func() { counter.Sent(0); counter.Done(ok(0, ms)) }, 999 * ms, nil},
		{"it is over and complete", func() {}, time.Second, []int64{1}},
		{"it is not reported twice", func() {}, 1100 * ms, nil},
		{"the second has a request under way", func() { counter.Sent(1200 * ms); counter.Sent(2200 * ms); counter.Done(ok(2200*ms, ms)) }, 3 * time.Second, nil},
		{"its outcome makes both complete, in order", func() { counter.Done(failed(1200*ms, 2*time.Second)) }, 3300 * ms, []int64{1, 1}},
		{"intervals without requests are reported as well", func() {}, 5 * time.Second, []int64{0, 0}},
	}
	for _, step := range steps {
		step.do()
		var got []int64
		for _, i := range counter.Intervals(step.now) {
			got = append(got, i.Sent)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.reason, diff)
		}
	}
}

func TestFinish(t *testing.T) {
	counter := newTally()
	for _, o := range []tally.Outcome{ok(0, 10*ms), ok(100*ms, 20*ms), failed(1100*ms, 300*ms), ok(1200*ms, 30*ms)} {
		counter.Sent(o.Due)
		counter.Done(o)
	}
	counter.Sent(1300 * ms) // never answered
	intervals, summary := counter.Finish(1500 * ms)
	names := map[string]int64{"m1/z/p": 2}
	span := func(first, last time.Duration) map[string]tally.Span {
		return map[string]tally.Span{"m1/z/p": {First: start().Add(first), Last: start().Add(last)}}
	}
	want := []tally.Interval{
		{
			Type: "interval", Start: start(), At: 0, Seconds: 1,
			Counts: tally.Counts{
				Sent: 2, OK: 2, Errors: map[string]int64{}, Answers: names, Seen: span(10*ms, 120*ms), LatencyMS: tally.Latency{P50: 10, P90: 20, P99: 20, Max: 20},
			},
		},
		{
			Type: "interval", Start: start().Add(time.Second), At: 1, Seconds: 0.5,
			Counts: tally.Counts{
				Sent: 3, OK: 1, Failed: 1, Abandoned: 1, Errors: map[string]int64{"timeout": 1},
				Answers: map[string]int64{"m1/z/p": 1}, Seen: span(1230*ms, 1230*ms), LatencyMS: tally.Latency{P50: 30, P90: 30, P99: 30, Max: 30},
			},
		},
	}
	near := cmp.Transformer("near", func(l tally.Latency) [4]int { // the histogram keeps three digits
		return [4]int{int(l.P50 + 0.5), int(l.P90 + 0.5), int(l.P99 + 0.5), int(l.Max + 0.5)}
	})
	if diff := cmp.Diff(want, intervals, near); diff != "" {
		t.Errorf("intervals (-want +got):\n%s", diff)
	}
	all := tally.Summary{
		Type: "summary", Start: start(), Seconds: 1.5, Rate: 10,
		Counts: tally.Counts{
			Sent: 5, OK: 3, Failed: 1, Abandoned: 1, Errors: map[string]int64{"timeout": 1},
			Answers: map[string]int64{"m1/z/p": 3}, Seen: span(10*ms, 1230*ms), LatencyMS: tally.Latency{P50: 20, P90: 30, P99: 30, Max: 30},
		},
		WorstGap: tally.Gap{MS: 1110, From: start().Add(120 * ms), To: start().Add(1230 * ms), At: 0.12},
		Targets:  map[string]tally.Target{"a": {OK: 3}, "b": {Failed: 1}},
	}
	if diff := cmp.Diff(all, summary, near); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestWorstGap(t *testing.T) {
	tests := []struct {
		reason   string
		outcomes []tally.Outcome
		want     tally.Gap
	}{
		{reason: "nothing ever succeeded", outcomes: []tally.Outcome{failed(0, ms)}, want: tally.Gap{MS: 2000, To: start().Add(2 * time.Second)}},
		{
			reason: "the beginning counts", outcomes: []tally.Outcome{ok(1500*ms, 0)},
			want: tally.Gap{MS: 1500, To: start().Add(1500 * ms)},
		},
		{
			reason: "the end counts", outcomes: []tally.Outcome{ok(500*ms, 0)},
			want: tally.Gap{MS: 1500, From: start().Add(500 * ms), To: start().Add(2 * time.Second), At: 0.5},
		},
		{
			reason: "a stall is a gap, though everything succeeds in the end", outcomes: []tally.Outcome{ok(100*ms, 0), ok(200*ms, 1700*ms), ok(300*ms, 1600*ms)},
			want: tally.Gap{MS: 1800, From: start().Add(100 * ms), To: start().Add(1900 * ms), At: 0.1},
		},
		{
			reason: "outcomes in another order close no gap twice", outcomes: []tally.Outcome{ok(1000*ms, 0), ok(900*ms, 0), ok(1950*ms, 0)},
			want: tally.Gap{MS: 1000, To: start().Add(time.Second)},
		},
		{
			reason: "a success after the end leaves no gap there", outcomes: []tally.Outcome{ok(900*ms, 0), ok(1700*ms, 500*ms)},
			want: tally.Gap{MS: 1300, From: start().Add(900 * ms), To: start().Add(2200 * ms), At: 0.9},
		},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			counter := newTally()
			for _, o := range test.outcomes {
				counter.Sent(o.Due)
				counter.Done(o)
			}
			if test.want.From.IsZero() {
				test.want.From = start()
			}
			_, summary := counter.Finish(2 * time.Second)
			if diff := cmp.Diff(test.want, summary.WorstGap); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSeen(t *testing.T) {
	tests := []struct {
		reason   string
		outcomes []tally.Outcome
		want     map[string]tally.Span
	}{
		{reason: "nobody answered", outcomes: []tally.Outcome{failed(0, ms)}, want: map[string]tally.Span{}},
		{
			reason: "one takes over from the other", outcomes: []tally.Outcome{ok(0, ms), ok(20*ms, ms), {Due: 40 * ms, Done: 42 * ms, Who: "m2/z/p"}},
			want: map[string]tally.Span{
				"m1/z/p": {First: start().Add(ms), Last: start().Add(21 * ms)}, "m2/z/p": {First: start().Add(42 * ms), Last: start().Add(42 * ms)},
			},
		},
		{
			reason: "the end of requests counts, in whatever order they are noted", outcomes: []tally.Outcome{ok(20*ms, ms), ok(0, 30*ms), ok(10*ms, ms)},
			want: map[string]tally.Span{"m1/z/p": {First: start().Add(11 * ms), Last: start().Add(30 * ms)}},
		},
		{
			reason: "who does not say is somebody too", outcomes: []tally.Outcome{{Due: ms, Done: 2 * ms}},
			want: map[string]tally.Span{"unknown": {First: start().Add(2 * ms), Last: start().Add(2 * ms)}},
		},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			counter := newTally()
			for _, o := range test.outcomes {
				counter.Sent(o.Due)
				counter.Done(o)
			}
			intervals, summary := counter.Finish(time.Second)
			if diff := cmp.Diff(test.want, summary.Seen); diff != "" {
				t.Errorf("summary (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, intervals[0].Seen); diff != "" {
				t.Errorf("the only interval (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNamesAreBounded(t *testing.T) {
	counter := newTally()
	const many = 5000
	for i := range many {
		counter.Sent(0)
		counter.Done(tally.Outcome{Target: "a", Who: fmt.Sprint("pod-", i)})
	}
	_, summary := counter.Finish(time.Second)
	if len(summary.Answers) > 1001 || len(summary.Seen) > 1001 {
		t.Errorf("%d names are counted: a reply must not fill the memory", len(summary.Answers))
	}
	var sum int64
	for _, n := range summary.Answers {
		sum += n
	}
	if sum != many || summary.Answers[tally.Others] == 0 {
		t.Errorf("%d answers are counted, %d of them under %q, want %d in all", sum, summary.Answers[tally.Others], tally.Others, many)
	}
}
