package imports_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/imports"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// whole is what is given when nothing is missing.
var whole = imports.Given{Complete: true, NodeHints: true}

var web = clusterset.Key{Namespace: "shop", Name: "web"}

const live = clusterset.Ready | clusterset.Serving

// facts returns clusters on the networks given, all in step with the hub: "a@net".
func facts(builder *clusterset.Builder, clusters ...string) {
	for _, text := range clusters {
		id, network, _ := strings.Cut(text, "@")
		builder.SetCluster(clusterset.Cluster{ID: id, Network: network, Region: "eu", Zone: id + "-1", ControlPlane: clusterset.Up, DataPlane: clusterset.Up})
	}
}

func properties(edit ...func(*clusterset.Properties)) *clusterset.Properties {
	p := &clusterset.Properties{
		Type: corev1.ServiceTypeClusterIP, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Ports: []clusterset.Port{{Name: "http", Port: 80}},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

// export exports web from a cluster, with pods given as "address[/zone][!][-host]": ! is not ready, ~ terminating but serving.
func export(builder *clusterset.Builder, cluster string, age int, p *clusterset.Properties, pods ...string) {
	builder.SetExport(cluster, web, clusterset.Export{Created: epoch.Add(time.Duration(age) * time.Minute), Properties: p})
	var ports []clusterset.TargetPort
	for _, port := range p.Ports {
		ports = append(ports, clusterset.TargetPort{Name: clusterset.Intern(port.Name), Protocol: port.Protocol, Port: uint16(port.Port + 8000)})
	}
	builder.SetEndpoints(cluster, web, clusterset.Endpoints{Groups: []clusterset.Group{{Ports: ports, Endpoints: endpoints(pods...)}}})
}

func endpoints(pods ...string) []clusterset.Endpoint {
	var all []clusterset.Endpoint
	for _, pod := range pods {
		e := clusterset.Endpoint{Conditions: live, Node: clusterset.Intern("node")}
		if rest, found := strings.CutSuffix(pod, "!"); found {
			pod, e.Conditions = rest, 0
		}
		if rest, found := strings.CutSuffix(pod, "~"); found {
			pod, e.Conditions = rest, clusterset.Serving|clusterset.Terminating
		}
		if rest, host, found := strings.Cut(pod, "="); found {
			pod, e.Hostname = rest, clusterset.Intern(host)
		}
		if rest, zone, found := strings.Cut(pod, "/"); found {
			pod, e.Zone = rest, clusterset.Intern(zone)
		}
		e.Addr = netip.MustParseAddr(pod)
		all = append(all, e)
	}
	return all
}

// listed tells slices in lines: source, family, ports, and the endpoints with what is told of them.
func listed(w *imports.Wanted) []string {
	var lines []string
	for _, slice := range w.Slices {
		var ports, pods []string
		for _, p := range slice.Ports {
			ports = append(ports, fmt.Sprintf("%s:%d", *p.Name, *p.Port))
		}
		for _, e := range slice.Endpoints {
			pods = append(pods, told(e))
		}
		lines = append(lines, fmt.Sprintf("%s %s %s: %s", slice.Source, slice.AddressType, strings.Join(ports, ","), strings.Join(pods, " ")))
	}
	slices.Sort(lines)
	return lines
}

func told(e discoveryv1.Endpoint) string {
	text := e.Addresses[0]
	if e.Zone != nil {
		text += "/" + *e.Zone
	}
	if e.NodeName != nil {
		text += "@" + *e.NodeName
	}
	if e.Hints != nil {
		text += "→" + e.Hints.ForNodes[0].Name
	}
	if e.Hostname != nil {
		text += "=" + *e.Hostname
	}
	switch {
	case *e.Conditions.Terminating:
		text += "~"
	case !*e.Conditions.Ready:
		text += "!"
	}
	return text
}

func TestEndpoints(t *testing.T) {
	two := func(p *clusterset.Properties) { p.Ports = append(p.Ports, clusterset.Port{Name: "grpc", Port: 90}) }
	headless := func(p *clusterset.Properties) { p.Headless = true }
	dual := func(p *clusterset.Properties) { p.IPFamilies = append(p.IPFamilies, corev1.IPv6Protocol) }
	standing := func(b *clusterset.Builder, id, network string, edit func(*clusterset.Cluster)) {
		c := clusterset.Cluster{ID: id, Network: network, Region: "eu", ControlPlane: clusterset.Up, DataPlane: clusterset.Up}
		edit(&c)
		b.SetCluster(c)
	}
	tests := map[string]struct {
		reason string
		given  func(*clusterset.Builder)
		want   []string
	}{
		"OwnAndSameNetwork": {
			reason: "pods are reached in one's own cluster and on the same network; node and zone mean something at home only",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n", "b@n")
				export(b, "a", 1, properties(), "10.0.0.1/z1", "10.0.0.2")
				export(b, "b", 2, properties(), "10.1.0.1/z9=x")
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1/z1@node 10.0.0.2@node", "b IPv4 http:8080: 10.1.0.1"},
		},
		"OtherNetwork": {
			reason: "pods of other networks are not listed: a Service has no way there without a gateway",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n", "b@m")
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(), "10.0.0.1")
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1@node"},
		},
		"NoNetwork": {
			reason: "a cluster of which no network is known has one of its own",
			given: func(b *clusterset.Builder) {
				facts(b, "a", "b")
				export(b, "b", 2, properties(), "10.1.0.1")
			},
		},
		"Conditions": {
			reason: "endpoints that are not ready are listed with what they are, as Kubernetes does",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n", "b@n")
				export(b, "a", 1, properties(), "10.0.0.1", "10.0.0.2!", "10.0.0.3~")
				export(b, "b", 2, properties(), "10.1.0.1~")
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1@node 10.0.0.2@node! 10.0.0.3@node~", "b IPv4 http:8080: 10.1.0.1~"},
		},
		"Cordoned": {
			reason: "a cordoned cluster is left out while another serves, and its unready ones too",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n")
				standing(b, "b", "n", func(c *clusterset.Cluster) { c.State = clusterset.Cordoned })
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(), "10.1.0.1", "10.1.0.2!")
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1@node"},
		},
		"CordonedAlone": {
			reason: "and serves when nobody else does",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n")
				standing(b, "b", "n", func(c *clusterset.Cluster) { c.State = clusterset.Cordoned })
				export(b, "a", 1, properties(), "10.0.0.1!")
				export(b, "b", 2, properties(), "10.1.0.1")
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1@node!", "b IPv4 http:8080: 10.1.0.1"},
		},
		"Draining": {
			reason: "one's own draining cluster is emptied too",
			given: func(b *clusterset.Builder) {
				facts(b, "b@n")
				standing(b, "a", "n", func(c *clusterset.Cluster) { c.State = clusterset.Draining })
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(), "10.1.0.1")
			},
			want: []string{"b IPv4 http:8080: 10.1.0.1"},
		},
		"DataPlaneDown": {
			reason: "where no traffic arrives, nothing is listed",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n")
				standing(b, "b", "n", func(c *clusterset.Cluster) { c.DataPlane = clusterset.Down })
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(), "10.1.0.1", "10.1.0.2~")
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1@node"},
		},
		"ControlPlaneDown": {
			reason: "an API server that does not answer takes no endpoint out",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n")
				standing(b, "b", "n", func(c *clusterset.Cluster) { c.ControlPlane, c.LastKnown = clusterset.Down, epoch })
				export(b, "b", 2, properties(), "10.1.0.1")
			},
			want: []string{"b IPv4 http:8080: 10.1.0.1"},
		},
		"UnionOfPorts": {
			reason: "a port that only one cluster exposes leads only there",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n", "b@n")
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(two), "10.1.0.1")
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1@node", "b IPv4 http:8080,grpc:8090: 10.1.0.1"},
		},
		"OtherNameOfAPort": {
			reason: "a cluster may call the port otherwise; the slice has the name of the service",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n", "b@n")
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(func(p *clusterset.Properties) { p.Ports[0].Name = "www" }), "10.1.0.1")
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1@node", "b IPv4 http:8080: 10.1.0.1"},
		},
		"DualStack": {
			reason: "a dual-stack ClusterIP takes its endpoints from slices of either family",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n", "b@n")
				export(b, "b", 1, properties(dual), "10.1.0.1", "fd00::1", "10.1.0.2!", "fd00::2!")
			},
			want: []string{"b IPv4 http:8080: 10.1.0.1 10.1.0.2!", "b IPv6 http:8080: fd00::1 fd00::2!"},
		},
		"Headless": {
			reason: "pods of a headless service have names",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n", "b@n")
				export(b, "a", 1, properties(headless), "10.0.0.1=db-0")
				export(b, "b", 2, properties(headless), "10.1.0.1=db-0")
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1@node=db-0", "b IPv4 http:8080: 10.1.0.1=db-0"},
		},
		"HeadlessWithoutPorts": {
			reason: "which may have no ports at all",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n", "b@n")
				export(b, "b", 2, properties(headless, func(p *clusterset.Properties) { p.Ports = nil }), "10.1.0.1=db-0", "10.1.0.2!")
			},
			want: []string{"b IPv4 : 10.1.0.1=db-0 10.1.0.2!"},
		},
		"SameAddress": {
			reason: "an address is listed once, for the consumer's own cluster first",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n", "b@n", "0@n")
				export(b, "0", 1, properties(), "10.0.0.1", "10.0.0.3")
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(), "10.0.0.1", "10.0.0.3", "10.0.0.2")
			},
			want: []string{"0 IPv4 http:8080: 10.0.0.3", "a IPv4 http:8080: 10.0.0.1@node", "b IPv4 http:8080: 10.0.0.2"},
		},
		"ZeroWeight": {
			reason: "a policy that gives a cluster no weight takes it out, unready pods included",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n", "b@n")
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(), "10.1.0.1", "10.1.0.2!")
				b.SetPolicy(web, clusterset.Policy{Weights: []clusterset.ClusterWeight{{Cluster: "b"}}})
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1@node"},
		},
		"NotConsumer": {
			reason: "who may not consume the service gets nothing of it",
			given: func(b *clusterset.Builder) {
				facts(b, "a@n")
				export(b, "a", 1, properties(), "10.0.0.1")
				b.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"b"}}})
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			builder := clusterset.NewBuilder(0)
			tc.given(builder)
			if diff := cmp.Diff(tc.want, listed(imports.For(builder.Publish(), "a", web, whole))); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// gate gives a cluster gateways: "outside inside[@node][!]", of which ! is down.
