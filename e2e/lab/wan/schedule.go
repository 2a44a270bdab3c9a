package wan

import (
	"container/heap"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// batch is how many packets of one lane are delivered at a time. More would make those of other lanes late.
const batch = 16

// lane is a queue of packets under way on a line, in the order in which they are due. The schedule's lock guards it.
type lane struct {
	line        *line
	era         int // of the line, when they were sent
	first, last *packet
}

// schedule holds the packets under way and delivers each when it is due. It sleeps on a timer of the kernel, for those
// of the Go runtime are up to a millisecond late.
type schedule struct {
	now   func() time.Duration
	timer *os.File
	fd    int // of timer

	mu    sync.Mutex
	lanes lanes         // those that are not empty
	wake  time.Duration // what the timer is set to; 0: it is not
}

func newSchedule(now func() time.Duration) (*schedule, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &schedule{now: now, fd: fd, timer: os.NewFile(uintptr(fd), "timer of the WAN")}, nil
}

// add takes over a packet. It is not due before the lane's earlier ones.
func (s *schedule) add(to *lane, pkt *packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pkt.next = nil
	if to.first != nil {
		to.last.next, to.last = pkt, pkt
		return
	}
	to.first, to.last = pkt, pkt
	heap.Push(&s.lanes, to)
	if s.lanes[0] == to {
		s.set()
	}
}

// set makes the timer ring for the first packet. The caller holds the lock.
func (s *schedule) set() {
	if len(s.lanes) == 0 || s.wake != 0 && s.wake <= s.lanes[0].first.due {
		return
	}
	s.wake = s.lanes[0].first.due
	wait := max(s.wake-s.now(), 1) // 0 would stop it
	// It fails for wrong arguments only.
	_ = unix.TimerfdSettime(s.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}, nil)
}

// run delivers until it is interrupted.
func (s *schedule) run() error {
	var expirations [8]byte
	var due [batch]*packet
	for {
		if _, err := s.timer.Read(expirations[:]); errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		} else if err != nil {
			return err
		}
		for from, n := s.next(due[:]); n > 0; from, n = s.next(due[:]) {
			for _, pkt := range due[:n] {
				from.line.land(pkt, from.era)
			}
		}
	}
}

// next takes the first packets of the lane whose turn it is, as many as are due and fit. If there are none, it sets the
// timer.
func (s *schedule) next(due []*packet) (*lane, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if len(s.lanes) == 0 || s.lanes[0].first.due > now {
		s.wake = 0
		s.set()
		return nil, 0
	}
	from, n := s.lanes[0], 0
	for ; n < len(due) && from.first != nil && from.first.due <= now; n++ {
		due[n] = from.first
		from.first = from.first.next
	}
	if from.first == nil {
		from.last = nil
		heap.Pop(&s.lanes)
	} else {
		heap.Fix(&s.lanes, 0)
	}
	return from, n
}

func (s *schedule) interrupt() { _ = s.timer.SetReadDeadline(time.Unix(1, 0)) }

func (s *schedule) close() error { return s.timer.Close() }

// lanes is a heap: on top is the lane whose first packet is due first.
type lanes []*lane

func (l *lanes) Len() int           { return len(*l) }
func (l *lanes) Less(i, j int) bool { return (*l)[i].first.due < (*l)[j].first.due }
func (l *lanes) Swap(i, j int)      { (*l)[i], (*l)[j] = (*l)[j], (*l)[i] }
func (l *lanes) Push(x any)         { *l = append(*l, x.(*lane)) } //nolint:forcetypeassert // nothing else is pushed
func (l *lanes) Pop() any {
	end := len(*l) - 1
	last := (*l)[end]
	(*l)[end] = nil
	*l = (*l)[:end]
	return last
}
