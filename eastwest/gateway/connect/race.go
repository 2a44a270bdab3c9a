package connect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
)

// Link is a connection that the other side has acknowledged. Who has it must end it, and then Release it.
type Link struct {
	relay.Stream

	Way  route.Way
	Took time.Duration

	finder *Finder
}

// Release notes that the connection has ended. It may be called once.
func (l *Link) Release() { l.finder.release(l.Way) }

// ErrGone is the cause of a context that ended because the client has left.
var ErrGone = errors.New("the client has left")

// UnconnectedError says why no way was found.
type UnconnectedError struct {
	Reason string // as in metrics
	Last   error  // may be nil
}

func (e *UnconnectedError) Error() string {
	if e.Last == nil {
		return e.Reason
	}
	return fmt.Sprintf("%s: %v", e.Reason, e.Last)
}

// Unwrap returns the last error.
func (e *UnconnectedError) Unwrap() error { return e.Last }

// Why no way was found, and (the last ones) why others turned a connection away.
const (
	NoWay      = "no-way"      // the service table has nothing to use
	AllFailed  = "all-failed"  // nothing that was tried worked
	OverBudget = "budget"      // something failed, and too much else did too
	OverTime   = "timeout"     // nothing has answered
	Uncertain  = "uncertain"   // what went with the request may have been delivered
	ClientGone = "client-gone" // the client has left meanwhile
	Stopping   = "stopping"    // the gateway stops
	TooMany    = "limit"       // there are all the connections that there may be
)

// race is the search for a way that acknowledges.
type race struct {
	finder   *Finder
	routes   *Routes
	affinity route.Affinity
	data     []byte // that goes with the request
	slow     func() // called once when it takes longer

	tried   []route.Way
	pending []route.Attempt
	last    error
	choice  choice // the last one

	mu      sync.Mutex
	over    bool
	results chan result // has room for all
}

// result is what became of an attempt.
type result struct {
	attempt route.Attempt
	stream  relay.Stream
	err     error
}

// Client is whose connection is made.
type Client struct {
	// Affinity has the client's connections go the same way while that is usable, where Routes say so.
	Affinity route.Affinity
	// Data goes with the request. It is sent on one way at a time, and only through tunnels.
	Data []byte
	// Slow, which may be nil, is called when the first way has not answered after the time that it usually takes.
	Slow func()
}

// Connect finds a way that acknowledges. The error is an *UnconnectedError. When the context's cause is ErrGone, no way is
// blamed.
func (f *Finder) Connect(ctx context.Context, client Client) (*Link, error) {
	routes := f.routes.Load()
	f.connection(routes)
	r := &race{
		finder: f, routes: routes, data: client.Data, slow: client.Slow,
		results: make(chan result, f.options.Attempts),
	}
	if routes.Affinity {
		r.affinity = client.Affinity
	}
	ctx, cancel := context.WithTimeout(ctx, f.options.ConnectTimeout)
	defer cancel()
	l, err := r.run(ctx)
	if err != nil {
		f.Refuse(err.Reason)
		return nil, err
	}
	return l, nil
}

func (r *race) run(ctx context.Context) (*Link, *UnconnectedError) {
	delay := r.start(ctx)
	if r.choice != found {
		return nil, &UnconnectedError{NoWay, r.routes.problem()}
	}
	beside := time.NewTimer(delay)
	defer beside.Stop()
	for {
		select {
		case x := <-r.results:
			if x.err == nil {
				return r.won(x), nil
			}
			delay, err := r.failed(ctx, x)
			if err != nil {
				return nil, r.lost(err)
			}
			if r.choice != none {
				beside.Reset(delay)
			}
		case <-beside.C:
			if r.beside(ctx, &delay) {
				beside.Reset(delay)
			}
		case <-ctx.Done():
			return nil, r.lost(r.ended(ctx))
		}
	}
}

// beside tries a way beside those that have not answered yet, and returns true when there may be another one after delay.
func (r *race) beside(ctx context.Context, delay *time.Duration) bool {
	if r.slow != nil {
		r.slow()
		r.slow = nil
	}
	if r.single() {
		return false
	}
	*delay = r.start(ctx)
	if r.choice == found {
		r.finder.races.Add(1)
	}
	return r.choice != none
}

// problem is why there is nothing to try.
func (r *Routes) problem() error {
	if r.Problem != nil {
		return r.Problem
	}
	return errors.New("nothing is ready in any cluster that may be used from here")
}

// single tells whether one way is tried at a time.
func (r *race) single() bool { return r.finder.options.NoRace || len(r.data) > 0 }

