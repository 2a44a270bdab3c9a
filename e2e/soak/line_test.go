package soak_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// line is what is between a gateway and those of other clusters. Where it is cut, what is sent waits, as it would in the
// sender's kernel, and arrives when it is whole again.
type line struct {
	addr     netip.AddrPort
	to       netip.AddrPort // of the gateway
	listener net.Listener
	up, down gate
	delay    atomic.Int64 // nanoseconds for each piece
	refuses  atomic.Bool
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[*net.TCPConn]struct{}
}

// gate is open or shut.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil: it is open
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case open && g.shut != nil:
		close(g.shut)
		g.shut = nil
	case !open && g.shut == nil:
		g.shut = make(chan struct{})
	}
}

// pass returns when the gate is open.
func (g *gate) pass() {
	for {
		g.mu.Lock()
		shut := g.shut
		g.mu.Unlock()
		if shut == nil {
			return
		}
		<-shut
	}
}

// listen opens a socket at any port.
func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.(*net.TCPListener)
}

func at(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

func newLine(t *testing.T, to netip.AddrPort) *line {
	t.Helper()
	n := &line{to: to, listener: listen(t), conns: map[*net.TCPConn]struct{}{}}
	n.addr = at(n.listener)
	n.running.Go(n.accept)
	t.Cleanup(func() {
		n.heal()
		_ = n.listener.Close()
		n.refuse()
		n.running.Wait()
	})
	return n
}

func (n *line) accept() {
	var d net.Dialer
	for {
		near, err := n.listener.Accept()
		if err != nil {
			return
		}
		far, err := d.DialContext(context.Background(), "tcp", n.to.String())
		if err != nil || n.refuses.Load() {
			_ = reset(near)
			if far != nil {
				_ = reset(far)
			}
			continue
		}
		n.join(near.(*net.TCPConn), far.(*net.TCPConn))
	}
}

func (n *line) join(near, far *net.TCPConn) {
	n.mu.Lock()
	n.conns[near], n.conns[far] = struct{}{}, struct{}{}
	n.mu.Unlock()
	n.running.Go(func() {
		var both sync.WaitGroup
		both.Go(func() { n.carry(far, near, &n.up) })
		both.Go(func() { n.carry(near, far, &n.down) })
		both.Wait()
		_, _ = near.Close(), far.Close()
		n.mu.Lock()
		delete(n.conns, near)
		delete(n.conns, far)
		n.mu.Unlock()
	})
}

func (n *line) carry(to, from *net.TCPConn, g *gate) {
	b := make([]byte, 32<<10)
	for {
		count, err := from.Read(b)
		g.pass()
		if d := n.delay.Load(); d > 0 {
			<-time.After(time.Duration(d))
		}
		if _, failed := to.Write(b[:count]); err == nil {
			err = failed
		}
		if errors.Is(err, io.EOF) {
			_ = to.CloseWrite()
			return
		}
		if err != nil {
			_, _ = reset(to), reset(from)
			return
		}
	}
}

// refuse ends all connections, as the kernel does for a process that was killed.
func (n *line) refuse() {
	n.refuses.Store(true)
	n.mu.Lock()
	defer n.mu.Unlock()
	for conn := range n.conns {
		_ = reset(conn)
	}
}

// heal undoes whatever was done.
func (n *line) heal() {
	n.refuses.Store(false)
	n.delay.Store(0)
	n.up.set(true)
	n.down.set(true)
}

// reset ends a connection at once.
func reset(conn net.Conn) error {
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	return conn.Close()
}
