// Package poll serves many sockets with one goroutine, so that a connection that rests costs no stack, no buffer and no
// thread: epoll, edge-triggered, with time limits that cost next to nothing.
package poll

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Events is what may be done with a socket, or has happened to it.
type Events uint32

// The events. They are told once, when they become true (epoll(7), edge-triggered): a Handler remembers them until the
// kernel says EAGAIN.
const (
	Readable = Events(unix.EPOLLIN)
	Writable = Events(unix.EPOLLOUT)
	PeerDone = Events(unix.EPOLLRDHUP) // the peer sends no more; what it sent may still be unread
	HungUp   = Events(unix.EPOLLHUP)
	Failed   = Events(unix.EPOLLERR)
)

// Has tells whether any of the given events is there.
func (e Events) Has(events Events) bool { return e&events != 0 }

// Handler is told what happens to its sockets, in the loop's goroutine. It must not block.
type Handler interface {
	Ready(fd int, events Events)
}

// Task is something to go on with.
type Task interface{ Resume() }

// batch is how many events are taken from the kernel at a time.
const batch = 128

// Loop is an epoll instance. But for Post and Stop, its methods are for handlers, tasks and what Post was given: they run
// in the goroutine of Run.
type Loop struct {
	epoll, wake int
	file        *os.File // epoll, as Go's scheduler waits for it: a wait costs no thread
	waits       syscall.RawConn
	armed       time.Duration // when file wakes up without events; never, if it is the longest
	slots       []slot        // by descriptor
	events      [batch]unix.EpollEvent
	tasks, next []Task
	limits      []*Limit
	start       time.Time
	now         time.Duration

	mu      sync.Mutex
	posted  []func()
	stopped bool
	closed  bool
}

// slot is who handles a descriptor. turn tells one use of a number from the next: an event of a socket that was closed a
// moment ago must not reach the one that has its number now.
type slot struct {
	handler Handler
	turn    int32
}

// New opens a loop. Run closes it.
func New() (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("opening an epoll instance: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("opening an eventfd: %w", err)
	}
	_ = unix.SetNonblock(epoll, true) // it never blocks; so Go knows
	l := &Loop{epoll: epoll, wake: wake, file: os.NewFile(uintptr(epoll), "epoll"), armed: math.MaxInt64, start: time.Now()}
	if l.waits, err = l.file.SyscallConn(); err == nil {
		err = l.Add(wake, Readable, nil)
	}
	if err != nil {
		_ = l.file.Close()
		_ = unix.Close(wake)
		return nil, fmt.Errorf("preparing an epoll instance: %w", err)
	}
	return l, nil
}

// Add has a socket handled, all its events edge-triggered.
func (l *Loop) Add(fd int, events Events, h Handler) error {
	return l.add(fd, uint32(events)|unix.EPOLLET, h)
}

// AddShared has a listening socket handled that other loops wait for too: one of them is woken per connection or so. It
// is level-triggered, so that nobody has to accept all that wait.
func (l *Loop) AddShared(fd int, h Handler) error {
	return l.add(fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, h)
}

func (l *Loop) add(fd int, events uint32, h Handler) error {
	if fd >= len(l.slots) {
		l.slots = append(l.slots, make([]slot, max(64, fd+1+fd/4)-len(l.slots))...)
	}
	s := &l.slots[fd]
	s.handler, s.turn = h, s.turn+1
	event := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: s.turn} //nolint:gosec // G115: descriptors are small
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		s.handler = nil
		return fmt.Errorf("waiting for a socket: %w", err)
	}
	return nil
}

// Remove ends the handling of a socket that stays open.
func (l *Loop) Remove(fd int) {
	l.forget(fd)
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}

// Close closes a socket, handled or not.
func (l *Loop) Close(fd int) {
	l.forget(fd)
	_ = unix.Close(fd)
}

func (l *Loop) forget(fd int) {
	if fd < len(l.slots) {
		l.slots[fd].handler = nil
		l.slots[fd].turn++
	}
}

// Now is the time since New, as of when the loop woke up last.
func (l *Loop) Now() time.Duration { return l.now }

// Later has a task resumed once other sockets have had their turn.
func (l *Loop) Later(t Task) { l.tasks = append(l.tasks, t) }

// Post has f called in the loop's goroutine. It returns false when Stop was called or Run has ended, and then f is not
// called. Anybody may call it.
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.posted = append(l.posted, f)
	l.signal()
	return true
}

// Stop ends Run, after what was posted before. Anybody may call it.
func (l *Loop) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.signal()
}

// signal wakes Run; the caller has the lock, and so the descriptor is open unless closed says otherwise.
func (l *Loop) signal() {
	if !l.closed {
		_, _ = unix.Write(l.wake, binary.NativeEndian.AppendUint64(nil, 1))
	}
}

// Run serves the sockets until Stop is called, or epoll fails. What is open then stays open. It may be called once.
func (l *Loop) Run() error {
	defer l.close()
	for {
		n, err := l.wait()
		if err != nil {
			return fmt.Errorf("waiting for sockets: %w", err)
		}
		l.now = time.Since(l.start)
		stop := false
		for _, event := range l.events[:n] {
			fd := int(event.Fd)
			if fd == l.wake {
				stop = l.runPosted()
				continue
			}
			if s := l.slots[fd]; s.turn == event.Pad && s.handler != nil {
				s.handler.Ready(fd, Events(event.Events))
			}
		}
		l.runTasks()
		for _, limit := range l.limits {
			limit.expire()
		}
		if stop {
			return nil
		}
	}
}

// runPosted returns true when the loop is to end.
func (l *Loop) runPosted() bool {
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:])
	l.mu.Lock()
	posted, stopped := l.posted, l.stopped
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
	return stopped
}

// runTasks resumes what waits; what is added meanwhile has its turn after the next events.
func (l *Loop) runTasks() {
	l.tasks, l.next = l.next[:0], l.tasks
	for i, t := range l.next {
		l.next[i] = nil
		t.Resume()
	}
}

// wait returns how many events there are: none, when there are tasks or a time is over.
func (l *Loop) wait() (n int, err error) {
	if len(l.tasks) > 0 {
		return l.poll()
	}
	first := time.Duration(math.MaxInt64)
	for _, limit := range l.limits {
		first = min(first, limit.first())
	}
	if first < l.armed { // to wake up too early costs less than to set it every time
		if err := l.arm(first); err != nil {
			return 0, err
		}
	}
	waitErr := l.waits.Read(func(uintptr) bool {
		n, err = l.poll()
		return n > 0 || err != nil
	})
	if errors.Is(waitErr, os.ErrDeadlineExceeded) {
		return 0, l.arm(first)
	}
	return n, errors.Join(err, waitErr)
}

// arm sets when a wait ends without events. If that is over by now, the next wait ends at once, unless first moves.
func (l *Loop) arm(first time.Duration) error {
	l.armed = first
	if first == math.MaxInt64 {
		return l.file.SetReadDeadline(time.Time{})
	}
	return l.file.SetReadDeadline(l.start.Add(first))
}

// close ends the loop. What was posted while it failed is called: somebody may wait for it.
func (l *Loop) close() {
	l.mu.Lock()
	l.stopped, l.closed = true, true
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
	_ = l.file.Close()
	_ = unix.Close(l.wake)
}
