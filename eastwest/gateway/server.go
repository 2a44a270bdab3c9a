package gateway

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Server is a gateway's listener for TLS that passes through. New opens its sockets and Run serves them. It is a
// prometheus.Collector too.
type Server struct {
	options   Options
	log       logr.Logger
	listeners []listener
	limits    limits
	pipes     *relay.Pipes
	engines   []*engine

	accepted atomic.Uint64
	refusals [refusals]atomic.Uint64
	alarm    atomic.Int64 // when it was last logged that nothing can be accepted, in nanoseconds since 1970

	mu       sync.RWMutex
	services map[Service]*traffic
}

// listener is a socket that all engines accept from.
type listener struct {
	fd   int
	addr netip.AddrPort
}

// Service is one port of a service, as traffic is counted.
type Service struct {
	clusterset.Key

	Port uint16
}

// traffic counts what happened on the way to a service.
type traffic struct {
	relay.Bytes

	open         atomic.Int64
	outcomes     [relay.Outcomes]atomic.Uint64
	dialFailures atomic.Uint64
}

// New opens the sockets that o names. From then on connections queue up, until Run serves them. Run also closes them: with
// a context that has ended, at once.
func New(o Options) (*Server, error) {
	o = o.orDefault()
	if o.Router == nil {
		return nil, errors.New("a gateway needs to know where connections go: set Router")
	}
	s := &Server{
		options: o, log: o.Log, pipes: relay.NewPipes(o.Pipes, o.PipeSize), services: map[Service]*traffic{},
		limits: limits{total: o.Connections, perSource: o.PerSource, ranges: o.Sources, sources: map[netip.Addr]int{}},
	}
	for _, address := range o.Addresses {
		fd, addr, err := listen(o.Listen, address)
		if err != nil {
			s.close()
			return nil, err
		}
		s.listeners = append(s.listeners, listener{fd, addr})
	}
	return s, nil
}

// Addrs returns the addresses that the server listens on, in the order of Options.
func (s *Server) Addrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, l := range s.listeners {
		addrs = append(addrs, l.addr)
	}
	return addrs
}

func (s *Server) close() {
	for _, l := range s.listeners {
		_ = unix.Close(l.fd)
	}
}

// Run serves until ctx ends. Then it takes the connections that are waiting already, and no more, lets all that are there
// go on for at most Options.DrainTimeout, resets the others and returns nil. It returns early with the error of a loop that
// fails. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.pipes.Close()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	for range s.options.Loops {
		e, err := newEngine(s)
		if err != nil {
			fail(failure{err})
			break
		}
		s.engines = append(s.engines, e)
	}
	var running sync.WaitGroup
	for _, e := range s.engines {
		running.Go(func() {
			if err := e.loop.Run(); err != nil {
				fail(failure{err})
			}
		})
		e.loop.Post(func() {
			if err := e.open(); err != nil {
				fail(failure{err})
			}
		})
	}
	<-ctx.Done()
	s.each((*engine).shut)
	s.close()
	failed, broken := errors.AsType[failure](context.Cause(ctx))
	if !broken {
		s.drain()
	}
	s.each((*engine).abort)
	for _, e := range s.engines {
		e.loop.Stop()
	}
	running.Wait()
	if broken {
		return failed.error
	}
	return nil
}

// failure tells the end of a loop from the end of the caller's context.
type failure struct{ error }

// each calls f in every engine's loop and waits for all; loops that have ended are left out.
func (s *Server) each(f func(*engine)) {
	var done sync.WaitGroup
	for _, e := range s.engines {
		done.Add(1)
		if !e.loop.Post(func() { defer done.Done(); f(e) }) {
			done.Done()
		}
	}
	done.Wait()
}

// drain waits until all connections are gone, or time is over.
func (s *Server) drain() {
	patience := time.NewTimer(s.options.DrainTimeout)
	defer patience.Stop()
	select {
	case <-s.limits.drained():
	case <-patience.C:
		s.log.Info("connections are cut off because the time to drain is over", "connections", s.limits.count())
	}
}

// trafficOf returns the counters of a service. Routers name services that exist, so there are not too many.
func (s *Server) trafficOf(service Service) *traffic {
	s.mu.RLock()
	t := s.services[service]
	s.mu.RUnlock()
	if t != nil {
		return t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t = s.services[service]; t == nil {
		t = &traffic{}
		s.services[service] = t
	}
	return t
}

// refused counts and logs a client that is turned away.
func (s *Server) refused(why Refusal, err error, peer netip.AddrPort) {
	s.refusals[why].Add(1)
	if log := s.log.V(1); log.Enabled() {
		keys := []any{"client", peer.String(), "reason", why.String()}
		if err != nil {
			keys = append(keys, "detail", err.Error())
		}
		log.Info("connection refused", keys...)
	}
}

// finished logs a connection that has ended.
func (s *Server) finished(n *session, o relay.Outcome) {
	if log := s.log.V(1); log.Enabled() {
		log.Info("connection ended", "client", n.peer.String(), "endpoint", n.backend.Addr.String(), "outcome", o.String())
	}
}

// cannotAccept logs, once in ten seconds at most, that connections wait.
func (s *Server) cannotAccept(addr netip.AddrPort, err error) {
	now, last := time.Now().UnixNano(), s.alarm.Load()
	if now-last >= int64(10*time.Second) && s.alarm.CompareAndSwap(last, now) {
		s.log.Error(err, "no connections are accepted for now; if files are what is missing, raise the limit (ulimit -n)", "address", addr.String())
	}
}
