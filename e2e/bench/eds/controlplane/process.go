package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
)

// Subcommand is the argument that makes the benchmark's program this control plane.
const Subcommand = "plain-control-plane"

// command is one thing to do: the first field that is set.
type command struct {
	Watch   *Members      `json:"watch,omitempty"`
	Serve   *serve        `json:"serve,omitempty"`
	Change  *Change       `json:"change,omitempty"`
	Collect bool          `json:"collect,omitempty"`
	Limit   time.Duration `json:"limit,omitempty"` // how long it may take
}

// Members are contexts of a kubeconfig.
type Members struct {
	Kubeconfig string   `json:"kubeconfig"`
	Contexts   []string `json:"contexts"`
}

type serve struct {
	Groups []clients.Group `json:"groups"`
	Dir    string          `json:"dir,omitempty"`
}

// Change is an address of a service that becomes another one.
type Change struct {
	Host string `json:"host"` // of the service, the last part of the assignment's name
	From string `json:"from"`
	To   string `json:"to"`
	// Zones is how the zones begin whose clients see it; empty means all.
	Zones string `json:"zones,omitempty"`
}

// Reply is the answer to a command.
type Reply struct {
	Objects int             `json:"objects,omitempty"` // that the informers hold
	Groups  []clients.Group `json:"groups,omitempty"`
	At      int64           `json:"at,omitempty"` // when the change came in, in nanoseconds since 1970
}

// Serve carries out the commands from in until it ends.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	p := newPlane()
	defer p.close()
	defer cancel()
	return child.Serve(ctx, in, out, func(ctx context.Context, c command) (Reply, error) {
		switch {
		case c.Watch != nil:
			count, err := p.watch(ctx, *c.Watch, c.Limit)
			return Reply{Objects: count}, err
		case c.Serve != nil:
			groups, err := p.serve(ctx, *c.Serve, c.Limit)
			return Reply{Groups: groups}, err
		case c.Change != nil:
			at := time.Now().UnixNano()
			p.changed(*c.Change)
			return Reply{At: at}, nil
		case c.Collect:
			for range 2 { // what has a cleanup goes with the second collection
				runtime.GC()
			}
			return Reply{}, nil
		}
		return Reply{}, errors.New("no such command")
	})
}

// Process is such a control plane. Its methods are for one goroutine.
type Process struct{ child *child.Process }

// Start starts the process, which does nothing yet.
func Start(ctx context.Context) (*Process, error) {
	c, err := child.Start(ctx, Subcommand)
	if err != nil {
		return nil, err
	}
	return &Process{child: c}, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.child.PID() }

// Watch starts the informers, and returns how many objects they hold once they hold all.
func (p *Process) Watch(m Members, patience time.Duration) (objects int, err error) {
	r, err := p.call("filling informers", command{Watch: &m, Limit: patience})
	return r.Objects, err
}

// Serve takes what the groups' server tells each of them, and serves the same. It returns the groups as clients of its own,
// which find certificates in dir; without one there is no TLS.
func (p *Process) Serve(groups []clients.Group, dir string, patience time.Duration) ([]clients.Group, error) {
	r, err := p.call("taking over what clients are served", command{Serve: &serve{groups, dir}, Limit: patience})
	return r.Groups, err
}

// Change makes a change that no informer sees, and returns when it came in, in nanoseconds since 1970.
func (p *Process) Change(c Change) (at int64, err error) {
	r, err := p.call("changing an address", command{Change: &c})
	return r.At, err
}

// Collect has it collect its garbage.
func (p *Process) Collect() error {
	_, err := p.call("collecting garbage", command{Collect: true})
	return err
}

// Stop ends the process.
func (p *Process) Stop() { p.child.Stop() }

func (p *Process) call(what string, c command) (r Reply, err error) {
	if err := p.child.Call(c, &r); err != nil {
		return r, fmt.Errorf("the reference control plane, %s: %w", what, err)
	}
	return r, nil
}
