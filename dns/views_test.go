package dns_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// vips gives web.shop an address in each of n clusters.
func vips(n int) *clusterset.Builder {
	b := world()
	for i := range n {
		id := fmt.Sprintf("m%d", i+1)
		b.SetCluster(clusterset.Cluster{ID: id, Network: "flat"})
		b.SetImport(id, clusterset.Key{Namespace: "shop", Name: "web"}, clusterset.Import{ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(i + 1)})}})
	}
	return b
}

func vip(tb testing.TB, r *dns.Responder, from listen.Source) string {
	tb.Helper()
	m := ask(tb, r, question("web.shop.svc."+apex, miekg.TypeA), from)
	if len(m.Answer) != 1 {
		return "nothing"
	}
	return m.Answer[0].(*miekg.A).A.String()
}

func TestAskers(t *testing.T) {
	r := responder(t, func(o *dns.Options) {
		o.Snapshots = clusterset.NewLatest(vips(4).Publish())
		o.Askers = dns.Askers{
			Listeners: map[netip.AddrPort]zone.Asker{
				netip.MustParseAddrPort("10.0.0.54:0"):  {Cluster: "m2"},
				netip.MustParseAddrPort("10.0.0.55:53"): {Cluster: "m3"},
			},
			Sources: map[netip.Prefix]zone.Asker{
				netip.MustParsePrefix("10.2.0.0/16"):          {Cluster: "m2"},
				netip.MustParsePrefix("10.2.3.0/24"):          {Cluster: "m3"},
				netip.MustParsePrefix("::ffff:10.4.0.0/112"):  {Cluster: "m4"},
				netip.MustParsePrefix("2001:db8:4::/48"):      {Cluster: "m4"},
				netip.MustParsePrefix("2001:db8:4:5::17/128"): {Cluster: "m2"},
			},
			Regions: map[netip.Prefix]string{netip.MustParsePrefix("203.0.113.0/24"): "eu"},
			Default: zone.Asker{Cluster: "m1"},
		}
	})
	for _, row := range []struct{ reason, peer, local, want string }{
		{"nobody that is known is the default asker", "198.51.100.1", "10.0.0.53:53", "10.96.0.1"},
		{"a listener on any port", "198.51.100.1", "10.0.0.54:853", "10.96.0.2"},
		{"a listener on one port", "198.51.100.1", "10.0.0.55:53", "10.96.0.3"},
		{"which is not that of another port", "198.51.100.1", "10.0.0.55:853", "10.96.0.1"},
		{"the listener counts before the source", "10.2.3.4", "10.0.0.54:53", "10.96.0.2"},
		{"a source", "10.2.9.9", "10.0.0.53:53", "10.96.0.2"},
		{"the longest prefix", "10.2.3.4", "10.0.0.53:53", "10.96.0.3"},
		{"IPv4 within IPv6 is IPv4", "::ffff:10.2.3.4", "10.0.0.53:53", "10.96.0.3"},
		{"also in the table", "10.4.1.1", "10.0.0.53:53", "10.96.0.4"},
		{"IPv6", "2001:db8:4:5::18", "10.0.0.53:53", "10.96.0.4"},
		{"a single address", "2001:db8:4:5::17", "10.0.0.53:53", "10.96.0.2"},
		{"in no cluster there is no ClusterSetIP", "203.0.113.9", "10.0.0.53:53", "nothing"},
	} {
		from := listen.Source{Peer: netip.AddrPortFrom(netip.MustParseAddr(row.peer), 4242), Local: netip.MustParseAddrPort(row.local)}
		if got := vip(t, r, from); got != row.want {
			t.Errorf("%s: got %s, want %s", row.reason, got, row.want)
		}
	}
}

// TestViewsAreBounded has more askers than views: answers are right, and no more trees than that are kept.
func TestViewsAreBounded(t *testing.T) {
	sources := map[netip.Prefix]zone.Asker{}
	for i := range 20 {
		sources[netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)] = zone.Asker{Cluster: fmt.Sprintf("m%d", i+1)}
	}
	r := responder(t, func(o *dns.Options) {
		o.Snapshots, o.Views = clusterset.NewLatest(vips(20).Publish()), 4
		o.Askers.Sources = sources
	})
	for round := range 3 {
		for i := range 20 {
			from := listen.Source{Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i), 1, 1}), 4242), Local: udp.Local}
			if got, want := vip(t, r, from), fmt.Sprintf("10.96.0.%d", i+1); got != want {
				t.Errorf("round %d: m%d got %s, want %s", round, i+1, got, want)
			}
			if kept := r.Views(); kept > 4 {
				t.Fatalf("%d trees are kept", kept)
			}
		}
	}
}

