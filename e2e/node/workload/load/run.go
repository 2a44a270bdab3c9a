package load

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
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
	// Requests, if not nil, gets a line of JSON for each Request when it has ended, and HTTP requests say their ID.
	Requests io.Writer
}

// Request is what became of one request.
type Request struct {
	ID    string  `json:"id"`              // of which no other request has the same
	At    float64 `json:"at"`              // when it was due, in seconds from the start of the run
	MS    float64 `json:"ms"`              // from then until it ended
	Who   string  `json:"who,omitempty"`   // who answered
	Error string  `json:"error,omitempty"` // class of the error
}

// requestKey is that of a request's ID in its context.
type requestKey struct{}

// requestOf returns the ID of the request that a context is for; empty: it has none.
func requestOf(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
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

	id       string        // that those of requests begin with
	requests *json.Encoder // nil: nobody wants to know
	unsaid   error         // of writing to it
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
	if options.Requests != nil {
		r.id, r.requests = rand.Text()[:8]+"-", json.NewEncoder(options.Requests)
	}
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
		r.send(ctx, i, due)
	}
}

// announce notes when the next request is due.
func (r *run) announce(due time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = due
}

func (r *run) send(ctx context.Context, number int64, due time.Duration) {
	target := int(number % int64(len(r.probers)))
	id := ""
	if r.requests != nil {
		id = r.id + strconv.FormatInt(number, 10)
	}
	r.mu.Lock()
	r.tally.Sent(due)
	r.mu.Unlock()
	o := tally.Outcome{Due: due, Target: r.options.Targets[target]}
	select {
	case r.slots <- struct{}{}:
	default:
		o.Error, o.Done = Overload, time.Since(r.start)
		r.done(id, o)
		return
	}
	r.workers.Go(func() {
		defer func() { <-r.slots }()
		attempt, cancel := context.WithTimeout(ctx, r.options.Timeout)
		defer cancel()
		who, err := r.probers[target].probe(context.WithValue(attempt, requestKey{}, id))
		if err != nil && ctx.Err() != nil {
			return // abandoned
		}
		o.Who, o.Error, o.Done = who, Classify(err), time.Since(r.start)
		r.done(id, o)
	})
}

func (r *run) done(id string, o tally.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.Done(o)
	if r.requests != nil {
		err := r.requests.Encode(Request{id, o.Due.Seconds(), (o.Done - o.Due).Seconds() * 1000, o.Who, o.Error})
		r.unsaid = cmp.Or(r.unsaid, err)
	}
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
	if r.fail = cmp.Or(r.fail, r.unsaid); r.fail != nil {
		return summary, fmt.Errorf("writing the outcomes: %w", r.fail)
	}
	return summary, nil
}
