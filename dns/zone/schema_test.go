package zone_test

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// twoClusters has one network with two clusters, and a third one behind a gateway.
func twoClusters() world {
	w := newWorld()
	w.cluster("m1", "flat", "eu", "192.0.2.1")
	w.cluster("m2", "flat", "eu", "192.0.2.2")
	w.cluster("far", "other", "us", "192.0.2.3")
	w.addressed("m1", "shop/web", "10.1.0.1")
	w.derived("m1", "shop/web", "10.96.0.7", "fd00::7")
	w.derived("m2", "shop/web", "10.97.0.7")
	w.headless("m1", "shop/db", "10.1.0.2=db-0", "10.1.0.3=db-1", "!10.1.0.4=db-2", "fd01::2=db-0")
	w.headless("m2", "shop/db", "10.2.0.2=db-0", "10.2.0.9", "fd02::")
	w.headless("far", "shop/db", "10.3.0.2=db-0")
	return w
}

var servers = zone.Options{Nameservers: []zone.Nameserver{{Addrs: []netip.Addr{addr("10.96.0.10"), addr("fd00::a")}}}}

// TestSchema is the schema of KEP-1645, and what CoreDNS's multicluster plugin makes of it.
func TestSchema(t *testing.T) {
	tree := twoClusters().tree("m1", servers)
	check(t, tree, []row{
		{"the apex has a start of authority", "clusterset.local SOA", "5 ns.dns.clusterset.local. hostmaster.clusterset.local. 0 60 10 604800 5"},
		{"CoreDNS: NS at the apex is NODATA", "clusterset.local NS", "5 ns.dns.clusterset.local."},
		{"the servers have addresses", "ns.dns.clusterset.local A", "5 10.96.0.10"},
		{"of both families", "ns.dns.clusterset.local AAAA", "5 fd00::a"},
		{"CoreDNS: TXT at the apex is NXDOMAIN", "clusterset.local TXT", "NODATA"},
		{"CoreDNS: the version is that of another schema", "dns-version.clusterset.local TXT", `28800 "1.0.0"`},
		{"the version is a text", "dns-version.clusterset.local A", "NODATA"},
		{"names are compared without regard to case", "DNS-Version.ClusterSet.LOCAL TXT", `28800 "1.0.0"`},
		{"CoreDNS: empty non-terminals are NXDOMAIN", "svc.clusterset.local A", "NODATA"},
		{"a namespace with services exists", "shop.svc.clusterset.local A", "NODATA"},
		{"one without does not", "ops.svc.clusterset.local A", "NXDOMAIN"},
		{"dns is above ns.dns", "dns.clusterset.local A", "NODATA"},
		{"out of zone is for others: CoreDNS fails", "cluster.local A", "REFUSED"},
		{"the zone's parent is not ours", "local A", "REFUSED"},
		{"nor is the root", ". NS", "REFUSED"},
		{"a name that ends alike is in another zone", "notclusterset.local A", "REFUSED"},

		{"the address is that of the asking cluster's derived Service", "web.shop.svc.clusterset.local A", "5 10.96.0.7"},
		{"of both families", "web.shop.svc.clusterset.local AAAA", "5 fd00::7"},
		{"SRV at the port's name", "_http._tcp.web.shop.svc.clusterset.local SRV", "5 0 100 80 web.shop.svc.clusterset.local."},
		{"SRV at the service too; CoreDNS: one for the unnamed port", "web.shop.svc.clusterset.local SRV", "5 0 100 80 web.shop.svc.clusterset.local."},
		{"what the port's name has is SRV only", "_http._tcp.web.shop.svc.clusterset.local A", "NODATA"},
		{"the protocol is an empty non-terminal", "_tcp.web.shop.svc.clusterset.local SRV", "NODATA"},
		{"no port has that protocol", "_udp.web.shop.svc.clusterset.local SRV", "NXDOMAIN"},
		{"no port has that name", "_https._tcp.web.shop.svc.clusterset.local SRV", "NXDOMAIN"},
		{"an address of a ClusterSetIP service is not one cluster's", "m1.web.shop.svc.clusterset.local A", "NXDOMAIN"},
		{"its pods have no names", "10-1-0-1.m1.web.shop.svc.clusterset.local A", "NXDOMAIN"},

		{"all ready endpoints on the same network", "db.shop.svc.clusterset.local A", "5 10.1.0.2, 5 10.1.0.3, 5 10.2.0.2, 5 10.2.0.9"},
		{"of both families", "db.shop.svc.clusterset.local AAAA", "5 fd01::2, 5 fd02::"},
		{"a hostname", "db-0.m1.db.shop.svc.clusterset.local A", "5 10.1.0.2"},
		{"a pod with two addresses has one name", "db-0.m1.db.shop.svc.clusterset.local AAAA", "5 fd01::2"},
		{"the same hostname in another cluster is another name", "db-0.m2.db.shop.svc.clusterset.local A", "5 10.2.0.2"},
		{"one that is not ready has no name", "db-2.m1.db.shop.svc.clusterset.local A", "NXDOMAIN"},
		{"a cluster owns no records and has names below it", "m1.db.shop.svc.clusterset.local A", "NODATA"},
		{"a cluster whose pods are not reached has no names", "far.db.shop.svc.clusterset.local A", "NXDOMAIN"},
		{"nor have they", "db-0.far.db.shop.svc.clusterset.local A", "NXDOMAIN"},
		{"hostnames are below clusters only", "db-0.db.shop.svc.clusterset.local A", "NXDOMAIN"},
		{"an endpoint without a hostname has its address as one", "10-2-0-9.m2.db.shop.svc.clusterset.local A", "5 10.2.0.9"},
		{"no label ends with a dash", "fd02--0.m2.db.shop.svc.clusterset.local AAAA", "5 fd02::"},
		{"below it nothing is", "x.10-2-0-9.m2.db.shop.svc.clusterset.local A", "NXDOMAIN"},
		{
			"endpoints times ports, with the port at which the pods listen; an endpoint counts once, in one family of each cluster",
			"_http._tcp.db.shop.svc.clusterset.local SRV", "5 0 25 8080 db-0.m1.db.shop.svc.clusterset.local., " +
				"5 0 25 8080 db-0.m2.db.shop.svc.clusterset.local., 5 0 25 8080 db-1.m1.db.shop.svc.clusterset.local., " +
				"5 0 25 8080 10-2-0-9.m2.db.shop.svc.clusterset.local.",
		},
	})
	if got, want := ask(t, tree, "db.shop.svc.clusterset.local SRV"), ask(t, tree, "_http._tcp.db.shop.svc.clusterset.local SRV"); got != want {
		t.Errorf("with one named port the service has the same SRV records, and it has %s", got)
	}
	if notes := tree.Notes(); len(notes) > 0 {
		t.Errorf("nothing is left out, but notes say %v", notes)
	}
}