func TestRunFollows(t *testing.T) {
	b := vips(2)
	latest := clusterset.NewLatest(b.Publish())
	r := responder(t, func(o *dns.Options) {
		o.Snapshots = latest
		o.Askers.Sources = map[netip.Prefix]zone.Asker{netip.MustParsePrefix("10.2.0.0/16"): {Cluster: "m2"}}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	second := listen.Source{Peer: netip.MustParseAddrPort("10.2.0.1:1"), Local: udp.Local}
	if got := vip(t, r, second); got != "10.96.0.2" {
		t.Fatalf("got %s", got)
	}
	b.SetImport("m2", clusterset.Key{Namespace: "shop", Name: "web"}, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.7.7")}})
	latest.Publish(b.Publish())
	until(t, func() bool { return vip(t, r, second) == "10.96.7.7" })
	if got := vip(t, r, udp); got != "10.96.0.1" {
		t.Errorf("m1 has %s", got)
	}
	snapshot, _ := latest.Current()
	until(t, func() bool { return r.Sequence() == snapshot.Sequence() })
}

// until waits for something that happens soon.
func until(tb testing.TB, happened func() bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatal("it did not happen")
		}
	}
}

func TestClientSubnet(t *testing.T) {
	r := responder(t, func(o *dns.Options) {
		o.Askers.Regions = map[netip.Prefix]string{
			netip.MustParsePrefix("198.51.0.0/16"):   "eu",
			netip.MustParsePrefix("198.51.100.0/24"): "us",
			netip.MustParsePrefix("2001:db8::/32"):   "us",
		}
	})
	for _, row := range []struct {
		reason, network, name string
		want                  string
		scope                 int // -1: no option
	}{
		{"the nearest gateway", "198.51.100.0/24", "front.shop.global.example.org.", "192.0.2.2", 24},
		{"another region", "198.51.7.0/24", "front.shop.global.example.org.", "192.0.2.1", 18},
		{"who says less than the table knows gets the wider network", "198.51.0.0/16", "front.shop.global.example.org.", "192.0.2.1", 18},
		{"IPv6", "2001:db8:7::/48", "front.shop.global.example.org.", "192.0.2.2", 32},
		{"names that do not exist depend on it as well", "198.51.100.0/24", "nobody.shop.global.example.org.", "", 24},
		{"inside it does not count, and nobody is told that it does", "198.51.100.0/24", "web.shop.svc." + apex, "10.96.0.1", -1},
	} {
		prefix := netip.MustParsePrefix(row.network)
		family := uint16(1)
		if prefix.Addr().Is6() {
			family = 2
		}
		m := ask(t, r, edns(question(row.name, miekg.TypeA), &miekg.EDNS0_SUBNET{
			Code: miekg.EDNS0SUBNET, Family: family, SourceNetmask: uint8(prefix.Bits()), Address: prefix.Addr().AsSlice(),
		}), udp)
		got := ""
		if len(m.Answer) == 1 {
			got = m.Answer[0].(*miekg.A).A.String()
		}
		scope := -1
		for _, o := range m.IsEdns0().Option {
			if s, ok := o.(*miekg.EDNS0_SUBNET); ok {
				scope = int(s.SourceScope)
				if s.SourceNetmask != uint8(prefix.Bits()) || s.Family != family {
					t.Errorf("%s: what the client sent comes back, got %s", row.reason, s)
				}
			}
		}
		if got != row.want || scope != row.scope {
			t.Errorf("%s: got %q with scope %d", row.reason, got, scope)
		}
	}
}

func TestWeightsHoldBehindResolvers(t *testing.T) {
	b := world()
	b.SetPolicy(clusterset.Key{Namespace: "shop", Name: "front"}, clusterset.Policy{
		Failover: []clusterset.Tier{{By: clusterset.Any}},
		Weights:  []clusterset.ClusterWeight{{Cluster: "m1", Weight: 90}, {Cluster: "m2", Weight: 10}},
	})
	b.SetCluster(clusterset.Cluster{ID: "m3", Region: "ap"})
	b.SetExport("m3", clusterset.Key{Namespace: "shop", Name: "front"}, clusterset.Export{Created: epoch, Properties: &clusterset.Properties{
		Ports: []clusterset.Port{{Name: "http", Port: 80}},
	}})
	r := responder(t, func(o *dns.Options) {
		o.Snapshots = clusterset.NewLatest(b.Publish())
		o.Zone.KubeFed = []zone.KubeFed{{Zone: "example.com.", Federation: "fed"}}
	})
	for name, aliases := range map[string]int{"front.shop.global.example.org.": 0, "front.shop.fed.svc.ap.example.com.": 1} {
		got := map[string]int{}
		for range 1000 {
			m := ask(t, r, question(name, miekg.TypeA), udp)
			if len(m.Answer) != aliases+1 {
				t.Fatalf("%s: got %d records: a resolver would divide evenly between addresses", name, len(m.Answer))
			}
			got[m.Answer[aliases].(*miekg.A).A.String()]++
		}
		if n := got["192.0.2.2"]; n < 50 || n > 160 {
			t.Errorf("%s: m2 was answered %d times of 1000, want about 100: %v", name, n, got)
		}
	}
}
