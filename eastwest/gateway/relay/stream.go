package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway/poll"
)

// Stream is a connection whose directions end one by one. Those that are no sockets of their own cannot be left to a loop;
// Streams relays them.
type Stream interface {
	net.Conn
	// CloseWrite says that nothing more is sent.
	CloseWrite() error
	// Reset ends both directions at once; the other side sees a reset.
	Reset() error
}

// TCP returns a TCP connection as a Stream.
func TCP(conn *net.TCPConn) Stream { return tcp{conn} }

// Socket returns the connection of a Stream that TCP has made.
func Socket(s Stream) (*net.TCPConn, bool) {
	c, ok := s.(tcp)
	return c.TCPConn, ok
}

type tcp struct{ *net.TCPConn }

// Reset sends a reset.
func (c tcp) Reset() error {
	_ = c.SetLinger(0)
	return c.Close()
}

// Sizes of buffers of Streams. A direction begins with a small one and has a large one while much moves.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// Streams relays between two connections until both directions have ended, one side breaks, nothing moved for as long as
// idle, or ctx ends. It closes both: with a reset, unless everything was delivered. What is in up was read from the client,
// and is delivered first. It counts in bytes.
func Streams(ctx context.Context, client, server Stream, up []byte, idle time.Duration, bytes *Bytes) Outcome {
	ended := make(chan Outcome, 1)
	Begin(ctx, Talk{client, server, up, idle, bytes}, func(o Outcome) { ended <- o })
	return <-ended
}

// Talk is two streams between which to relay, and what else Streams is told.
type Talk struct {
	Client, Server Stream
	Up             []byte
	Idle           time.Duration
	Bytes          *Bytes
}

// Begin is Streams for who does not wait: it returns at once, and ended is called. The caller's goroutine may have needed a
// large stack to get here; what relays for a long time has small ones.
func Begin(ctx context.Context, t Talk, ended func(Outcome)) {
	l := &lane{client: t.Client, server: t.Server, idle: t.Idle, bytes: t.Bytes, ended: ended}
	l.left.Store(2)
	l.touch()
	l.timer = time.AfterFunc(t.Idle, l.look)
	l.release = context.AfterFunc(ctx, func() { l.end(Aborted) })
	go l.run(Client, t.Up)
	go l.run(Server, nil)
}

// run carries one direction; the second one that ends ends the relay.
func (l *lane) run(from Side, head []byte) {
	l.carry(from, head)
	if l.left.Add(-1) > 0 {
		return
	}
	l.timer.Stop()
	l.release()
	o := Outcome(l.outcome.Load()) //nolint:gosec // G115: an Outcome
	if o == Done {
		_, _ = l.client.Close(), l.server.Close()
	}
	l.ended(o)
}

// lane is two streams between which something moves.
type lane struct {
	client, server Stream
	idle           time.Duration
	bytes          *Bytes
	timer          *time.Timer
	start          time.Time
	moved          atomic.Int64  // when something did last, in nanoseconds since start
	outcome        atomic.Uint32 // Done while nothing was wrong
	once           sync.Once
	datagrams      bool

	left    atomic.Int32 // directions that go on; of Begin, as is what follows
	release func() bool
	ended   func(Outcome)
}

func (l *lane) touch() {
	if l.start.IsZero() {
		l.start = time.Now()
	}
	l.moved.Store(int64(time.Since(l.start)))
}

// look ends what is idle, or looks again when it may be.
func (l *lane) look() {
	rest := l.idle - (time.Since(l.start) - time.Duration(l.moved.Load()))
	if rest <= 0 {
		l.end(Idle)
		return
	}
	l.timer.Reset(rest)
}

// end resets both sides, once. Datagrams have no end that could be mistaken for that of a whole.
func (l *lane) end(o Outcome) {
	l.once.Do(func() {
		l.outcome.Store(uint32(o))
		if l.datagrams && (o == Done || o == Idle) {
			_, _ = l.client.Close(), l.server.Close()
			return
		}
		_, _ = l.client.Reset(), l.server.Reset()
	})
}

// carry moves what one side sends, until its end.
func (l *lane) carry(from Side, head []byte) {
	src, dst, count := l.client, l.server, &l.bytes.Up
	if from == Server {
		src, dst, count = l.server, l.client, &l.bytes.Down
	}
	if len(head) > 0 && !l.deliver(from, dst, head, count) {
		return
	}
	r := newReader(src)
	defer r.release()
	for {
		b, err := r.read()
		if len(b) > 0 && !l.deliver(from, dst, b, count) {
			return
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			if err := dst.CloseWrite(); err != nil {
				l.end(broken(from.other()))
			}
			return
		default:
			l.end(broken(from))
			return
		}
	}
}

func (l *lane) deliver(from Side, dst Stream, b []byte, count *atomic.Uint64) bool {
	n, err := dst.Write(b)
	count.Add(uint64(max(n, 0)))
	l.touch()
	if err != nil {
		l.end(broken(from.other()))
		return false
	}
	return true
}

// reader reads from a stream with as little memory as it takes: a TCP connection that rests has no buffer, others have a
// small one.
type reader struct {
	src    Stream
	raw    rawConn
	small  *[smallBuffer]byte
	large  *[largeBuffer]byte
	full   int // reads in a row that filled the small buffer
	sparse int // reads in a row that did not need the large one
}

// rawConn is what is used of a syscall.RawConn.
type rawConn interface {
	Read(func(fd uintptr) bool) error
}

func newReader(src Stream) *reader {
	r := &reader{src: src}
	if c, ok := src.(tcp); ok {
		if raw, err := c.SyscallConn(); err == nil {
			r.raw = raw
		}
	}
	return r
}

// read returns what is there, until the next call.
func (r *reader) read() ([]byte, error) {
	if r.raw == nil {
		b := r.buffer()
		n, err := r.src.Read(b)
		r.weigh(n)
		return b[:n], err
	}
	var b []byte
	var n int
	var failed error
	err := r.raw.Read(func(fd uintptr) bool {
		b = r.buffer()
		for {
			n, failed = poll.Read(int(fd), b)
			if !errors.Is(failed, unix.EINTR) {
				break
			}
		}
		if errors.Is(failed, unix.EAGAIN) {
			r.release()
			return false
		}
		return true
	})
	switch {
	case err != nil:
		return nil, err
	case failed != nil:
		return nil, failed
	case n == 0:
		return nil, io.EOF
	}
	r.weigh(n)
	return b[:n], nil
}

// Thresholds of the size of buffers.
const (
	fullReads   = 2
	sparseReads = 1
)

func (r *reader) buffer() []byte {
	switch {
	case r.large != nil && r.sparse < sparseReads:
		return r.large[:]
	case r.full >= fullReads:
		r.release()
		r.large, _ = largeBuffers.Get().(*[largeBuffer]byte)
		r.sparse, r.full = 0, 0
		return r.large[:]
	case r.large != nil:
		r.release()
	}
	if r.small == nil {
		r.small, _ = smallBuffers.Get().(*[smallBuffer]byte)
	}
	return r.small[:]
}

// weigh notes how much a read brought.
func (r *reader) weigh(n int) {
	if r.large == nil {
		if r.full++; n < smallBuffer {
			r.full = 0
		}
		return
	}
	if r.sparse++; n > smallBuffer {
		r.sparse = 0
	}
}

func (r *reader) release() {
	if r.small != nil {
		smallBuffers.Put(r.small)
		r.small = nil
	}
	if r.large != nil {
		largeBuffers.Put(r.large)
		r.large = nil
	}
}
