package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	// drillEvery is how often gateways are asked what they counted, in milliseconds.
	drillEvery = 500
	// drillAround is for how long traffic is measured before a drill, and after it.
	drillAround = 5 * time.Second
	// drillSlack is how long after its end the hub ends a drill that was not ended.
	drillSlack = 15 * time.Second
	// longestDrill is how long one may be.
	longestDrill = time.Hour
	// restoreTimeout is how long ending a drill may take.
	restoreTimeout = 30 * time.Second
)

// drillFlags are the flags of drill.
type drillFlags struct {
	length    time.Duration
	maxErrors string
	yes       bool
	output    string
}

func (p *program) newDrill() *cobra.Command {
	var f drillFlags
	cmd := &cobra.Command{
		Use:   "drill CLUSTER",
		Short: "Take a cluster out of traffic for a while, and measure what clients notice",
		Long: long(`
			Says of a cluster that its data plane is Down, as if it had died, and measures what clients in the other clusters
			notice: failed connections, how long until none goes there any more, and who took over. The figures are those of the
			gateways of the other clusters, asked twice a second, for 5s before, during and after the drill. Nothing in the
			cluster is stopped, and what does not pass gateways is not measured.

			It ends after --for, when the share of failed connections passes --max-errors, and when it is interrupted; each time
			the cluster gets its traffic back. Should the command die, the hub gives it back a few seconds after the end.`),
		Example: p.examples(`
			# What would happen if m2 died?
			{} drill m2 --for 60s

			# In a script; it fails when more than 1% of the connections do
			{} drill m2 --for 30s --max-errors 1% --yes -o json`),
		Args:              exactly("the name of the cluster"),
		ValidArgsFunction: p.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			most, err := parseShare(f.maxErrors)
			switch {
			case err != nil:
				return usage(cmd, "--max-errors %q: %v", f.maxErrors, err)
			case f.length < time.Second || f.length > longestDrill:
				return usage(cmd, "--for %v: want from 1s to %v", f.length, longestDrill)
			case !slices.Contains([]string{"", "json", "yaml"}, f.output):
				return usage(cmd, "unknown output format %q: json or yaml", f.output)
			}
			return p.drill(cmd.Context(), args[0], most, f)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.length, "for", time.Minute, "How long the cluster is out of traffic")
	flags.StringVar(&f.maxErrors, "max-errors", "5%", "The share of failed connections at which the drill ends by itself")
	flags.BoolVar(&f.yes, "yes", false, "Do not ask")
	addOutput(cmd, &f.output, "json", "yaml")
	for _, name := range []string{"for", "max-errors"} {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
	return cmd
}

// parseShare reads 1% or 0.01.
func parseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, errors.New("want a share such as 1% or 0.01")
	}
	return share, nil
}

func (p *program) drill(ctx context.Context, cluster string, most float64, f drillFlags) (err error) {
	h, err := p.openHost()
	if err != nil {
		return err
	}
	info, err := h.clusterInfo(ctx, cluster)
	if err != nil {
		return err
	}
	id, err := idOf(info)
	if err != nil {
		return err
	}
	// What is wrong with it is told before anything is asked or measured.
	if err := info.DeepCopy().BeginDrill(time.Now()); err != nil {
		return fmt.Errorf("cluster %s cannot be drilled: %w", info.Name, err)
	}
	if err := p.agreeToDrill(ctx, h, info.Name, id, f); err != nil {
		return err
	}
	r, err := h.openReplicas(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = r.close() }() // nothing is lost by it
	d := &drilling{
		program: p, host: h, info: info, id: id, length: f.length, quiet: f.output != "",
		watch: func(ctx context.Context, each func(*agentpb.WatchResponse) error) error {
			return watchReplicas(ctx, r, each)
		},
		meter: newMeter(id, most),
	}
	err = d.run(ctx)
	if d.meter.phases[phaseBefore].samples == 0 {
		return err
	}
	return errors.Join(p.printDrill(d.meter.result(info.Name, d.outcome(err)), f.output), err)
}

// agreeToDrill says what will happen, and asks.
func (p *program) agreeToDrill(ctx context.Context, h *host, name, id string, f drillFlags) error {
	t, err := h.serviceTable(ctx)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(t.snapshot.Clusters(), func(c *clusterset.Cluster) bool {
		return c.ID == id || c.DataPlane == clusterset.Down || c.State != clusterset.Active
	})
	if len(others) == 0 {
		return fmt.Errorf("cluster %s cannot be drilled: there is no other cluster that is Active and not Down, so its traffic has nowhere to go. See: %s get clusters", name, p.name)
	}
	if only := t.nowhereElse(id); len(only) > 0 {
		p.warn("only cluster %s has ready endpoints for %s: calls to them from other clusters fail during the drill", name, strings.Join(fewPorts(only, func(s string) string { return s }), ", "))
	}
	if f.yes {
		return nil
	}
	return p.confirm(name, "Cluster %s gets no traffic from other clusters for %v.", name, f.length)
}