// TestAskers is what others get of the same snapshot.
func TestAskers(t *testing.T) {
	w := twoClusters()
	for _, c := range []struct{ reason, cluster, question, want string }{
		{"another cluster has another address", "m2", "web.shop.svc.clusterset.local A", "5 10.97.0.7"},
		{"and it has one family", "m2", "web.shop.svc.clusterset.local AAAA", "NODATA"},
		{"a cluster without a derived Service has no address", "far", "web.shop.svc.clusterset.local A", "NODATA"},
		{"nothing would be at the end of an SRV", "far", "web.shop.svc.clusterset.local SRV", "NODATA"},
		{"so ports have no names", "far", "_http._tcp.web.shop.svc.clusterset.local SRV", "NXDOMAIN"},
		{"its own pods are in reach", "far", "db.shop.svc.clusterset.local A", "5 10.3.0.2"},
		{"outside of all clusters no pod is", "", "db.shop.svc.clusterset.local A", "NXDOMAIN"},
		{"nor an address", "", "web.shop.svc.clusterset.local A", "NODATA"},
		{"a cluster of which nothing is known has a network of its own", "new", "db.shop.svc.clusterset.local A", "NXDOMAIN"},
	} {
		check(t, w.tree(c.cluster, zone.Options{}), []row{{c.reason + " (" + c.cluster + ")", c.question, c.want}})
	}
}

