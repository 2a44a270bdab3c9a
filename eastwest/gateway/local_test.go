package gateway_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway"
	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

var (
	webKey = clusterset.Key{Namespace: "shop", Name: "web"}
	client = netip.MustParseAddr("192.0.2.9")
)

func open(clusterset.Key, netip.Addr) bool { return true }

// table publishes a service of two clusters, of which m1 is the own one.
func table(ports []clusterset.Port, own clusterset.Properties, groups ...clusterset.Group) *clusterset.Builder {
	b := clusterset.NewBuilder(1)
	own.Ports = ports
	for _, cluster := range []string{"m1", "m2"} {
		b.SetCluster(clusterset.Cluster{ID: cluster})
		b.SetExport(cluster, webKey, clusterset.Export{Created: time.Unix(1, 0), Properties: &own})
	}
	b.SetEndpoints("m1", webKey, clusterset.Endpoints{Groups: groups})
	b.SetEndpoints("m2", webKey, clusterset.Endpoints{Groups: []clusterset.Group{pods(8443, "https", clusterset.Ready, "10.2.0.1")}})
	return b
}

func pods(port uint16, name string, conditions clusterset.Conditions, addrs ...string) clusterset.Group {
	g := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern(name), Port: port}}}
	for _, addr := range addrs {
		g.Endpoints = append(g.Endpoints, clusterset.Endpoint{Addr: netip.MustParseAddr(addr), Conditions: conditions})
	}
	return g
}

// all returns every endpoint of a pool, sorted.
func all(p *gateway.Pool) []string {
	var tried []*gateway.Backend
	var addrs []string
	for p != nil {
		b := p.Take(tried)
		if b == nil {
			break
		}
		tried = append(tried, b)
		addrs = append(addrs, b.Addr.String())
	}
	for _, b := range tried {
		b.Release()
	}
	slices.Sort(addrs)
	return addrs
}

func TestLocal(t *testing.T) {
	https := clusterset.Port{Name: "https", Port: 443}
	http := clusterset.Port{Name: "http", Port: 80}
	grpc := clusterset.Port{Name: "api", Port: 9000, AppProtocol: "tls"}
	other := clusterset.Port{Name: "admin", Port: 9001}
	udp := clusterset.Port{Name: "quic", Port: 443, Protocol: corev1.ProtocolUDP}
	one := pods(8443, "https", clusterset.Ready, "10.1.0.1", "10.1.0.2")
	plain := hello.Target{Key: webKey}
	dual := clusterset.Properties{IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}}
	for name, test := range map[string]struct {
		reason string
		ports  []clusterset.Port
		own    clusterset.Properties
		groups []clusterset.Group
		target hello.Target
		opens  func(clusterset.Key, netip.Addr) bool
		want   []string
		port   uint16
		refuse gateway.Refusal
	}{
		"Own":         {"the own cluster's pods, and no others", []clusterset.Port{http, https}, clusterset.Properties{}, []clusterset.Group{one}, plain, open, []string{"10.1.0.1:8443", "10.1.0.2:8443"}, 443, 0},
		"ByPort":      {"the port that the name says", []clusterset.Port{http, https}, clusterset.Properties{}, []clusterset.Group{pods(8080, "http", clusterset.Ready, "10.1.0.3"), one}, hello.Target{Key: webKey, Port: 80}, open, []string{"10.1.0.3:8080"}, 80, 0},
		"TLSPort":     {"the only one that says it is for TLS", []clusterset.Port{http, grpc, other}, clusterset.Properties{}, []clusterset.Group{pods(9, "api", clusterset.Ready, "10.1.0.1")}, plain, open, []string{"10.1.0.1:9"}, 9000, 0},
		"OnlyPort":    {"there is nothing to choose", []clusterset.Port{other}, clusterset.Properties{}, []clusterset.Group{pods(9, "admin", clusterset.Ready, "10.1.0.1")}, plain, open, []string{"10.1.0.1:9"}, 9001, 0},
		"Ambiguous":   {"nobody guesses between two", []clusterset.Port{http, other}, clusterset.Properties{}, nil, plain, open, nil, 0, gateway.UnknownPort},
		"OtherPort":   {"the service does not have it", []clusterset.Port{https}, clusterset.Properties{}, nil, hello.Target{Key: webKey, Port: 444}, open, nil, 0, gateway.UnknownPort},
		"UDP":         {"TLS comes over TCP", []clusterset.Port{udp, http}, clusterset.Properties{}, nil, hello.Target{Key: webKey, Port: 443}, open, nil, 0, gateway.UnknownPort},
		"NotReady":    {"ready ones only", []clusterset.Port{https}, clusterset.Properties{}, []clusterset.Group{pods(1, "https", 0, "10.1.0.1"), pods(1, "https", clusterset.Ready|clusterset.Terminating, "10.1.0.2")}, plain, open, nil, 0, gateway.NoEndpoint},
		"NoneKnown":   {"nothing is there", []clusterset.Port{https}, clusterset.Properties{}, nil, plain, open, nil, 0, gateway.NoEndpoint},
		"OneFamily":   {"a pod with two addresses is one pod", []clusterset.Port{https}, dual, []clusterset.Group{one, pods(8443, "https", clusterset.Ready, "fd00::1")}, plain, open, []string{"[fd00::1]:8443"}, 443, 0},
		"OtherFamily": {"what there is, is used", []clusterset.Port{https}, dual, []clusterset.Group{one}, plain, open, []string{"10.1.0.1:8443", "10.1.0.2:8443"}, 443, 0},
		"Closed":      {"services are closed unless they were opened", []clusterset.Port{https}, clusterset.Properties{}, []clusterset.Group{one}, plain, nil, nil, 0, gateway.Forbidden},
		"ClosedToIt":  {"open to others", []clusterset.Port{https}, clusterset.Properties{}, []clusterset.Group{one}, plain, func(_ clusterset.Key, a netip.Addr) bool { return a != client }, nil, 0, gateway.Forbidden},
		"Unknown":     {"no such service", []clusterset.Port{https}, clusterset.Properties{}, nil, hello.Target{Key: clusterset.Key{Namespace: "shop", Name: "wb"}}, open, nil, 0, gateway.UnknownService},
		"Subset":      {"another version must not get it", []clusterset.Port{https}, clusterset.Properties{}, []clusterset.Group{one}, hello.Target{Key: webKey, Port: 443, Subset: "v2"}, open, nil, 0, gateway.UnknownSubset},
		"External":    {"an export that is not valid is none", []clusterset.Port{https}, clusterset.Properties{Type: corev1.ServiceTypeExternalName}, []clusterset.Group{one}, plain, open, nil, 0, gateway.UnknownService},
	} {
		t.Run(name, func(t *testing.T) {
			latest := clusterset.NewLatest(table(test.ports, test.own, test.groups...).Publish())
			l := gateway.NewLocal(gateway.LocalOptions{Snapshots: latest, Cluster: "m1", Opens: test.opens})
			for range 2 { // the second time from memory
				got := l.Route(test.target, client)
				if got.Refusal != test.refuse || got.Port != test.port {
					t.Errorf("%s: got %s, port %d; want %s, port %d", test.reason, got.Refusal, got.Port, test.refuse, test.port)
				}
				if diff := cmp.Diff(test.want, all(got.Pool)); diff != "" {
					t.Errorf("%s: -want +got:\n%s", test.reason, diff)
				}
			}
		})
	}
}

