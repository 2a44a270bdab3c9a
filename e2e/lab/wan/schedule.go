package wan

import (
	"container/heap"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// schedule holds the packets under way and delivers each when it is due. It sleeps on a timer of the kernel, for those
// of the Go runtime are up to a millisecond late.
type schedule struct {
	now   func() time.Duration
	timer *os.File
	fd    int // of timer

	mu    sync.Mutex
	heap  flight
	count uint64
	wake  time.Duration // what the timer is set to; 0: it is not
}

func newSchedule(now func() time.Duration) (*schedule, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &schedule{now: now, fd: fd, timer: os.NewFile(uintptr(fd), "timer of the WAN")}, nil
}

// add takes over a packet.
func (s *schedule) add(pkt *packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	pkt.order = s.count
	heap.Push(&s.heap, pkt)
	if s.heap[0] == pkt {
		s.set()
	}
}

// set makes the timer ring for the first packet. The caller holds the lock.
func (s *schedule) set() {
	if len(s.heap) == 0 || s.wake != 0 && s.wake <= s.heap[0].due {
		return
	}
	s.wake = s.heap[0].due
	wait := max(s.wake-s.now(), 1) // 0 would stop it
	// It fails for wrong arguments only.
	_ = unix.TimerfdSettime(s.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}, nil)
}

// run delivers until it is interrupted.
func (s *schedule) run() error {
	var expirations [8]byte
	for {
		if _, err := s.timer.Read(expirations[:]); errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		} else if err != nil {
			return err
		}
		for pkt := s.next(); pkt != nil; pkt = s.next() {
			pkt.line.land(pkt)
		}
	}
}

// next takes out the first packet if it is due; if not, it sets the timer for it.
func (s *schedule) next() *packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heap) > 0 && s.heap[0].due <= s.now() {
		return heap.Pop(&s.heap).(*packet) //nolint:forcetypeassert // nothing else is in it
	}
	s.wake = 0
	s.set()
	return nil
}

func (s *schedule) interrupt() { _ = s.timer.SetReadDeadline(time.Unix(1, 0)) }

func (s *schedule) close() error { return s.timer.Close() }

// flight is a heap of packets, the one that is due first on top.
type flight []*packet

func (f *flight) Len() int { return len(*f) }
func (f *flight) Less(i, j int) bool {
	a, b := (*f)[i], (*f)[j]
	return a.due < b.due || a.due == b.due && a.order < b.order
}
func (f *flight) Swap(i, j int) { (*f)[i], (*f)[j] = (*f)[j], (*f)[i] }
func (f *flight) Push(x any)    { *f = append(*f, x.(*packet)) } //nolint:forcetypeassert // see above
func (f *flight) Pop() any {
	last := len(*f) - 1
	pkt := (*f)[last]
	(*f)[last] = nil
	*f = (*f)[:last]
	return pkt
}