// TestEvents changes the world once for each row, and asks before and after.
func TestEvents(t *testing.T) {
	for _, c := range []struct {
		reason string
		event  func(w world)
		row
	}{
		{"a cluster whose data plane is down is out at once", func(w world) {
			w.SetCluster(clusterset.Cluster{ID: "m2", Network: "flat", DataPlane: clusterset.Down})
		}, row{question: "db.shop.svc.clusterset.local A", want: "5 10.1.0.2, 5 10.1.0.3"}},
		{"its hostnames too, and the cluster's name", func(w world) {
			w.SetCluster(clusterset.Cluster{ID: "m2", Network: "flat", DataPlane: clusterset.Down})
		}, row{question: "m2.db.shop.svc.clusterset.local A", want: "NXDOMAIN"}},
		{"a control plane that does not answer changes nothing", func(w world) {
			w.SetCluster(clusterset.Cluster{ID: "m2", Network: "flat", ControlPlane: clusterset.Down})
		}, row{question: "db.shop.svc.clusterset.local A", want: "5 10.1.0.2, 5 10.1.0.3, 5 10.2.0.2, 5 10.2.0.9"}},
		{"none is ready", func(w world) {
			w.pods("m1", "shop/db", "!10.1.0.2=db-0")
			w.pods("m2", "shop/db")
		}, row{question: "db.shop.svc.clusterset.local A", want: "NXDOMAIN"}},
		{"what is left of a service that has gone is nothing", func(w world) {
			w.RemoveExport("m1", key("shop/web"))
		}, row{question: "web.shop.svc.clusterset.local A", want: "NXDOMAIN"}},
		{"a cluster that has left takes its records along", func(w world) {
			w.RemoveCluster("m2")
		}, row{question: "db-0.m2.db.shop.svc.clusterset.local A", want: "NXDOMAIN"}},
		{"the last service takes its namespace along", func(w world) {
			w.RemoveExport("m1", key("shop/web"))
			for _, id := range []string{"m1", "m2", "far"} {
				w.RemoveExport(id, key("shop/db"))
			}
		}, row{question: "svc.clusterset.local A", want: "NXDOMAIN"}},
		{"a policy may say how long answers last", func(w world) {
			w.SetPolicy(key("shop/web"), clusterset.Policy{TTL: 60})
		}, row{question: "web.shop.svc.clusterset.local SRV", want: "60 0 100 80 web.shop.svc.clusterset.local."}},
		{"for whom a service is not, it does not exist", func(w world) {
			w.SetPolicy(key("shop/web"), clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"m2"}}})
		}, row{question: "web.shop.svc.clusterset.local A", want: "NXDOMAIN"}},
		{"a headless one neither", func(w world) {
			w.SetPolicy(key("shop/db"), clusterset.Policy{Consumers: &clusterset.Consumers{}})
		}, row{question: "db-0.m1.db.shop.svc.clusterset.local A", want: "NXDOMAIN"}},
		{"a cluster without weight is out", func(w world) {
			w.SetPolicy(key("shop/db"), clusterset.Policy{Weights: []clusterset.ClusterWeight{{Cluster: "m1"}}})
		}, row{question: "db.shop.svc.clusterset.local A", want: "5 10.2.0.2, 5 10.2.0.9"}},
		{"failover orders, and headless names have all", func(w world) {
			w.SetPolicy(key("shop/db"), clusterset.Policy{Failover: []clusterset.Tier{
				{By: clusterset.ByCluster, Names: []string{"m2"}}, {By: clusterset.ByCluster, Names: []string{"m1"}},
			}})
		}, row{question: "db.shop.svc.clusterset.local A", want: "5 10.1.0.2, 5 10.1.0.3, 5 10.2.0.2, 5 10.2.0.9"}},
		{"a cluster that drains is out while others serve", func(w world) {
			w.SetCluster(clusterset.Cluster{ID: "m1", Network: "flat", State: clusterset.Draining})
		}, row{question: "db.shop.svc.clusterset.local A", want: "5 10.2.0.2, 5 10.2.0.9"}},
	} {
		w := twoClusters()
		before := w.tree("m1", zone.Options{})
		c.event(w)
		snapshot := w.Publish()
		after := zone.Next(before, snapshot, zone.Asker{Cluster: "m1"}, zone.Options{})
		c.row.reason = c.reason
		check(t, after, []row{c.row})
		check(t, zone.Next(nil, snapshot, zone.Asker{Cluster: "m1"}, zone.Options{}), []row{c.row})
	}
}

// TestPortElsewhere has a port that only a draining cluster serves: the SRV's target exists.
func TestPortElsewhere(t *testing.T) {
	w := newWorld()
	w.cluster("m1", "flat", "eu")
	w.SetCluster(clusterset.Cluster{ID: "m2", Network: "flat", State: clusterset.Draining})
	export := func(id, port string, pod string) {
		w.SetExport(id, key("shop/db"), clusterset.Export{Properties: &clusterset.Properties{
			Headless: true, Ports: []clusterset.Port{{Name: port, Port: int32(len(port))}},
		}})
		w.SetEndpoints(id, key("shop/db"), clusterset.Endpoints{Groups: []clusterset.Group{{
			Ports:     []clusterset.TargetPort{{Name: clusterset.Intern(port), Port: 99}},
			Endpoints: []clusterset.Endpoint{{Addr: addr(pod), Conditions: clusterset.Ready}},
		}}})
	}
	export("m1", "sql", "10.1.0.1")
	export("m2", "admin", "10.2.0.1")
	check(t, w.tree("m1", zone.Options{}), []row{
		{"the endpoints are those of the cluster in use", "db.shop.svc.clusterset.local A", "5 10.1.0.1"},
		{"nobody else serves this port", "_admin._tcp.db.shop.svc.clusterset.local SRV", "5 0 100 99 10-2-0-1.m2.db.shop.svc.clusterset.local."},
		{"so its target exists", "10-2-0-1.m2.db.shop.svc.clusterset.local A", "5 10.2.0.1"},
	})
}

