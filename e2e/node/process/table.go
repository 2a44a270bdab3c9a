// Package process is the care of processes by a program that is the first one of its PID namespace: it starts them,
// tells how they ended, and reaps those that nobody waits for.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// reapInterval is how often orphans are looked for. There are few, and until then they cost a pid each.
const reapInterval = 10 * time.Second

// Table knows the processes that this program has started, so that it can tell them from orphans.
type Table struct {
	mu   sync.Mutex
	live map[int]bool
}

// NewTable returns a table without processes.
func NewTable() *Table { return &Table{live: map[int]bool{}} }

// Exit is how a process ended.
type Exit struct {
	Code   int // 128 plus the number of the signal if one ended it
	Signal int // 0 if it ended by itself
}

// Started is a process that Table started.
type Started struct {
	PID  int
	done chan struct{}
	exit Exit
}

// Start starts a process, on the calling thread. It is reaped when it ends.
func (t *Table) Start(file string, argv []string, attr *os.ProcAttr) (*Started, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, err := os.StartProcess(file, argv, attr)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", file, err)
	}
	t.live[p.Pid] = true
	s := &Started{PID: p.Pid, done: make(chan struct{})}
	go t.wait(p, s)
	return s, nil
}

func (t *Table) wait(p *os.Process, s *Started) {
	state, err := p.Wait()
	s.exit = exitOf(state, err)
	t.mu.Lock()
	delete(t.live, s.PID)
	t.mu.Unlock()
	close(s.done)
}

func exitOf(state *os.ProcessState, err error) Exit {
	if err != nil { // somebody else reaped it
		return Exit{Code: 255}
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return Exit{Code: 128 + int(status.Signal()), Signal: int(status.Signal())}
	}
	return Exit{Code: state.ExitCode()}
}

// Done is closed when the process has ended.
func (s *Started) Done() <-chan struct{} { return s.done }

// Exit waits for the end of the process.
func (s *Started) Exit() Exit {
	<-s.done
	return s.exit
}

// Signal sends a signal to the process; it is no error if that has ended.
func (s *Started) Signal(sig syscall.Signal) error { return s.kill(s.PID, sig) }

// SignalGroup sends a signal to the process group that the process leads.
func (s *Started) SignalGroup(sig syscall.Signal) error { return s.kill(-s.PID, sig) }

func (s *Started) kill(pid int, sig syscall.Signal) error {
	select {
	case <-s.done: // the pid may be another's by now
		return nil
	default:
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("sending %s to process %d: %w", sig, pid, err)
	}
	return nil
}

// Reap reaps orphans until ctx ends. It is for the first process of a PID namespace: others are given none.
func (t *Table) Reap(ctx context.Context) {
	tick := time.NewTicker(reapInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.ReapNow()
		}
	}
}

// ReapNow reaps the orphans that have ended.
func (t *Table) ReapNow() {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	self := os.Getpid()
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err == nil && zombieOf(string(stat), self) {
			t.reap(pid)
		}
	}
}

func (t *Table) reap(pid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.live[pid] { // the others are waited for
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	}
}

// zombieOf tells from the content of /proc/PID/stat whether a process has ended and is a child of parent. The command
// in it may hold spaces and parentheses.
func zombieOf(stat string, parent int) bool {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	return len(fields) > 1 && fields[0] == "Z" && fields[1] == strconv.Itoa(parent)
}
