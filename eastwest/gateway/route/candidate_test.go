package route_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

var (
	web  = clusterset.Key{Namespace: "shop", Name: "web"}
	here = clusterset.Consumer{Cluster: "m1", Gateway: true}
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrs(list ...string) []netip.AddrPort {
	var parsed []netip.AddrPort
	for _, s := range list {
		parsed = append(parsed, netip.MustParseAddrPort(s))
	}
	return parsed
}

func pods(port uint16, conditions clusterset.Conditions, list ...string) clusterset.Group {
	g := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: port}}}
	for _, a := range list {
		g.Endpoints = append(g.Endpoints, clusterset.Endpoint{Addr: addr(a), Conditions: conditions})
	}
	return g
}

// table is a service in three clusters: m1 and flat share a network, m2 has gateways.
func table() *clusterset.Builder {
	b := clusterset.NewBuilder(1)
	b.SetCluster(clusterset.Cluster{ID: "m1", Network: "n", Region: "eu"})
	b.SetCluster(clusterset.Cluster{ID: "flat", Network: "n", Region: "us"})
	b.SetCluster(clusterset.Cluster{ID: "m2", Region: "us", Gateways: []clusterset.Gateway{
		{Addr: addr("192.0.2.22"), Port: 15443, Tunnel: 15445},
		{Addr: addr("192.0.2.21"), Port: 15443, Tunnel: 15445},
		{Addr: addr("192.0.2.23"), Tunnel: 15445, Health: clusterset.Down},
		{Addr: addr("192.0.2.24"), Port: 15443},
	}})
	for cluster, group := range map[string]clusterset.Group{
		"m1": pods(8080, clusterset.Ready, "10.1.0.2", "10.1.0.1"), "flat": pods(8081, clusterset.Ready, "10.3.0.1"),
		"m2": pods(8080, clusterset.Ready, "10.2.0.1", "10.2.0.2", "10.2.0.3"),
	} {
		b.SetExport(cluster, web, clusterset.Export{Created: time.Unix(1, 0), Properties: &clusterset.Properties{
			Ports: []clusterset.Port{{Name: "http", Port: 80}, {Name: "dns", Port: 80, Protocol: corev1.ProtocolUDP}},
		}})
		b.SetEndpoints(cluster, web, clusterset.Endpoints{Groups: []clusterset.Group{group}})
	}
	return b
}

func TestFor(t *testing.T) {
	own := route.Candidate{Cluster: "m1", Pods: addrs("10.1.0.1:8080", "10.1.0.2:8080"), Weight: 2}
	flat := route.Candidate{Cluster: "flat", Pods: addrs("10.3.0.1:8081"), Weight: 1}
	far := route.Candidate{Cluster: "m2", Gateways: addrs("192.0.2.21:15445", "192.0.2.22:15445"), Weight: 3}
	for name, test := range map[string]struct {
		reason string
		change func(*clusterset.Builder)
		port   string
		proto  corev1.Protocol
		want   [][]route.Candidate
		why    clusterset.Reason
	}{
		"Order":     {"the own region first, then the others, those behind gateways too", nil, "http", "", [][]route.Candidate{{own}, {flat, far}}, ""},
		"Protocol":  {"no pod says that it serves datagrams", nil, "dns", corev1.ProtocolUDP, nil, ""},
		"Mismatch":  {"a port is a name and a protocol", nil, "http", corev1.ProtocolUDP, nil, clusterset.PortNotExposed},
		"OtherPort": {"there is no such port", nil, "grpc", "", nil, clusterset.PortNotExposed},
		"Unknown": {"no such service", func(b *clusterset.Builder) {
			for _, c := range []string{"m1", "m2", "flat"} {
				b.RemoveExport(c, web)
			}
		}, "http", "", nil, clusterset.NoSuchService},
		"NotAllowed": {"the policy lists others", func(b *clusterset.Builder) {
			b.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"m2"}}})
		}, "http", "", nil, clusterset.NotAllowed},
		"Weights": {"the policy's weights, not the number of pods", func(b *clusterset.Builder) {
			b.SetPolicy(web, clusterset.Policy{Failover: []clusterset.Tier{{By: clusterset.Any}}, Weights: []clusterset.ClusterWeight{{Cluster: "m1", Weight: 9}, {Cluster: "flat", Weight: 0}}})
		}, "http", "", [][]route.Candidate{{
			{Cluster: "m1", Pods: own.Pods, Weight: 9000}, {Cluster: "m2", Gateways: far.Gateways, Weight: 1000},
		}}, ""},
		"Zones": {"the zones of a cluster in one priority are one candidate", func(b *clusterset.Builder) {
			b.SetPolicy(web, clusterset.Policy{Failover: []clusterset.Tier{{By: clusterset.ByCluster}}})
			g := pods(8080, clusterset.Ready, "10.1.0.9", "10.1.0.1")
			g.Endpoints[0].Zone, g.Endpoints[1].Zone = clusterset.Intern("a"), clusterset.Intern("b")
			b.SetEndpoints("m1", web, clusterset.Endpoints{Groups: []clusterset.Group{g}})
		}, "http", "", [][]route.Candidate{{{Cluster: "m1", Pods: addrs("10.1.0.1:8080", "10.1.0.9:8080"), Weight: 2}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := table()
			if test.change != nil {
				test.change(b)
			}
			got, why := route.For(b.Publish(), here, web, test.port, test.proto)
			if why != test.why {
				t.Errorf("%s: got reason %q, want %q", test.reason, why, test.why)
			}
			if diff := cmp.Diff(test.want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("%s: -want +got:\n%s", test.reason, diff)
			}
		})
	}
}

