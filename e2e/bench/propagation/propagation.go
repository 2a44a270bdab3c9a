// Package propagation measures how federated objects get to members: bulk creation and deletion, single updates, drift,
// what it costs the hub, and a restart of the hub. Every figure stands beside that of a plain client that writes the
// same objects to the members only, in the same run and in turns with the hub.
package propagation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
)

// Options say what to run.
type Options struct {
	Runs     int
	Scale    float64   // of the number of objects; 1 is the size that the targets speak of
	Only     []string  // rows; empty means all
	Profiles string    // folder for profiles of the hub; "" for none
	Out      io.Writer // progress
}

// Sizes of the work at scale 1.
const (
	manyConfigMaps  = 500
	mostConfigMaps  = 1000 // with five members, and for the restart
	manyDeployments = 200
	updates         = 100
	drifts          = 30
)

// run is one execution of the part.
type run struct {
	Options

	load float64 // average before anything began
	rows []result.Row
}

// Run measures all rows of the part, or some. The rows it returns beside an error are good.
func Run(ctx context.Context, o Options) ([]result.Row, error) {
	if o.Runs < 1 || o.Scale <= 0 {
		return nil, errors.New("at least one run and a size above 0 are needed")
	}
	if o.Profiles != "" {
		if err := os.MkdirAll(o.Profiles, 0o750); err != nil {
			return nil, fmt.Errorf("making the folder for profiles: %w", err)
		}
	}
	r := &run{Options: o, load: rig.LoadAverage()}
	err := r.stage(ctx, 2, []step{
		{[]string{"prop-configmaps-2", "prop-status", "prop-update", "prop-delete", "prop-hub-writes", "prop-hub-cpu"}, r.configMaps},
		{[]string{"prop-drift"}, r.drift},
		{[]string{"prop-deployments-2"}, r.bulk("prop-deployments-2", deployments(), 2, manyDeployments)},
		{[]string{"hub-restart"}, r.restart},
	})
	return r.rows, errors.Join(err, r.stage(ctx, 5, []step{
		{[]string{"prop-deployments-3"}, r.bulk("prop-deployments-3", deployments(), 3, manyDeployments)},
		{[]string{"prop-configmaps-5"}, r.bulk("prop-configmaps-5", configMaps(), 5, mostConfigMaps)},
	}))
}

// step measures some rows in a stage.
type step struct {
	rows []string
	do   func(context.Context, *stage) error
}

// stage runs the steps that are wanted in a lab with so many members. One that fails does not keep the others from
// running.
func (r *run) stage(ctx context.Context, members int, steps []step) error {
	steps = slices.DeleteFunc(steps, func(s step) bool { return !r.wants(s.rows...) })
	if len(steps) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	s, err := newStage(ctx, members, r.Options)
	if err != nil {
		return err
	}
	for _, step := range steps {
		began := time.Now()
		ctx, cancel := context.WithCancel(ctx) // ends the watches
		if failure := step.do(ctx, s); failure != nil {
			err = errors.Join(err, fmt.Errorf("measuring %s: %w", step.rows[0], failure))
		}
		cancel()
		s.Say("%s and the rows with it took %s", step.rows[0], time.Since(began).Round(time.Second))
		if ctx.Err() != nil && err != nil {
			break
		}
	}
	return withCleanup(ctx, s, err)
}

func withCleanup(ctx context.Context, s *stage, err error) error {
	return errors.Join(err, s.leave(ctx))
}

func (r *run) wants(rows ...string) bool {
	return len(r.Only) == 0 || slices.ContainsFunc(rows, func(id string) bool { return slices.Contains(r.Only, id) })
}

// add keeps a row, if it is wanted.
func (r *run) add(s *stage, id string, f *result.Figures) {
	if !r.wants(id) {
		return
	}
	f.Load, f.Time = s.Load(r.load), time.Now().UTC().Format(time.RFC3339)
	r.rows = append(r.rows, result.Row{ID: id, Figures: f})
}

func (r *run) sized(count int) int { return max(1, int(math.Round(float64(count)*r.Scale))) }

// bulk measures creation alone: so many objects of a kind in some members.
func (r *run) bulk(id string, k kind, members, count int) func(context.Context, *stage) error {
	return func(ctx context.Context, s *stage) error {
		w, err := s.newWork(ctx, k, s.Members[:members], r.sized(count))
		if err != nil {
			return err
		}
		var bare, hub, statuses result.Runs
		for i := range r.Runs {
			reference, err := w.cycle(ctx, w.createBare, w.deleteBare)
			if err != nil {
				return err
			}
			created, err := w.cycle(ctx, w.create, w.delete)
			if err != nil {
				return err
			}
			bare, hub, statuses = append(bare, reference.members), append(hub, created.members), append(statuses, created.federated)
			s.Say("%s run %d: bare %.2f s, hub %.2f s", id, i+1, bare[i], hub[i])
		}
		r.add(s, id, result.Of(hub, bare, "s").With("statuses_s", statuses.Median()))
		return nil
	}
}

// cycle creates all objects of the work, which it measures, and removes them again.
func (w *work) cycle(ctx context.Context, create, remove func(context.Context) (phase, error)) (phase, error) {
	if err := w.Quiet(ctx); err != nil {
		return phase{}, err
	}
	created, err := create(ctx)
	if err != nil {
		return phase{}, err
	}
	if err := w.Quiet(ctx); err != nil { // what follows from an object, such as Pods, is made before it goes
		return phase{}, err
	}
	_, err = remove(ctx)
	return created, err
}

// profiled collects a processor profile of the hub while do runs, or in every second run an execution trace, if they are
// asked for.
func (r *run) profiled(ctx context.Context, s *stage, name string, number int, do func() error) error {
	if r.Profiles == "" {
		return do()
	}
	query, file := "profile", ".cpu"
	if number%2 == 1 {
		query, file = "trace", ".trace"
	}
	query = fmt.Sprintf("%s?seconds=%d", query, max(2, int(5*r.Scale)))
	done := make(chan error, 1)
	go func() { done <- s.Profile(ctx, query, filepath.Join(r.Profiles, name+file)) }()
	return errors.Join(do(), <-done)
}
