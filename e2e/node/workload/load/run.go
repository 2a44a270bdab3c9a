package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/workload/tally"
)

// Options of a run.
type Options struct {
	Client

	Targets      []string      // asked in turn
	Rate         float64       // requests per second, over all targets
	Duration     time.Duration // 0: until ctx ends
	Interval     time.Duration // of reports
	MaxInFlight  int           // requests under way at a time; what would be more fails as Overload
	UntilSuccess bool          // end with the first success
	Out          io.Writer     // gets a line of JSON for each tally.Interval, and one for the tally.Summary
}

// MaxRate bounds Options.Rate.
const MaxRate = 100_000

func (o Options) check() error {
	switch {
	case len(o.Targets) == 0:
		return errors.New("no target is given: name at least one URL")
	case !(o.Rate > 0 && o.Rate <= MaxRate): // not-a-number is refused as well
		return fmt.Errorf("rate is %v: want more than 0 and at most %d requests per second", o.Rate, MaxRate)
	case o.Duration < 0:
		return fmt.Errorf("duration is %s: want 0s, for no end, or more", o.Duration)
	case o.Interval < 10*time.Millisecond:
		return fmt.Errorf("interval is %s: want at least 10ms", o.Interval)
	case o.Timeout <= 0:
		return fmt.Errorf("timeout is %s: want more than 0s", o.Timeout)
	case o.MaxInFlight <= 0:
		return fmt.Errorf("at most %d requests may be under way: want at least 1", o.MaxInFlight)
	}
	return nil
}

// run is a run under way.
type run struct {
	options Options
	probers []prober
	start   time.Time
	slots   chan struct{} // one for each request under way
	workers sync.WaitGroup
	end     context.CancelFunc

	mu    sync.Mutex
	tally *tally.Tally
	due   time.Duration // no request that is due before is still to be sent
	out   *json.Encoder
	fail  error // of writing
}

// Run sends requests until the duration is over, ctx ends, or with UntilSuccess one succeeds, and returns the summary,
// which it has written as well. The error is about the options or about writing; failed requests are no error. When
// ctx ends, requests under way are abandoned at once.
func Run(ctx context.Context, options Options) (tally.Summary, error) {
	if err := options.check(); err != nil {
		return tally.Summary{}, err
	}
	options.Connections = options.MaxInFlight
	r := &run{options: options, slots: make(chan struct{}, options.MaxInFlight), out: json.NewEncoder(options.Out)}
	defer r.close()
	for _, target := range options.Targets {
		p, err := options.prober(target)
		if err != nil {
			return tally.Summary{}, err
		}
		r.probers = append(r.probers, p)
	}
	ctx, r.end = context.WithCancel(ctx)
	defer r.end()
	r.start = time.Now()
	r.tally = tally.New(r.start, options.Interval, options.Rate, options.Targets)

	reported := make(chan struct{})
	reports, stop := context.WithCancel(ctx)
	go func() {
		defer close(reported)
		r.report(reports)
	}()
	r.dispatch(ctx)
	r.workers.Wait()
	finished := time.Since(r.start)
	if options.Duration > 0 {
		finished = min(finished, options.Duration)
	}
	stop()
	<-reported
	return r.finish(finished)
}

func (r *run) close() {
	for _, p := range r.probers {
		p.close()
	}
}

// dispatch sends requests when they are due. If it is late, because the process was stopped or the machine is busy, it
// catches up at once. It returns when the schedule is over or ctx ends.
func (r *run) dispatch(ctx context.Context) {
	schedule := tally.Schedule{Rate: r.options.Rate, Duration: r.options.Duration}
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := func(until time.Duration) bool {
		timer.Reset(until - time.Since(r.start))
		select {
		case <-timer.C:
			return ctx.Err() == nil
		case <-ctx.Done():
			return false
		}
	}
	for i := int64(0); ; i++ {
		due, ok := schedule.At(i)
		if !ok {
			r.announce(r.options.Duration)
			wait(r.options.Duration)
			return
		}
		r.announce(due)
		if !wait(due) {
			return
		}
		r.send(ctx, int(i%int64(len(r.probers))), due)
	}
}

// announce notes when the next request is due.
func (r *run) announce(due time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = due
}

func (r *run) send(ctx context.Context, target int, due time.Duration) {
	r.mu.Lock()
	r.tally.Sent(due)
	r.mu.Unlock()
	o := tally.Outcome{Due: due, Target: r.options.Targets[target]}
	select {
	case r.slots <- struct{}{}:
	default:
		o.Error, o.Done = Overload, time.Since(r.start)
		r.done(o)
		return
	}
	r.workers.Go(func() {
		defer func() { <-r.slots }()
		attempt, cancel := context.WithTimeout(ctx, r.options.Timeout)
		defer cancel()
		who, err := r.probers[target].probe(attempt)
		if err != nil && ctx.Err() != nil {
			return // abandoned
		}
		o.Who, o.Error, o.Done = who, Classify(err), time.Since(r.start)
		r.done(o)
	})
}

func (r *run) done(o tally.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.Done(o)
	if o.Error == "" && r.options.UntilSuccess {
		r.end()
	}
}

// report writes intervals until ctx ends.
func (r *run) report(ctx context.Context) {
	ticker := time.NewTicker(r.options.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		over := r.tally.Intervals(min(time.Since(r.start), r.due))
		r.mu.Unlock()
		r.write(over)
		if r.fail != nil {
			r.end()
			return
		}
	}
}

// write is called by one goroutine at a time.
func (r *run) write(intervals []tally.Interval) {
	for _, i := range intervals {
		if r.fail == nil {
			r.fail = r.out.Encode(i)
		}
	}
}

func (r *run) finish(end time.Duration) (tally.Summary, error) {
	rest, summary := r.tally.Finish(end)
	r.write(rest)
	if r.fail == nil {
		r.fail = r.out.Encode(summary)
	}
	if r.fail != nil {
		return summary, fmt.Errorf("writing the outcomes: %w", r.fail)
	}
	return summary, nil
}
