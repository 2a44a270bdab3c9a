package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// drainPoll is how often a drain looks what is left.
const drainPoll = time.Second

// drainFlags are the flags of drain and undrain.
type drainFlags struct {
	wait    bool
	timeout time.Duration
	output  string
}

func (p *program) newDrain() *cobra.Command {
	var f drainFlags
	cmd := &cobra.Command{
		Use:   "drain CLUSTER",
		Short: "Send the traffic of a cluster's services elsewhere, and wait until it is gone",
		Long: long(`
			Sets the state of a cluster to Draining: its endpoints are used by nobody, not by its own pods either, while another
			cluster serves the same service. A drain takes no service down: what is served nowhere else stays.

			New connections go elsewhere within moments. Those that are open stay until they end. The command waits until the
			gateways count none any more, shows what is left, and says what keeps it when --timeout is over. What does not pass
			gateways is not counted. The cluster stays Draining either way: 'undrain' ends that.`),
		Example: p.examples(`
			# Before a cluster is upgraded
			{} drain m1 --timeout 10m
			{} undrain m1`),
		Args:              exactly("the name of the cluster"),
		ValidArgsFunction: p.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.timeout <= 0:
				return usage(cmd, "--timeout %v: want more than nothing; not to wait at all: --wait=false", f.timeout)
			case !slices.Contains([]string{"", "json", "yaml"}, f.output):
				return usage(cmd, "unknown output format %q: json or yaml", f.output)
			}
			return p.drain(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.wait, "wait", true, "Wait until no traffic is left")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Minute, "How long to wait")
	addOutput(cmd, &f.output, "json", "yaml")
	must(cmd.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions))
	return cmd
}

func (p *program) newUndrain() *cobra.Command {
	return &cobra.Command{
		Use:   "undrain CLUSTER",
		Short: "Let traffic come to a cluster again",
		Long:  "Sets the state of a cluster that is Draining to Active: its endpoints are used again as the policies of services say.",
		Example: p.examples(`
			{} undrain m1`),
		Args:              exactly("the name of the cluster"),
		ValidArgsFunction: p.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.undrain(cmd.Context(), args[0])
		},
	}
}

func (p *program) undrain(ctx context.Context, cluster string) error {
	h, err := p.openHost()
	if err != nil {
		return err
	}
	info, err := h.clusterInfo(ctx, cluster)
	if err != nil {
		return err
	}
	if info.Spec.State != v1alpha1.Draining {
		p.say("cluster %s is not draining: it is %s", info.Name, cmp.Or(info.Spec.State, v1alpha1.Active))
		return nil
	}
	if err := h.patchInfo(ctx, info, "ending the drain of cluster "+info.Name, func(info *v1alpha1.ClusterInfo) { info.Spec.State = "" }); err != nil {
		return err
	}
	p.say("cluster %s takes traffic again", info.Name)
	return nil
}

// drained is what -o json shows.
type drained struct {
	Cluster string `json:"cluster"`
	State   string `json:"state"`
	// Done tells that no traffic is left. Counted tells whether gateways count connections at all.
	Done        bool             `json:"done"`
	Counted     bool             `json:"counted"`
	Connections []openConnection `json:"connections"` // that are left
	// NowhereElse are services that only this cluster serves: they go on here.
	NowhereElse []string `json:"servedNowhereElse"`
	Waited      string   `json:"waited"` // a Go duration
}

// openConnection is what one cluster has open to a service in the cluster that is drained.
type openConnection struct {
	Service string `json:"service"`
	Port    uint32 `json:"port,omitempty"`
	From    string `json:"from"`
	Open    uint64 `json:"open"`
	New     uint64 `json:"new"` // since the last look
}

func (p *program) drain(ctx context.Context, cluster string, f drainFlags) error {
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
	tell := func(format string, args ...any) {
		if f.output == "" {
			p.say(format, args...)
		}
	}
	if info.Spec.State == v1alpha1.Draining {
		tell("cluster %s is draining already", info.Name)
	} else {
		err := h.patchInfo(ctx, info, "draining cluster "+info.Name, func(info *v1alpha1.ClusterInfo) { info.Spec.State = v1alpha1.Draining })
		if err != nil {
			return err
		}
		tell("cluster %s is draining", info.Name)
	}
	d := &draining{program: p, host: h, result: drained{Cluster: info.Name, State: string(v1alpha1.Draining)}, id: id, begun: time.Now()}
	if err := d.look(ctx); err != nil {
		return err
	}
	if f.wait {
		if err := d.wait(ctx, f.timeout, tell); err != nil {
			return err
		}
	}
	return d.conclude(f, tell)
}

// draining is a drain that goes on.
type draining struct {
	*program
	host   *host
	id     string
	begun  time.Time
	result drained
	last   counts
	told   string
}

