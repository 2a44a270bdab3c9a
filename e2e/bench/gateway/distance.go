package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/e2e/bench/result"
)

// The rows that need distance.
const (
	FirstByte = "gw-first-byte"
	Failover  = "gw-failover"
)

// The work of one run.
const (
	firstBytes = 100
	callRate   = 50 // per second
	calls      = 400
	cutAfter   = 2 * time.Second // while calls go on
	hurry      = 100 * time.Millisecond
)

// Ports on the clusters' nodes, which nobody else uses.
const (
	clientsPort = 20000
	bridgePort  = 8443
)

// distant is a world with endpoints in two clusters and clients in a third.
type distant struct {
	*world
	bench     *bench
	authority *authority
	clients   *child.Process
	endpoints map[int][]netip.AddrPort // by cluster
	stops     []func()
}

// distance measures the rows.
func (b *bench) distance(ctx context.Context, rows []string) (map[string]*result.Figures, error) {
	if rows = chosen(rows, FirstByte, Failover); len(rows) == 0 {
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "bench-world-")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	w, err := newWorld(ctx, dir)
	if err != nil {
		return nil, err
	}
	d := &distant{world: w, bench: b, endpoints: map[int][]netip.AddrPort{}}
	d.stops = append(d.stops, w.stop)
	defer d.end()
	if err := d.populate(ctx); err != nil {
		return nil, err
	}
	found := map[string]*result.Figures{}
	for _, id := range rows {
		switch id {
		case FirstByte:
			found[id], err = d.firstByte(ctx)
		case Failover:
			found[id], err = d.failover(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
	}
	return found, nil
}

func (d *distant) end() {
	for _, stop := range slices.Backward(d.stops) {
		stop()
	}
}

// populate starts clients and endpoints.
func (d *distant) populate(ctx context.Context) (err error) {
	if d.authority, err = newAuthority(); err != nil {
		return err
	}
	for i := range worldSize {
		process, err := child.StartBy(ctx, d.inside(i), loadCommand)
		if err != nil {
			return err
		}
		d.stops = append(d.stops, process.Stop)
		if i == nearIndex {
			d.clients = process
			continue
		}
		var o outcome
		if err := process.Call(job{Kind: begin}, &o); err != nil {
			return err
		}
		d.endpoints[i] = o.Endpoints.Plain
	}
	return nil
}

// path is a way from the clients to the endpoints of both clusters, the first one first.
type path struct {
	name string
	addr netip.AddrPort
	stop func()
}

// hansaPath starts the gateways of the three clusters.
func (d *distant) hansaPath(ctx context.Context, name string, firstFlight, noRace bool) (_ *path, err error) {
	var started []*child.Process
	stop := func() {
		for _, process := range started {
			process.Stop()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	site := func(cluster int, spec siteSpec) (siteState, error) {
		process, err := child.StartBy(ctx, d.inside(cluster), siteCommand)
		if err != nil {
			return siteState{}, err
		}
		started = append(started, process)
		return d.authority.equip(process, spec)
	}
	spec := siteSpec{Cluster: near, Outbound: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), clientsPort), FirstFlight: firstFlight, NoRace: noRace}
	for i, region := range map[int]string{firstIndex: "here", otherIndex: "there"} {
		m := member{ID: clusterName(i), Region: region, Endpoints: d.endpoints[i]}
		state, err := site(i, siteSpec{Cluster: m.ID, Listen: netip.AddrPortFrom(node(i), 0), Members: []member{m}, Guests: []string{near}})
		if err != nil {
			return nil, err
		}
		m.Tunnel = state.Listen
		spec.Members = append(spec.Members, m)
	}
	if _, err := site(nearIndex, spec); err != nil {
		return nil, err
	}
	return &path{name, spec.Outbound, stop}, nil
}

// haproxyPath starts HAProxy in the three clusters, tuned to notice what fails as fast as it can.
func (d *distant) haproxyPath(ctx context.Context) (_ *path, err error) {
	var started []*program
	stop := func() {
		for _, p := range started {
			p.stop()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	start := func(cluster int, one *bridge) error {
		config, err := one.write(d.dir)
		if err != nil {
			return err
		}
		p, err := launch(one.name, d.command(ctx, cluster, d.bench.haproxy, "-db", "-f", config), func(start func() error) error { return start() })
		if err != nil {
			return err
		}
		started = append(started, p)
		return nil
	}
	entrance := &bridge{name: "entrance", failover: true, threads: 2, listen: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), clientsPort)}
	for _, i := range []int{firstIndex, otherIndex} {
		far := &bridge{name: "exit-" + clusterName(i), listen: netip.AddrPortFrom(node(i), bridgePort), secure: true, servers: d.endpoints[i], threads: 2}
		if far.papers, err = d.authority.papers(clusterName(i)); err != nil {
			return nil, err
		}
		if err := start(i, far); err != nil {
			return nil, err
		}
		entrance.servers = append(entrance.servers, far.listen)
	}
	if entrance.papers, err = d.authority.papers(near); err != nil {
		return nil, err
	}
	if err := start(nearIndex, entrance); err != nil {
		return nil, err
	}
	p := &path{haproxy, entrance.listen, stop}
	return p, d.awaitCalls(ctx, p, started)
}

// awaitCalls waits until calls are answered.
func (d *distant) awaitCalls(ctx context.Context, p *path, started []*program) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := d.clients.Call(job{Kind: first, To: p.addr, Count: 1, Parallel: 1}, nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			var said strings.Builder
			for _, program := range started {
				_, _ = program.said.WriteTo(&said)
			}
			return fmt.Errorf("%s does not answer: %w; it said: %s", p.name, err, said.String())
		case <-tick.C:
		}
	}
}

