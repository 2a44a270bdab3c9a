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

// MaxDatagram is the size of the largest datagram that UDP over IPv4 can hold.
const MaxDatagram = 65507

// UDP returns a UDP socket that has one peer as a Stream: its end and its reset are the same, and the peer sees neither.
func UDP(conn *net.UDPConn) Stream { return udp{conn} }

type udp struct{ *net.UDPConn }

// CloseWrite does nothing: datagrams have no end.
func (u udp) CloseWrite() error { return nil }

// Reset closes the socket.
func (u udp) Reset() error { return u.Close() }

// whole is a stream that hands its datagrams out as they are.
type whole interface{ Next() ([]byte, error) }

var datagramBuffers = sync.Pool{New: func() any { return new([MaxDatagram]byte) }}

// Datagrams calls f with each datagram that comes from a stream, until either fails; it returns that error. The slice is
// f's until it returns. A stream that rests has no buffer, unless it is one that can only be asked to fill one.
func Datagrams(from Stream, f func([]byte) error) error {
	var next func() ([]byte, error)
	switch s := from.(type) {
	case udp:
		return s.datagrams(f)
	case whole:
		next = s.Next
	default:
		b := make([]byte, MaxDatagram)
		next = func() ([]byte, error) {
			n, err := from.Read(b)
			return b[:n], err
		}
	}
	for {
		datagram, err := next()
		if err != nil {
			return err
		}
		if err := f(datagram); err != nil {
			return err
		}
	}
}

func (u udp) datagrams(f func([]byte) error) error {
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	for {
		b, n, err := receive(raw)
		if err != nil {
			return err
		}
		err = f(b[:n])
		datagramBuffers.Put(b)
		if err != nil {
			return err
		}
	}
}

// receive waits for a datagram without a buffer, and returns the one that it then took. Nobody else is called meanwhile: who
// closes a socket waits for those who read it.
func receive(raw rawConn) (b *[MaxDatagram]byte, n int, err error) {
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		b, _ = datagramBuffers.Get().(*[MaxDatagram]byte)
		for {
			n, failed = poll.Read(int(fd), b[:])
			if !errors.Is(failed, unix.EINTR) {
				break
			}
		}
		if failed != nil {
			datagramBuffers.Put(b)
		}
		return !errors.Is(failed, unix.EAGAIN)
	})
	return b, n, errors.Join(err, failed)
}

// Exchange relays datagrams between two streams until one of them ends or breaks, none has come for as long as idle, or
// ctx ends. It ends both. What is in up, unless empty, was read from the client, and is delivered first.
func Exchange(ctx context.Context, client, server Stream, up []byte, idle time.Duration, bytes *Bytes) Outcome {
	l := &lane{client: client, server: server, idle: idle, bytes: bytes, datagrams: true}
	l.touch()
	l.timer = time.AfterFunc(idle, l.look)
	defer l.timer.Stop()
	defer context.AfterFunc(ctx, func() { l.end(Aborted) })()
	if len(up) > 0 && !l.deliver(Client, server, up, &bytes.Up) {
		return Outcome(l.outcome.Load()) //nolint:gosec // G115: an Outcome
	}
	var other sync.WaitGroup
	other.Go(func() { l.toss(Server, server, client, &bytes.Down) })
	l.toss(Client, client, server, &bytes.Up)
	other.Wait()
	return Outcome(l.outcome.Load()) //nolint:gosec // G115: an Outcome
}

// toss delivers the datagrams of one side. The end of one direction is the end of both: datagrams have none of their own.
func (l *lane) toss(from Side, src, dst Stream, count *atomic.Uint64) {
	err := Datagrams(src, func(datagram []byte) error {
		if !l.deliver(from, dst, datagram, count) {
			return net.ErrClosed
		}
		return nil
	})
	if errors.Is(err, io.EOF) {
		l.end(Done)
		return
	}
	l.end(broken(from))
}
