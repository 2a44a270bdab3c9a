package gateway

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway/poll"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
)

// patience is for how long an engine rests when it cannot accept.
const patience = 50 * time.Millisecond

// engine is a loop and the connections that it serves.
type engine struct {
	server   *Server
	loop     *poll.Loop
	env      *relay.Env
	sessions map[*session]struct{}

	greeting, dialing, lingering, resting *poll.Limit

	acceptors []*acceptor
}

func newEngine(s *Server) (*engine, error) {
	loop, err := poll.New()
	if err != nil {
		return nil, err
	}
	e := &engine{
		server: s, loop: loop, sessions: map[*session]struct{}{},
		env:      relay.NewEnv(loop, s.pipes, loop.Limit(s.options.IdleTimeout)),
		greeting: loop.Limit(s.options.HelloTimeout), dialing: loop.Limit(s.options.DialTimeout),
		lingering: loop.Limit(s.options.Linger), resting: loop.Limit(patience),
	}
	for _, l := range s.listeners {
		e.acceptors = append(e.acceptors, &acceptor{engine: e, fd: l.fd, local: l.addr})
	}
	return e, nil
}

// open begins to accept.
func (e *engine) open() error {
	var errs []error
	for _, a := range e.acceptors {
		errs = append(errs, e.loop.AddShared(a.fd, a))
	}
	return errors.Join(errs...)
}

// shut takes what has connected already, and no more.
func (e *engine) shut() {
	for _, a := range e.acceptors {
		for a.accept() {
		}
		a.closed = true
		a.timer.Stop()
		e.loop.Remove(a.fd)
	}
}

// abort ends all connections.
func (e *engine) abort() {
	for s := range e.sessions {
		s.abort()
	}
}

// acceptor takes new connections of one address.
type acceptor struct {
	engine *engine
	fd     int
	local  netip.AddrPort
	timer  poll.Timer
	closed bool
}

// accepts is how many connections are taken before others have their turn.
const accepts = 16

// Ready accepts some.
func (a *acceptor) Ready(int, poll.Events) {
	for range accepts {
		if !a.accept() {
			return
		}
	}
}

// Expire begins to accept again.
func (a *acceptor) Expire() {
	if err := a.engine.loop.AddShared(a.fd, a); err != nil {
		a.rest(err)
	}
}

// rest stops accepting for a moment.
func (a *acceptor) rest(err error) {
	a.engine.server.cannotAccept(a.local, err)
	a.engine.loop.Remove(a.fd)
	a.engine.resting.Start(&a.timer, a)
}

// accept takes a connection, and returns false when there is none.
func (a *acceptor) accept() bool {
	if a.closed {
		return false
	}
	fd, from, err := poll.Accept(a.fd)
	switch {
	case err == nil:
		a.engine.begin(fd, from, a.local)
		return true
	case errors.Is(err, unix.EAGAIN):
		return false
	case skippable(err):
		return true
	default:
		a.rest(err)
		return false
	}
}

// begin serves a connection, unless limits forbid it.
func (e *engine) begin(fd int, peer, local netip.AddrPort) {
	e.server.accepted.Add(1)
	if why := e.server.limits.admit(peer.Addr()); why != 0 {
		e.server.refused(why, nil, peer)
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		_ = unix.Close(fd)
		return
	}
	s := &session{engine: e, peer: peer, local: local, client: fd, upstream: -1}
	e.sessions[s] = struct{}{}
	if err := e.loop.Add(fd, wanted, s); err != nil {
		s.refuse(Gone, nil)
		return
	}
	e.greeting.Start(&s.timer, s)
}
