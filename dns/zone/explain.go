package zone

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Line is one line of an explanation.
type Line struct {
	// Depth is how far it is to be indented: what is deeper explains what is above.
	Depth int
	Text  string
}

// explanation collects lines.
type explanation struct {
	tree  *Tree
	lines []Line
}

func (x *explanation) say(depth int, format string, args ...any) {
	x.lines = append(x.lines, Line{depth, fmt.Sprintf(format, args...)})
}

// Explain tells what the answer to a question is, and why: the records, the service that the name belongs to, and of every
// cluster which endpoints are in it and which are not. The name is in presentation form.
func (t *Tree) Explain(name string, rrtype uint16) []Line {
	x := &explanation{tree: t}
	wire, err := Wire(name)
	if err != nil {
		x.say(0, "%q %v", name, err)
		return x.lines
	}
	match := t.FindType(wire, rrtype)
	x.answer(wire, rrtype, match)
	if match.Apex != nil && t.snapshot != nil {
		x.zone(wire, match.Apex)
	}
	return x.lines
}

// answer tells what is found.
func (x *explanation) answer(wire []byte, rrtype uint16, match Match) {
	name, kind := Presentation(wire), dns.Type(rrtype)
	switch match.Kind {
	case Outside:
		x.say(0, "%s is in no zone of this server: the query is refused, or forwarded where that is set up", name)
		for apex := range x.tree.Zones() {
			x.say(1, "zone %s", apex.Name())
		}
	case Missing:
		x.say(0, "%s does not exist (NXDOMAIN) in the zone %s, serial %d", name, match.Apex.Name(), match.Apex.Serial())
	case Delegated:
		x.say(0, "%s is delegated at %s", name, match.Node.Name())
		x.records(match.Node.RRset(dns.TypeNS), match.Node.Name())
	case Renamed:
		x.say(0, "%s is renamed at %s", name, match.Node.Name())
		x.records(match.Node.RRset(dns.TypeDNAME), match.Node.Name())
	case Alias:
		x.say(0, "%s is an alias", name)
		x.records(match.Node.RRset(dns.TypeCNAME), name)
	default:
		x.found(name, kind, match)
	}
}

func (x *explanation) found(name string, kind dns.Type, match Match) {
	if match.Kind == Wildcard {
		x.say(0, "%s is covered by the wildcard %s", name, match.Node.Name())
	}
	set := match.Node.RRset(uint16(kind))
	switch {
	case set != nil:
		x.say(0, "%s %s: %d records, which may be kept for %d s, from the zone %s, serial %d",
			name, kind, set.Len(), set.TTL(), match.Apex.Name(), match.Apex.Serial())
		if set.Weighted() {
			x.say(1, "one of them at a time, drawn by weight")
		}
		x.records(set, name)
	case len(match.Node.sets) == 0:
		x.say(0, "%s exists and has no records (NODATA) in the zone %s, serial %d", name, match.Apex.Name(), match.Apex.Serial())
	default:
		var types []string
		for _, rrtype := range match.Node.Types() {
			types = append(types, dns.Type(rrtype).String())
		}
		x.say(0, "%s has no %s (NODATA), only %s", name, kind, strings.Join(types, ", "))
	}
}

// records lists a set, up to a length for people.
func (x *explanation) records(set *RRset, owner string) {
	if set == nil {
		return
	}
	const most = 50
	for i, rr := range set.RRs(owner) {
		switch {
		case i == most:
			x.say(1, "and %d more", set.Len()-most)
			return
		case i < most && set.Weighted():
			x.say(1, "%s (weight %d)", plain(rr), set.Weight(i))
		case i < most:
			x.say(1, "%s", plain(rr))
		}
	}
}

func plain(rr dns.RR) string { return strings.ReplaceAll(rr.String(), "\t", " ") }

// zone tells about the service that the name belongs to.
func (x *explanation) zone(wire []byte, apex *Apex) {
	t := x.tree
	zone := slices.Index(t.apexes, apex)
	p := &t.zones[zone]
	if p.reserved[string(wire)] {
		x.say(0, "the name is one of the zone itself")
		return
	}
	own := labels(string(wire[:len(wire)-len(apex.wire)]) + "\x00")
	key, ok := p.split(own, p)
	if !ok {
		x.say(0, "the name belongs to no service")
		return
	}
	x.service(key, p)
	id := key.String()
	if of, found := t.services.get([]byte(id)); found {
		for _, note := range of.notes {
			x.say(0, "%s", note.Text)
		}
	}
}

