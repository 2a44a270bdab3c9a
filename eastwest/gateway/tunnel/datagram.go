package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// How many datagrams wait for whoever reads them, and how many octets: what comes then pushes the oldest out.
const (
	waitingDatagrams = 256
	waitingOctets    = 256 << 10
)

// datagrams is a stream of datagrams: each is sent as length(2) and that many octets.
type datagrams struct {
	*stream

	writing sync.Mutex
	buffer  []byte

	mu       sync.Mutex
	waiting  [][]byte
	octets   int
	err      error         // after those that are waiting
	change   chan struct{} // has an element when Read should look again
	deadline time.Time
}

func newDatagrams(t *stream) *datagrams {
	d := &datagrams{stream: t, change: make(chan struct{}, 1)}
	go d.receive()
	return d
}

// receive takes datagrams from the stream as they come, so that a slow reader loses some and delays none.
func (d *datagrams) receive() {
	var header [2]byte
	for {
		_, err := io.ReadFull(d.stream, header[:])
		if err == nil {
			var one []byte
			if one, err = d.take(int(binary.BigEndian.Uint16(header[:]))); err == nil {
				d.push(one)
				continue
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
		}
		d.mu.Lock()
		d.err = err
		d.mu.Unlock()
		d.signal()
		return
	}
}

func (d *datagrams) take(n int) ([]byte, error) {
	if n > MaxDatagram {
		_ = d.Reset()
		return nil, fmt.Errorf("a datagram of %d octets; there are at most %d", n, MaxDatagram)
	}
	one := make([]byte, n)
	_, err := io.ReadFull(d.stream, one)
	return one, err
}

func (d *datagrams) push(one []byte) {
	d.mu.Lock()
	d.waiting = append(d.waiting, one)
	d.octets += len(one)
	over := 0
	for len(d.waiting)-over > waitingDatagrams || d.octets > waitingOctets {
		d.octets -= len(d.waiting[over])
		over++
	}
	d.waiting = slices.Delete(d.waiting, 0, over)
	d.mu.Unlock()
	d.session.traffic.dropped.Add(uint64(over))
	d.signal()
}

func (d *datagrams) signal() {
	select {
	case d.change <- struct{}{}:
	default:
	}
}

// Read returns one datagram. What does not fit into p is cut off.
func (d *datagrams) Read(p []byte) (int, error) {
	one, err := d.Next()
	return copy(p, one), err
}

// Next returns the next datagram, which is the caller's: who waits needs no buffer.
func (d *datagrams) Next() ([]byte, error) {
	for {
		d.mu.Lock()
		if len(d.waiting) > 0 {
			one := d.waiting[0]
			d.octets -= len(one)
			d.waiting = slices.Delete(d.waiting, 0, 1)
			d.mu.Unlock()
			return one, nil
		}
		err, deadline := d.err, d.deadline
		d.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if !d.await(deadline) {
			return nil, os.ErrDeadlineExceeded
		}
	}
}

// await waits until something has changed, or returns false after the deadline.
func (d *datagrams) await(deadline time.Time) bool {
	ctx := context.Background()
	if !deadline.IsZero() {
		if !time.Now().Before(deadline) {
			return false
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	select {
	case <-d.change:
		return true
	case <-ctx.Done():
		return false
	}
}

// Write sends one datagram.
func (d *datagrams) Write(p []byte) (int, error) {
	if len(p) > MaxDatagram {
		return 0, fmt.Errorf("a datagram of %d octets; there are at most %d", len(p), MaxDatagram)
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	d.buffer = binary.BigEndian.AppendUint16(d.buffer[:0], uint16(len(p))) //nolint:gosec // at most MaxDatagram
	d.buffer = append(d.buffer, p...)
	if _, err := d.stream.Write(d.buffer); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = d.Reset() // nobody knows how much of it was sent
		}
		return 0, err
	}
	return len(p), nil
}

// SetDeadline sets both deadlines.
func (d *datagrams) SetDeadline(at time.Time) error {
	return errors.Join(d.SetReadDeadline(at), d.SetWriteDeadline(at))
}

// SetReadDeadline sets when Read gives up.
func (d *datagrams) SetReadDeadline(at time.Time) error {
	d.mu.Lock()
	d.deadline = at
	d.mu.Unlock()
	d.signal()
	return nil
}

// Close ends both directions. What has arrived and was not read is of no interest.
func (d *datagrams) Close() error {
	err := d.CloseWrite()
	d.mu.Lock()
	if d.err == nil {
		d.err = net.ErrClosed
	}
	d.waiting, d.octets = nil, 0
	d.mu.Unlock()
	d.signal()
	d.closeLater()
	return err
}
