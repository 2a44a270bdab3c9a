package gateway

import (
	"errors"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
	"github.com/hansa-dev/hansa/eastwest/gateway/poll"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
)

// session is one connection. Its methods are for the loop's goroutine.
type session struct {
	engine      *engine
	peer, local netip.AddrPort
	client      int
	upstream    int // -1: none
	state       state
	timer       poll.Timer

	greeting *greeting // until it is passed on
	dial     *dial     // while an endpoint is looked for
	pair     relay.Pair
	backend  *Backend
	traffic  *traffic
}

// state is where a session is in its life.
type state uint8

const (
	listening  state = iota // to the ClientHello
	connecting              // to an endpoint
	relaying
	dismissing // until the client has its alert
	ended
)

// greeting is what a client said until it can be passed on, with room for a header before it.
type greeting struct {
	hello hello.Hello
	small [proxyRoom + 4096]byte
	large []byte // as long as hello.MaxSize; nil: small is enough
	n     int
}

var greetings = sync.Pool{New: func() any { return &greeting{} }}

// room returns the buffer from the first octet of the ClientHello on.
func (g *greeting) room() []byte {
	if g.large != nil {
		return g.large[proxyRoom:]
	}
	return g.small[proxyRoom:]
}

// grow makes sure that something can be read.
func (g *greeting) grow() {
	if g.large == nil && g.n == len(g.small)-proxyRoom {
		g.large = make([]byte, proxyRoom+hello.MaxSize)
		copy(g.large, g.small[:])
	}
}

// message returns the ClientHello with a header before it.
func (g *greeting) message(header []byte) []byte {
	whole := g.small[:]
	if g.large != nil {
		whole = g.large
	}
	start := proxyRoom - len(header)
	copy(whole[start:], header)
	return whole[start : proxyRoom+g.n]
}

// dial is the search for an endpoint that takes a connection.
type dial struct {
	decision Decision
	tried    []*Backend
	events   poll.Events // of the socket, until it is the pair's
}

// Ready takes the events of both sockets.
func (s *session) Ready(fd int, e poll.Events) {
	side := relay.Client
	if fd == s.upstream {
		side = relay.Server
	}
	switch s.state {
	case relaying:
		s.pair.Ready(side, e)
	case listening:
		s.pair.Note(side, e)
		s.listen()
		if e.Has(poll.Failed) && s.state == connecting { // it said all, and left; this is not told again
			s.refuse(Gone, nil)
		}
	case connecting:
		if side == relay.Server {
			s.connected(e)
			return
		}
		s.pair.Note(side, e)
		if e.Has(poll.Failed) {
			s.refuse(Gone, nil)
		}
	case dismissing:
		if e.Has(poll.Readable | poll.PeerDone | poll.Failed | poll.HungUp) {
			s.discard()
		}
	case ended:
	}
}

// Expire ends what takes too long.
func (s *session) Expire() {
	switch s.state {
	case listening:
		s.refuse(TooSlow, nil)
	case connecting:
		s.failed()
	case dismissing:
		s.close()
	case relaying, ended:
	}
}

// listen reads the ClientHello, as much as is there.
func (s *session) listen() {
	if s.greeting == nil {
		s.greeting, _ = greetings.Get().(*greeting)
	}
	g := s.greeting
	for {
		g.grow()
		free := g.room()[g.n:]
		n, err := poll.Read(s.client, free)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			if g.n == 0 {
				s.release()
			}
			return
		case err != nil || n == 0:
			s.refuse(Gone, nil)
			return
		}
		g.n += n
		complete, err := g.hello.Read(g.room()[:g.n])
		if err != nil {
			s.refuse(NotUnderstood, err)
			return
		}
		if n < len(free) {
			s.pair.Drained(relay.Client)
		}
		if complete {
			s.route()
			return
		}
	}
}

// route asks where to go, and goes there.
func (s *session) route() {
	target, err := s.engine.server.options.Names.Target(s.greeting.hello.Name())
	if err != nil {
		s.refuse(NotUnderstood, err)
		return
	}
	d := s.engine.server.options.Router.Route(target, s.peer.Addr())
	if d.Refusal == 0 && d.Pool == nil {
		d.Refusal = NoEndpoint
	}
	if d.Refusal != 0 {
		s.refuse(d.Refusal, nil)
		return
	}
	s.traffic = s.engine.server.trafficOf(Service{Key: target.Key, Port: d.Port})
	s.dial, s.state = &dial{decision: d}, connecting
	s.next()
}

