package tunnel

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unsentLimit is how much the kernel holds of what it cannot send yet: what waits there, nothing can overtake.
const unsentLimit = 256 << 10

// tune makes the kernel hold little, and give up what is not acknowledged (RFC 5482). The latter is for a tunnel that is cut
// in one direction when the other side does not notice; it takes longer than a heartbeat, because the kernel counts a
// process that reads slowly as one that does not acknowledge.
func tune(conn net.Conn, dead time.Duration) {
	control(conn, func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(3*dead.Milliseconds()))
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
	})
}

// unread tells whether something has arrived that this process did not take yet.
func unread(conn net.Conn) bool {
	n := 0
	control(conn, func(fd int) { n, _ = unix.IoctlGetInt(fd, unix.SIOCINQ) })
	return n > 0
}

// control calls f with the socket below a connection, if there is one. Without, there is nothing to do.
func control(conn net.Conn, f func(fd int)) {
	c, ok := bottom(conn).(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { f(int(fd)) })
}

// bottom returns the connection below all others.
func bottom(conn net.Conn) net.Conn {
	for {
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = over.NetConn()
	}
}

// batchSize is how much is read from a socket at a time.
const batchSize = 64 << 10

// batched is a connection below TLS, which writes record by record and reads in pieces: here they become few system calls.
type batched struct {
	net.Conn

	// Of the goroutine that reads.
	in   []byte // as it was read
	rest []byte // of that, what nobody has taken

	mu     sync.Mutex
	corked bool
	out    []byte
}

func newBatched(conn net.Conn) *batched { return &batched{Conn: conn} }

// NetConn returns the connection below.
func (b *batched) NetConn() net.Conn { return b.Conn }

// Read reads what is there.
func (b *batched) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		if b.in == nil {
			b.in = make([]byte, batchSize)
		}
		n, err := b.Conn.Read(b.in)
		if n == 0 {
			return 0, err
		}
		b.rest = b.in[:n] // an error comes again
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Write writes, or keeps what is written between cork and flush.
func (b *batched) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.corked {
		return b.Conn.Write(p)
	}
	if b.out == nil {
		b.out = *queues.Get().(*[]byte) //nolint:forcetypeassert // nothing else is put there
	}
	b.out = append(b.out, p...)
	return len(p), nil
}

// together calls f, and writes what f wrote in one piece.
func (b *batched) together(f func() error) error {
	b.mu.Lock()
	b.corked = true
	b.mu.Unlock()
	err := f()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.corked = false
	if len(b.out) == 0 {
		return err
	}
	out := b.out
	b.out = nil
	if err == nil {
		_, err = b.Conn.Write(out)
	}
	recycle(out)
	return err
}

// dialTCP connects to a gateway. The heartbeat does what keep-alives would.
func dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}
	return d.DialContext(ctx, "tcp", to.String())
}
