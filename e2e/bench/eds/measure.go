package eds

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
)

// hub measures the rows that need the hub program.
func (r *run) hub(ctx context.Context) error {
	s, err := r.newStage(ctx)
	if err != nil {
		return err
	}
	return errors.Join(s.measure(ctx), s.leave(ctx))
}

func (s *stage) measure(ctx context.Context) error {
	came, err := s.first(ctx)
	if err != nil {
		return fmt.Errorf("measuring %s: %w", syncRow, err)
	}
	held, err := s.memory(ctx)
	if err != nil {
		return fmt.Errorf("measuring %s: %w", memoryRow, err)
	}
	alone := map[string]series{}
	mixed, bursts, err := s.together(ctx)
	if err == nil && s.run.wants(changeRow) {
		err = s.apart(ctx, alone)
	}
	if err != nil {
		return fmt.Errorf("measuring %s and %s: %w", changeRow, burstRow, err)
	}
	load := s.Load(s.run.load)
	usual, err := s.usual(ctx)
	if err != nil {
		return fmt.Errorf("measuring the reference: %w", err)
	}
	s.run.add(syncRow, syncFigures(came, usual), load)
	s.run.add(memoryRow, memoryFigures(held, usual), load)
	if s.run.wants(changeRow) {
		s.run.add(changeRow, changeFigures(mixed, alone, usual), load)
	}
	if s.run.wants(burstRow) {
		s.run.add(burstRow, burstFigures(bursts, usual), load)
	}
	return nil
}

// half is the usual mixture of clients: as many of one protocol as of the other.
func (s *stage) half() []clients.Group {
	count := s.run.sized(manyClients)
	return append(s.groups(clients.SotW, count-count/2), s.groups(clients.Delta, count/2)...)
}

// arrivals is how clients came into step, in several runs.
type arrivals struct {
	all              result.Runs // seconds until the last of them
	slowest, typical result.Runs // seconds of one client
	server, clients  result.Runs // seconds of a processor
	received         result.Runs // bytes of assignments
}

// first measures how clients come into step. The last ones stay.
func (s *stage) first(ctx context.Context) (arrivals, error) {
	var found arrivals
	for i := range s.run.Runs {
		if i > 0 {
			if _, err := s.clients.Disconnect(); err != nil {
				return found, err
			}
			if err := s.Quiet(ctx); err != nil {
				return found, err
			}
		}
		err := s.profiled(ctx, "sync", i, func() error { return arrive(s.clients, s.half(), s.HubCPU, &found) })
		if err != nil {
			return found, err
		}
		s.Say("%s run %d: %d clients in step after %.2f s, the hub used %.2f s of a processor", syncRow, i+1, s.run.sized(manyClients), found.all[i], found.server[i])
	}
	return found, nil
}

// arrive connects clients, and notes how they came into step and what that cost the server.
func arrive(players *clients.Process, groups []clients.Group, cpu func() (time.Duration, error), to *arrivals) error {
	before, err := cpu()
	if err != nil {
		return err
	}
	idle, err := rig.CPUOf(players.PID())
	if err != nil {
		return err
	}
	reply, err := players.Connect(groups, 2*connectPatience)
	if err != nil {
		return err
	}
	after, err := cpu()
	if err != nil {
		return err
	}
	took := make(result.Runs, len(reply.Sync))
	for k, n := range reply.Sync {
		took[k] = seconds(n)
	}
	to.all = append(to.all, reply.Took.Seconds())
	to.slowest, to.typical = append(to.slowest, slices.Max(took)), append(to.typical, took.Median())
	to.server, to.clients = append(to.server, (after-before).Seconds()), append(to.clients, (reply.CPU-idle).Seconds())
	to.received = append(to.received, float64(reply.Received))
	return nil
}

// settle is how long a process is left alone before its memory is read: the hub gives memory back some seconds after work.
const settle = 12 * time.Second

// possession is what a process has of the memory, in bytes.
type possession struct {
	resting, collected rig.Memory // as it is, and after a garbage collection
	heap, empty        int64      // after a collection; what it had before there was anything
	endpoints          int
}

