package propagation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
	"github.com/hansa-dev/hansa/e2e/bench/writer"
)

// driftPatience is how long an object may stay wrong. It is far above the target, and above every retry of the hub.
const driftPatience = 30 * time.Second

// drift changes and deletes objects in one member, one after the other, and waits each time until the hub has put it
// right.
func (r *run) drift(ctx context.Context, s *stage) error {
	w, err := s.newWork(ctx, configMaps(), s.Members, r.sized(drifts))
	if err != nil {
		return err
	}
	if _, err := w.create(ctx); err != nil {
		return err
	}
	var worst, changed50, changed99, deleted50, deleted99 result.Runs
	for i := range r.Runs {
		if err := s.Quiet(ctx); err != nil {
			return err
		}
		changed, deleted, err := w.disturb(ctx, fmt.Sprintf("settled-%d", i))
		if err != nil {
			return err
		}
		changed50, changed99 = append(changed50, result.Percentile(changed, 50)), append(changed99, result.Percentile(changed, 99))
		deleted50, deleted99 = append(deleted50, result.Percentile(deleted, 50)), append(deleted99, result.Percentile(deleted, 99))
		worst = append(worst, result.Percentile(slices.Concat(changed, deleted), 99)/1000)
	}
	f := result.Of(worst, nil, "s").
		With("repaired_p50_ms", changed50.Median()).With("repaired_p99_ms", changed99.Median()).
		With("recreated_p50_ms", deleted50.Median()).With("recreated_p99_ms", deleted99.Median())
	f.Note = "p99 of both kinds, from sending the disturbing write to the watch event of the repaired object"
	r.add(s, "prop-drift", f)
	_, err = w.delete(ctx)
	return err
}

// disturb returns the milliseconds that each repair and each recreation took.
func (w *work) disturb(ctx context.Context, value string) (repaired, recreated []float64, err error) {
	member := w.members[0]
	for i := range w.count {
		name := writer.Name(i)
		if _, _, _, err := w.update(ctx, i, value); err != nil {
			return nil, nil, err
		}
		restored := holds(name, value)
		for _, d := range []struct {
			verb  string
			right func(rig.Event) bool
			into  *[]float64
		}{
			{writer.Patch, restored, &repaired},
			{writer.Delete, func(e rig.Event) bool { return e.Type == watch.Added && restored(e) }, &recreated},
		} {
			took, err := w.repair(ctx, d.verb, i, func(e rig.Event) bool { return e.Cluster == member && d.right(e) })
			if err != nil {
				return nil, nil, err
			}
			*d.into = append(*d.into, took)
		}
	}
	return repaired, recreated, nil
}

// repair disturbs one object in the first member and returns in milliseconds how long it took until it was right.
func (w *work) repair(ctx context.Context, verb string, number int, right func(rig.Event) bool) (float64, error) {
	tally := w.hubSeen.Expect(1, right)
	reply, err := w.bare.Do(writer.Command{
		Verb: verb, First: number, Count: 1, Targets: w.bareTargets(hubNamespace, data("drifted"), w.members[0]),
	})
	if err != nil {
		tally.Close()
		return 0, err
	}
	last, err := tally.Wait(ctx, driftPatience)
	if err != nil {
		return 0, fmt.Errorf("waiting for %s to be right again after a %s in %s: %w", writer.Name(number), verb, w.members[0], err)
	}
	return milliseconds(reply.Sent, last), nil
}
