package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
)

// The words behind get that mean what agents of gateways say.
const (
	gatewaysWord = "gateways"
	tunnelsWord  = "tunnels"
)

// gatewayWord returns which of them a word behind get means; empty if neither. Gateways of the Gateway API are had as
// gateways.gateway.networking.k8s.io, or by their short name, gtw.
func (p *program) gatewayWord(what string) string {
	if p.name != Hansa {
		return ""
	}
	switch strings.ToLower(what) {
	case gatewaysWord, "gateway", "gw":
		return gatewaysWord
	case tunnelsWord, "tunnel":
		return tunnelsWord
	}
	return ""
}

// shownGateway is a gateway as -o json shows it.
type shownGateway struct {
	Cluster     string     `json:"cluster"`
	Node        string     `json:"node,omitempty"` // empty: no agent told of it, only the hub's table has it
	Address     string     `json:"address,omitempty"`
	Passthrough uint32     `json:"passthrough,omitempty"`
	Tunnel      uint32     `json:"tunnel,omitempty"`
	Inside      string     `json:"inside,omitempty"`
	Health      string     `json:"health"`
	HealthSince *time.Time `json:"healthSince,omitempty"`
	Why         string     `json:"why,omitempty"`
	Agent       string     `json:"agent"` // Connected, Leaving, Gone, None
	AgentSince  *time.Time `json:"agentSince,omitempty"`
	Reported    *time.Time `json:"reported,omitempty"`
	Problem     string     `json:"problem,omitempty"`
	Version     string     `json:"version,omitempty"`
}

// shownTunnel is what one gateway sees of another.
type shownTunnel struct {
	From    string     `json:"from"`
	Node    string     `json:"node"`
	To      string     `json:"to"`
	Address string     `json:"address"`
	Health  string     `json:"health"`
	Since   *time.Time `json:"since,omitempty"`
	Heard   *time.Time `json:"heard,omitempty"`
	RTT     string     `json:"rtt,omitempty"` // a Go duration
	Tunnels uint32     `json:"tunnels"`
	Wanted  uint32     `json:"wanted"`
	Streams uint32     `json:"streams"`
	Problem string     `json:"problem,omitempty"`
}

// getGateways shows gateways or tunnels, of all clusters or of those named.
func (p *program) getGateways(cmd *cobra.Command, what string, clusters []string, f getFlags) error {
	switch {
	case f.watch:
		return usage(cmd, "get %s cannot watch", what)
	case f.selector != "" || f.allNamespaces:
		return usage(cmd, "get %s knows neither selectors nor namespaces; name clusters instead: get %s m1", what, what)
	}
	ctx := cmd.Context()
	h, err := p.openHost()
	if err != nil {
		return err
	}
	ids, err := h.idsOf(ctx, clusters)
	if err != nil {
		return err
	}
	r, err := h.openReplicas(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = r.close() }() // nothing is lost by it
	if what == tunnelsWord {
		return p.listTunnels(ctx, r, ids, f)
	}
	return p.listGateways(ctx, r, ids, f)
}

