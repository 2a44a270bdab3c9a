package zone_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

func explained(tree *zone.Tree, name string, rrtype uint16) string {
	var b strings.Builder
	for _, line := range tree.Explain(name, rrtype) {
		b.WriteString(strings.Repeat("  ", line.Depth) + line.Text + "\n")
	}
	return b.String()
}

// TestExplain tells stories for people.
func TestExplain(t *testing.T) {
	w := twoClusters()
	w.SetCluster(clusterset.Cluster{
		ID: "m2", Network: "flat", DataPlane: clusterset.Down, ControlPlane: clusterset.Down, LastKnown: time.Unix(1_790_000_000, 0),
	})
	w.headless("m1", "shop/odd", "10.1.0.9=a_b")
	tree := w.tree("m1", servers)
	for _, c := range []struct {
		reason, name string
		rrtype       uint16
		want         string
	}{
		{"a headless service", "db.shop.svc.clusterset.local", dns.TypeA, `
db.shop.svc.clusterset.local. A: 2 records, which may be kept for 5 s, from the zone clusterset.local., serial 0
  db.shop.svc.clusterset.local. 5 IN A 10.1.0.2
  db.shop.svc.clusterset.local. 5 IN A 10.1.0.3
service shop/db, for cluster m1: the ready endpoints that are reached there
  cluster far: reached through its gateways; traffic not known, API not known
    out: 10.3.0.2 (db-0): they are reached through a gateway, and the name lists pods
  cluster m1: reached at the pods' own addresses; traffic not known, API not known
    in: 10.1.0.2 (db-0), 10.1.0.3 (db-1), fd01::2 (db-0)
    out: 10.1.0.4 (db-2): the pod is not ready
  cluster m2: reached at the pods' own addresses; traffic Down, API Down; as known at 2026-09-21T14:13:20Z
    out: 10.2.0.2 (db-0), 10.2.0.9, fd02::: no traffic arrives in the cluster
`},
		{"an address", "web.shop.svc.clusterset.local", dns.TypeTXT, `
web.shop.svc.clusterset.local. has no TXT (NODATA), only A, AAAA, SRV
service shop/web has the address of its derived Service in cluster m1; behind it:
  cluster m1: reached at the pods' own addresses; traffic not known, API not known
    in: 10.1.0.1
`},
		{"nobody exports it", "www.shop.svc.clusterset.local", dns.TypeA, `
www.shop.svc.clusterset.local. does not exist (NXDOMAIN) in the zone clusterset.local., serial 0
service shop/www does not exist for cluster m1: no cluster exports the service: create a ServiceExport beside it
`},
		{"a server", "ns.dns.clusterset.local", dns.TypeA, `
ns.dns.clusterset.local. A: 1 records, which may be kept for 5 s, from the zone clusterset.local., serial 0
  ns.dns.clusterset.local. 5 IN A 10.96.0.10
the name is one of the zone itself
`},
		{"between names", "svc.clusterset.local", dns.TypeA, `
svc.clusterset.local. exists and has no records (NODATA) in the zone clusterset.local., serial 0
the name belongs to no service
`},
		{"what is left out", "a_b.m1.odd.shop.svc.clusterset.local", dns.TypeA, `
a_b.m1.odd.shop.svc.clusterset.local. does not exist (NXDOMAIN) in the zone clusterset.local., serial 0
service shop/odd, for cluster m1: the ready endpoints that are reached there
  cluster m1: reached at the pods' own addresses; traffic not known, API not known
    in: 10.1.0.9 (a_b)
the hostname "a_b" in cluster m1 is no DNS label: one made from the address is used
`},
		{"another zone", "example.org", dns.TypeA, `
example.org. is in no zone of this server: the query is refused, or forwarded where that is set up
  zone clusterset.local.
`},
		{"no name", "a..b", dns.TypeA, "\n\"a..b\" is not a domain name\n"},
	} {
		if diff := cmp.Diff(strings.TrimPrefix(c.want, "\n"), explained(tree, c.name, c.rrtype)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.reason, diff)
		}
	}
}

func TestExplainOutside(t *testing.T) {
	w := threeRegions()
	w.SetPolicy(key("shop/web"), clusterset.Policy{Weights: []clusterset.ClusterWeight{{Cluster: "eu-1", Weight: 3}}})
	tree := zone.Next(nil, w.Publish(), zone.Asker{Region: "us"}, everything)
	for name, parts := range map[string][]string{
		"web.shop.global.example.org":         {" 198.51.100.1", "for those outside of all clusters in the region us: the gateways"},
		"web.shop.fed.svc.eu.old.example.org": {"service shop/web, for those outside"},
		"web.shop.us-1.per.clusterset.local":  {" 198.51.100.1", "reached through its gateways"},
		"shop.global.example.org":             {"belongs to no service"},
	} {
		got := explained(tree, name, dns.TypeA)
		for _, part := range parts {
			if !strings.Contains(got, part) {
				t.Errorf("%s does not say %q:\n%s", name, part, got)
			}
		}
	}
	eu := explained(zone.Next(nil, w.Publish(), zone.Asker{Region: "EU"}, everything), "web.shop.global.example.org", dns.TypeA)
	if !strings.Contains(eu, "one of them at a time") || !strings.Contains(eu, "192.0.2.1 (weight 98304000)") {
		t.Errorf("weights are not told:\n%s", eu)
	}
}

// TestExplainStatic tells of names that are not plain.
func TestExplainStatic(t *testing.T) {
	tree := static(t, wild, other)
	for name, want := range map[string]string{
		"host3.example":             "host3.example. is covered by the wildcard *.example.",
		"x.any.other.example":       "x.any.other.example. is an alias",
		"below.child.other.example": "below.child.other.example. is delegated at child.other.example.",
		"a.old.other.example":       "a.old.other.example. is renamed at old.other.example.",
	} {
		if got := explained(tree, name, dns.TypeTXT); !strings.HasPrefix(got, want+"\n") {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
}
