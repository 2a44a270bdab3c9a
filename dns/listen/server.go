package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

// Server is a name server's sockets. New opens them and Run serves them.
type Server struct {
	options  Options
	handler  Handler
	waiter   Waiter   // nil: the handler is none
	streamer Streamer // nil: the handler is none
	log      logr.Logger
	dot      *tls.Config // one for all connections, whose sessions go on then (RFC 8446, 2.2); nil: none

	engines     []*engine
	listeners   []*listener
	connections *connections

	waiting chan struct{} // holds one for each query over UDP that waits
	waiters sync.WaitGroup
	ctx     context.Context //nolint:containedctx // the life of what answers a query, which no call bounds
	cancel  context.CancelFunc

	streams [Transports]streamCounters
	crowded atomic.Uint64
	panics  atomic.Uint64
	alarm   atomic.Int64 // when the last panic was logged, in nanoseconds since 1970
}

// New opens the sockets that o names. From then on queries queue up, until Run answers them. Run also closes them: with
// a context that has ended, at once.
func New(o Options, h Handler) (*Server, error) {
	o = o.orDefault()
	if len(o.TLS)+len(o.HTTPS) > 0 && o.TLSConfig == nil {
		return nil, errors.New("listening for TLS or HTTPS needs a certificate: set TLSConfig")
	}
	places, err := o.places()
	if err != nil {
		return nil, err
	}
	if len(places) == 0 {
		return nil, errors.New("there is no address to listen on")
	}
	s := &Server{
		options: o, handler: h, log: o.Log,
		connections: newConnections(o.Connections, o.PerPeer),
		waiting:     make(chan struct{}, o.Waiting),
	}
	if o.TLSConfig != nil {
		s.dot = o.TLSConfig.Clone()
		s.dot.NextProtos = []string{"dot"} // RFC 7858; a client that names none is served too
	}
	s.waiter, _ = h.(Waiter)
	s.streamer, _ = h.(Streamer)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, p := range places {
		if err := s.bind(p); err != nil {
			sockets{s.engines, s.listeners}.close()
			s.cancel()
			return nil, err
		}
	}
	s.warn()
	return s, nil
}

// warn says so when the kernel's queues are shorter than asked for: bursts get lost then.
func (s *Server) warn() {
	if got := s.Stats().ReceiveBuffer; len(s.engines) > 0 && got < s.options.SocketBuffer {
		s.log.Info("the kernel queues fewer packets than asked for, so bursts may be lost: raise net.core.rmem_max, or grant CAP_NET_ADMIN",
			"octets", got, "asked", s.options.SocketBuffer)
	}
}

// Addrs returns the addresses that the server listens on, in the order of Options.
func (s *Server) Addrs(over Transport) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, e := range s.engines {
		if over == UDP && !slices.Contains(addrs, e.local) {
			addrs = append(addrs, e.local)
		}
	}
	for _, l := range s.listeners {
		if l.over == over {
			addrs = append(addrs, l.addr)
		}
	}
	return addrs
}

// Run serves until ctx ends. Then it accepts nothing new, answers what has arrived, closes idle connections, waits for
// the others for at most Options.DrainTimeout, and returns nil. It returns early with the error of a socket that fails.
// It may be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var engines, acceptors sync.WaitGroup
	for _, e := range s.engines {
		engines.Go(func() {
			if err := e.run(); err != nil {
				fail(failure{err})
			}
		})
	}
	for _, l := range s.listeners {
		acceptors.Go(func() {
			if err := s.accept(l); err != nil {
				fail(failure{err})
			}
		})
	}
	<-ctx.Done()
	for _, e := range s.engines {
		e.stop()
	}
	for _, l := range s.listeners {
		_ = l.Close()
	}
	engines.Wait()
	acceptors.Wait()
	s.drain()
	for _, e := range s.engines {
		e.close()
	}
	if failed, ok := errors.AsType[failure](context.Cause(ctx)); ok {
		return failed.error
	}
	return nil
}

// failure tells the end of a socket from the end of the caller's context.
type failure struct{ error }

// drain waits for what is under way, and cuts it off in the end.
func (s *Server) drain() {
	cut := time.AfterFunc(s.options.DrainTimeout, func() {
		s.cancel()
		s.connections.closeAll()
	})
	defer cut.Stop()
	s.connections.drain()
	s.waiters.Wait()
}

// respond asks the handler, and survives its panics.
func (s *Server) respond(dst, query []byte, from Source) (response []byte) {
	defer s.recover(&response, dst)
	return s.handler.Respond(dst, query, from)
}

// wait asks the waiter, and survives its panics.
func (s *Server) wait(dst, query []byte, from Source) (response []byte) {
	defer s.recover(&response, dst)
	return s.waiter.Wait(s.ctx, dst, query, from)
}

func (s *Server) recover(response *[]byte, dst []byte) {
	if found := recover(); found != nil {
		*response = dst
		s.panicked(found)
	}
}

// panicked counts a panic, and logs it unless one was logged within this second: there may be one per packet.
func (s *Server) panicked(found any) {
	s.panics.Add(1)
	now, last := time.Now().UnixNano(), s.alarm.Load()
	if now-last >= int64(time.Second) && s.alarm.CompareAndSwap(last, now) {
		s.log.Error(fmt.Errorf("answering a query: panic: %v", found), "a query got no response because of a defect; please report it",
			"stack", string(debug.Stack()), "panics", s.panics.Load())
	}
}

// Stats returns what was counted until now.
func (s *Server) Stats() Stats {
	stats := Stats{Crowded: s.crowded.Load(), Panics: s.panics.Load()}
	for i, e := range s.engines {
		e.addTo(&stats)
		if granted := e.granted; i == 0 || granted < stats.ReceiveBuffer {
			stats.ReceiveBuffer = granted
		}
	}
	for t := range s.streams {
		stats.Streams[t] = s.streams[t].read()
	}
	return stats
}
