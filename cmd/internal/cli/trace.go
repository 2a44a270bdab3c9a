package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
)

// errFailedHop is the error of a probe that did not arrive, after its hops were printed.
var errFailedHop = errors.New("the probe failed")

// traceFlags are the flags of trace.
type traceFlags struct {
	from, port, node, output string
	timeout                  time.Duration
}

func (p *program) newTrace() *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "trace [NAMESPACE/]NAME --from CLUSTER",
		Short: "Send a probe to a global service through the gateways, and show each hop",
		Long: long(`
			Has a gateway of a cluster open a connection to a global service, as it does for a pod there: it chooses a cluster,
			opens a stream through a tunnel, and the gateway over there connects to a pod. No byte is sent to the pod. Each hop is
			shown with the time that it took: to decide on a way, to hear from the other gateway by its tunnel, and to connect to a
			pod. Where one fails, what is wrong and what to do is said, and the exit code is 1.

			What a connection would choose, and why, is told without a probe by 'explain service'.`),
		Example: p.examples(`
			# Does a call from cluster m1 arrive, and how long does it take?
			{} trace shop/web --from m1

			# On one port, from one node
			{} trace shop/web --from m1 --port grpc --node m1-worker -o json`),
		Args:              exactly("the service (NAMESPACE/NAME)"),
		ValidArgsFunction: p.completeServiceOnce,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.from == "":
				return usage(cmd, "--from is required: the cluster whose gateway sends the probe")
			case f.timeout < time.Millisecond || f.timeout > 30*time.Second:
				return usage(cmd, "--timeout %v: want more than nothing and at most 30s", f.timeout)
			case !slices.Contains([]string{"", "json", "yaml"}, f.output):
				return usage(cmd, "unknown output format %q: json or yaml", f.output)
			}
			return p.trace(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "The cluster whose gateway sends the probe, by its id or its name")
	flags.StringVar(&f.port, "port", "", "The port of the service, by name or number (default: the first)")
	flags.StringVar(&f.node, "node", "", "The node whose gateway sends the probe (default: any)")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Second, "How long the probe may take")
	addOutput(cmd, &f.output, "json", "yaml")
	must(cmd.RegisterFlagCompletionFunc("from", p.completeIDs))
	for _, name := range []string{"port", "node", "timeout"} {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
	return cmd
}

// tracedHop is a hop as -o json shows it.
type tracedHop struct {
	Hop     string `json:"hop"`
	Cluster string `json:"cluster,omitempty"`
	Address string `json:"address,omitempty"`
	Took    string `json:"took"` // a Go duration
	Detail  string `json:"detail,omitempty"`
	Problem string `json:"problem,omitempty"`
	Next    string `json:"next,omitempty"`
}

// traced is what -o json shows.
type traced struct {
	Service string      `json:"service"`
	From    string      `json:"from"`
	Node    string      `json:"node"`
	Arrived bool        `json:"arrived"`
	Hops    []tracedHop `json:"hops"`
	Problem string      `json:"problem,omitempty"` // why there was no probe
}

func (p *program) trace(ctx context.Context, service string, f traceFlags) error {
	selected, err := p.selectServices([]string{service}, getFlags{})
	if err != nil {
		return err
	}
	key := selected.keys[0]
	h, err := p.openHost()
	if err != nil {
		return err
	}
	ids, err := h.idsOf(ctx, []string{f.from})
	if err != nil {
		return err
	}
	request := &agentpb.TraceRequest{
		Cluster: ids[0], Node: f.node, Namespace: key.Namespace, Name: key.Name, Port: f.port, TimeoutMs: uint32(f.timeout.Milliseconds()), //nolint:gosec // checked
	}
	r, err := h.openReplicas(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = r.close() }() // nothing is lost by it
	done := p.patience("waiting for the probe ...")
	answer, err := askOne(ctx, r, func(ctx context.Context, o agentpb.Operations) (*agentpb.TraceResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, f.timeout+replicaTimeout)
		defer cancel()
		return o.Trace(ctx, request)
	})
	done()
	if err != nil {
		return fmt.Errorf("tracing %s from cluster %s: %w. Which gateways are there? %s get gateways %s", key, ids[0], err, p.name, ids[0])
	}
	return p.printTrace(showTrace(key.String(), ids[0], answer), f.output)
}