// nowhereElse lists the services of a cluster for which no other cluster has a ready endpoint.
func (t *serviceTable) nowhereElse(id string) []string {
	var only []string
	for _, service := range t.snapshot.Services() {
		here, there := false, false
		for i := range service.Sources {
			source := &service.Sources[i]
			if ready, _ := countEndpoints(source.Endpoints); ready > 0 {
				here, there = here || source.Cluster == id, there || source.Cluster != id
			}
		}
		if here && !there {
			only = append(only, service.String())
		}
	}
	return only
}

// watchReplicas calls each for what a replica tells again and again. When one fails, the next is asked: counters are sums, so
// nothing is lost. It ends when each returns an error, with ctx, or when no replica answers.
func watchReplicas(ctx context.Context, r *replicas, each func(*agentpb.WatchResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	problems := make([]error, len(r.addresses))
	for tries := 0; tries < len(r.addresses); {
		i := tries
		stream, err := agentpb.Operations{Conn: r.connections[i]}.Watch(ctx, &agentpb.WatchRequest{EveryMs: drillEvery})
		for err == nil {
			var answer *agentpb.WatchResponse
			if answer, err = stream.Recv(); err == nil {
				if stop := each(answer); stop != nil {
					return stop
				}
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		problems[i] = err
		tries++
	}
	return r.nobody(problems)
}

// drilling is a drill that goes on.
type drilling struct {
	*program
	host   *host
	info   *v1alpha1.ClusterInfo
	id     string
	length time.Duration
	quiet  bool
	watch  func(context.Context, func(*agentpb.WatchResponse) error) error
	meter  *meter
	begun  bool
}

var (
	errEnough  = errors.New("enough was measured")
	errAborted = errors.New("the drill was ended early")
)

func (d *drilling) tell(format string, args ...any) {
	if !d.quiet {
		d.say(format, args...)
	}
}

// run measures, takes the cluster out, measures, gives it back, and measures. It is given back whatever happens.
func (d *drilling) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, d.restore(ctx)) }()
	d.tell("measuring for %v before the drill ...", drillAround)
	err = d.watch(ctx, func(seen *agentpb.WatchResponse) error { return d.step(ctx, seen) })
	if errors.Is(err, errEnough) {
		return nil
	}
	if errors.Is(err, errNothingMeasured) {
		return fmt.Errorf("%w. Which gateways are there? %s get gateways", err, d.name)
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: it was interrupted", errAborted)
	}
	return err
}

// step takes in what gateways told, and goes on to the next phase when it is time.
func (d *drilling) step(ctx context.Context, seen *agentpb.WatchResponse) error {
	m := d.meter
	now := time.UnixMilli(seen.GetAtMs())
	if err := m.take(seen, now); err != nil {
		return err
	}
	in := now.Sub(m.phases[m.phase].begun)
	switch m.phase {
	case phaseBefore:
		if in < drillAround {
			return nil
		}
		if err := d.begin(ctx); err != nil {
			return err
		}
		m.next(now)
		d.tell("cluster %s is out of traffic for %v ...", d.info.Name, d.length)
	case phaseDuring:
		if in < d.length {
			return nil
		}
		if err := d.restore(ctx); err != nil {
			return err
		}
		m.next(now)
		d.tell("measuring for %v after the drill ...", drillAround)
	case phaseAfter:
		if in >= drillAround {
			return errEnough
		}
	}
	return nil
}

func (d *drilling) begin(ctx context.Context) error {
	until := time.Now().Add(d.length + drillSlack)
	var refused error
	d.begun = true // from here on it is restored, though the request may have failed on its way back only
	err := d.host.patchInfo(ctx, d.info, "taking cluster "+d.info.Name+" out of traffic", func(info *v1alpha1.ClusterInfo) { refused = info.BeginDrill(until) })
	return errors.Join(refused, err)
}

// restore gives the cluster its traffic back, also when ctx is over.
func (d *drilling) restore(ctx context.Context) error {
	if !d.begun {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
	defer cancel()
	for {
		info := &v1alpha1.ClusterInfo{}
		err := d.host.client.Get(ctx, client.ObjectKeyFromObject(d.info), info)
		if err == nil {
			base := info.DeepCopy()
			if !info.EndDrill() {
				d.begun = false
				return nil // somebody else has
			}
			err = d.host.client.Patch(ctx, info, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
		}
		switch {
		case err == nil:
			d.begun = false
			d.tell("cluster %s has its traffic back", d.info.Name)
			return nil
		case apierrors.IsConflict(err):
			continue // with what stands there now
		case ctx.Err() != nil || apierrors.ReasonForError(err) != "":
			return fmt.Errorf("giving cluster %s its traffic back (clusterinfo/%s): %w. The hub does so within %v of the planned end; by hand: kubectl -n %s annotate clusterinfo %s %s=over --overwrite",
				d.info.Name, d.info.Name, err, drillSlack, d.info.Namespace, d.info.Name, v1alpha1.DrillUntilAnnotation)
		}
		select { // the API server does not answer
		case <-time.After(drillEvery * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// outcome is how a drill ended, in a word.
func (d *drilling) outcome(err error) string {
	if err != nil {
		return "Aborted"
	}
	return "Completed"
}