// next tries an endpoint that was not tried yet.
func (s *session) next() {
	d := s.dial
	for len(d.tried) < s.engine.server.options.Attempts {
		b := d.decision.Pool.Take(d.tried)
		if b == nil {
			break
		}
		d.tried = append(d.tried, b)
		fd, err := connect(b.Addr)
		if err == nil {
			if err = s.engine.loop.Add(fd, wanted, s); err != nil {
				_ = unix.Close(fd)
			}
		}
		if err != nil {
			b.Release()
			s.traffic.dialFailures.Add(1)
			continue
		}
		s.upstream, s.backend = fd, b
		s.engine.dialing.Start(&s.timer, s)
		return
	}
	s.refuse(DialFailed, nil)
}

// failed gives up the endpoint that was tried, to which nothing was sent.
func (s *session) failed() {
	s.traffic.dialFailures.Add(1)
	s.hangUp()
	s.next()
}

// hangUp closes the connection to an endpoint.
func (s *session) hangUp() {
	if s.upstream >= 0 {
		s.engine.loop.Close(s.upstream)
		s.upstream = -1
		s.backend.Release()
		s.backend = nil
	}
}

// connected passes the ClientHello on. Until the first octet is on its way, another endpoint may have the connection.
func (s *session) connected(e poll.Events) {
	if e.Has(poll.Failed | poll.HungUp) {
		s.failed()
		return
	}
	if !e.Has(poll.Writable) {
		s.dial.events |= e
		return
	}
	var header []byte
	if s.dial.decision.Proxy {
		var room [proxyRoom]byte
		header = appendProxy(room[:0], s.peer, s.local)
	}
	message := s.greeting.message(header)
	n, err := poll.Write(s.upstream, message)
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
		s.failed()
		return
	}
	s.timer.Stop()
	s.state = relaying
	s.pair.Note(relay.Server, e|s.dial.events)
	s.traffic.Up.Add(uint64(max(0, n-len(header))))
	s.traffic.open.Add(1)
	s.dial = nil
	s.pair.Start(s.engine.env, [2]int{s.client, s.upstream}, message[max(0, n):], &s.traffic.Bytes, s.over)
	s.release()
}

// over is told that both connections are closed.
func (s *session) over(o relay.Outcome) {
	s.traffic.open.Add(-1)
	s.traffic.outcomes[o].Add(1)
	s.backend.Release()
	s.engine.server.finished(s, o)
	s.leave()
}

// refuse turns the client away.
func (s *session) refuse(why Refusal, err error) {
	s.engine.server.refused(why, err, s.peer)
	if s.state == connecting {
		s.hangUp()
	}
	s.timer.Stop()
	s.release()
	s.dial = nil
	alert := why.Alert()
	if parse, ok := errors.AsType[hello.ParseError](err); ok {
		alert = parse.Alert()
	}
	if alert == 0 {
		s.close()
		return
	}
	record := alert.Record()
	if _, err := poll.Write(s.client, record[:]); err != nil {
		s.close()
		return
	}
	// To close with octets unread would reset the connection, and the alert may get lost: so they are read for a while.
	_ = unix.Shutdown(s.client, unix.SHUT_WR)
	s.state = dismissing
	s.engine.lingering.Start(&s.timer, s)
	s.discard()
}

// discards is how many times something is read from a client that was refused, per event.
const discards = 4

// discard reads what a refused client still sends, until its end.
func (s *session) discard() {
	var scrap [4096]byte
	for range discards {
		n, err := poll.Read(s.client, scrap[:])
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil || n == 0 {
			s.close()
			return
		}
	}
	s.close() // it sends more than anybody who was refused has to say
}

// abort ends a session in whatever state it is.
func (s *session) abort() {
	if s.state == relaying {
		s.pair.Abort()
		return
	}
	if s.state == connecting {
		s.hangUp()
	}
	s.close()
}

// close ends a session that has no endpoint.
func (s *session) close() {
	if s.state == ended {
		return
	}
	s.engine.loop.Close(s.client)
	s.leave()
}

func (s *session) leave() {
	s.state = ended
	s.timer.Stop()
	s.release()
	delete(s.engine.sessions, s)
	s.engine.server.limits.leave(s.peer.Addr())
}

// release gives the buffer back.
func (s *session) release() {
	if g := s.greeting; g != nil {
		g.hello, g.n, g.large = hello.Hello{}, 0, nil
		greetings.Put(g)
		s.greeting = nil
	}
}
