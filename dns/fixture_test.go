package dns_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const apex = "clusterset.local."

// world has two clusters and, seen from m1:
//
//	web.shop    a ClusterSetIP of both families, port http
//	db.shop     headless, with hostnames db-0 in m1 and db-0, db-1 in m2
//	big.shop    headless, 300 endpoints
//	void.shop   headless, nothing ready
//	front.shop  in m1 and m2, for the external zone
func world() *clusterset.Builder {
	b := clusterset.NewBuilder(uint64(epoch.UnixNano()))
	for i, id := range []string{"m1", "m2"} {
		b.SetCluster(clusterset.Cluster{
			ID: id, Network: "flat", Region: []string{"eu", "us"}[i],
			Gateways: []clusterset.Gateway{{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), Port: 15443}},
		})
	}
	http := clusterset.Port{Name: "http", Port: 80}
	export := func(name string, headless bool, clusters ...string) clusterset.Key {
		key := clusterset.Key{Namespace: "shop", Name: name}
		for _, id := range clusters {
			b.SetExport(id, key, clusterset.Export{Created: epoch, Properties: &clusterset.Properties{
				Headless: headless, Ports: []clusterset.Port{http},
			}})
		}
		return key
	}
	web := export("web", false, "m1", "m2")
	b.SetImport("m1", web, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00::1")}})
	b.SetEndpoints("m1", web, pods(1, 3, false))
	front := export("front", false, "m1", "m2")
	b.SetEndpoints("m1", front, pods(2, 2, false))
	b.SetEndpoints("m2", front, pods(3, 2, false))
	db := export("db", true, "m1", "m2")
	b.SetEndpoints("m1", db, pods(4, 1, true))
	b.SetEndpoints("m2", db, pods(5, 2, true))
	b.SetEndpoints("m1", export("big", true, "m1"), pods(6, 300, false))
	b.SetEndpoints("m1", export("void", true, "m1"), clusterset.Endpoints{})
	return b
}

func pods(net byte, n int, named bool) clusterset.Endpoints {
	group := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: 8080}}}
	for i := range n {
		e := clusterset.Endpoint{
			Addr: netip.AddrFrom4([4]byte{10, net, byte(i / 250), byte(i%250 + 1)}), Conditions: clusterset.Ready | clusterset.Serving,
		}
		if named {
			e.Hostname = clusterset.Intern(fmt.Sprintf("db-%d", i))
		}
		group.Endpoints = append(group.Endpoints, e)
	}
	return clusterset.Endpoints{Groups: []clusterset.Group{group}}
}

// random returns a snapshot of services of all kinds.
func random(rnd *rand.Rand) *clusterset.Snapshot {
	b := clusterset.NewBuilder(uint64(epoch.UnixNano()))
	ids := []string{"m1", "m2", "m3"}
	for i, id := range ids {
		b.SetCluster(clusterset.Cluster{
			ID: id, Network: []string{"flat", "flat", "far"}[i], Region: []string{"eu", "us", "us"}[i],
			DataPlane: []clusterset.Health{clusterset.Up, clusterset.Unknown, clusterset.Down}[rnd.IntN(3)],
			Gateways:  []clusterset.Gateway{{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), Port: 15443}},
		})
	}
	ports := [][]clusterset.Port{nil, {{Name: "http", Port: 80}}, {{Name: "http", Port: 80}, {Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}}}
	for i := range 12 {
		key := clusterset.Key{Namespace: []string{"a", "b"}[rnd.IntN(2)], Name: fmt.Sprintf("s%d", i)}
		headless := rnd.IntN(2) == 0
		offered := ports[rnd.IntN(len(ports))]
		for n, id := range ids {
			if rnd.IntN(3) == 0 {
				continue
			}
			b.SetExport(id, key, clusterset.Export{Created: epoch, Properties: &clusterset.Properties{Headless: headless, Ports: offered}})
			group := clusterset.Group{}
			for _, p := range offered {
				group.Ports = append(group.Ports, clusterset.TargetPort{
					Name: clusterset.Intern(p.Name), Protocol: p.Protocol, Port: uint16(p.Port + 8000),
				})
			}
			for e := range rnd.IntN([]int{1, 4, 30, 200}[rnd.IntN(4)]) {
				endpoint := clusterset.Endpoint{
					Addr:       netip.AddrFrom4([4]byte{10, byte(i*8 + n), byte(e / 250), byte(e%250 + 1)}),
					Conditions: clusterset.Ready | clusterset.Serving,
				}
				if rnd.IntN(3) == 0 {
					endpoint.Hostname = clusterset.Intern(fmt.Sprintf("p-%d", e))
				}
				group.Endpoints = append(group.Endpoints, endpoint)
			}
			b.SetEndpoints(id, key, clusterset.Endpoints{Groups: []clusterset.Group{group}})
			if !headless && rnd.IntN(4) > 0 {
				b.SetImport(id, key, clusterset.Import{ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(n), byte(i)})}})
			}
		}
		if rnd.IntN(3) == 0 {
			b.SetPolicy(key, clusterset.Policy{Weights: []clusterset.ClusterWeight{{Cluster: "m1", Weight: 3}, {Cluster: "m2", Weight: 7}}})
		}
	}
	return b.Publish()
}

