package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
)

// exchange is a UDP port of a service. A client of it has a session: all its datagrams go the same way until that fails.
type exchange struct {
	gateway *Gateway
	service *service
	conn    net.PacketConn
	life    context.Context //nolint:containedctx // of sessions
	end     context.CancelCauseFunc
	running sync.WaitGroup

	mu       sync.Mutex
	sessions map[netip.AddrPort]*talk
}

func newExchange(g *Gateway, s *service, conn net.PacketConn) *exchange {
	x := &exchange{gateway: g, service: s, conn: conn, sessions: map[netip.AddrPort]*talk{}}
	x.life, x.end = context.WithCancelCause(g.life)
	return x
}

// close ends the port and its sessions.
func (x *exchange) close() {
	_ = x.conn.Close()
	x.end(errStopping)
}

// run takes datagrams until the port is closed, and waits for its sessions.
func (x *exchange) run() {
	defer x.running.Wait()
	buffer := make([]byte, relay.MaxDatagram+1)
	for {
		n, from, err := x.conn.ReadFrom(buffer)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // about a datagram that was sent, for example
			if !x.gateway.pause(time.Millisecond) {
				return
			}
			continue
		}
		if udp, ok := from.(*net.UDPAddr); ok {
			x.take(udp, buffer[:n])
		}
	}
}

// take gives a datagram to its client's session, which may be a new one.
func (x *exchange) take(from *net.UDPAddr, datagram []byte) {
	client := from.AddrPort()
	x.mu.Lock()
	t := x.sessions[client]
	if t == nil {
		if len(x.sessions) >= x.gateway.options.Sessions || !x.gateway.admit(x.service) {
			x.mu.Unlock()
			x.service.Refuse(connect.TooMany)
			return
		}
		x.gateway.active.Add(1)
		t = &talk{exchange: x, client: from, key: client, queue: make(chan []byte, waiting), began: time.Now()}
		x.sessions[client] = t
		x.running.Go(t.run)
	}
	x.mu.Unlock()
	t.touch()
	select {
	case t.queue <- append([]byte(nil), datagram...):
	default: // as a full socket does
	}
}

// waiting is how many datagrams of a session may wait while it has no way, or a slow one.
const waiting = 64

// talk is a session: one client of a UDP port.
type talk struct {
	exchange *exchange
	client   *net.UDPAddr
	key      netip.AddrPort
	queue    chan []byte
	began    time.Time
	moved    atomic.Int64 // when a datagram came last, in nanoseconds since began
}

func (t *talk) touch() { t.moved.Store(int64(time.Since(t.began))) }

// rest returns how long the session may still last if nothing comes.
func (t *talk) rest() time.Duration {
	return t.exchange.gateway.options.SessionTimeout - (time.Since(t.began) - time.Duration(t.moved.Load()))
}

// hold is for how long a session that found no way goes on, so that not every datagram begins a new one.
const hold = 200 * time.Millisecond

// run carries datagrams on one way after the other, until nothing comes any more or nothing works.
func (t *talk) run() {
	defer t.leave()
	for {
		l, err := t.exchange.service.Connect(t.exchange.life, connect.Client{Affinity: route.ByAddress(t.key.Addr())})
		if err != nil {
			t.pause(hold)
			return
		}
		if !t.carry(l) {
			return
		}
		if !t.pause(t.exchange.gateway.options.Connect.Timing.MinDelay) {
			return
		}
	}
}

func (t *talk) leave() {
	x := t.exchange
	x.mu.Lock()
	delete(x.sessions, t.key)
	x.mu.Unlock()
	x.gateway.leave(x.service)
}

// pause waits, and returns false when the session has to end.
func (t *talk) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.exchange.life.Done():
		return false
	}
}

// carry uses one way. It returns true when that way has failed and another one should be used.
func (t *talk) carry(l *connect.Link) (again bool) {
	s := t.exchange.service
	p := s.Peer(l.Way.Cluster)
	p.Open.Add(1)
	broken := make(chan error, 1)
	var reading sync.WaitGroup
	reading.Go(func() { broken <- t.answers(l, &p.Down) })
	outcome, err := t.questions(l, &p.Up, broken)
	_ = l.Reset()
	reading.Wait()
	p.Open.Add(-1)
	p.Outcomes[outcome].Add(1)
	l.Release()
	if outcome == relay.ServerReset {
		s.Blame(l.Way)
		t.exchange.gateway.log.V(1).Info("a UDP session goes another way", "service", s.port.String(), "port", s.port.Name,
			"client", t.client.String(), "way", l.Way.String(), "reason", err.Error())
	}
	return outcome == relay.ServerReset
}

// questions sends what the client says, until the way breaks or the session is over.
func (t *talk) questions(l *connect.Link, count *atomic.Uint64, broken <-chan error) (relay.Outcome, error) {
	idle := time.NewTimer(t.rest())
	defer idle.Stop()
	for {
		select {
		case datagram := <-t.queue:
			if _, err := l.Write(datagram); err != nil {
				return relay.ServerReset, err
			}
			count.Add(uint64(len(datagram)))
		case err := <-broken:
			if errors.Is(err, io.EOF) {
				return relay.Done, nil
			}
			return relay.ServerReset, err
		case <-idle.C:
			rest := t.rest()
			if rest <= 0 {
				return relay.Idle, nil
			}
			idle.Reset(rest)
		case <-t.exchange.life.Done():
			return relay.Aborted, nil
		}
	}
}

// answers sends the client what comes for it, until the way breaks.
func (t *talk) answers(l *connect.Link, count *atomic.Uint64) error {
	return relay.Datagrams(l.Stream, func(datagram []byte) error {
		if _, err := t.exchange.conn.WriteTo(datagram, t.client); errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("answering %s: %w", t.client, err)
		}
		count.Add(uint64(len(datagram)))
		t.touch()
		return nil
	})
}
