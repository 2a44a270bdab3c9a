package exports_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
)

func agentGateway(addr, inside, node string) clusterset.Gateway {
	return clusterset.Gateway{Addr: netip.MustParseAddr(addr), Port: 15443, Tunnel: 15445, Inside: netip.MustParseAddr(inside), Node: node, Health: clusterset.Up}
}

// gatewaysIn writes the gateways of a cluster: ADDRESS:PORT/TUNNEL inside INSIDE@NODE HEALTH.
func gatewaysIn(c *clusterset.Cluster) string {
	if c == nil {
		return "no cluster"
	}
	var lines []string
	for _, g := range c.Gateways {
		line := fmt.Sprintf("%s:%d/%d inside %s@%s %s", g.Addr, g.Port, g.Tunnel, g.Inside, g.Node, g.Health)
		lines = append(lines, strings.ReplaceAll(line, "invalid IP", "-"))
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

// TestGateways: what people say of gateways, what agents tell, and what the leader noted of that before a restart.
func TestGateways(t *testing.T) {
	t.Parallel()
	a, b := agentGateway("192.0.2.1", "10.1.0.1", "n1"), agentGateway("192.0.2.2", "10.1.0.2", "n2")
	const gateA, gateB = "192.0.2.1:15443/15445 inside 10.1.0.1@n1 Up", "192.0.2.2:15443/15445 inside 10.1.0.2@n2 Up"
	balancer := []v1alpha1.Gateway{{Address: "203.0.113.1", Port: 443}}
	both := exports.Observed{DataPlane: clusterset.Down, Gateways: []clusterset.Gateway{b, a, a}}
	steps := []struct {
		reason  string
		spec    v1alpha1.ClusterInfoSpec
		told    *exports.Observed
		restart bool // of the hub; what the leader noted last stays
		want    string
		health  clusterset.Health
	}{
		{reason: "nobody says anything", want: ""},
		{reason: "agents tell where they are", told: &both, want: gateA + "; " + gateB, health: clusterset.Down},
		{reason: "people know better whether traffic arrives", spec: v1alpha1.ClusterInfoSpec{DataPlane: v1alpha1.Up}, want: gateA + "; " + gateB, health: clusterset.Up},
		{
			reason: "behind a balancer others reach the cluster there only, and its own pods what they did", spec: v1alpha1.ClusterInfoSpec{Gateways: balancer},
			want: "-:0/0 inside 10.1.0.1@n1 Up; -:0/0 inside 10.1.0.2@n2 Up; 203.0.113.1:443/15445 inside -@ ", health: clusterset.Down,
		},
		{
			reason: "a restart loses nothing of that", spec: v1alpha1.ClusterInfoSpec{Gateways: balancer}, restart: true,
			want: "-:0/0 inside 10.1.0.1@n1 Up; -:0/0 inside 10.1.0.2@n2 Up; 203.0.113.1:443/15445 inside -@ ", health: clusterset.Down,
		},
		{
			reason: "another verdict says nothing about gateways", spec: v1alpha1.ClusterInfoSpec{Gateways: balancer}, told: &exports.Observed{DataPlane: clusterset.Up},
			want: "-:0/0 inside 10.1.0.1@n1 Up; -:0/0 inside 10.1.0.2@n2 Up; 203.0.113.1:443/15445 inside -@ ", health: clusterset.Up,
		},
		{
			reason: "people may say other ports of an agent's address", told: &both,
			spec: v1alpha1.ClusterInfoSpec{Gateways: []v1alpha1.Gateway{{Address: "192.0.2.1", TunnelPort: 444}}},
			want: "-:0/0 inside 10.1.0.2@n2 Up; 192.0.2.1:15443/444 inside 10.1.0.1@n1 Up", health: clusterset.Down,
		},
		{reason: "people take it back, while the hub is away", restart: true, want: "-:0/0 inside 10.1.0.1@n1 Up; -:0/0 inside 10.1.0.2@n2 Up", health: clusterset.Down},
		{reason: "and an agent speaks", told: &exports.Observed{Gateways: []clusterset.Gateway{a}}, want: gateA, health: clusterset.Down},
		{reason: "there are no agents any more", told: &exports.Observed{Gateways: []clusterset.Gateway{}}, want: "", health: clusterset.Down},
		{reason: "there is no verdict any more", told: &exports.Observed{DataPlane: clusterset.Up}, want: "", health: clusterset.Up},
		{reason: "agents are back", told: &both, want: gateA + "; " + gateB, health: clusterset.Down},
		{reason: "nobody speaks any more: that takes nothing away but the verdict", told: &exports.Observed{}, want: gateA + "; " + gateB},
		{
			reason: "others see what nobody tells", restart: true,
			told: &exports.Observed{Seen: map[netip.AddrPort]clusterset.Health{netip.MustParseAddrPort("192.0.2.2:15445"): clusterset.Down}},
			want: gateA + "; " + strings.Replace(gateB, "Up", "Down", 1),
		},
		{
			reason: "and what people say", spec: v1alpha1.ClusterInfoSpec{Gateways: balancer},
			told: &exports.Observed{Gateways: []clusterset.Gateway{}, Seen: map[netip.AddrPort]clusterset.Health{netip.MustParseAddrPort("203.0.113.1:0"): clusterset.Down}},
			want: "203.0.113.1:443/0 inside -@ ",
		},
		{
			reason: "and what people say, if it has tunnels", spec: v1alpha1.ClusterInfoSpec{Gateways: []v1alpha1.Gateway{{Address: "203.0.113.1", TunnelPort: 444}}},
			told: &exports.Observed{Seen: map[netip.AddrPort]clusterset.Health{netip.MustParseAddrPort("203.0.113.1:444"): clusterset.Up}},
			want: "203.0.113.1:15443/444 inside -@ Up",
		},
	}
	w := gatewayWorld(t)
	var noted v1alpha1.ClusterInfoStatus
	for _, step := range steps {
		if step.restart {
			w = gatewayWorld(t)
		}
		if step.told != nil {
			w.watcher.Observe("c1", *step.told)
		}
		info := &v1alpha1.ClusterInfo{ObjectMeta: metav1.ObjectMeta{Name: "c1"}, Spec: step.spec, Status: noted}
		w.watcher.SetInfo("c1", info)
		w.until(step.reason, func(s *clusterset.Snapshot) bool {
			return s.Cluster("c1") != nil && gatewaysIn(s.Cluster("c1")) == step.want && s.Cluster("c1").DataPlane == step.health
		})
		w.eventually("the status", func() bool {
			state := w.state("c1")
			noted = exports.InfoStatus(info, &state, metav1.Now())
			return clusterset.Health(noted.DataPlane) == step.health
		})
		again := *info
		again.Status = noted
		if got := gatewaysIn(&clusterset.Cluster{Gateways: exports.GatewaysOf(&again)}); got != step.want {
			t.Errorf("%s: the status says %s, want %s", step.reason, got, step.want)
		}
	}
}

func gatewayWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, exports.Options{})
	w.serve("c1")
	w.roll.set(w.member("c1", up))
	w.run()
	return w
}

// TestTooManyGateways: agents cannot fill the hub.
func TestTooManyGateways(t *testing.T) {
	t.Parallel()
	w := gatewayWorld(t)
	var all []clusterset.Gateway
	for i := range 1000 {
		all = append(all, agentGateway(fmt.Sprintf("192.0.%d.%d", i/250, i%250+1), "10.1.0.1", fmt.Sprintf("n%04d", i)))
	}
	w.watcher.Observe("c1", exports.Observed{Gateways: all})
	s := w.until("gateways", func(s *clusterset.Snapshot) bool { return s.Cluster("c1") != nil && len(s.Cluster("c1").Gateways) > 0 })
	if n := len(s.Cluster("c1").Gateways); n != 64 {
		t.Errorf("there are %d gateways", n)
	}
}
