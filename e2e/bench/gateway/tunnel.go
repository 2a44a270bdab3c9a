package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
)

// BulkTunnel is the row of octets that go through both gateways, encrypted between them.
const BulkTunnel = "gw-bulk-tunnel"

// tunnelBytes go through in one run, in all.
const tunnelBytes = 2 << 30

// way is two gateways behind one another, both on the cores of servers.
type way struct {
	name string
	addr netip.AddrPort // where clients connect
	pids []int
	stop func()
}

// tunnels measures the row.
func (b *bench) tunnels(ctx context.Context) (*result.Figures, error) {
	a, err := newAuthority()
	if err != nil {
		return nil, err
	}
	used := map[string]*result.Runs{hansa: {}, haproxy: {}}
	for run := range b.Runs {
		for _, start := range []func(context.Context, *authority) (*way, error){b.hansaTunnel, b.haproxyBridge} {
			w, err := start(ctx, a)
			if err != nil {
				return nil, err
			}
			spent, err := b.through(w)
			w.stop()
			if err != nil {
				return nil, err
			}
			*used[w.name] = append(*used[w.name], spent)
			_, _ = fmt.Fprintf(b.Out, "gateway run %d: %-16s %.3f CPU-s/GB through two gateways\n", run+1, w.name, spent)
		}
	}
	f := result.Of(*used[hansa], *used[haproxy], "CPU-s/GB")
	f.Note = fmt.Sprintf("both gateways together, %d connections, endpoint to client, mutual TLS 1.3 between the gateways; the reference is two HAProxys that bridge to TLS and back", bulkConnections)
	return f, nil
}

// through has octets go through, and returns the processor seconds of both gateways per 10⁹ octets.
func (b *bench) through(w *way) (float64, error) {
	if err := b.load.Call(job{Kind: plain, To: w.addr, Count: warmConnections, Parallel: bulkConnections}, nil); err != nil {
		return 0, fmt.Errorf("through %s: %w", w.name, err)
	}
	before, err := w.spent()
	if err != nil {
		return 0, err
	}
	var o outcome
	j := job{Kind: bulk, To: w.addr, Count: bulkConnections, Parallel: bulkConnections, Octets: tunnelBytes / bulkConnections}
	if err := b.load.Call(j, &o); err != nil {
		return 0, fmt.Errorf("through %s: %w", w.name, err)
	}
	after, err := w.spent()
	if err != nil {
		return 0, err
	}
	return (after - before).Seconds() / (float64(o.Octets) / 1e9), nil
}

func (w *way) spent() (all time.Duration, err error) {
	for _, pid := range w.pids {
		spent, err := rig.CPUOf(pid)
		if err != nil {
			return 0, err
		}
		all += spent
	}
	return all, nil
}

// hansaTunnel starts a gateway on either side.
func (b *bench) hansaTunnel(ctx context.Context, a *authority) (*way, error) {
	w := &way{name: hansa}
	addr, err := free(ctx)
	if err != nil {
		return nil, err
	}
	far := member{ID: "far", Region: "there", Endpoints: b.endpoints.Plain}
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	first, state, err := b.site(ctx, a, siteSpec{Cluster: far.ID, Listen: loopback, Members: []member{far}, Guests: []string{near}})
	if err != nil {
		return nil, err
	}
	far.Tunnel = state.Listen
	second, _, err := b.site(ctx, a, siteSpec{Cluster: near, Outbound: addr, Members: []member{far}})
	if err != nil {
		first.Stop()
		return nil, err
	}
	w.addr, w.pids = addr, []int{first.PID(), second.PID()}
	w.stop = func() {
		second.Stop()
		first.Stop()
	}
	return w, nil
}

// site starts a gateway on the cores of servers.
func (b *bench) site(ctx context.Context, a *authority, spec siteSpec) (*child.Process, siteState, error) {
	var process *child.Process
	err := pinned(b.serverCores, func() (err error) {
		process, err = child.Start(ctx, siteCommand)
		return err
	})
	if err != nil {
		return nil, siteState{}, err
	}
	state, err := a.equip(process, spec)
	return process, state, err
}

// equip tells a gateway what it is.
func (a *authority) equip(process *child.Process, spec siteSpec) (siteState, error) {
	p, err := a.papers(spec.Cluster)
	if err != nil {
		process.Stop()
		return siteState{}, err
	}
	spec.Certificate, spec.Key, spec.Roots = p.certificate, p.key, p.roots
	var state siteState
	if err := process.Call(spec, &state); err != nil {
		process.Stop()
		return siteState{}, err
	}
	return state, nil
}

// haproxyBridge starts HAProxy on either side.
func (b *bench) haproxyBridge(ctx context.Context, a *authority) (*way, error) {
	w := &way{name: haproxy}
	var started []*program
	stop := func() {
		for _, p := range started {
			p.stop()
		}
	}
	to := b.endpoints.Plain
	for _, side := range []string{"far", near} {
		addr, err := free(ctx)
		if err != nil {
			stop()
			return nil, err
		}
		p, err := a.papers(side)
		if err != nil {
			stop()
			return nil, err
		}
		one := &bridge{name: "bridge-" + side, papers: p, listen: addr, secure: side == "far", servers: to, threads: 2}
		started, err = b.bridge(ctx, one, started)
		if err != nil {
			stop()
			return nil, err
		}
		w.addr, to = addr, []netip.AddrPort{addr}
	}
	for _, p := range started {
		w.pids = append(w.pids, p.cmd.Process.Pid)
	}
	w.stop = stop
	return w, nil
}

// bridge starts HAProxy on the cores of servers, beside others.
func (b *bench) bridge(ctx context.Context, one *bridge, others []*program) ([]*program, error) {
	config, err := one.write(b.dir)
	if err != nil {
		return others, err
	}
	cmd := exec.CommandContext(ctx, b.haproxy, "-db", "-f", config) //nolint:gosec // G204: a program of the benchmark
	p, err := launch(one.name, cmd, func(start func() error) error { return pinned(b.serverCores, start) })
	if err != nil {
		return others, err
	}
	if err := p.serves(ctx, one.listen); err != nil {
		return others, err
	}
	return append(others, p), nil
}
