package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
)

// serve carries one connection that accept has counted, until others have taken it over or it has ended.
func (g *Gateway) serve(s *service, client *net.TCPConn) {
	if !g.admit(s) {
		s.Refuse(connect.TooMany)
		g.turnAway(s, client, &connect.UnconnectedError{Reason: connect.TooMany})
		g.active.Done()
		return
	}
	data, err := g.flight(s, client)
	if err != nil {
		g.leave(s)
		s.Refuse(connect.ClientGone)
		g.turnAway(s, client, &connect.UnconnectedError{Reason: connect.ClientGone, Last: err})
		return
	}
	watch := &watch{client: client}
	ctx, cancel := context.WithCancelCause(g.life)
	l, err := s.Connect(ctx, connect.Client{Affinity: affinity(client), Data: data, Slow: func() { watch.start(cancel) }})
	watch.stop()
	cancel(nil)
	if err != nil {
		g.leave(s)
		g.turnAway(s, client, err)
		return
	}
	if l.Way.Tunnel {
		data = nil // it is there already
	}
	g.relay(s, client, l, data)
}

// affinity is what stands for a client.
func affinity(client *net.TCPConn) route.Affinity {
	if addr, ok := client.RemoteAddr().(*net.TCPAddr); ok {
		return route.ByAddress(addr.AddrPort().Addr())
	}
	return 0
}

// admit counts a connection, unless there are too many.
func (g *Gateway) admit(s *service) bool {
	if g.count.Add(1) > int64(g.options.Connections) {
		g.count.Add(-1)
		return false
	}
	if s.count.Add(1) > int64(g.options.PerService) {
		s.count.Add(-1)
		g.count.Add(-1)
		return false
	}
	return true
}

// leave ends what accept and admit have counted.
func (g *Gateway) leave(s *service) {
	s.count.Add(-1)
	g.count.Add(-1)
	g.active.Done()
}

// turnAway resets a client.
func (g *Gateway) turnAway(s *service, client *net.TCPConn, err error) {
	if log := g.log.V(1); log.Enabled() {
		log.Info("connection refused", "service", s.port.String(), "port", s.port.Name, "client", client.RemoteAddr().String(), "reason", err.Error())
	}
	_ = relay.TCP(client).Reset()
}

// flight reads what the client of a service with FirstFlight says at once.
func (g *Gateway) flight(s *service, client *net.TCPConn) ([]byte, error) {
	if !s.flight.Load() {
		return nil, nil
	}
	if err := client.SetReadDeadline(time.Now().Add(g.options.FlightTimeout)); err != nil {
		return nil, err
	}
	data := make([]byte, tunnel.MaxData)
	n, err := client.Read(data)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading what the client says first: %w", err)
	}
	return data[:n], client.SetReadDeadline(time.Time{})
}

// relay moves bytes both ways. Between two sockets, a loop does.
func (g *Gateway) relay(s *service, client *net.TCPConn, l *connect.Link, up []byte) {
	p := s.Peer(l.Way.Cluster)
	p.Open.Add(1)
	from, began := client.RemoteAddr(), time.Now()
	over := func(o relay.Outcome) {
		p.Open.Add(-1)
		p.Outcomes[o].Add(1)
		l.Release()
		if log := g.log.V(1); log.Enabled() {
			log.Info("connection ended", "service", s.port.String(), "port", s.port.Name, "client", from.String(), "cluster", l.Way.Cluster,
				"way", l.Way.String(), "connect", l.Took.String(), "lasted", time.Since(began).String(), "outcome", o.String())
		}
		g.leave(s)
	}
	if direct, ok := relay.Socket(l.Stream); ok {
		if err := g.loops.Join(client, direct, up, &p.Bytes, over); err == nil {
			return
		} // without descriptors to spare, two goroutines do
	}
	relay.Begin(g.life, relay.Talk{
		Client: relay.TCP(client), Server: l.Stream, Up: up, Idle: g.options.IdleTimeout, Bytes: &p.Bytes,
	}, over)
}

// watch notices that a client resets its connection before anything was read from it.
type watch struct {
	client *net.TCPConn
	done   chan struct{} // nil: it was not started
}

// start begins to watch. It must be called before stop, and by the same goroutine.
func (w *watch) start(gone context.CancelCauseFunc) {
	raw, err := w.client.SyscallConn()
	if err != nil {
		return
	}
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		broken := false
		_ = raw.Read(func(fd uintptr) bool {
			broken = isBroken(int(fd))
			return broken
		})
		if broken {
			gone(connect.ErrGone)
		}
	}()
}

// stop ends watching. Reads go on as before.
func (w *watch) stop() {
	if w.done == nil {
		return
	}
	_ = w.client.SetReadDeadline(time.Unix(1, 0))
	<-w.done
	_ = w.client.SetReadDeadline(time.Time{})
}

// isBroken tells whether a connection was reset. What is still unread stays so.
func isBroken(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}} //nolint:gosec // G115: descriptors are small
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