func gate(builder *clusterset.Builder, id, network string, gateways ...string) {
	c := clusterset.Cluster{ID: id, Network: network, Region: "eu", ControlPlane: clusterset.Up, DataPlane: clusterset.Up}
	for _, text := range gateways {
		gateway := clusterset.Gateway{Tunnel: 15445, Health: clusterset.Up}
		if rest, down := strings.CutSuffix(text, "!"); down {
			text, gateway.Health = rest, clusterset.Down
		}
		text, gateway.Node, _ = strings.Cut(text, "@")
		outside, inside, _ := strings.Cut(text, " ")
		gateway.Addr, gateway.Inside = netip.MustParseAddr(outside), netip.MustParseAddr(inside)
		c.Gateways = append(c.Gateways, gateway)
	}
	builder.SetCluster(c)
}

// allotted has the derived Service in cluster a say its gateway ports.
func allotted(builder *clusterset.Builder, text string) { allottedIn(builder, "a", text) }

func allottedIn(builder *clusterset.Builder, cluster, text string) {
	ports, err := clusterset.ParseGatewayPorts(text)
	if err != nil {
		panic(err)
	}
	builder.SetImport(cluster, web, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.9")}, GatewayPorts: ports})
}

func TestGateways(t *testing.T) {
	two := func(p *clusterset.Properties) { p.Ports = append(p.Ports, clusterset.Port{Name: "grpc", Port: 90}) }
	policy := func(b *clusterset.Builder, p clusterset.Policy) { b.SetPolicy(web, p) }
	tests := map[string]struct {
		reason string
		given  func(*clusterset.Builder)
		want   []string
		beyond []string
	}{
		"EverythingThroughTheGateway": {
			reason: "own pods too: what fails is noticed there with the connection",
			given: func(b *clusterset.Builder) {
				gate(b, "a", "n", "192.0.2.1 10.0.9.1@n1")
				gate(b, "b", "m", "192.0.2.2 10.0.9.1")
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(), "10.0.0.1")
				allotted(b, "http/TCP=20017")
			},
			want: []string{"a IPv4 http:20017: 10.0.9.1@n1→n1", "b IPv4 http:20017: 10.0.9.1@n1→n1"},
		},
		"NoPortYet": {
			reason: "before the derived Service has its port, and gateways know of it, it is as without a gateway",
			given: func(b *clusterset.Builder) {
				gate(b, "a", "n", "192.0.2.1 10.0.9.1@n1")
				gate(b, "b", "m", "192.0.2.2 10.0.9.1")
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(), "10.0.0.1")
			},
			want:   []string{"a IPv4 http:8080: 10.0.0.1@node"},
			beyond: []string{"b"},
		},
		"Direct": {
			reason: "with path Direct, pods that are reached without a gateway are listed themselves",
			given: func(b *clusterset.Builder) {
				gate(b, "a", "n", "192.0.2.1 10.0.9.1@n1")
				gate(b, "b", "m", "192.0.2.2 10.0.9.1")
				facts(b, "c@n")
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(), "10.0.0.1")
				export(b, "c", 2, properties(), "10.2.0.1")
				policy(b, clusterset.Policy{Path: clusterset.Direct})
				allotted(b, "http/TCP=20017")
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1@node", "b IPv4 http:20017: 10.0.9.1@n1→n1", "c IPv4 http:8080: 10.2.0.1"},
		},
		"NodesOwnPods": {
			reason: "a service that is only for pods of one's own node does not go through a gateway on another",
			given: func(b *clusterset.Builder) {
				gate(b, "a", "n", "192.0.2.1 10.0.9.1@n1")
				export(b, "a", 1, properties(func(p *clusterset.Properties) { p.InternalTrafficPolicy = corev1.ServiceInternalTrafficPolicyLocal }), "10.0.0.1")
				allotted(b, "http/TCP=20017")
			},
			want: []string{"a IPv4 http:8080: 10.0.0.1@node"},
		},
		"GatewayDown": {
			reason: "Down is how others see it: pods of its own cluster go on using it while it is the only one",
			given: func(b *clusterset.Builder) {
				gate(b, "a", "n", "192.0.2.1 10.0.9.1@n1!")
				gate(b, "b", "m", "192.0.2.2 10.0.9.1")
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(), "10.0.0.1")
				allotted(b, "http/TCP=20017")
			},
			want: []string{"a IPv4 http:20017: 10.0.9.1@n1→n1", "b IPv4 http:20017: 10.0.9.1@n1→n1"},
		},
		"OneOfTwoDown": {
			reason: "the other one takes all; each is for its own node first",
			given: func(b *clusterset.Builder) {
				gate(b, "a", "n", "192.0.2.1 10.0.9.1@n1", "192.0.2.3 10.0.9.2@n2!", "192.0.2.4 10.0.9.3@n3")
				export(b, "a", 1, properties(), "10.0.0.1")
				allotted(b, "http/TCP=20017")
			},
			want: []string{"a IPv4 http:20017: 10.0.9.1@n1→n1 10.0.9.3@n3→n3"},
		},
		"NodeUnknown": {
			reason: "hints for some of the gateways would keep kube-proxy from the others",
			given: func(b *clusterset.Builder) {
				gate(b, "a", "n", "192.0.2.1 10.0.9.1@n1", "192.0.2.3 10.0.9.2")
				export(b, "a", 1, properties(), "10.0.0.1")
				allotted(b, "http/TCP=20017")
			},
			want: []string{"a IPv4 http:20017: 10.0.9.1@n1 10.0.9.2"},
		},
		"NothingReady": {
			reason: "a cluster in which nothing is ready has no slice: what no gateway can serve is refused by kube-proxy at once",
			given: func(b *clusterset.Builder) {
				gate(b, "a", "n", "192.0.2.1 10.0.9.1@n1")
				gate(b, "b", "m", "192.0.2.2 10.0.9.1")
				export(b, "a", 1, properties(), "10.0.0.1!")
				export(b, "b", 2, properties(), "10.0.0.1")
				allotted(b, "http/TCP=20017")
			},
			want: []string{"b IPv4 http:20017: 10.0.9.1@n1→n1"},
		},
		"PortsOfSome": {
			reason: "a port leads where it is exposed",
			given: func(b *clusterset.Builder) {
				gate(b, "a", "n", "192.0.2.1 10.0.9.1@n1")
				gate(b, "b", "m", "192.0.2.2 10.0.9.1")
				export(b, "a", 1, properties(), "10.0.0.1")
				export(b, "b", 2, properties(two), "10.0.0.1")
				allotted(b, "http/TCP=20017,grpc/TCP=20018")
			},
			want: []string{"a IPv4 http:20017: 10.0.9.1@n1→n1", "b IPv4 http:20017,grpc:20018: 10.0.9.1@n1→n1"},
		},
		"Headless": {
			reason: "clients of a headless service choose pods themselves: gateways are no way to one of them",
			given: func(b *clusterset.Builder) {
				gate(b, "a", "n", "192.0.2.1 10.0.9.1@n1")
				gate(b, "b", "m", "192.0.2.2 10.0.9.1")
				export(b, "a", 1, properties(func(p *clusterset.Properties) { p.Headless = true }), "10.0.0.1")
				export(b, "b", 2, properties(func(p *clusterset.Properties) { p.Headless = true }), "10.0.0.1")
				allotted(b, "http/TCP=20017")
			},
			want:   []string{"a IPv4 http:8080: 10.0.0.1@node"},
			beyond: []string{"b"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			builder := clusterset.NewBuilder(0)
			tc.given(builder)
			wanted := imports.For(builder.Publish(), "a", web, whole)
			if diff := cmp.Diff(tc.want, listed(wanted)); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.beyond, wanted.Beyond); diff != "" {
				t.Errorf("out of reach (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSlicesAreStable holds that slices are full enough, never too full, and that one change touches the slice of the
// endpoint alone, or those that it is divided into.
func TestSlicesAreStable(t *testing.T) {
	builder := clusterset.NewBuilder(0)
	facts(builder, "a@n", "b@n")
	var pods []string
	by := func() map[string][]string {
		export(builder, "b", 1, properties(), pods...)
		found := map[string][]string{}
		total := 0
		for _, slice := range imports.For(builder.Publish(), "a", web, whole).Slices {
			if len(slice.Endpoints) > imports.MaxEndpoints {
				t.Fatalf("%s has %d endpoints", slice.Name, len(slice.Endpoints))
			}
			for _, e := range slice.Endpoints {
				found[slice.Name] = append(found[slice.Name], e.Addresses[0])
			}
			total += len(slice.Endpoints)
		}
		if total != len(pods) {
			t.Fatalf("%d endpoints listed of %d", total, len(pods))
		}
		return found
	}
	before := map[string][]string{}
	for i := range 330 {
		pods = append(pods, fmt.Sprintf("10.1.%d.%d", i/250, i%250+1))
		if i < 95 {
			continue
		}
		now := by()
		touched := 0
		for name := range now {
			if !slices.Equal(now[name], before[name]) {
				touched++
			}
		}
		if i > 95 && touched > 2 {
			t.Fatalf("endpoint %d touched %d slices", i, touched)
		}
		before = now
	}
	if len(before) > 8 {
		t.Errorf("%d endpoints are in %d slices", len(pods), len(before))
	}
}