// memory measures what the hub has with all clients connected.
func (s *stage) memory(ctx context.Context) (possession, error) {
	found := possession{empty: s.empty.RSS, endpoints: s.services * pods * len(s.members)}
	err := s.Quiet(ctx)
	if err == nil {
		err = pause(ctx, settle)
	}
	if err != nil {
		return found, err
	}
	if found.resting, err = s.HubMemory(); err != nil {
		return found, err
	}
	if found.heap, err = s.heap(ctx); err != nil {
		return found, err
	}
	if s.run.Profiles != "" {
		if err := s.Profile(ctx, "heap?gc=1", filepath.Join(s.run.Profiles, "memory.heap")); err != nil {
			return found, err
		}
	}
	if err := pause(ctx, settle); err != nil {
		return found, err
	}
	if found.collected, err = s.HubMemory(); err != nil {
		return found, err
	}
	s.Say("%s: RSS %.0f MB, %.0f MB after a garbage collection, heap %.0f MB, peak %.0f MB, without services %.0f MB", memoryRow,
		megabytes(found.resting.RSS), megabytes(found.collected.RSS), megabytes(found.heap), megabytes(found.resting.Peak), megabytes(found.empty))
	return found, nil
}

// series is what was found about changes one at a time.
type series struct {
	samples      []sample
	hub, clients time.Duration // of processor time, what goes on all the time not counted
}

// together measures changes and bursts with all clients, both protocols at once. It ends without clients.
func (s *stage) together(ctx context.Context) (mixed series, bursts []burstRun, err error) {
	for i := range s.run.Runs {
		if s.run.wants(changeRow) {
			err := s.profiled(ctx, "change", i, func() error { return s.changes(ctx, s.HubCPU, s.idle, &mixed) })
			if err != nil {
				return mixed, bursts, err
			}
		}
		if s.run.wants(burstRow) {
			var b burstRun
			err := s.profiled(ctx, "burst", i, func() (err error) {
				b, err = s.burst(ctx)
				return err
			})
			if err != nil {
				return mixed, bursts, err
			}
			bursts = append(bursts, b)
		}
	}
	if s.run.wants(changeRow) {
		s.Say("%s: %d clients, %d changes: %s", changeRow, s.run.sized(manyClients), len(mixed.samples), mixed)
	}
	_, err = s.clients.Disconnect()
	return mixed, bursts, err
}

// apart measures changes with one client and with clients of one protocol only.
func (s *stage) apart(ctx context.Context, found map[string]series) error {
	many := s.run.sized(manyClients)
	for _, protocol := range []string{clients.SotW, clients.Delta} {
		for _, count := range slices.Compact([]int{1, many}) {
			if _, err := s.clients.Connect(s.groups(protocol, count), connectPatience); err != nil {
				return err
			}
			if err := s.Quiet(ctx); err != nil {
				return err
			}
			var one series
			if err := s.changes(ctx, s.HubCPU, s.idle, &one); err != nil {
				return err
			}
			name := "one_" + protocol
			if count > 1 {
				name = protocol
			}
			found[name] = one
			s.Say("%s: %d %s clients, %d changes: %s", changeRow, count, protocol, len(one.samples), one)
			if _, err := s.clients.Disconnect(); err != nil {
				return err
			}
		}
	}
	return nil
}

// String tells the medians.
func (s series) String() string {
	return fmt.Sprintf("event %.2f ms after the request, first client %.2f ms and last %.2f ms (p99 %.2f) after that; CPU per change: server %.2f ms, clients %.2f ms",
		apart(s.samples, sent, event).Median(), apart(s.samples, event, toFirst).Median(), apart(s.samples, event, toLast).Median(),
		result.Percentile(apart(s.samples, event, toLast), 99), s.perChange(s.hub), s.perChange(s.clients))
}

func (s series) perChange(used time.Duration) float64 {
	return milliseconds(used.Nanoseconds()) / float64(len(s.samples))
}