func TestPorts(t *testing.T) {
	w := newWorld()
	w.SetExport("m1", key("shop/dns"), clusterset.Export{Properties: &clusterset.Properties{Ports: []clusterset.Port{
		{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "dns-tcp", Port: 53}, {Name: "assoc", Port: 7, Protocol: corev1.ProtocolSCTP},
	}}})
	w.derived("m1", "shop/dns", "10.96.0.53")
	check(t, w.tree("m1", zone.Options{}), []row{
		{"a protocol has its own label", "_dns._udp.dns.shop.svc.clusterset.local SRV", "5 0 100 53 dns.shop.svc.clusterset.local."},
		{"SCTP too", "_assoc._sctp.dns.shop.svc.clusterset.local SRV", "5 0 100 7 dns.shop.svc.clusterset.local."},
		{
			"the service has all named ports, and no record twice", "dns.shop.svc.clusterset.local SRV",
			"5 0 50 7 dns.shop.svc.clusterset.local., 5 0 50 53 dns.shop.svc.clusterset.local.",
		},
	})
}

// TestUnfit has what no Kubernetes API lets through, and what is too long for DNS.
func TestUnfit(t *testing.T) {
	long := strings.Repeat("x", 63)
	for _, c := range []struct {
		reason, note string
		world        func(w world)
		o            zone.Options
		row
	}{
		{"a service that is no label", "no DNS label", func(w world) { w.addressed("m1", "shop/Web") }, zone.Options{}, row{question: "web.shop.svc.clusterset.local A", want: "NXDOMAIN"}},
		{"a label of 64 octets", "no DNS label", func(w world) { w.addressed("m1", "shop/x"+long) }, zone.Options{}, row{question: "clusterset.local TXT", want: "NODATA"}},
		{"dots are no labels", "no DNS label", func(w world) { w.addressed("m1", "a.b/c") }, zone.Options{}, row{question: "c.a.b.svc.clusterset.local A", want: "NXDOMAIN"}},
		{
			"a name of more than 255 octets", "too long", func(w world) { w.headless("m1", long+"/"+long, "10.0.0.1="+long, "10.0.0.2=a") },
			zone.Options{ClusterSet: strings.Repeat("y", 50) + ".example"},
			row{question: long + "." + long + ".svc." + strings.Repeat("y", 50) + ".example A", want: "5 10.0.0.1, 5 10.0.0.2"},
		},
		{
			"a hostname that is no label", "one made from the address", func(w world) { w.headless("m1", "shop/db", "10.0.0.1=a_b") },
			zone.Options{},
			row{question: "_http._tcp.db.shop.svc.clusterset.local SRV", want: "5 0 100 8080 10-0-0-1.m1.db.shop.svc.clusterset.local."},
		},
		{"a zone that is no name", "is left out", func(world) {}, zone.Options{ClusterSet: "a..b"}, row{question: "a.b SOA", want: "REFUSED"}},
		{
			"a zone that is there twice", "there is one with that name", func(world) {},
			zone.Options{External: []zone.External{{Zone: "ClusterSet.local."}}},
			row{question: "clusterset.local NS", want: "5 ns.dns.clusterset.local."},
		},
		{
			"a nameserver that is no name", "nameserver", func(world) {},
			zone.Options{Nameservers: []zone.Nameserver{{Name: "a..b"}, {Name: "ns1.example.org"}}},
			row{question: "clusterset.local NS", want: "5 ns1.example.org."},
		},
		{
			"a service that has the name of a nameserver", "of the zone itself", func(w world) { w.addressed("m1", "dns/ns", "10.0.0.1") },
			zone.Options{External: []zone.External{{Zone: "example.org"}}},
			row{question: "ns.dns.example.org A", want: "NODATA"},
		},
		{
			"a service in a zone inside", "in another zone", func(w world) { w.addressed("m1", "shop/web", "10.0.0.1") },
			zone.Options{External: []zone.External{{Zone: "shop.svc.clusterset.local"}}},
			row{question: "web.shop.svc.clusterset.local A", want: "NXDOMAIN"},
		},
		{"the root has no label", "", func(world) {}, zone.Options{External: []zone.External{{Zone: "."}}}, row{question: ". NS", want: "5 ns.dns."}},
		{
			"what is between two zones exists", "", func(world) {},
			zone.Options{External: []zone.External{{Zone: "a.b.clusterset.local"}}},
			row{question: "b.clusterset.local A", want: "NODATA"},
		},
	} {
		w := newWorld()
		w.cluster("m1", "flat", "eu", "192.0.2.1")
		c.world(w)
		tree := w.tree("m1", c.o)
		c.row.reason = c.reason
		check(t, tree, []row{c.row})
		if c.note != "" && !hasNote(tree, c.note) {
			t.Errorf("%s: no note says %q, only %v", c.reason, c.note, tree.Notes())
		}
	}
}
