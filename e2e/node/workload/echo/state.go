package echo

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
	"github.com/hansa-dev/hansa/e2e/node/workload/fault"
)

// Why a request gets no answer, or not the usual one.
var (
	errDropped = errors.New("the connection is to be closed without an answer")
	errBusy    = errors.New("too many requests are delayed or hang already")
)

// state is what the protocols share.
type state struct {
	identity answer.Identity
	requests atomic.Uint64
	named    named
	waiting  chan struct{} // a slot for each request that delays or hangs
	released chan struct{} // closed when requests that hang are to be dropped
	once     sync.Once
	health   *health.Server

	mu      sync.Mutex
	control fault.Control
	leaving bool
}

func newState(config Config) *state {
	s := &state{
		identity: config.Identity,
		waiting:  make(chan struct{}, max(config.MaxWaiting, 0)),
		released: make(chan struct{}),
		health:   health.NewServer(),
	}
	s.set(fault.Normal())
	return s
}

// current returns what the server was told, and whether it is ready.
func (s *state) current() (control fault.Control, ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.control, s.control.Ready && !s.leaving
}

// change replaces the control by what f makes of it, unless f fails.
func (s *state) change(f func(fault.Control) (fault.Control, error)) (fault.Control, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := f(s.control)
	if err != nil {
		return fault.Control{}, err
	}
	s.control = next
	s.publish()
	return next, nil
}

func (s *state) set(c fault.Control) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.control = c
	s.publish()
}

// leave makes the server not ready for good.
func (s *state) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	s.publish()
}

// publish tells gRPC health whether the server is ready. The caller holds the lock.
func (s *state) publish() {
	status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if s.control.Ready && !s.leaving {
		status = grpc_health_v1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
	s.health.SetServingStatus(answer.Service, status)
}

// release ends the hanging of requests.
func (s *state) release() { s.once.Do(func() { close(s.released) }) }

// answer counts a request and returns the answer to it, without what only the protocol knows.
func (s *state) answer(protocol, client, server string) answer.Answer {
	return answer.Answer{
		Identity: s.identity, Protocol: protocol, Client: client, Server: server,
		Requests: s.requests.Add(1),
	}
}

// plan decides what happens to a request.
func (s *state) plan(protocol string, w fault.Wish) fault.Plan {
	control, _ := s.current()
	return fault.Decide(control, w, protocol, rand.Float64()) //nolint:gosec // G404: nothing to guess here
}

// suffer delays and hangs as planned. The error is errDropped if there is to be no answer, errBusy if too many wait
// already, or that of ctx, which ends when the client goes away.
func (s *state) suffer(ctx context.Context, p fault.Plan) error {
	if p.Delay > 0 || p.Hang && !p.Drop {
		select {
		case s.waiting <- struct{}{}:
			defer func() { <-s.waiting }()
		default:
			return errBusy
		}
	}
	if p.Delay > 0 {
		timer := time.NewTimer(p.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	switch {
	case p.Drop:
		return errDropped
	case p.Hang:
		select {
		case <-s.released:
			return errDropped
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