func showTrace(service, from string, answer *agentpb.TraceResponse) *traced {
	shown := &traced{Service: service, From: from, Node: answer.GetNode(), Problem: answer.GetProblem(), Hops: []tracedHop{}}
	shown.Arrived = answer.GetProblem() == "" && len(answer.GetHops()) > 0
	for _, hop := range answer.GetHops() {
		shown.Arrived = shown.Arrived && hop.GetProblem() == ""
		shown.Hops = append(shown.Hops, tracedHop{
			Hop: hop.GetName(), Cluster: hop.GetCluster(), Address: hop.GetAddress(), Took: microseconds(hop.GetTookUs()).String(),
			Detail: hop.GetDetail(), Problem: hop.GetProblem(), Next: hop.GetNext(),
		})
		if last := &shown.Hops[len(shown.Hops)-1]; last.Problem != "" && last.Next == "" {
			last.Next = nextStep(last.Hop, service, from)
		}
	}
	return shown
}

func (p *program) printTrace(t *traced, output string) error {
	if output != "" {
		if err := writeValue(p.streams.Out, output, t); err != nil {
			return err
		}
	} else if err := p.printHops(t); err != nil {
		return err
	}
	if t.Arrived {
		return nil
	}
	for _, hop := range t.Hops {
		if hop.Problem != "" {
			return fmt.Errorf("%w at hop %q in cluster %s: %s%s", errFailedHop, hop.Hop, dash(hop.Cluster), hop.Problem, next(hop.Next))
		}
	}
	if t.Problem == "" {
		return fmt.Errorf("the gateway on node %s of cluster %s told of no hop; does it run this version? See: %s get gateways -o wide", t.Node, t.From, p.name)
	}
	return fmt.Errorf("the gateway on node %s of cluster %s sent no probe: %s. What would a connection use? %s explain service %s --from %s",
		t.Node, t.From, t.Problem, p.name, t.Service, t.From)
}

// nextStep is what to look at when a hop failed, for gateways that do not say.
func nextStep(hop, service, from string) string {
	switch hop {
	case "decide":
		return fmt.Sprintf("see which endpoints there are, and why none is used: hansa explain service %s --from %s", service, from)
	case "tunnel":
		return "see how the tunnels stand: hansa get tunnels " + from
	}
	return fmt.Sprintf("see how the tunnels stand (hansa get tunnels %s), and which pods there should be (hansa get endpoints %s --from %s)", from, service, from)
}

func next(step string) string {
	if step == "" {
		return ""
	}
	return ". " + strings.ToUpper(step[:1]) + step[1:]
}

func (p *program) printHops(t *traced) error {
	if len(t.Hops) == 0 {
		return nil
	}
	p.say("Service %s from cluster %s (node %s):", t.Service, t.From, t.Node)
	rows := table{header: []string{"HOP", "CLUSTER", "ADDRESS", "TOOK", "RESULT"}}
	for _, hop := range t.Hops {
		result := "ok"
		switch {
		case hop.Problem != "":
			result = "FAILED: " + hop.Problem
		case hop.Detail != "":
			result = "ok: " + hop.Detail
		}
		rows.rows = append(rows.rows, []string{hop.Hop, dash(hop.Cluster), dash(hop.Address), hop.Took, result})
	}
	if err := rows.write(printers.GetNewTabWriter(p.streams.Out), true); err != nil {
		return err
	}
	if t.Arrived {
		p.say("It arrived.")
	}
	return nil
}
