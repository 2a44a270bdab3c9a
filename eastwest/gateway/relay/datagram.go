package relay

import (
	"errors"
	"net"
	"sync"

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
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			b, _ := datagramBuffers.Get().(*[MaxDatagram]byte)
			defer datagramBuffers.Put(b)
			var n int
			for {
				n, failed = poll.Read(int(fd), b[:])
				if !errors.Is(failed, unix.EINTR) {
					break
				}
			}
			if errors.Is(failed, unix.EAGAIN) {
				return false
			}
			if failed == nil {
				failed = f(b[:n])
			}
			return true
		})
		if err = errors.Join(err, failed); err != nil {
			return err
		}
	}
}
