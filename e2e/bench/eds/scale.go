package eds

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
	"github.com/hansa-dev/hansa/e2e/bench/eds/controlplane"
	"github.com/hansa-dev/hansa/e2e/bench/eds/simulation"
	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
	"github.com/hansa-dev/hansa/federation/api"
)

// Sizes of the simulation at scale 1.
const (
	simulatedClusters = 100
	simulatedServices = 1000
	simulatedPods     = 3 // of a service in a cluster
	simulatedClients  = 20
)

// usualMemory is what the reference takes at scale 1, with room for its garbage.
const usualMemory = 12e9

// available is how much memory is free, in bytes; without end where nobody says.
func available() float64 {
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return math.Inf(1)
	}
	return freeOf(string(content))
}

// freeOf finds a line like "MemAvailable:  1234 kB".
func freeOf(meminfo string) float64 {
	for line := range strings.Lines(meminfo) {
		if value, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			if n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64); err == nil {
				return n * 1024
			}
		}
	}
	return math.Inf(1)
}

// scale measures a simulated hub with clients in some of its clusters, the same number in each region.
func (r *run) scale(ctx context.Context) error {
	hub, err := simulation.Start(ctx)
	if err != nil {
		return err
	}
	defer hub.Stop()
	players, err := clients.Start(ctx)
	if err != nil {
		return err
	}
	defer players.Stop()
	s := simulated{run: r, hub: hub, clients: players, services: r.sized(simulatedServices)}
	s.players = simulatedClients
	s.count = max(simulatedClients, r.sized(simulatedClusters))
	if err := s.measure(ctx); err != nil {
		return fmt.Errorf("measuring %s: %w", scaleRow, err)
	}
	return nil
}

// simulated is a simulation under way.
type simulated struct {
	run      *run
	hub      *simulation.Process
	clients  *clients.Process
	count    int // clusters
	players  int // clients
	services int
	made     int // changes so far
}

func (s *simulated) measure(ctx context.Context) error {
	built, err := s.hub.Build(s.count, s.services)
	if err != nil {
		return err
	}
	table, err := s.hub.Measure()
	if err != nil {
		return err
	}
	if err := s.profile("scale-sync"); err != nil {
		return err
	}
	before, err := rig.CPUOf(s.hub.PID())
	if err != nil {
		return err
	}
	synced, err := s.clients.Connect(s.groups(built.Addresses), 2*connectPatience)
	if err != nil {
		return err
	}
	after, err := rig.CPUOf(s.hub.PID())
	if err != nil {
		return err
	}
	full, err := s.hub.Measure()
	if err != nil {
		return err
	}
	endpoints := float64(s.count * s.services * simulatedPods)
	s.run.say("%s: %d clusters, %.0f endpoints: table after %.2f s, %d clients in step after %.1f s; RSS %.0f MB, with clients %.0f MB",
		scaleRow, s.count, endpoints, built.Took.Seconds(), s.players, synced.Took.Seconds(), float64(table.Memory.RSS)/1e6, float64(full.Memory.RSS)/1e6)
	if err := s.profile("scale-change"); err != nil {
		return err
	}
	near, far, err := s.changes(ctx)
	if err != nil {
		return err
	}
	usual, err := s.usual(ctx, built.Addresses)
	if err != nil {
		return fmt.Errorf("the reference: %w", err)
	}
	f := result.Of(apart(near.samples, event, toLast), apart(usual.changes.samples, event, toLast), "ms")
	f.Runs = len(near.samples)
	if len(usual.changes.samples) > 0 {
		f.With("control_plane_p99_ms", result.Percentile(apart(usual.changes.samples, event, toLast), 99)).
			With("control_plane_change_cpu_ms", usual.changes.perChange(usual.changes.hub)).
			With("control_plane_sync_s", usual.came.all.Median()).With("control_plane_sync_cpu_s", usual.came.server.Median()).
			With("control_plane_rss_mb", megabytes(usual.serving.RSS))
	}
	f.With("p99_ms", result.Percentile(apart(near.samples, event, toLast), 99)).With("change_cpu_ms", near.perChange(near.hub)).
		With("ready_cpu_ms", far.perChange(far.hub)).
		With("build_s", built.Took.Seconds()).
		With("sync_s", synced.Took.Seconds()).With("sync_cpu_s", (after-before).Seconds()).
		With("table_rss_mb", float64(table.Memory.RSS)/1e6).With("table_heap_mb", float64(table.Heap)/1e6).
		With("rss_mb", float64(full.Memory.RSS)/1e6).With("heap_mb", float64(full.Heap)/1e6).
		With("endpoints", endpoints).With("clients", float64(s.players)).With("table_bytes_per_endpoint", float64(table.Heap)/endpoints)
	quantiles(f, "first", apart(near.samples, event, toFirst))
	quantiles(f, "ready_first", apart(far.samples, event, toFirst))
	quantiles(f, "ready_last", apart(far.samples, event, toLast))
	f.Note = "simulated, without Kubernetes: two clients in each region; from the change of an address to the last client of its region, since the others see gateways; " +
		"ready: a pod becomes unready, which all clients see in weights; sync: from nothing, all views are made then; " +
		"reference: go-control-plane with the same clients, whose caches are full before they come"
	s.run.add(scaleRow, f, s.run.unloaded())
	return nil
}