func TestPods(t *testing.T) {
	headless := pods(8080, clusterset.Ready, "10.1.0.7", "10.1.0.8")
	headless.Endpoints[0].Hostname, headless.Endpoints[1].Hostname = clusterset.Intern("web-0"), clusterset.Intern("web-1")
	for name, test := range map[string]struct {
		reason string
		change func(*clusterset.Builder)
		wanted route.Wanted
		want   []netip.AddrPort
		why    clusterset.Reason
	}{
		"Own":    {"the own cluster's, and no others", nil, route.Wanted{Service: web, Port: 80}, addrs("10.1.0.1:8080", "10.1.0.2:8080"), ""},
		"NoPort": {"no such port", nil, route.Wanted{Service: web, Port: 81}, nil, clusterset.PortNotExposed},
		"NoPods": {"no pod says that it serves datagrams", nil, route.Wanted{Service: web, Port: 80, Protocol: corev1.ProtocolUDP}, nil, clusterset.NotReady},
		"Hostname": {"one pod", func(b *clusterset.Builder) {
			b.SetEndpoints("m1", web, clusterset.Endpoints{Groups: []clusterset.Group{headless}})
		}, route.Wanted{Service: web, Port: 80, Hostname: "web-1"}, addrs("10.1.0.8:8080"), ""},
		"NoHost": {"no pod of that name", nil, route.Wanted{Service: web, Port: 80, Hostname: "web-9"}, nil, clusterset.NotReady},
		"NotReady": {"ready ones only", func(b *clusterset.Builder) {
			b.SetEndpoints("m1", web, clusterset.Endpoints{Groups: []clusterset.Group{pods(8080, 0, "10.1.0.1"), pods(8080, clusterset.Ready|clusterset.Terminating, "10.1.0.3")}})
		}, route.Wanted{Service: web, Port: 80}, nil, clusterset.NotReady},
		"NotExported": {"other clusters' services are not here", func(b *clusterset.Builder) { b.RemoveExport("m1", web) }, route.Wanted{Service: web, Port: 80}, nil, clusterset.NotExported},
		"Draining":    {"who sends a connection here has decided", func(b *clusterset.Builder) { b.SetCluster(clusterset.Cluster{ID: "m1", State: clusterset.Draining}) }, route.Wanted{Service: web, Port: 80}, addrs("10.1.0.1:8080", "10.1.0.2:8080"), ""},
		"OneFamily": {"a pod with two addresses is one pod", func(b *clusterset.Builder) {
			b.SetEndpoints("m1", web, clusterset.Endpoints{Groups: []clusterset.Group{pods(8080, clusterset.Ready, "fd00::1", "10.1.0.1")}})
		}, route.Wanted{Service: web, Port: 80}, addrs("10.1.0.1:8080"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := table()
			if test.change != nil {
				test.change(b)
			}
			got, why := route.Pods(b.Publish().Service(web), "m1", test.wanted)
			if why != test.why {
				t.Errorf("%s: got reason %q, want %q", test.reason, why, test.why)
			}
			if diff := cmp.Diff(test.want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("%s: -want +got:\n%s", test.reason, diff)
			}
		})
	}
	if _, why := route.Pods(nil, "m1", route.Wanted{}); why != clusterset.NoSuchService {
		t.Errorf("got %q for no service", why)
	}
}