func (x *explanation) service(key clusterset.Key, p *projection) {
	t := x.tree
	from := t.consumer()
	if p.outsiders {
		from = t.outsider()
	}
	told := t.snapshot.Explain(key, from, "", time.Time{})
	service := t.snapshot.Service(key)
	switch {
	case told.Reason != clusterset.Used:
		x.say(0, "service %s does not exist for %s: %s", key, who(from), told.Reason.Explain())
		return
	case p.outsiders:
		x.say(0, "service %s, for %s: the gateways of the first priority", key, who(from))
		x.endpoints(told, t.snapshot.ViewHosts(key, from), true)
	case service.Properties.Headless || !p.schema:
		x.say(0, "service %s, for %s: the ready endpoints that are reached there", key, who(from))
		x.endpoints(told, t.snapshot.ViewHosts(key, from), !p.schema)
	default:
		x.address(service, from)
		x.endpoints(told, t.snapshot.ViewHosts(key, from), true)
	}
}

// who names a consumer.
func who(from clusterset.Consumer) string {
	switch {
	case from.Cluster != "":
		return "cluster " + from.Cluster
	case from.Region != "":
		return "those outside of all clusters in the region " + from.Region
	}
	return "those outside of all clusters"
}

func (x *explanation) address(service *clusterset.Service, from clusterset.Consumer) {
	if addrs := service.ClusterSetIPs(from.Cluster); len(addrs) > 0 {
		x.say(0, "service %s has the address of its derived Service in %s; behind it:", service.Key, who(from))
		return
	}
	x.say(0, "service %s has no derived Service for %s, so its name has no address; behind it would be:", service.Key, who(from))
}

// endpoints tells of every cluster what is in the answer and what is not.
func (x *explanation) endpoints(told clusterset.Explanation, hosts clusterset.Assignment, gateways bool) {
	used := reached(hosts, gateways)
	for _, cluster := range told.Clusters {
		x.say(1, "%s", stands(cluster, x.tree.snapshot.Cluster(cluster.Cluster)))
		var in []string
		out := map[clusterset.Reason][]string{}
		for _, verdict := range told.Endpoints {
			if verdict.Cluster != cluster.Cluster {
				continue
			}
			label := endpointName(verdict.Endpoint)
			switch {
			case used[site{cluster.Cluster, verdict.Endpoint.Addr}] || gateways && verdict.Reason == clusterset.Used:
				in = append(in, label)
			default:
				reason := withoutPorts(&verdict, cluster)
				out[reason] = append(out[reason], label)
			}
		}
		x.sides(in, out)
	}
}

// withoutPorts returns why an endpoint is out when ports do not count. A service with a port that has no name is explained
// for that port.
func withoutPorts(verdict *clusterset.Verdict, cluster clusterset.SourceFacts) clusterset.Reason {
	switch verdict.Reason {
	case clusterset.OtherFamily, clusterset.NoTargetPort, clusterset.PortNotExposed:
	default:
		return verdict.Reason
	}
	switch conditions := verdict.Endpoint.Conditions; {
	case conditions.Has(clusterset.Ready) && cluster.DataPlane == clusterset.Down:
		return clusterset.DataPlaneDown
	case !conditions.Has(clusterset.Ready):
		return clusterset.NotReady
	}
	return verdict.Reason
}

func (x *explanation) sides(in []string, out map[clusterset.Reason][]string) {
	if len(in) > 0 {
		x.say(2, "in: %s", listed(in))
	}
	reasons := make([]clusterset.Reason, 0, len(out))
	for reason := range out {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		why := "they are reached through a gateway, and the name lists pods"
		if reason != clusterset.Used {
			why = reason.Explain()
		}
		x.say(2, "out: %s: %s", listed(out[reason]), why)
	}
	if len(in)+len(out) == 0 {
		x.say(2, "no endpoints")
	}
}

// site is the place of an endpoint.
type site struct {
	cluster string
	addr    netip.Addr
}

// reached returns the endpoints that an assignment has at their own addresses.
func reached(hosts clusterset.Assignment, gateways bool) map[site]bool {
	used := map[site]bool{}
	if gateways {
		return used
	}
	for locality, target := range pods(hosts) {
		used[site{locality.Cluster, target.Addr.Addr()}] = true
	}
	return used
}

func endpointName(endpoint clusterset.Endpoint) string {
	if hostname := endpoint.Hostname.String(); hostname != "" {
		return fmt.Sprintf("%s (%s)", endpoint.Addr, hostname)
	}
	return endpoint.Addr.String()
}

// listed joins what fits a line.
func listed(all []string) string {
	const most = 12
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

// stands tells how a source cluster stands.
func stands(facts clusterset.SourceFacts, cluster *clusterset.Cluster) string {
	way := "through its gateways"
	if facts.Direct {
		way = "at the pods' own addresses"
	}
	text := fmt.Sprintf("cluster %s: reached %s; traffic %s, API %s", facts.Cluster, way,
		cmp.Or(string(facts.DataPlane), "not known"), cmp.Or(string(facts.ControlPlane), "not known"))
	if facts.State != clusterset.Active {
		text += "; " + string(facts.State)
	}
	if facts.Unread {
		text += "; its endpoints were never read"
	}
	if cluster != nil && !cluster.LastKnown.IsZero() {
		text += "; as known at " + cluster.LastKnown.UTC().Format(time.RFC3339)
	}
	return text
}
