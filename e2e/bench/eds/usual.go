package eds

import (
	"context"
	"path/filepath"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
	"github.com/hansa-dev/hansa/e2e/bench/eds/controlplane"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
)

// usual is what the reference did that is made of the usual parts.
type usual struct {
	clients   int
	objects   int        // that its informers hold
	informers rig.Memory // of the process with nothing but informers, at rest
	collected rig.Memory // the same after a garbage collection
	serving   rig.Memory // with all clients, at rest
	came      arrivals
	changes   series
	bursts    []burstRun
}

// usual measures the reference with the services as they are, and the same clients. The hub is stopped for it: both are to have
// the machine for themselves.
func (s *stage) usual(ctx context.Context) (*usual, error) {
	p, err := controlplane.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	u := &usual{clients: s.run.sized(manyClients)}
	if u.objects, err = p.Watch(controlplane.Members{Kubeconfig: s.Kubeconfig(), Contexts: s.members}, loadPatience); err != nil {
		return nil, err
	}
	if u.informers, err = rested(ctx, p); err != nil {
		return nil, err
	}
	if err := p.Collect(); err != nil {
		return nil, err
	}
	if u.collected, err = rested(ctx, p); err != nil {
		return nil, err
	}
	s.Say("reference: %d objects in typed informers: RSS %.0f MB, %.0f MB after a garbage collection", u.objects, megabytes(u.informers.RSS), megabytes(u.collected.RSS))
	groups, err := p.Serve(s.half(), filepath.Join(s.Dir(), "control-plane"), connectPatience)
	if err != nil {
		return nil, err
	}
	if err := s.StopHub(ctx); err != nil {
		return nil, err
	}
	return u, s.serveUsual(ctx, p, groups, u)
}

// rested is what the process has of the memory once it has rested.
func rested(ctx context.Context, p *controlplane.Process) (rig.Memory, error) {
	if err := pause(ctx, settle); err != nil {
		return rig.Memory{}, err
	}
	return rig.MemoryOf(p.PID())
}

// serveUsual measures the reference with clients.
func (s *stage) serveUsual(ctx context.Context, p *controlplane.Process, groups []clients.Group, u *usual) (err error) {
	const breath = time.Second
	cpu := func() (time.Duration, error) { return rig.CPUOf(p.PID()) }
	for i := range s.run.Runs {
		if i > 0 {
			if _, err := s.clients.Disconnect(); err != nil {
				return err
			}
		}
		if err := pause(ctx, breath); err != nil {
			return err
		}
		if err := arrive(s.clients, groups, cpu, &u.came); err != nil {
			return err
		}
		s.Say("reference run %d: %d clients in step after %.2f s, the control plane used %.2f s of a processor", i+1, u.clients, u.came.all[i], u.came.server[i])
	}
	if u.serving, err = rested(ctx, p); err != nil {
		return err
	}
	if err := s.changeUsual(ctx, cpu, u); err != nil {
		return err
	}
	_, err = s.clients.Disconnect()
	return err
}

// changeUsual measures the reference with changes, one at a time and many at once.
func (s *stage) changeUsual(ctx context.Context, cpu func() (time.Duration, error), u *usual) error {
	for range s.run.Runs {
		if s.run.wants(changeRow) {
			if err := s.changes(ctx, cpu, 0, &u.changes); err != nil {
				return err
			}
		}
		if s.run.wants(burstRow) {
			if err := s.usualBurst(ctx, cpu, u); err != nil {
				return err
			}
		}
	}
	if len(u.changes.samples) > 0 {
		s.Say("reference: %d clients, %d changes: %s", u.clients, len(u.changes.samples), u.changes)
	}
	return nil
}

func (s *stage) usualBurst(ctx context.Context, cpu func() (time.Duration, error), u *usual) error {
	var b burstRun
	changes := s.next(s.run.sized(burstChanges))
	before, err := cpu()
	if err != nil {
		return err
	}
	if err := s.all(ctx, changes, &b); err != nil {
		return err
	}
	after, err := cpu()
	if err != nil {
		return err
	}
	b.hub = (after - before).Seconds()
	s.Say("reference: %d changes at once seen by an informer after %.2f s, by all clients after %.2f s; the control plane used %.2f s of a processor",
		len(changes), b.events, b.all, b.hub)
	u.bursts = append(u.bursts, b)
	return pause(ctx, time.Second)
}
