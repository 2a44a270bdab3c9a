// Package clients plays many ADS clients in a process of their own: each has its own connection, asks for all clusters
// and for the endpoints of each of them by name, accepts everything, and notes when what is looked for arrives.
package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
)

// Subcommand is the argument that makes the benchmark's program play clients.
const Subcommand = "ads-clients"

// command is one thing to do: the first field that is set.
type command struct {
	Connect []Group       `json:"connect,omitempty"`
	Expect  []Change      `json:"expect,omitempty"`
	Await   bool          `json:"await,omitempty"`
	Close   bool          `json:"close,omitempty"`
	Limit   time.Duration `json:"limit,omitempty"` // how long to wait
}

// Reply is the answer to a command.
type Reply struct {
	// Arrivals tell, for each change, when each client got it, in nanoseconds since 1970 and in the order of the groups.
	Arrivals [][]int64 `json:"arrivals,omitempty"`
	// Sync tells how long each client took to be in step, in nanoseconds from its own beginning.
	Sync []int64 `json:"sync,omitempty"`
	// Took is how long it took until all were in step.
	Took time.Duration `json:"took,omitempty"`
	// Received is how many bytes of assignments all clients got so far.
	Received int64 `json:"received,omitempty"`
	// CPU is the processor time that the process has used.
	CPU time.Duration `json:"cpu"`
}

// rareGC makes the clients collect garbage rarely: they are not what is measured.
const rareGC = 400

// Serve plays the clients that commands from in ask for, until in ends.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	debug.SetGCPercent(rareGC)
	var s *Swarm
	defer func() {
		if s != nil {
			s.Close()
		}
	}()
	return child.Serve(ctx, in, out, func(ctx context.Context, c command) (r Reply, err error) {
		switch {
		case len(c.Connect) > 0:
			began := time.Now()
			if s, err = Connect(ctx, c.Connect, c.Limit); err == nil {
				r.Took, r.Sync, r.Received = time.Since(began), s.Sync(), s.Received()
			}
		case s == nil:
			err = errors.New("there are no clients")
		case len(c.Expect) > 0:
			s.Expect(c.Expect)
		case c.Await:
			r.Arrivals, err = s.Await(ctx, c.Limit)
			r.Received = s.Received()
		case c.Close:
			s.Close()
			s = nil
		}
		r.CPU = used()
		return r, err
	})
}

// used is the processor time of this process.
func used() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Process is a process of clients. Its methods are for one goroutine.
type Process struct{ child *child.Process }

// Start starts the process, without any client.
func Start(ctx context.Context) (*Process, error) {
	c, err := child.Start(ctx, Subcommand)
	if err != nil {
		return nil, err
	}
	return &Process{child: c}, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.child.PID() }

// Connect opens clients and returns when all are in step.
func (p *Process) Connect(groups []Group, patience time.Duration) (Reply, error) {
	return p.call("connecting clients", command{Connect: groups, Limit: patience})
}

// Expect has the clients look for changes from now on.
func (p *Process) Expect(changes ...Change) (Reply, error) {
	return p.call("telling clients what to look for", command{Expect: changes})
}

// Await returns when all clients have all changes.
func (p *Process) Await(patience time.Duration) (Reply, error) {
	return p.call("waiting for clients", command{Await: true, Limit: patience})
}

// Disconnect ends all clients; others may be connected then.
func (p *Process) Disconnect() (Reply, error) {
	return p.call("disconnecting clients", command{Close: true})
}

// Stop ends the process.
func (p *Process) Stop() { p.child.Stop() }

func (p *Process) call(what string, c command) (r Reply, err error) {
	if err := p.child.Call(c, &r); err != nil {
		return r, fmt.Errorf("%s: %w", what, err)
	}
	return r, nil
}