// start tries the next way, if there is one and the budget allows it. It returns after which time there should be another.
func (r *race) start(ctx context.Context) time.Duration {
	if len(r.tried) == cap(r.results) {
		r.choice = none
		return 0
	}
	a, delay, c := r.finder.next(r.routes, r.affinity, r.tried)
	r.choice = c
	switch c {
	case found:
		r.tried, r.pending = append(r.tried, a.Way), append(r.pending, a)
		go r.try(ctx, a)
	case denied:
		return r.finder.options.Timing.MinDelay
	case none:
	}
	return delay
}

// exhausted is why nothing more is tried.
func (r *race) exhausted() string {
	if r.choice == denied {
		return OverBudget
	}
	return AllFailed
}

// try makes one attempt. Who comes too late is reset, and nothing was sent to it.
func (r *race) try(ctx context.Context, a route.Attempt) {
	ctx, cancel := context.WithTimeout(ctx, r.finder.options.AttemptTimeout)
	defer cancel()
	stream, err := r.finder.dial(ctx, a.Way, r.routes.Number, r.data)
	r.mu.Lock()
	late := r.over
	if !late {
		r.results <- result{a, stream, err}
	}
	r.mu.Unlock()
	if late && err == nil {
		_ = stream.Reset()
	}
}

// failed notes an attempt that failed, and begins the next one. It returns after which time there should be another, or why
// nothing more can be done.
func (r *race) failed(ctx context.Context, x result) (time.Duration, *UnconnectedError) {
	r.forget(x.attempt)
	verdict, why := verdict(x.attempt.Way, x.err)
	r.finder.end(x.attempt, verdict, why)
	r.last = fmt.Errorf("%s: %w", x.attempt.Way, x.err)
	if len(r.data) > 0 && errors.Is(x.err, tunnel.ErrUncertain) {
		return 0, &UnconnectedError{Uncertain, r.last}
	}
	if ctx.Err() != nil {
		return 0, r.ended(ctx)
	}
	delay := r.start(ctx)
	if len(r.pending) == 0 {
		return 0, &UnconnectedError{r.exhausted(), r.last}
	}
	return delay, nil
}

func (r *race) forget(a route.Attempt) {
	r.pending = slices.DeleteFunc(r.pending, func(p route.Attempt) bool { return p.Way == a.Way })
}

// won ends the race: the others are undone, and those that began earlier have lost.
func (r *race) won(x result) *Link {
	r.forget(x.attempt)
	f := r.finder
	f.end(x.attempt, route.Connected, "")
	if len(r.tried) > 1 && x.attempt.Way != r.tried[0] {
		f.Peer(x.attempt.Way.Cluster).won.Add(1)
	}
	r.undo(func(p route.Attempt) (route.Result, string) {
		if p.Started.Before(x.attempt.Started) {
			return route.Lost, ""
		}
		return route.Dropped, ""
	})
	return &Link{Stream: x.stream, Way: x.attempt.Way, Took: time.Since(x.attempt.Started), finder: f}
}

// lost ends a race that nobody has won.
func (r *race) lost(err *UnconnectedError) *UnconnectedError {
	patience := r.finder.options.Timing.MaxDelay
	timedOut := err.Reason == OverTime
	r.undo(func(p route.Attempt) (route.Result, string) {
		if timedOut && time.Since(p.Started) > patience {
			return route.Failed, reasonTimeout
		}
		return route.Dropped, ""
	})
	return err
}

// ended is why a race ended whose context did.
func (r *race) ended(ctx context.Context) *UnconnectedError {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrGone):
		return &UnconnectedError{ClientGone, cause}
	case errors.Is(cause, context.DeadlineExceeded):
		return &UnconnectedError{OverTime, errors.Join(cause, r.last)}
	default:
		return &UnconnectedError{Stopping, cause}
	}
}

// undo resets what has answered too late, and ends all attempts.
func (r *race) undo(judge func(route.Attempt) (route.Result, string)) {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	for len(r.results) > 0 { // nobody adds to them any more
		x := <-r.results
		r.forget(x.attempt)
		if x.err != nil {
			verdict, why := verdict(x.attempt.Way, x.err)
			r.finder.end(x.attempt, verdict, why)
			continue
		}
		_ = x.stream.Reset()
		result, why := judge(x.attempt)
		r.finder.end(x.attempt, result, why)
	}
	for _, p := range r.pending {
		result, why := judge(p)
		r.finder.end(p, result, why)
	}
	r.pending = nil
}
