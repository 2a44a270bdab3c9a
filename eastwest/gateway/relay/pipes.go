package relay

import (
	"cmp"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Pipes are the pipes through which bulk moves without being copied: some for all connections, since a connection has
// one only while octets are in it. Its methods may be called by several goroutines.
type Pipes struct {
	limit, size int

	mu   sync.Mutex
	free []*pipe
	open int
}

// pipe is the two ends of one.
type pipe struct{ read, write int }

// The defaults: with 48 pipes of 1 MiB, a user without privileges stays below what the kernel allows for all of a user's
// pipes (pipe-user-pages-soft, 64 MiB). Smaller pipes cost more processor time.
const (
	defaultPipes    = 48
	defaultPipeSize = 1 << 20
)

// NewPipes returns a pool that opens up to limit pipes of size octets when they are needed. 0 means 48 pipes and 1 MiB;
// a negative limit means none, and then everything is copied.
func NewPipes(limit, size int) *Pipes {
	return &Pipes{limit: cmp.Or(limit, defaultPipes), size: cmp.Or(size, defaultPipeSize)}
}

// take returns an empty pipe, or nil when none can be had now.
func (p *Pipes) take() *pipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		taken := p.free[n-1]
		p.free = p.free[:n-1]
		return taken
	}
	if p.open >= p.limit {
		return nil
	}
	opened, err := newPipe(p.size)
	if err != nil {
		return nil // descriptors are short; copying needs none
	}
	p.open++
	return opened
}

// newPipe opens a pipe. One that is smaller than asked for is good too.
func newPipe(size int) (*pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("opening a pipe: %w", err)
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, size)
	return &pipe{read: fds[0], write: fds[1]}, nil
}

// give takes a pipe back. One with octets in it is closed.
func (p *Pipes) give(taken *pipe, empty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if empty {
		p.free = append(p.free, taken)
		return
	}
	p.open--
	taken.close()
}

func (p *pipe) close() {
	_ = unix.Close(p.read)
	_ = unix.Close(p.write)
}

// Open returns how many pipes are open, and how many of them wait to be used.
func (p *Pipes) Open() (open, free int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open, len(p.free)
}

// Close closes the pipes that nobody uses. From then on there are no new ones.
func (p *Pipes) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.free {
		f.close()
	}
	p.open -= len(p.free)
	p.free, p.limit = nil, 0
}