// look finds out what is left.
func (d *draining) look(ctx context.Context) error {
	t, err := d.host.serviceTable(ctx)
	if err != nil {
		return err
	}
	d.result.NowhereElse = t.onlyIn(d.id)
	stats, err := d.stats(ctx)
	if err != nil {
		if !d.result.Counted && d.told == "" {
			d.warn("connections are not counted: %v", err)
			d.told = "not counted"
		}
		return ctx.Err()
	}
	first := d.last == nil
	now := countAll(stats)
	d.result.Counted = d.result.Counted || len(stats) > 0
	d.result.Connections = now.openTo(d.id, d.last)
	d.last = now
	d.result.Done = !first && len(d.result.Connections) == 0
	return nil
}

func (d *draining) stats(ctx context.Context) ([]*agentpb.AgentStats, error) {
	r, err := d.host.openReplicas(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.close() }() // nothing is lost by it
	answer, err := askAll(ctx, d.program, r, func(a *agentpb.StatsResponse) int { return len(a.GetAgents()) },
		func(ctx context.Context, o agentpb.Operations) (*agentpb.StatsResponse, error) {
			return o.GetStats(ctx, &agentpb.StatsRequest{Fresh: true})
		})
	return answer.GetAgents(), err
}

// wait looks again and again until nothing is left, or until the time is over. Where nothing counts there is nothing to wait
// for.
func (d *draining) wait(ctx context.Context, timeout time.Duration, tell func(string, ...any)) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for !d.result.Done && d.result.Counted {
		if left := d.left(); left != d.told {
			tell("%s", left)
			d.told = left
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("cluster %s stays Draining; end that with %s undrain %s: %w", d.result.Cluster, d.name, d.result.Cluster, ctx.Err())
		}
		if err := d.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// left says what is left, for people.
func (d *draining) left() string {
	if len(d.result.Connections) == 0 {
		return "no connection is left; making sure"
	}
	var open, fresh uint64
	var parts []string
	for _, c := range d.result.Connections {
		open += c.Open
		fresh += c.New
		parts = append(parts, fmt.Sprintf("%s from %s (%d)", c.Service, c.From, c.Open))
	}
	text := fmt.Sprintf("%d connections left", open)
	if fresh > 0 {
		text += fmt.Sprintf(", %d new", fresh)
	}
	return text + ": " + strings.Join(fewPorts(parts, func(s string) string { return s }), ", ")
}

// conclude says how the drain stands. It is an error when traffic is left after the waiting.
func (d *draining) conclude(f drainFlags, tell func(string, ...any)) error {
	d.result.Waited = time.Since(d.begun).Round(time.Millisecond).String()
	if d.result.Connections == nil {
		d.result.Connections = []openConnection{}
	}
	if d.result.NowhereElse == nil {
		d.result.NowhereElse = []string{}
	}
	if f.output != "" {
		if err := writeValue(d.streams.Out, f.output, d.result); err != nil {
			return err
		}
	}
	if only := d.result.NowhereElse; len(only) > 0 {
		d.warn("only cluster %s serves %s: calls go on here until another cluster serves them too", d.result.Cluster, strings.Join(fewPorts(only, func(s string) string { return s }), ", "))
	}
	switch {
	case d.result.Done:
		tell("no traffic is left in cluster %s", d.result.Cluster)
	case !d.result.Counted:
		tell("new connections go elsewhere; no gateway counts those that are open")
	case f.wait:
		return fmt.Errorf("cluster %s is not empty after %v: %s. It stays Draining. Wait longer, end those connections, or go back: %s undrain %s",
			d.result.Cluster, f.timeout, d.left(), d.name, d.result.Cluster)
	}
	return nil
}

// onlyIn lists services with endpoints in a cluster that clients somewhere use although it is draining or down: no other
// cluster serves them.
func (t *serviceTable) onlyIn(id string) []string {
	var only []string
	for _, service := range t.snapshot.Services() {
		if !slices.ContainsFunc(service.Sources, func(s clusterset.Source) bool { return s.Cluster == id }) {
			continue
		}
		if slices.ContainsFunc(t.ids(), func(from string) bool { return t.uses(service, from, id) }) {
			only = append(only, service.String())
		}
	}
	return only
}

// uses tells whether clients in one cluster use endpoints of a service in another.
func (t *serviceTable) uses(service *clusterset.Service, from, in string) bool {
	port := ""
	if service.Properties != nil && len(service.Properties.Ports) > 0 {
		port = service.Properties.Ports[0].Name
	}
	explained := t.snapshot.Explain(service.Key, clusterset.Consumer{Cluster: from}, port, t.now)
	return slices.ContainsFunc(explained.Endpoints, func(v clusterset.Verdict) bool {
		return v.Cluster == in && v.Reason == clusterset.Used && v.Priority == 0
	})
}
