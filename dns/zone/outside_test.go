package zone_test

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// threeRegions has a service in four clusters, each with gateways, in three regions.
func threeRegions() world {
	w := newWorld()
	for _, c := range []struct {
		id, region, zone string
		gateways, pods   []string
	}{
		{"eu-1", "EU", "eu-a", []string{"192.0.2.1", "2001:db8::1"}, []string{"10.1.0.1", "10.1.0.2"}},
		{"eu-2", "EU", "eu-b", []string{"192.0.2.2", "192.0.2.3"}, []string{"10.2.0.1", "10.2.0.2"}},
		{"us-1", "us", "", []string{"198.51.100.1"}, []string{"10.3.0.1", "10.3.0.2"}},
		{"asia", "", "", []string{"203.0.113.1"}, []string{"10.4.0.1", "10.4.0.2"}},
	} {
		cluster := clusterset.Cluster{ID: c.id, Network: "flat", Region: c.region, Zone: c.zone}
		for _, gateway := range c.gateways {
			cluster.Gateways = append(cluster.Gateways, clusterset.Gateway{Addr: addr(gateway), Port: 15443})
		}
		w.SetCluster(cluster)
		w.addressed(c.id, "shop/web", c.pods...)
	}
	return w
}

// TestOutside asks the zones for outsiders, from different places, after something happened.
func TestOutside(t *testing.T) {
	down := func(ids ...string) func(w world) {
		return func(w world) {
			for _, id := range ids {
				facts := *w.Current().Cluster(id)
				facts.DataPlane = clusterset.Down
				w.SetCluster(facts)
			}
		}
	}
	policy := func(p clusterset.Policy) func(w world) {
		return func(w world) { w.SetPolicy(key("shop/web"), p) }
	}
	const (
		external = "web.shop.global.example.org A"
		everyone = "web.shop.fed.svc.old.example.org A"
		europe   = "web.shop.fed.svc.eu.old.example.org A"
		american = "web.shop.fed.svc.us.old.example.org A"
		zoneA    = "web.shop.fed.svc.eu-a.eu.old.example.org A"
	)
	all := "5 192.0.2.1, 5 192.0.2.2, 5 192.0.2.3, 5 198.51.100.1, 5 203.0.113.1"
	for _, c := range []struct {
		reason         string
		from           zone.Asker
		event          func(w world)
		question, want string
	}{
		{"nobody knows where they are: all", zone.Asker{}, nil, external, all},
		{"the region's own are nearest", zone.Asker{Region: "us"}, nil, external, "5 198.51.100.1"},
		{"several clusters of a region", zone.Asker{Region: "EU"}, nil, external, "5 192.0.2.1, 5 192.0.2.2, 5 192.0.2.3"},
		{"both families", zone.Asker{Region: "EU"}, nil, "web.shop.global.example.org AAAA", "5 2001:db8::1"},
		{"who is in a cluster gets gateways all the same", zone.Asker{Cluster: "us-1"}, nil, external, "5 198.51.100.1"},
		{"what a cluster says of its region counts", zone.Asker{Cluster: "us-1", Region: "EU"}, nil, external, "5 198.51.100.1"},
		{"a region without clusters", zone.Asker{Region: "mars"}, nil, external, all},
		{"nothing of the region is left: the rest", zone.Asker{Region: "us"}, down("us-1"), external, "5 192.0.2.1, 5 192.0.2.2, 5 192.0.2.3, 5 203.0.113.1"},
		{"nothing is left at all: the service exists", zone.Asker{}, down("us-1", "eu-1", "eu-2", "asia"), external, "NODATA"},
		{"the policy's order", zone.Asker{Region: "EU"}, policy(clusterset.Policy{
			Failover: []clusterset.Tier{{By: clusterset.ByCluster, Names: []string{"asia"}}, {By: clusterset.Any}},
		}), external, "5 203.0.113.1"},
		{"one of each cluster's, by weight; gateways share it, and the first takes what is left of the endpoints", zone.Asker{Region: "EU"}, policy(clusterset.Policy{
			Weights: []clusterset.ClusterWeight{{Cluster: "eu-1", Weight: 3}}, TTL: 9,
		}), external, "9 192.0.2.1 weight=98304000, 9 192.0.2.2 weight=32768000, 9 192.0.2.3 weight=32768000"},
		{"who outside is, is no consumer", zone.Asker{}, policy(clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"eu-1"}}}), external, "NXDOMAIN"},
		{"a namespace exists", zone.Asker{}, nil, "shop.global.example.org A", "NODATA"},
		{"no other service does", zone.Asker{}, nil, "db.shop.global.example.org A", "NXDOMAIN"},
		{"the zone has servers", zone.Asker{}, nil, "ns.dns.global.example.org A", "5 10.96.0.10"},
		{"and says who they are", zone.Asker{}, nil, "global.example.org NS", "5 ns.dns.global.example.org., 5 ns1.example.org."},
		{"what it does not have is a version", zone.Asker{}, nil, "dns-version.global.example.org TXT", "NXDOMAIN"},

		{"KubeFed: all", zone.Asker{}, nil, everyone, all},
		{"KubeFed: a region", zone.Asker{Region: "us"}, nil, europe, "5 192.0.2.1, 5 192.0.2.2, 5 192.0.2.3"},
		{"KubeFed: an availability zone", zone.Asker{}, nil, zoneA, "5 192.0.2.1"},
		{"KubeFed: an empty one points to the region", zone.Asker{}, down("eu-1"), zoneA, "alias 5 web.shop.fed.svc.eu.old.example.org."},
		{"KubeFed: an empty region points to all", zone.Asker{}, down("us-1"), american, "alias 5 web.shop.fed.svc.old.example.org."},
		{"KubeFed: a region that has no exporter", zone.Asker{}, nil, "web.shop.fed.svc.mars.old.example.org A", "NXDOMAIN"},
		{"KubeFed: another federation", zone.Asker{}, nil, "web.shop.other.svc.old.example.org A", "NXDOMAIN"},
		{"KubeFed: no policy, no names", zone.Asker{}, policy(clusterset.Policy{Consumers: &clusterset.Consumers{}}), everyone, "NXDOMAIN"},

		{"one cluster: its pods where they are reached", zone.Asker{Cluster: "eu-1"}, nil, "web.shop.us-1.per.clusterset.local A", "5 10.3.0.1, 5 10.3.0.2"},
		{"one cluster: its gateways where they are not", zone.Asker{}, nil, "web.shop.us-1.per.clusterset.local A", "5 198.51.100.1"},
		{"one cluster that is down", zone.Asker{}, down("us-1"), "web.shop.us-1.per.clusterset.local A", "NODATA"},
		{"one cluster: a zone inside of another", zone.Asker{}, nil, "per.clusterset.local SOA", "5 ns.dns.per.clusterset.local. hostmaster.per.clusterset.local. 0 60 10 604800 5"},
		{"a cluster that does not export it", zone.Asker{}, nil, "web.shop.m1.per.clusterset.local A", "NXDOMAIN"},
	} {
		w := threeRegions()
		before := zone.Next(nil, w.Publish(), c.from, everything)
		if c.event != nil {
			c.event(w)
		}
		snapshot := w.Publish()
		check(t, zone.Next(before, snapshot, c.from, everything), []row{{c.reason, c.question, c.want}})
		check(t, zone.Next(nil, snapshot, c.from, everything), []row{{c.reason, c.question, c.want}})
	}
}

// TestDraw draws every record as often as its weight says.
func TestDraw(t *testing.T) {
	w := threeRegions()
	w.SetPolicy(key("shop/web"), clusterset.Policy{Weights: []clusterset.ClusterWeight{{Cluster: "eu-1", Weight: 3}}})
	tree := zone.Next(nil, w.Publish(), zone.Asker{Region: "EU"}, everything)
	set := tree.Find(wire(t, "web.shop.global.example.org")).Node.RRset(dns.TypeA)
	drawn := make([]int, set.Len())
	for i := range uint64(400) {
		drawn[set.Draw(i<<54|i<<18)]++
	}
	for i, want := range []int{300, 50, 50} {
		if drawn[i] < want-60 || drawn[i] > want+60 {
			t.Errorf("of 400 draws record %d got %d, not about %d", i, drawn[i], want)
		}
	}
	plain := tree.Find(wire(t, "ns.dns.global.example.org")).Node.RRset(dns.TypeA)
	if plain.Weighted() || plain.Draw(1<<63) != 0 || plain.Weight(0) != 1 {
		t.Error("a set without weights draws evenly")
	}
}