// changes makes changes one at a time and adds them to a series. A server that does nothing uses idle cores.
func (s *stage) changes(ctx context.Context, cpu func() (time.Duration, error), idle float64, to *series) error {
	count := s.run.sized(manyChanges)
	before, err := cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	var first, last clients.Reply
	for i, c := range s.next(count) {
		if last, err = s.one(ctx, c, to); err != nil {
			return err
		}
		if i == 0 {
			first = last
		}
		if err := pause(ctx, breather); err != nil {
			return err
		}
	}
	after, err := cpu()
	if err != nil {
		return err
	}
	to.hub += max(0, after-before-time.Duration(idle*float64(time.Since(began))))
	to.clients += (last.CPU - first.CPU) * time.Duration(count) / time.Duration(max(1, count-1))
	return nil
}

// next are the changes to come.
func (s *stage) next(count int) []change {
	changes := s.spread(s.made, count)
	s.made += count
	return changes
}

// one makes one change and waits until everybody has it.
func (s *stage) one(ctx context.Context, c change, to *series) (clients.Reply, error) {
	if _, err := s.clients.Expect(c.expected()); err != nil {
		return clients.Reply{}, err
	}
	s.reference.expect([]change{c})
	requested, err := s.apply(ctx, c)
	if err != nil {
		return clients.Reply{}, err
	}
	reply, err := s.clients.Await(changePatience)
	if err != nil {
		return reply, err
	}
	events, err := s.reference.await(ctx, changePatience)
	if err != nil {
		return reply, err
	}
	to.samples = append(to.samples, samples([]int64{requested}, events, reply.Arrivals)...)
	return reply, nil
}

// burstRun is one burst, and the processor time in seconds that it took.
type burstRun struct {
	burst

	hub     float64 // until all clients had everything
	rest    float64 // until the hub had nothing to do any more
	clients float64
	writes  float64 // into members, per change
}

func (s *stage) burst(ctx context.Context) (b burstRun, err error) {
	if err := s.Quiet(ctx); err != nil {
		return b, err
	}
	marks, err := s.Mark()
	if err != nil {
		return b, err
	}
	changes := s.next(s.run.sized(burstChanges))
	began := time.Now()
	cpu, err := s.HubCPU()
	if err != nil {
		return b, err
	}
	if err := s.all(ctx, changes, &b); err != nil {
		return b, err
	}
	then, err := s.HubCPU()
	if err != nil {
		return b, err
	}
	if err := s.Quiet(ctx); err != nil {
		return b, err
	}
	after, err := s.HubCPU()
	if err != nil {
		return b, err
	}
	writes, err := s.writes(marks)
	if err != nil {
		return b, err
	}
	b.hub, b.writes = (then - cpu).Seconds(), float64(writes)/float64(len(changes))
	b.rest = (after - cpu).Seconds() - s.idle*time.Since(began).Seconds()
	s.Say("%s: %d changes seen by the reference after %.2f s, by all clients after %.2f s; the hub used %.2f s of a processor, %.2f s until it was at rest, with %.1f writes per change; clients %.2f s",
		burstRow, len(changes), b.events, b.all, b.hub, b.rest, b.writes, b.clients)
	return b, nil
}

// all makes changes as fast as it can and waits until everybody has them.
func (s *stage) all(ctx context.Context, changes []change, b *burstRun) error {
	expected := make([]clients.Change, len(changes))
	for i, c := range changes {
		expected[i] = c.expected()
	}
	before, err := s.clients.Expect(expected...)
	if err != nil {
		return err
	}
	s.reference.expect(changes)
	requested, err := s.applyAll(ctx, changes)
	if err != nil {
		return err
	}
	reply, err := s.clients.Await(changePatience)
	if err != nil {
		return err
	}
	events, err := s.reference.await(ctx, changePatience)
	if err != nil {
		return err
	}
	b.burst, b.clients = burstOf(samples(requested, events, reply.Arrivals)), (reply.CPU - before.CPU).Seconds()
	return nil
}

// profiled collects a processor profile of the hub while do runs, or in every second run an execution trace, if they are
// asked for.
func (s *stage) profiled(ctx context.Context, name string, number int, do func() error) error {
	if s.run.Profiles == "" {
		return do()
	}
	query, file := "profile?seconds=4", ".cpu"
	if number%2 == 1 {
		query, file = "trace?seconds=2", ".trace"
	}
	done := make(chan error, 1)
	go func() { done <- s.Profile(ctx, query, filepath.Join(s.run.Profiles, name+file)) }()
	return errors.Join(do(), <-done)
}
