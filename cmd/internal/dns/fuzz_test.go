package dns_test

import (
	"net/netip"
	"testing"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
	"github.com/hansa-dev/hansa/dns/zone"
)

// FuzzAskers holds that whatever flags say is refused, or says who somebody is.
func FuzzAskers(f *testing.F) {
	for _, seed := range [][2]string{
		{"10.0.0.0/8=m1/a", "127.0.0.1:53=m1"}, {"::/0=m1", "::1=m2"}, {"::ffff:1.2.3.4=m1", "[fe80::1%eth0]:53=m1"}, {"0/0=m", "=m"}, {"10.0.0.1", "x=/"}, {"fe80::1%a/64=m1", "127.0.0.1:=m1"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, source, listener string) {
		flags := &dns.Flags{Addrs: []string{":0"}, Sources: []string{source}, Listeners: []string{listener}, Regions: []string{source}, Cluster: source}
		for _, each := range []func(){
			func() { flags.Cluster = "" }, func() { flags.Listeners = nil }, func() { flags.Regions = nil }, func() { flags.Sources = nil },
		} {
			askers, err := dns.Askers(flags)
			if err == nil {
				for prefix, asker := range askers.Sources {
					if asker.Cluster == "" || prefix != prefix.Masked() || prefix.Addr().Zone() != "" {
						t.Errorf("%s is %+v", prefix, asker)
					}
				}
				for at, asker := range askers.Listeners {
					if asker.Cluster == "" || !at.Addr().IsValid() || at.Addr().IsUnspecified() || at.Addr().Is4In6() {
						t.Errorf("%s is %+v", at, asker)
					}
				}
			}
			each()
		}
	})
}

// FuzzZones holds that the zones of flags which are accepted are those of a tree, each with names of its own.
func FuzzZones(f *testing.F) {
	for _, seed := range [][3]string{
		{"clusterset.local.", "global.example.org", "fed=example.com"}, {".", "", "="}, {"a", "b.a", "c=a.b.a"}, {`a\.b`, "é", "f=x..y"}, {"A.B", "a.b.", "f=a.b"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, clusterset, external, kubefed string) {
		zones := dns.Zones{ClusterSet: clusterset, External: []string{external}, KubeFed: []string{kubefed}, TTL: 5}
		options, err := zones.Options()
		if err != nil {
			return
		}
		apexes := 0
		for range zone.Next(nil, nil, zone.Asker{}, options).Zones() {
			apexes++
		}
		if apexes != 3 {
			t.Errorf("%q, %q and %q are %d zones", clusterset, external, kubefed, apexes)
		}
	})
}

// FuzzParseServer holds that an address of a server that is accepted can be asked.
func FuzzParseServer(f *testing.F) {
	for _, seed := range []string{"192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:53", "2001:db8::1", "::ffff:192.0.2.1", "192.0.2.1:0", "x", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := dns.ParseServer(text)
		if err == nil && (!at.IsValid() || at.Port() == 0 || at.Addr().Is4In6()) {
			t.Errorf("%q is %s", text, at)
		}
	})
}

// TestAsksItself tells upstreams that are this server from those that are not.
func TestAsksItself(t *testing.T) {
	for _, c := range []struct {
		reason, socket, upstream string
		want                     bool
	}{
		{"the same address", "192.0.2.1:53", "192.0.2.1:53", true},
		{"another port", "192.0.2.1:53", "192.0.2.1:5353", false},
		{"another address", "192.0.2.1:53", "192.0.2.2:53", false},
		{"all addresses, and this machine", ":53", "127.0.0.1:53", true},
		{"all addresses, and this machine in IPv6", "[::]:53", "[::1]:53", true},
		{"all addresses, and one that may be another machine's", ":53", "192.0.2.1:53", false},
		{"a port that is not known yet", "127.0.0.1:0", "127.0.0.1:53", false},
		{"no address", "x", "127.0.0.1:53", false},
	} {
		if got := dns.AsksItself(c.socket, netip.MustParseAddrPort(c.upstream)); got != c.want {
			t.Errorf("%s: %s asks itself at %s: %v", c.reason, c.upstream, c.socket, got)
		}
	}
}