// profile begins a profile of the hub, if profiles are asked for.
func (s *simulated) profile(name string) error {
	if s.run.Profiles == "" {
		return nil
	}
	return s.hub.Profile(filepath.Join(s.run.Profiles, name+".cpu"))
}

// groups are one client in every so many clusters, half of each protocol, in the zones in turn.
func (s *simulated) groups(addresses []string) []clients.Group {
	groups := make([]clients.Group, 0, s.players)
	for i := range s.players {
		cluster := s.home(i)
		g := clients.Group{Address: addresses[cluster], Protocol: clients.SotW, Agent: grpcAgent, Count: 1, Zone: simulation.Zone(cluster, i/2), Services: s.services}
		if i%2 == 1 {
			g.Protocol, g.Agent = clients.Delta, proxyAgent
		}
		groups = append(groups, g)
	}
	return groups
}

// home is the cluster that a client is in.
func (s *simulated) home(client int) int { return client * s.count / s.players }

// within returns the clients in a region, as the first of them and their number.
func (s *simulated) within(first, count int) (from, number int) {
	for i := range s.players {
		switch cluster := s.home(i); {
		case cluster < first:
			from++
		case cluster < first+count:
			number++
		}
	}
	return from, number
}

// changes makes changes one at a time: first some that the clients of a region see, then some that all see.
func (s *simulated) changes(ctx context.Context) (near, far series, err error) {
	for _, kind := range []*series{&near, &far} {
		err := s.series(ctx, s.hub.PID(), kind, func() (sample, error) {
			c := s.next(kind == &near)
			return s.one(c, func() (int64, error) {
				made, err := s.hub.Change(c)
				return made.At, err
			})
		})
		if err != nil {
			return near, far, err
		}
	}
	return near, far, nil
}

// series makes changes one at a time, and notes what they cost a server.
func (s *simulated) series(ctx context.Context, server int, to *series, change func() (sample, error)) error {
	before, err := rig.CPUOf(server)
	if err != nil {
		return err
	}
	for range s.run.sized(manyChanges) {
		one, err := change()
		if err != nil {
			return err
		}
		to.samples = append(to.samples, one)
		if err := pause(ctx, breather); err != nil {
			return err
		}
	}
	after, err := rig.CPUOf(server)
	to.hub = after - before
	return err
}

// next is the change to come: of an address, or of what is ready.
func (s *simulated) next(address bool) simulation.Change {
	number := s.made
	s.made++
	c := simulation.Change{Cluster: number * 7 % s.count, Service: number % s.services}
	if address {
		c.Address = marker(number)
	}
	return c
}

// one has a change made, and waits until all clients that see it have it.
func (s *simulated) one(c simulation.Change, do func() (at int64, err error)) (sample, error) {
	expected := clients.Change{Host: hostOfSimulated(c.Service), Address: c.Address}
	if c.Address != "" {
		expected.First, expected.Count = s.within(simulation.Region(c.Cluster, s.count))
	}
	if _, err := s.clients.Expect(expected); err != nil {
		return sample{}, err
	}
	at, err := do()
	if err != nil {
		return sample{}, err
	}
	reply, err := s.clients.Await(changePatience)
	if err != nil {
		return sample{}, err
	}
	return sample{sent: at, event: at, arrivals: reply.Arrivals[0]}, nil
}

func hostOfSimulated(service int) string {
	key := simulation.Key(service)
	return key.Name + "." + key.Namespace + ".svc." + api.ClustersetDomain
}

// usual has the reference take over what the clients are served, and do the same with the simulated hub gone: changes that the
// clients of a region see.
func (s *simulated) usual(ctx context.Context, addresses []string) (*usual, error) {
	u := &usual{clients: s.players}
	if need := usualMemory * s.run.Scale * s.run.Scale; available() < need {
		s.run.say("%s: no reference: it takes some %.0f GB of memory, which are not free", scaleRow, need/1e9)
		return u, nil
	}
	if _, err := s.clients.Disconnect(); err != nil {
		return nil, err
	}
	p, err := controlplane.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	groups, err := p.Serve(s.groups(addresses), "", 2*connectPatience)
	if err != nil {
		return nil, err
	}
	s.hub.Stop()
	cpu := func() (time.Duration, error) { return rig.CPUOf(p.PID()) }
	if err := arrive(s.clients, groups, cpu, &u.came); err != nil {
		return nil, err
	}
	if err := p.Collect(); err != nil {
		return nil, err
	}
	if u.serving, err = rig.MemoryOf(p.PID()); err != nil {
		return nil, err
	}
	err = s.series(ctx, p.PID(), &u.changes, func() (sample, error) {
		c := s.next(true)
		return s.one(c, func() (int64, error) {
			return p.Change(controlplane.Change{
				Host: hostOfSimulated(c.Service), From: simulation.Address(c.Cluster, c.Service), To: c.Address, Zones: simulation.Zones(c.Cluster),
			})
		})
	})
	s.run.say("%s: reference: %d clients in step after %.1f s, RSS %.0f MB; %s", scaleRow, s.players, u.came.all[0], megabytes(u.serving.RSS), u.changes)
	return u, err
}
