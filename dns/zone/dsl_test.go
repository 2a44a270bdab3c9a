package zone_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// world is a builder with short words for what tests need.
type world struct {
	*clusterset.Builder
}

func newWorld() world { return world{clusterset.NewBuilder(0)} }

func key(s string) clusterset.Key {
	namespace, name, _ := strings.Cut(s, "/")
	return clusterset.Key{Namespace: namespace, Name: name}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// cluster is a cluster in a network, a region, and perhaps with gateways.
func (w world) cluster(id, network, region string, gateways ...string) {
	cluster := clusterset.Cluster{ID: id, Network: network, Region: region}
	for _, gateway := range gateways {
		cluster.Gateways = append(cluster.Gateways, clusterset.Gateway{Addr: addr(gateway), Port: 15443})
	}
	w.SetCluster(cluster)
}

var ports = []clusterset.Port{{Name: "http", Port: 80}, {Port: 90}}

// headless exports a headless service with pods: "10.0.0.1", "10.0.0.2=db-0" with a hostname, "!10.0.0.3" when it is not ready.
func (w world) headless(cluster, service string, pods ...string) {
	w.SetExport(cluster, key(service), clusterset.Export{Properties: &clusterset.Properties{Headless: true, Ports: ports}})
	w.pods(cluster, service, pods...)
}

func (w world) pods(cluster, service string, pods ...string) {
	group := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: 8080}, {Port: 9090}}}
	for _, pod := range pods {
		conditions := clusterset.Ready | clusterset.Serving
		if rest, unready := strings.CutPrefix(pod, "!"); unready {
			pod, conditions = rest, 0
		}
		at, hostname, _ := strings.Cut(pod, "=")
		group.Endpoints = append(group.Endpoints, clusterset.Endpoint{Addr: addr(at), Hostname: clusterset.Intern(hostname), Conditions: conditions})
	}
	w.SetEndpoints(cluster, key(service), clusterset.Endpoints{Groups: []clusterset.Group{group}})
}

// addressed exports a service with an address.
func (w world) addressed(cluster, service string, pods ...string) {
	w.SetExport(cluster, key(service), clusterset.Export{Properties: &clusterset.Properties{Ports: ports}})
	w.pods(cluster, service, pods...)
}

// derived notes the addresses of the derived Service.
func (w world) derived(cluster, service string, ips ...string) {
	addrs := make([]netip.Addr, len(ips))
	for i, ip := range ips {
		addrs[i] = addr(ip)
	}
	w.SetImport(cluster, key(service), clusterset.Import{ClusterIPs: addrs})
}

func (w world) tree(cluster string, o zone.Options) *zone.Tree {
	return zone.Next(nil, w.Publish(), zone.Asker{Cluster: cluster}, o)
}

var kinds = map[zone.Kind]string{
	zone.Outside: "REFUSED", zone.Missing: "NXDOMAIN", zone.Exists: "", zone.Alias: "alias ", zone.Wildcard: "wildcard ",
	zone.Delegated: "delegated ", zone.Renamed: "renamed ",
}

// ask returns the answer to a question in one line: "TTL data" of each record in the order of the set, separated by commas.
func ask(tb testing.TB, tree *zone.Tree, question string) string {
	tb.Helper()
	name, kind, _ := strings.Cut(question, " ")
	wire, err := zone.Wire(name)
	if err != nil {
		tb.Fatal(err)
	}
	match := tree.Find(wire)
	if (match.Apex == nil) != (match.Kind == zone.Outside) || (match.Node == nil) != (match.Kind <= zone.Missing) {
		tb.Fatalf("%s: an odd match: %+v", question, match)
	}
	if match.Node == nil {
		return kinds[match.Kind]
	}
	rrtype := dns.StringToType[kind]
	switch match.Kind {
	case zone.Delegated:
		rrtype = dns.TypeNS
	case zone.Alias:
		rrtype = dns.TypeCNAME
	case zone.Renamed:
		rrtype = dns.TypeDNAME
	default:
	}
	return kinds[match.Kind] + render(match.Node.RRset(rrtype))
}

func render(set *zone.RRset) string {
	if set == nil {
		return "NODATA"
	}
	var all []string
	for i, rr := range set.RRs("x.") {
		data := strings.TrimPrefix(rr.String(), rr.Header().String())
		if set.Weighted() {
			data += fmt.Sprintf(" weight=%d", set.Weight(i))
		}
		all = append(all, fmt.Sprintf("%d %s", rr.Header().Ttl, data))
	}
	return strings.Join(all, ", ")
}

// dump writes a whole tree: every name with every record, and what goes with it.
func dump(tree *zone.Tree) string {
	var b strings.Builder
	for apex := range tree.Zones() {
		fmt.Fprintf(&b, "zone %s %d\n", apex.Name(), apex.Serial())
		tree.Walk(apex, func(owner string, node *zone.Node) bool {
			fmt.Fprintf(&b, "%s %v\n", owner, node.Types())
			for _, set := range node.RRsets() {
				fmt.Fprintf(&b, "  %s\n", render(set))
				for _, target := range set.Additional() {
					fmt.Fprintf(&b, "    %s\n", additional(target))
				}
			}
			return true
		})
	}
	for _, note := range tree.Notes() {
		fmt.Fprintf(&b, "note %s %s\n", note.Service, note.Text)
	}
	return b.String()
}

func additional(target *zone.Target) string {
	if target == nil {
		return "-"
	}
	text := []string{zone.Presentation(target.Name)}
	for _, set := range []*zone.RRset{target.A, target.AAAA} {
		if set != nil {
			text = append(text, "["+render(set)+"]")
		}
	}
	return strings.Join(text, " ")
}

// owners lists the names of all zones; those that zones have of others inside of them are there once.
func owners(tree *zone.Tree) []string {
	var all []string
	for apex := range tree.Zones() {
		tree.Walk(apex, func(owner string, _ *zone.Node) bool {
			all = append(all, owner)
			return true
		})
	}
	slices.Sort(all)
	return slices.Compact(all)
}

type row struct {
	reason, question, want string
}

func check(t *testing.T, tree *zone.Tree, rows []row) {
	t.Helper()
	for _, r := range rows {
		if got := ask(t, tree, r.question); got != r.want {
			t.Errorf("%s\n%s: got  %s\n%*s want %s", r.reason, r.question, got, len(r.question), "", r.want)
		}
	}
}

func hasNote(tree *zone.Tree, part string) bool {
	return slices.ContainsFunc(tree.Notes(), func(n zone.Note) bool { return strings.Contains(n.Text, part) })
}