// idsOf returns the ids of clusters by their names or ids; none for none.
func (h *host) idsOf(ctx context.Context, clusters []string) ([]string, error) {
	var ids []string
	for _, cluster := range clusters {
		info, err := h.clusterInfo(ctx, cluster)
		if err != nil {
			return nil, err
		}
		id, err := idOf(info)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (p *program) listGateways(ctx context.Context, r *replicas, ids []string, f getFlags) error {
	answer, err := askAll(ctx, p, r, func(a *agentpb.ListGatewaysResponse) int { return connectedIn(a.GetGateways()) },
		func(ctx context.Context, o agentpb.Operations) (*agentpb.ListGatewaysResponse, error) {
			return o.ListGateways(ctx, &agentpb.ListGatewaysRequest{})
		})
	if err != nil {
		return err
	}
	gateways := []shownGateway{}
	for _, g := range answer.GetGateways() {
		if len(ids) == 0 || slices.Contains(ids, g.GetCluster()) {
			gateways = append(gateways, showGateway(g))
		}
	}
	switch {
	case f.output == "json" || f.output == "yaml":
		return writeValue(p.streams.Out, f.output, map[string]any{"gateways": gateways})
	case f.output == "name":
		for i := range gateways {
			p.say("%s/%s", gateways[i].Cluster, dash(gateways[i].Node))
		}
		return nil
	case len(gateways) == 0:
		fmt.Fprintf(p.streams.ErrOut, "No gateway is known. Install agents when a cluster is joined: %s join CLUSTER --agent\n", p.name)
		return nil
	}
	return gatewayTable(gateways, f.output == "wide", time.Now()).write(printers.GetNewTabWriter(p.streams.Out), !f.noHeaders)
}

func connectedIn(gateways []*agentpb.Gateway) (n int) {
	for _, g := range gateways {
		if g.GetConnected() {
			n++
		}
	}
	return n
}

func showGateway(g *agentpb.Gateway) shownGateway {
	shown := shownGateway{
		Cluster: g.GetCluster(), Node: g.GetNode(), Address: g.GetOutside(), Passthrough: g.GetPassthrough(), Tunnel: g.GetTunnel(), Inside: g.GetInside(),
		Health: healthText(g.GetHealth()), HealthSince: timeOf(g.GetHealthSinceMs()), Why: g.GetReason(), Reported: timeOf(g.GetReportedMs()),
		Problem: g.GetLocalProblem(), Version: g.GetVersion(), AgentSince: timeOf(g.GetSinceMs()),
	}
	switch {
	case g.GetLeaving():
		shown.Agent = "Leaving"
	case g.GetConnected():
		shown.Agent = "Connected"
	case g.GetNode() == "":
		shown.Agent = "None"
	default:
		shown.Agent = "Gone"
	}
	return shown
}

func gatewayTable(gateways []shownGateway, wide bool, now time.Time) table {
	rows := table{header: []string{"CLUSTER", "NODE", "ADDRESS", "TUNNELS AT", "HEALTH", "SINCE", "AGENT"}}
	if wide {
		rows.header = append(rows.header, "TLS AT", "INSIDE", "REPORTED", "VERSION")
	}
	rows.header = append(rows.header, "WHY")
	for i := range gateways {
		g := &gateways[i]
		row := []string{g.Cluster, g.Node, g.Address, portOrNone(g.Tunnel), g.Health, ageText(g.HealthSince, now), g.Agent}
		if wide {
			row = append(row, portOrNone(g.Passthrough), g.Inside, ageText(g.Reported, now), g.Version)
		}
		why := g.Problem
		if why == "" && g.Health != "Up" {
			why = g.Why
		}
		rows.rows = append(rows.rows, append(row, dash(why)))
	}
	return rows
}

func (p *program) listTunnels(ctx context.Context, r *replicas, ids []string, f getFlags) error {
	answer, err := askAll(ctx, p, r, func(a *agentpb.ListTunnelsResponse) int { return len(a.GetTunnels()) },
		func(ctx context.Context, o agentpb.Operations) (*agentpb.ListTunnelsResponse, error) {
			return o.ListTunnels(ctx, &agentpb.ListTunnelsRequest{})
		})
	if err != nil {
		return err
	}
	tunnels := []shownTunnel{}
	for _, t := range answer.GetTunnels() {
		if len(ids) == 0 || slices.Contains(ids, t.GetCluster()) || slices.Contains(ids, t.GetSight().GetCluster()) {
			tunnels = append(tunnels, showTunnel(t))
		}
	}
	switch {
	case f.output == "json" || f.output == "yaml":
		return writeValue(p.streams.Out, f.output, map[string]any{"tunnels": tunnels})
	case f.output == "name":
		for i := range tunnels {
			p.say("%s/%s/%s/%s", tunnels[i].From, tunnels[i].Node, tunnels[i].To, tunnels[i].Address)
		}
		return nil
	case len(tunnels) == 0:
		fmt.Fprintf(p.streams.ErrOut, "No gateway has tunnels to another cluster. Which gateways are there? %s get gateways\n", p.name)
		return nil
	}
	return tunnelTable(tunnels, f.output == "wide", time.Now()).write(printers.GetNewTabWriter(p.streams.Out), !f.noHeaders)
}

func showTunnel(t *agentpb.Tunnel) shownTunnel {
	s := t.GetSight()
	shown := shownTunnel{
		From: t.GetCluster(), Node: t.GetNode(), To: s.GetCluster(), Address: s.GetAddress(), Health: healthText(s.GetHealth()),
		Since: timeOf(s.GetSinceMs()), Heard: timeOf(s.GetHeardMs()), Tunnels: s.GetTunnels(), Wanted: s.GetWanted(), Streams: s.GetStreams(), Problem: s.GetProblem(),
	}
	if s.GetRttUs() > 0 {
		shown.RTT = microseconds(s.GetRttUs()).String()
	}
	return shown
}

func tunnelTable(tunnels []shownTunnel, wide bool, now time.Time) table {
	rows := table{header: []string{"FROM", "NODE", "TO", "ADDRESS", "HEALTH", "SINCE", "TUNNELS", "RTT", "STREAMS"}}
	if wide {
		rows.header = append(rows.header, "HEARD")
	}
	rows.header = append(rows.header, "PROBLEM")
	for i := range tunnels {
		t := &tunnels[i]
		row := []string{
			t.From, t.Node, t.To, t.Address, t.Health, ageText(t.Since, now), fmt.Sprintf("%d/%d", t.Tunnels, t.Wanted), dash(t.RTT), strconv.Itoa(int(t.Streams)),
		}
		if wide {
			row = append(row, ageText(t.Heard, now))
		}
		rows.rows = append(rows.rows, append(row, dash(t.Problem)))
	}
	return rows
}

func healthText(h agentpb.Health) string {
	switch h {
	case agentpb.Health_HEALTH_UP:
		return "Up"
	case agentpb.Health_HEALTH_DOWN:
		return "Down"
	case agentpb.Health_HEALTH_UNKNOWN:
	}
	return "Unknown"
}

// timeOf is a time from milliseconds; nil for none.
func timeOf(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	at := time.UnixMilli(ms).UTC()
	return &at
}

// ageText is how long ago a time was.
func ageText(at *time.Time, now time.Time) string {
	if at == nil {
		return "-"
	}
	return duration.HumanDuration(max(0, now.Sub(*at)))
}

func portOrNone(port uint32) string {
	if port == 0 {
		return "-"
	}
	return strconv.Itoa(int(port))
}

// microseconds of what an agent measured; an absurd number is no more than a day.
func microseconds(us uint64) time.Duration {
	return time.Duration(min(us, uint64(24*time.Hour/time.Microsecond))) * time.Microsecond
}
