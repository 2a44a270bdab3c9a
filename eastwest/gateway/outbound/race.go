package outbound

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

// link is a connection that the other side has acknowledged.
type link struct {
	relay.Stream

	way  route.Way
	took time.Duration
}

// errGone says that the client has left.
var errGone = errors.New("the client has left")

// unconnectedError says why no way was found. Its reason is as in metrics.
type unconnectedError struct {
	reason string
	last   error
}

func (e *unconnectedError) Error() string {
	if e.last == nil {
		return e.reason
	}
	return fmt.Sprintf("%s; at last: %v", e.reason, e.last)
}

func (e *unconnectedError) Unwrap() error { return e.last }

// Why connections are reset.
const (
	noWay       = "no-way"      // the service table has nothing to use
	allFailed   = "all-failed"  // nothing that was tried worked
	overBudget  = "budget"      // something failed, and too many others did too
	overTime    = "timeout"     // nothing has answered
	uncertain   = "uncertain"   // what the client said at once may have been delivered
	clientGone  = "client-gone" // the client has left meanwhile
	stopping    = "stopping"    // the gateway stops
	tooMany     = "limit"       // there are all the connections that there may be
	notRelayed  = "not-relayed" // the gateway could not take the connection over
	flightLimit = 16 << 10      // octets that go with a request
)

// race is the search for a way that acknowledges.
type race struct {
	service *service
	routes  *routes
	data    []byte // that goes with the request
	slow    func() // called once when it takes longer

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

// connect finds a way that acknowledges. What goes with the request (data) is sent on one way at a time. slow, which may be
// nil, is called when the first way has not answered after the time that it usually takes.
func (s *service) connect(ctx context.Context, data []byte, slow func()) (*link, error) {
	s.connection()
	r := &race{
		service: s, routes: s.routes.Load(), data: data, slow: slow,
		results: make(chan result, s.gateway.options.Attempts),
	}
	ctx, cancel := context.WithTimeout(ctx, s.gateway.options.ConnectTimeout)
	defer cancel()
	return r.run(ctx)
}

func (r *race) run(ctx context.Context) (*link, error) {
	delay := r.start(ctx)
	if r.choice != found {
		return nil, &unconnectedError{noWay, r.routes.problem()}
	}
	beside := time.NewTimer(delay)
	defer beside.Stop()
	for {
		select {
		case x := <-r.results:
			if x.err == nil {
				return r.won(x), nil
			}
			if err := r.failed(x); err != nil {
				return nil, r.lost(err)
			}
			delay = r.start(ctx)
			if r.choice == found {
				beside.Reset(delay)
			}
			if len(r.pending) == 0 {
				return nil, r.lost(&unconnectedError{r.exhausted(), r.last})
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
		r.service.races.Add(1)
	}
	return r.choice != none
}

// problem is why there is nothing to try.
func (r *routes) problem() error {
	if r.reason != "" {
		return errors.New(r.reason.Explain())
	}
	return errors.New("nothing is ready in any cluster that may be used from here")
}

// single tells whether one way is tried at a time.
func (r *race) single() bool { return r.service.gateway.options.NoRace || len(r.data) > 0 }

// start tries the next way, if there is one and the budget allows it. It returns after which time there should be another.
func (r *race) start(ctx context.Context) time.Duration {
	if len(r.tried) == cap(r.results) {
		r.choice = none
		return 0
	}
	a, delay, c := r.service.next(r.routes, r.tried)
	r.choice = c
	switch c {
	case found:
		r.tried, r.pending = append(r.tried, a.Way), append(r.pending, a)
		go r.try(ctx, a)
	case denied:
		return r.service.gateway.options.Timing.MinDelay
	case none:
	}
	return delay
}

// exhausted is why nothing more is tried.
func (r *race) exhausted() string {
	if r.choice == denied {
		return overBudget
	}
	return allFailed
}

// try makes one attempt. Who comes too late is reset, and nothing was sent to it.
func (r *race) try(ctx context.Context, a route.Attempt) {
	ctx, cancel := context.WithTimeout(ctx, r.service.gateway.options.AttemptTimeout)
	defer cancel()
	stream, err := r.service.dial(ctx, a.Way, r.routes.number, r.data)
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

// failed notes an attempt that failed. It returns an error when no other may be made.
func (r *race) failed(x result) error {
	r.forget(x.attempt)
	verdict, why := verdict(x.attempt.Way, x.err)
	r.service.end(x.attempt, verdict, why)
	r.last = fmt.Errorf("%s: %w", x.attempt.Way, x.err)
	if len(r.data) > 0 && errors.Is(x.err, tunnel.ErrUncertain) {
		return &unconnectedError{uncertain, r.last}
	}
	return nil
}

func (r *race) forget(a route.Attempt) {
	r.pending = slices.DeleteFunc(r.pending, func(p route.Attempt) bool { return p.Way == a.Way })
}

// won ends the race: the others are undone, and those that began earlier have lost.
func (r *race) won(x result) *link {
	r.forget(x.attempt)
	s := r.service
	s.end(x.attempt, route.Connected, "")
	if len(r.tried) > 1 && x.attempt.Way != r.tried[0] {
		s.peer(x.attempt.Way.Cluster).won.Add(1)
	}
	r.undo(func(p route.Attempt) (route.Result, string) {
		if p.Started.Before(x.attempt.Started) {
			return route.Lost, ""
		}
		return route.Dropped, ""
	})
	return &link{Stream: x.stream, way: x.attempt.Way, took: time.Since(x.attempt.Started)}
}

// lost ends a race that nobody has won.
func (r *race) lost(err error) error {
	patience := r.service.gateway.options.Timing.MaxDelay
	timedOut := errors.Is(err, context.DeadlineExceeded)
	r.undo(func(p route.Attempt) (route.Result, string) {
		if timedOut && time.Since(p.Started) > patience {
			return route.Failed, reasonTimeout
		}
		return route.Dropped, ""
	})
	return err
}

// ended is why a race ended whose context did.
func (r *race) ended(ctx context.Context) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errGone):
		return &unconnectedError{clientGone, cause}
	case errors.Is(cause, context.DeadlineExceeded):
		return &unconnectedError{overTime, errors.Join(cause, r.last)}
	default:
		return &unconnectedError{stopping, cause}
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
			r.service.end(x.attempt, verdict, why)
			continue
		}
		_ = x.stream.Reset()
		result, why := judge(x.attempt)
		r.service.end(x.attempt, result, why)
	}
	for _, p := range r.pending {
		result, why := judge(p)
		r.service.end(p, result, why)
	}
	r.pending = nil
}
