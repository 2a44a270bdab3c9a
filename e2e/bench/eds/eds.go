// Package eds measures how the endpoints of global services get to clients of the hub's discovery service: how long a
// change of one EndpointSlice takes to one client and to the last of a hundred, what a burst of changes costs, how much
// memory the hub needs, how long clients take to come into step, and, in a simulation without Kubernetes, a hundred
// clusters.
//
// The services are written to the API servers of a lab; the hub is the program as it is shipped; the clients are in a
// process of their own, over TLS. Beside them an informer of client-go follows the same EndpointSlices: its event is the
// reference from which the hub's share of the time is counted. In the end the hub is stopped, and a control plane of the usual
// parts does the same work: typed informers, and the caches and the server of go-control-plane.
package eds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
	"github.com/hansa-dev/hansa/e2e/bench/eds/controlplane"
	"github.com/hansa-dev/hansa/e2e/bench/eds/simulation"
	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
)

// The rows of this part.
const (
	changeRow = "eds-change"
	burstRow  = "eds-burst"
	memoryRow = "eds-memory"
	syncRow   = "eds-first-sync"
	scaleRow  = "eds-scale-100"
)

// Sizes of the work at scale 1.
const (
	members      = 3
	manyServices = 1000
	manyClients  = 100
	manyChanges  = 100 // of one run
	burstChanges = 500
)

// Options say what to run.
type Options struct {
	Runs     int
	Scale    float64   // of the number of services, clients and changes; 1 is the size that the targets speak of
	Only     []string  // rows; empty means all
	Profiles string    // folder for profiles of the hub; "" for none
	Out      io.Writer // progress
}

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
	var errs []error
	if r.wants(changeRow, burstRow, memoryRow, syncRow) {
		errs = append(errs, r.hub(ctx))
	}
	if r.wants(scaleRow) && ctx.Err() == nil {
		errs = append(errs, r.scale(ctx))
	}
	return r.rows, errors.Join(errs...)
}

// Child runs the part's processes, if args ask for one of them.
func Child(ctx context.Context, args []string, in io.Reader, out io.Writer) (bool, error) {
	switch {
	case len(args) == 0:
		return false, nil
	case args[0] == clients.Subcommand:
		return true, clients.Serve(ctx, in, out)
	case args[0] == controlplane.Subcommand:
		return true, controlplane.Serve(ctx, in, out)
	case args[0] == simulation.Subcommand:
		return true, simulation.Serve(ctx, in, out)
	}
	return false, nil
}

func (r *run) wants(rows ...string) bool {
	return len(r.Only) == 0 || slices.ContainsFunc(rows, func(id string) bool { return slices.Contains(r.Only, id) })
}

// add keeps a row, if it is wanted.
func (r *run) add(id string, f *result.Figures, load result.Load) {
	if !r.wants(id) {
		return
	}
	f.Load, f.Time = load, time.Now().UTC().Format(time.RFC3339)
	r.rows = append(r.rows, result.Row{ID: id, Figures: f})
}

func (r *run) sized(count int) int { return max(1, int(math.Round(float64(count)*r.Scale))) }

func (r *run) say(format string, args ...any) { _, _ = fmt.Fprintf(r.Out, format+"\n", args...) }

// unloaded is the load where nobody watched the machine between the runs.
func (r *run) unloaded() result.Load { return result.Load{Average: r.load, Cores: runtime.NumCPU()} }

// pause waits, so that the next thing begins in peace.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