var zones = zone.Options{
	External:   []zone.External{{Zone: "global.example.org."}},
	PerCluster: "clusters.local.",
	Nameservers: []zone.Nameserver{{
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")},
	}},
}

// options are those of a responder for m1.
func options(snapshot *clusterset.Snapshot) dns.Options {
	return dns.Options{
		Snapshots: clusterset.NewLatest(snapshot), Zone: zones, Askers: dns.Askers{Default: zone.Asker{Cluster: "m1"}},
		Now: func() time.Time { return epoch },
	}
}

func responder(tb testing.TB, change ...func(*dns.Options)) *dns.Responder {
	tb.Helper()
	o := options(world().Publish())
	for _, f := range change {
		f(&o)
	}
	return dns.New(o)
}

func static(tb testing.TB, text string) *zone.Tree {
	tb.Helper()
	tree, err := zone.Static(zone.File{Name: "test", Origin: "example.org.", Reader: strings.NewReader(text)})
	if err != nil {
		tb.Fatal(err)
	}
	return tree
}

var (
	udp = listen.Source{Peer: netip.MustParseAddrPort("10.1.0.7:4242"), Local: netip.MustParseAddrPort("10.0.0.53:53")}
	tcp = listen.Source{Peer: udp.Peer, Local: udp.Local, Transport: listen.TCP}
)

func question(name string, rrtype uint16) *miekg.Msg {
	m := new(miekg.Msg)
	m.SetQuestion(name, rrtype)
	return m
}

// edns adds an OPT with options to a query.
func edns(m *miekg.Msg, options ...miekg.EDNS0) *miekg.Msg {
	m.SetEdns0(4096, false)
	m.IsEdns0().Option = options
	return m
}

func pack(tb testing.TB, m *miekg.Msg) []byte {
	tb.Helper()
	message, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return message
}

func unpack(tb testing.TB, message []byte) *miekg.Msg {
	tb.Helper()
	m := new(miekg.Msg)
	if err := m.Unpack(message); err != nil {
		tb.Fatalf("a response that cannot be read: %v\n% x", err, message)
	}
	return m
}

func ask(tb testing.TB, r *dns.Responder, m *miekg.Msg, from listen.Source) *miekg.Msg {
	tb.Helper()
	message := r.Respond(nil, pack(tb, m), from)
	if len(message) == 0 {
		tb.Fatalf("no response to\n%s", m)
	}
	return unpack(tb, message)
}

func edes(m *miekg.Msg) (codes []uint16) {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if ede, ok := o.(*miekg.EDNS0_EDE); ok {
				codes = append(codes, ede.InfoCode)
			}
		}
	}
	return codes
}