// firstByte measures how long the first octet takes.
func (d *distant) firstByte(ctx context.Context) (*result.Figures, error) {
	times := map[string]*result.Runs{"": {}, "flight": {}, haproxy: {}}
	for run := range d.bench.Runs {
		for name, start := range map[string]func() (*path, error){
			"":       func() (*path, error) { return d.hansaPath(ctx, hansa, false, false) },
			"flight": func() (*path, error) { return d.hansaPath(ctx, hansa+" first-flight", true, false) },
			haproxy:  func() (*path, error) { return d.haproxyPath(ctx) },
		} {
			p, err := start()
			if err != nil {
				return nil, err
			}
			var o outcome
			err = errors.Join(d.clients.Call(job{Kind: first, To: p.addr, Count: 5, Parallel: 1}, nil),
				d.clients.Call(job{Kind: first, To: p.addr, Count: firstBytes, Parallel: 1}, &o))
			p.stop()
			if err != nil {
				return nil, err
			}
			median := milliseconds(o.Took).Median()
			*times[name] = append(*times[name], median)
			_, _ = fmt.Fprintf(d.bench.Out, "gateway run %d: %-18s first octet after %.1f ms\n", run+1, p.name, median)
		}
	}
	f := result.Of(*times[""], *times[haproxy], "ms").With("first_flight_ms", times["flight"].Median())
	f.Note = fmt.Sprintf("p50 of %d connections one after the other, from connecting to the first octet of the answer, 20 ms there and back between the clusters; the reference is HAProxy with mutual TLS 1.3 per connection", firstBytes)
	return f, nil
}

func milliseconds(durations []time.Duration) result.Runs {
	var all result.Runs
	for _, d := range durations {
		all = append(all, float64(d.Microseconds())/1000)
	}
	return all
}

// fate is what became of the calls of one run.
type fate struct {
	failed  int           // of those that were begun after the fault
	cutOff  int           // failed of those that were under way: what was sent may have been carried out
	worst   time.Duration // of those that were answered
	slow    time.Duration // from the first to the last call that failed or took longer than hurry
	slowest []string      // which these are, for people
}