// TestLocalExportsOnly holds that a service of other clusters is unknown here.
func TestLocalExportsOnly(t *testing.T) {
	b := table([]clusterset.Port{{Name: "https", Port: 443}}, clusterset.Properties{}, pods(8443, "https", clusterset.Ready, "10.1.0.1"))
	b.RemoveExport("m1", webKey)
	l := gateway.NewLocal(gateway.LocalOptions{Snapshots: clusterset.NewLatest(b.Publish()), Cluster: "m1", Opens: open})
	if got := l.Route(hello.Target{Key: webKey}, client); got.Refusal != gateway.UnknownService {
		t.Errorf("got %s, want that the service is unknown", got.Refusal)
	}
}

// TestLocalFollows holds that changes count at once, and that endpoints keep their connections.
func TestLocalFollows(t *testing.T) {
	b := table([]clusterset.Port{{Name: "https", Port: 443}}, clusterset.Properties{}, pods(8443, "https", clusterset.Ready, "10.1.0.1", "10.1.0.2"))
	latest := clusterset.NewLatest(b.Publish())
	l := gateway.NewLocal(gateway.LocalOptions{Snapshots: latest, Cluster: "m1", Opens: open, Proxy: func(k clusterset.Key) bool { return k == webKey }})
	first := l.Route(hello.Target{Key: webKey}, client)
	if !first.Proxy {
		t.Error("the endpoints are not told who the client is")
	}
	for first.Pool.Take(nil).Addr.Addr() != netip.MustParseAddr("10.1.0.2") { // until the second has one
	}
	b.SetEndpoints("m1", webKey, clusterset.Endpoints{Groups: []clusterset.Group{pods(8443, "https", clusterset.Ready, "10.1.0.2", "10.1.0.3")}})
	latest.Publish(b.Publish())
	next := l.Route(hello.Target{Key: webKey}, client)
	if diff := cmp.Diff([]string{"10.1.0.2:8443", "10.1.0.3:8443"}, all(next.Pool)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := next.Pool.Take(nil).Addr.Addr().String(); got != "10.1.0.3" {
		t.Errorf("the next connection goes to %s, want the endpoint without any", got)
	}
	b.RemoveExport("m1", webKey)
	latest.Publish(b.Publish())
	if got := l.Route(hello.Target{Key: webKey}, client); got.Refusal != gateway.UnknownService {
		t.Errorf("got %s, want that the service is unknown", got.Refusal)
	}
}

// TestPoolSpreads holds that connections are spread evenly, and that those that stay count.
func TestPoolSpreads(t *testing.T) {
	var addrs []netip.AddrPort
	for i := range 7 {
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 443))
	}
	p := gateway.NewPool(addrs, nil)
	count := map[*gateway.Backend]int64{}
	for i := range 700 {
		b := p.Take(nil)
		count[b]++
		if i%2 == 0 {
			b.Release()
			count[b]--
		}
	}
	for b, n := range count {
		if b.Open() != n || n < 40 || n > 60 {
			t.Errorf("%s has %d connections and counts %d, want about 50", b.Addr, n, b.Open())
		}
	}
	if b := p.Take(slices.Collect(func(yield func(*gateway.Backend) bool) {
		for b := range count {
			if !yield(b) {
				return
			}
		}
	})); b != nil {
		t.Errorf("%s was taken although all were tried", b.Addr)
	}
}
