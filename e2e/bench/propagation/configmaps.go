package propagation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/writer"
	"github.com/hansa-dev/hansa/e2e/lab"
)

// series are the numbers of each run that the rows of configMaps are made of.
type series struct {
	bare, hub, statuses     result.Runs            // seconds until all are created
	accepted, finalizers    result.Runs            // seconds until all are created in the hub, and have a finalizer
	bareGone, gone, members result.Runs            // seconds until all are gone: reference, everywhere, from the members only
	cpu, hostCPU            result.Runs            // milliseconds of the hub per member object, of the host per object
	bareP50, bareP99        result.Runs            // milliseconds of one update
	p50, p99, answered      result.Runs            // likewise
	writes                  map[string]result.Runs // writes of the hub per object, by verb or by verb and resource
}

// configMaps measures everything that is measured with 500 ConfigMaps in two members.
func (r *run) configMaps(ctx context.Context, s *stage) error {
	w, err := s.newWork(ctx, configMaps(), s.Members, r.sized(manyConfigMaps))
	if err != nil {
		return err
	}
	all := &series{writes: map[string]result.Runs{}}
	for i := range r.Runs {
		for _, part := range []func(context.Context, *work, *series) error{r.createAll, r.updateSome, r.deleteAll} {
			if err := part(ctx, w, all); err != nil {
				return err
			}
		}
		s.Say("configmaps run %d: create: bare %.2f s, hub %.2f s, statuses %.2f s; delete: bare %.2f s, hub %.2f s",
			i+1, all.bare[i], all.hub[i], all.statuses[i], all.bareGone[i], all.gone[i])
	}
	r.rowsOf(s, all)
	return nil
}

func (r *run) rowsOf(s *stage, all *series) {
	r.add(s, "prop-configmaps-2", result.Of(all.hub, all.bare, "s").
		With("accepted_s", all.accepted.Median()).With("finalizers_s", all.finalizers.Median()))
	r.add(s, "prop-status", result.Of(all.statuses, all.hub, "s"))
	if len(all.p50) > 0 && r.wants("prop-update") {
		f := result.Of(all.p50, all.bareP50, "ms").With("p99_ms", all.p99.Median()).
			With("bare_p99_ms", all.bareP99.Median()).With("from_answer_p50_ms", all.answered.Median())
		f.Note = "from sending the update to the watch event of the last member; from_answer counts from the API's answer"
		r.add(s, "prop-update", f)
	}
	r.add(s, "prop-delete", result.Of(all.gone, all.bareGone, "s").With("members_s", all.members.Median()))
	writes := result.Of(all.writes[writer.Create], nil, "per create")
	for _, name := range slices.Sorted(maps.Keys(all.writes)) {
		writes.With(strings.Replace(name, writer.Patch, "update", 1), all.writes[name].Median())
	}
	r.add(s, "prop-hub-writes", writes)
	r.add(s, "prop-hub-cpu", result.Of(all.cpu, nil, "ms").With("host_ms_per_federated", all.hostCPU.Median()))
}

// counted does something and counts what the hub writes to its own cluster meanwhile, per object, until all is idle.
func (w *work) counted(ctx context.Context, all *series, verb string, objects int, do func() error) error {
	if err := w.Quiet(ctx); err != nil {
		return err
	}
	before, err := w.Mark()
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if err := w.Quiet(ctx); err != nil {
		return err
	}
	writes, err := w.Writes(before, lab.Hub, nil)
	if err != nil {
		return err
	}
	total := 0
	for resource, n := range writes {
		total += n
		name := verb + "_" + resource
		all.writes[name] = append(all.writes[name], float64(n)/float64(objects))
	}
	all.writes[verb] = append(all.writes[verb], float64(total)/float64(objects))
	return nil
}

// costed does something and notes what it costs, until all is idle: the hub per member object, and the host cluster's
// own processes per federated object.
func (w *work) costed(ctx context.Context, all *series, do func() error) error {
	hub, err := w.HubCPU()
	if err != nil {
		return err
	}
	host, err := w.HostCPU(ctx)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if err := w.Quiet(ctx); err != nil {
		return err
	}
	hubAfter, err := w.HubCPU()
	if err != nil {
		return err
	}
	hostAfter, err := w.HostCPU(ctx)
	if err != nil {
		return err
	}
	all.cpu = append(all.cpu, (hubAfter-hub).Seconds()*1000/float64(w.count*len(w.members)))
	all.hostCPU = append(all.hostCPU, (hostAfter-host).Seconds()*1000/float64(w.count))
	return nil
}

// createAll creates everything, as the reference and through the hub.
func (r *run) createAll(ctx context.Context, w *work, all *series) error {
	if err := w.Quiet(ctx); err != nil {
		return err
	}
	bare, err := w.createBare(ctx)
	if err != nil {
		return err
	}
	var hub phase
	err = w.counted(ctx, all, writer.Create, w.count, func() (err error) {
		return w.costed(ctx, all, func() error {
			return r.profiled(ctx, w.stage, "create", len(all.hub), func() error {
				hub, err = w.create(ctx)
				return err
			})
		})
	})
	if err != nil {
		return err
	}
	all.bare = append(all.bare, bare.members)
	all.hub = append(all.hub, hub.members)
	all.statuses = append(all.statuses, hub.federated)
	all.accepted = append(all.accepted, hub.accepted)
	all.finalizers = append(all.finalizers, hub.finalizers)
	return nil
}

// updateSome updates one object after the other, in turns with the reference, each when the last one is finished.
func (r *run) updateSome(ctx context.Context, w *work, all *series) error {
	if !r.wants("prop-update", "prop-hub-writes") {
		return nil
	}
	var bare, hub, answered []float64
	err := w.counted(ctx, all, writer.Patch, updates, func() error {
		for i := range updates {
			value := fmt.Sprintf("update-%d-%d", len(all.p50), i)
			sent, _, last, err := w.updateBare(ctx, i%w.count, value)
			if err != nil {
				return err
			}
			bare = append(bare, milliseconds(sent, last))
			sent, answer, last, err := w.update(ctx, i%w.count, value)
			if err != nil {
				return err
			}
			hub = append(hub, milliseconds(sent, last))
			answered = append(answered, milliseconds(answer, last))
		}
		return nil
	})
	all.bareP50, all.bareP99 = append(all.bareP50, result.Percentile(bare, 50)), append(all.bareP99, result.Percentile(bare, 99))
	all.p50, all.p99 = append(all.p50, result.Percentile(hub, 50)), append(all.p99, result.Percentile(hub, 99))
	all.answered = append(all.answered, result.Percentile(answered, 50))
	return err
}

// deleteAll deletes everything, as the reference and through the hub.
func (r *run) deleteAll(ctx context.Context, w *work, all *series) error {
	if err := w.Quiet(ctx); err != nil {
		return err
	}
	bare, err := w.deleteBare(ctx)
	if err != nil {
		return err
	}
	return w.counted(ctx, all, writer.Delete, w.count, func() error {
		var hub phase
		err := r.profiled(ctx, w.stage, "delete", len(all.gone), func() (err error) {
			hub, err = w.delete(ctx)
			return err
		})
		all.bareGone = append(all.bareGone, bare.members)
		all.gone = append(all.gone, max(hub.members, hub.federated))
		all.members = append(all.members, hub.members)
		return err
	})
}
