package propagation

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
	"github.com/hansa-dev/hansa/e2e/bench/writer"
	"github.com/hansa-dev/hansa/e2e/lab"
)

// updateBare changes one object in all members at once and returns when the requests were sent and answered, and when
// the last member's watch showed it.
func (w *work) updateBare(ctx context.Context, number int, value string) (sent, answered int64, last time.Time, err error) {
	return w.one(ctx, w.bare, w.bareSeen, writer.Command{
		First: number, Parallel: len(w.members), Targets: w.bareTargets(bareNamespace, data(value), w.members...),
	}, value)
}

// update is like updateBare by way of one federated object. It returns when the status tells of it too.
func (w *work) update(ctx context.Context, number int, value string) (sent, answered int64, last time.Time, err error) {
	finished := propagated(len(w.members))
	name := writer.Name(number)
	status := w.fedSeen.Expect(1, func(e rig.Event) bool {
		return e.Object.GetName() == name && finished(e) && templateValue(e) == value
	})
	sent, answered, last, err = w.one(ctx, w.front, w.hubSeen, writer.Command{
		First: number, Parallel: 1, Targets: w.frontTargets(template(value)),
	}, value)
	if err != nil {
		status.Close()
		return 0, 0, last, err
	}
	if _, err := status.Wait(ctx, patience); err != nil {
		return 0, 0, last, fmt.Errorf("waiting for the status of %s: %w", name, err)
	}
	return sent, answered, last, nil
}

func (w *work) one(ctx context.Context, by *writer.Process, seen *rig.Feed, c writer.Command, value string) (sent, answered int64, last time.Time, err error) {
	tally := seen.Expect(len(w.members), holds(writer.Name(c.First), value))
	c.Verb, c.Count = writer.Patch, 1
	reply, err := by.Do(c)
	if err != nil {
		tally.Close()
		return 0, 0, last, err
	}
	last, err = tally.Wait(ctx, patience)
	if err != nil {
		return 0, 0, last, fmt.Errorf("waiting for an update of %s in the members: %w", writer.Name(c.First), err)
	}
	return reply.Sent, reply.Answered, last, nil
}

// restart measures how long a new hub process takes to get an update to the members that was made while there was no
// hub, and counts what it writes besides that.
func (r *run) restart(ctx context.Context, s *stage) error {
	w, err := s.newWork(ctx, configMaps(), s.Members, r.sized(mostConfigMaps))
	if err != nil {
		return err
	}
	if _, err := w.create(ctx); err != nil {
		return err
	}
	var took, cpu, writes, other result.Runs
	for i := range r.Runs {
		if err := s.Quiet(ctx); err != nil {
			return err
		}
		before, err := s.Mark()
		if err != nil {
			return err
		}
		seconds, err := w.restartOnce(ctx, fmt.Sprintf("restart-%d", i))
		if err != nil {
			return err
		}
		if err := s.Quiet(ctx); err != nil {
			return err
		}
		used, err := s.HubCPU()
		if err != nil {
			return err
		}
		about, rest, err := w.needless(before)
		if err != nil {
			return err
		}
		took, cpu = append(took, seconds), append(cpu, used.Seconds())
		writes, other = append(writes, about), append(other, rest)
		s.Say("hub-restart run %d: %.2f s, %.0f writes about objects, %.0f others", i+1, seconds, about, rest)
	}
	f := result.Of(took, nil, "s").With("hub_cpu_s", cpu.Median()).With("writes", result.Percentile(writes, 100)).
		With("other_writes", result.Percentile(other, 100)).With("objects", float64(w.count)).With("members", float64(len(w.members)))
	f.Note = "writes: to members, federated objects and PropagatedVersions, the marker's left out, the most of any run"
	r.add(s, "hub-restart", f)
	return nil
}

// marker is the number of the object that is updated while there is no hub.
const marker = 0

func (w *work) restartOnce(ctx context.Context, value string) (float64, error) {
	if err := w.StopHub(ctx); err != nil {
		return 0, err
	}
	tally := w.hubSeen.Expect(len(w.members), holds(writer.Name(marker), value))
	_, err := w.front.Do(writer.Command{Verb: writer.Patch, First: marker, Count: 1, Targets: w.frontTargets(template(value))})
	began := time.Now()
	if err == nil {
		err = w.StartHub(ctx)
	}
	if err != nil {
		tally.Close()
		return 0, err
	}
	last, err := tally.Wait(ctx, patience)
	if err != nil {
		return 0, fmt.Errorf("waiting for the update made while there was no hub: %w", err)
	}
	return last.Sub(began).Seconds(), nil
}

// needless counts the hub's writes that are not about the marker: those to members, federated objects and their
// versions, and any others in the host cluster.
func (w *work) needless(since rig.Marks) (about, other float64, err error) {
	skip := func(name string) bool { return strings.HasSuffix(name, writer.Name(marker)) }
	for _, cluster := range append([]string{lab.Hub}, w.members...) {
		writes, err := w.Writes(since, cluster, skip)
		if err != nil {
			return 0, 0, err
		}
		for resource, n := range writes {
			name, _, _ := strings.Cut(resource, "/")
			if cluster == lab.Hub && name != w.kind.federated.Resource && !strings.HasSuffix(name, "propagatedversions") {
				other += float64(n)
				continue
			}
			about += float64(n)
		}
	}
	return about, other, nil
}

func templateValue(e rig.Event) string {
	value, _, _ := unstructured.NestedString(e.Object.Object, "spec", "template", "data", "value")
	return value
}