// failover cuts the cluster that is used off, while calls go on, and counts what clients see.
func (d *distant) failover(ctx context.Context) (*result.Figures, error) {
	fates := map[string][]fate{}
	const control = "hansa, no race"
	for run := range d.bench.Runs {
		for _, start := range []func() (*path, error){
			func() (*path, error) { return d.hansaPath(ctx, hansa, false, false) },
			func() (*path, error) { return d.hansaPath(ctx, control, false, true) },
			func() (*path, error) { return d.haproxyPath(ctx) },
		} {
			p, err := start()
			if err != nil {
				return nil, err
			}
			f, err := d.fault(ctx, p)
			p.stop()
			if err != nil {
				return nil, err
			}
			fates[p.name] = append(fates[p.name], f)
			_, _ = fmt.Fprintf(d.bench.Out, "gateway run %d: %-18s %d of %d calls failed and %d were cut off, worst %s, slow for %s\n", run+1, p.name, f.failed, calls, f.cutOff, f.worst.Round(time.Millisecond), f.slow.Round(time.Millisecond))
			if p.name == hansa {
				_, _ = fmt.Fprintf(d.bench.Out, "  %s\n", strings.Join(f.slowest, "; "))
			}
		}
	}
	of := func(name string, what func(fate) float64) (all result.Runs) {
		for _, f := range fates[name] {
			all = append(all, what(f))
		}
		return all
	}
	failed := func(f fate) float64 { return float64(f.failed) }
	cutOff := func(f fate) float64 { return float64(f.cutOff) }
	worst := func(f fate) float64 { return float64(f.worst.Milliseconds()) }
	slow := func(f fate) float64 { return float64(f.slow.Milliseconds()) }
	f := result.Of(of(hansa, failed), of(haproxy, failed), "calls").
		With("worst_ms", of(hansa, worst).Median()).With("slow_ms", of(hansa, slow).Median()).With("cut_off", of(hansa, cutOff).Median()).
		With("no_race_failed", of(control, failed).Median()).With("no_race_worst_ms", of(control, worst).Median()).
		With("haproxy_worst_ms", of(haproxy, worst).Median()).With("haproxy_slow_ms", of(haproxy, slow).Median()).
		With("haproxy_cut_off", of(haproxy, cutOff).Median())
	f.Note = fmt.Sprintf("failed of %d calls, %d new connections per second, 20 ms there and back; the link to the cluster in use is cut after %s and stays so; failed: those begun after the cut that were not answered within %s; cut_off: those that were under way then, which nobody may repeat; slow: from the first to the last call over %s; the reference is HAProxy with checks every 250 ms, down after two; no_race: with racing off",
		calls, callRate, cutAfter, callPatience, hurry)
	return f, nil
}

// fault cuts the link while calls go on.
func (d *distant) fault(ctx context.Context, p *path) (fate, error) {
	if err := d.clients.Call(job{Kind: first, To: p.addr, Count: 20, Parallel: 1}, nil); err != nil {
		return fate{}, err
	}
	cut := make(chan error, 1)
	var at time.Time
	timer := time.AfterFunc(cutAfter, func() {
		err := d.cut(ctx, firstIndex)
		at = time.Now()
		cut <- err
	})
	defer timer.Stop()
	var o outcome
	err := d.clients.Call(job{Kind: paced, To: p.addr, Count: calls, Parallel: callRate}, &o)
	if err != nil {
		return fate{}, err
	}
	if err := errors.Join(<-cut, d.heal(ctx, firstIndex)); err != nil {
		return fate{}, err
	}
	return judge(o.Took, at.Sub(time.Unix(0, o.Began))), nil
}

// judge reads what became of paced calls, in their order: how long each took; a negative time stands for one that failed.
// The fault was at cut from the beginning of the first.
func judge(took []time.Duration, cut time.Duration) fate {
	f := fate{}
	begin, end := -1, -1
	for i, t := range took {
		begun := time.Duration(i) * time.Second / callRate
		switch {
		case t < 0 && begun < cut:
			f.cutOff++
		case t < 0:
			f.failed++
		}
		f.worst = max(f.worst, t)
		if t < 0 || t > hurry {
			f.slowest = append(f.slowest, fmt.Sprintf("%s after the cut: %s", (begun-cut).Round(time.Millisecond), t.Round(time.Millisecond)))
			if begin < 0 {
				begin = i
			}
			end = i
		}
	}
	if begin >= 0 {
		f.slow = time.Duration(end-begin+1) * time.Second / callRate
	}
	return f
}
