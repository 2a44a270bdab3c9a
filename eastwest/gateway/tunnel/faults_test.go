package tunnel_test

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test by a clock of its own. yamux keeps timers for reuse, which must get neither in nor out: the garbage
// collector takes them, in two rounds.
func bubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	forget := func() { runtime.GC(); runtime.GC() }
	forget()
	defer forget()
	synctest.Test(t, test)
}

// wire is a connection that can fail. What it is told to lose, it loses without anybody being told, as a network does.
type wire struct {
	net.Conn

	deaf  atomic.Bool                   // what arrives is lost
	mute  atomic.Bool                   // what is sent is lost
	read  atomic.Int64                  // octets that arrived
	until atomic.Int64                  // after so many, it is deaf; 0: never
	rate  atomic.Int64                  // octets per second that are sent; 0: all
	pause atomic.Pointer[chan struct{}] // what arrives is not read before this is closed; nil: it is
}

// NetConn returns the connection below.
func (w *wire) NetConn() net.Conn { return w.Conn }

func (w *wire) Read(p []byte) (int, error) {
	for {
		if pause := w.pause.Load(); pause != nil {
			<-*pause
		}
		n, err := w.Conn.Read(p)
		if err != nil {
			return n, err
		}
		total := w.read.Add(int64(n))
		if most := w.until.Load(); most > 0 && total > most {
			w.deaf.Store(true)
		}
		if !w.deaf.Load() {
			return n, nil
		}
	}
}

func (w *wire) Write(p []byte) (int, error) {
	if w.mute.Load() {
		return len(p), nil
	}
	for sent := 0; ; {
		rate := w.rate.Load()
		if rate == 0 {
			n, err := w.Conn.Write(p[sent:])
			return sent + n, err
		}
		piece := p[sent:min(len(p), sent+4096)]
		<-time.After(time.Duration(len(piece)) * time.Second / time.Duration(rate))
		n, err := w.Conn.Write(piece)
		if sent += n; err != nil || sent == len(p) {
			return sent, err
		}
	}
}

// cut makes both directions lose everything.
func (w *wire) cut() {
	w.deaf.Store(true)
	w.mute.Store(true)
}

// network connects a dialer and a server without sockets.
type network struct {
	incoming chan net.Conn
	closed   chan struct{}
	close    func()

	mu    sync.Mutex
	wires []*wire // of the dialer
}

func newNetwork() *network {
	n := &network{incoming: make(chan net.Conn), closed: make(chan struct{})}
	n.close = sync.OnceFunc(func() { close(n.closed) })
	return n
}

// Dial is for the dialer.
func (n *network) Dial(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case n.incoming <- there:
	case <-n.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w := &wire{Conn: here}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wires = append(n.wires, w)
	return w, nil
}

// last returns the newest connection.
func (n *network) last() *wire {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.wires[len(n.wires)-1]
}

// Accept, Close and Addr are for the server.
func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.incoming:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error   { n.close(); return nil }
func (n *network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 15445} }

// relays connects the dialer by TCP through a wire, so that faults meet real sockets.
type relays struct {
	mu    sync.Mutex
	wires []*wire
}

func (r *relays) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: c}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wires = append(r.wires, w)
	return w, nil
}

func (r *relays) each(f func(*wire)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.wires {
		f(w)
	}
}

// far is a connection to somebody who is far away: each direction takes a while, and carries a lot meanwhile.
type far struct {
	net.Conn

	in, out chan parcel
	rest    []byte
	delay   time.Duration
	closed  chan struct{}
	close   func()
}

type parcel struct {
	data []byte
	due  time.Time
	err  error
}

func newFar(c net.Conn, delay time.Duration) *far {
	f := &far{Conn: c, delay: delay, in: make(chan parcel, 1<<14), out: make(chan parcel, 1<<14), closed: make(chan struct{})}
	f.close = sync.OnceFunc(func() { close(f.closed) })
	go func() {
		for {
			p := make([]byte, 64<<10)
			n, err := c.Read(p)
			select {
			case f.in <- parcel{p[:n], time.Now().Add(delay), err}:
			case <-f.closed:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		for {
			select {
			case p := <-f.out:
				<-time.After(time.Until(p.due))
				if _, err := c.Write(p.data); err != nil {
					return
				}
			case <-f.closed:
				return
			}
		}
	}()
	return f
}

func (f *far) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		select {
		case one := <-f.in:
			<-time.After(time.Until(one.due))
			if f.rest = one.data; one.err != nil {
				return 0, one.err
			}
		case <-f.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *far) Write(p []byte) (int, error) {
	select {
	case f.out <- parcel{slices.Clone(p), time.Now().Add(f.delay), nil}:
		return len(p), nil
	case <-f.closed:
		return 0, net.ErrClosed
	}
}

func (f *far) Close() error { f.close(); return f.Conn.Close() }
