package zone

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// What the SOA says to secondaries, in seconds. They are told of changes; this is for when they were not.
const (
	refresh = 60
	retry   = 10
	expire  = 7 * 24 * 3600
)

// The version of the multi-cluster DNS schema, and for how many seconds it may be kept.
const (
	schemaVersion = "1.0.0"
	schemaTTL     = 28800
)

// begin makes the zones of an empty tree.
func (c change) begin() {
	o := &c.tree.options
	c.zone(o.ClusterSet, projection{fill: fillClusterSet, split: splitClusterSet, schema: true})
	for _, external := range o.External {
		c.zone(external.Zone, projection{fill: fillExternal, split: splitExternal, outsiders: true})
	}
	for _, old := range o.KubeFed {
		if !hostLabel(old.Federation) {
			c.note("the zone %q is left out: the federation's name %q is no DNS label in lower case", old.Zone, old.Federation)
			continue
		}
		c.zone(old.Zone, projection{fill: fillKubeFed, split: splitKubeFed, outsiders: true, federation: old.Federation})
	}
	if o.PerCluster != "" {
		c.zone(o.PerCluster, projection{fill: fillPerCluster, split: splitPerCluster})
	}
	for i := range c.tree.apexes {
		c.own(i)
	}
	for i, apex := range c.tree.apexes {
		apex.ns = c.servers(i)
		c.authority(i, apex)
	}
	for i, apex := range c.tree.apexes {
		if apex.ns != nil {
			c.cut(i, apex.ns)
		}
	}
}

// cut gives the zone around one, if there is any, the records of the cut between them.
func (c change) cut(zone int, sets ...*RRset) {
	apex := c.tree.apexes[zone]
	around := c.around(zone)
	if around < 0 {
		return
	}
	at := &Node{name: string(apex.wire), sets: sets, zone: uint16(around), kept: true} //nolint:gosec // few zones
	at.place = &place{cut: at}
	apex.cut, apex.around = []*Node{at}, around
	if ns := at.RRset(dns.TypeNS); ns != nil {
		for _, target := range ns.Additional() {
			if target != nil && within(string(target.Name), at.name) && string(target.Name) != at.name {
				glue := &Node{name: string(target.Name), zone: at.zone, kept: true, place: at.place}
				for _, set := range []*RRset{target.A, target.AAAA} {
					if set != nil {
						glue.sets = append(glue.sets, set)
					}
				}
				apex.cut = append(apex.cut, glue)
			}
		}
	}
}

// resume takes everything over from the tree before.
func (c change) resume(old *Tree) {
	c.tree.names, c.tree.services, c.tree.zones, c.tree.notes = old.names, old.services, old.zones, old.notes
	for _, apex := range old.apexes {
		next := *apex
		c.tree.apexes = append(c.tree.apexes, &next)
	}
}

// seal ends the change.
func (c change) seal() {
	for _, apex := range c.tree.apexes {
		apex.node, _ = c.tree.names.get(apex.wire)
	}
}

func (c change) note(format string, args ...any) {
	note := Note{Text: fmt.Sprintf(format, args...)}
	if !slices.Contains(c.tree.notes, note) {
		c.tree.notes = append(c.tree.notes, note)
	}
}

// zone adds a zone without names.
func (c change) zone(name string, p projection) {
	wire, err := Wire(name)
	taken := func(apex *Apex) bool { return string(apex.wire) == string(wire) }
	switch {
	case err != nil || len(wire) > maxName-len("\x0ahostmaster"):
		c.note("the zone %q is left out: it is no domain name, or too long", name)
		return
	case slices.ContainsFunc(c.tree.apexes, taken):
		c.note("the zone %q is left out: there is one with that name already", name)
		return
	}
	p.zone, p.name, p.reserved = len(c.tree.apexes), string(wire), map[string]bool{}
	c.tree.zones = append(c.tree.zones, p)
	c.tree.apexes = append(c.tree.apexes, &Apex{name: Presentation(wire), wire: wire})
}

// own gives a zone the names that are its own, apart from the apex: first of all, so that services do not get them.
func (c change) own(zone int) {
	p := &c.tree.zones[zone]
	for other, apex := range c.tree.apexes {
		if other != zone && within(string(apex.wire), p.name) {
			p.inner = append(p.inner, string(apex.wire))
		}
	}
	p.reserved[p.name] = true
	for _, server := range c.tree.options.Nameservers {
		name, ok := c.serverName(zone, server)
		if ok && c.tree.zoneOf(name) == zone {
			p.reserved[name] = true
			c.set(name, zone, c.server(name, server.Addrs))
		}
	}
	if version, ok := child("dns-version", p.name); ok && p.schema {
		p.reserved[version] = true
		c.set(version, zone, []*RRset{textSet(schemaVersion, schemaTTL)})
	}
}

// serverName returns the name of a nameserver of a zone.
func (c change) serverName(zone int, server Nameserver) (string, bool) {
	wire, err := Wire(cmp.Or(server.Name, below("ns.dns", c.tree.apexes[zone].name)))
	if err != nil {
		c.note("the nameserver %q is left out: it is no domain name", server.Name)
		return "", false
	}
	return string(wire), true
}

// zoneOf returns the innermost zone that has a name, or -1.
func (t *Tree) zoneOf(name string) int {
	best := -1
	for i, apex := range t.apexes {
		if within(name, string(apex.wire)) && (best < 0 || len(apex.wire) > len(t.apexes[best].wire)) {
			best = i
		}
	}
	return best
}

// server packs the addresses of a nameserver.
func (c change) server(name string, addrs []netip.Addr) []*RRset {
	at := &entry{}
	if node, found := c.tree.names.get([]byte(name)); found {
		return node.sets // told twice
	}
	for _, addr := range addrs {
		at.add(addr, 1)
	}
	at.sort()
	var sets []*RRset
	for _, ipv6 := range []bool{false, true} {
		if set := at.family(ipv6, c.tree.options.TTL); set != nil {
			sets = append(sets, set)
		}
	}
	return sets
}

// servers packs the NS of a zone; nil for none.
func (c change) servers(zone int) *RRset {
	var names []string
	for _, server := range c.tree.options.Nameservers {
		if name, ok := c.serverName(zone, server); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	set := &RRset{rrtype: dns.TypeNS, ttl: c.tree.options.TTL, count: uint32(len(names)), more: &more{}} //nolint:gosec // few
	for _, name := range names {
		set.records = append(header(set.records, dns.TypeNS, set.ttl, len(name)), name...)
		set.more.targets = append(set.more.targets, c.tree.target(name))
	}
	return set
}

// target returns the addresses that the tree has of a name; nil for none.
func (t *Tree) target(name string) *Target {
	node, found := t.names.get([]byte(name))
	if !found {
		return nil
	}
	target := &Target{Name: []byte(name), A: node.RRset(dns.TypeA), AAAA: node.RRset(dns.TypeAAAA)}
	if target.A == nil && target.AAAA == nil {
		return nil
	}
	return target
}

// authority gives an apex its SOA, with its serial number.
func (c change) authority(zone int, apex *Apex) {
	soa := &dns.SOA{
		Hdr: dns.RR_Header{Name: apex.name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: c.tree.options.TTL},
		Ns:  below("ns.dns", apex.name), Mbox: below("hostmaster", apex.name),
		Serial: apex.serial, Refresh: refresh, Retry: retry, Expire: expire, Minttl: c.tree.options.TTL,
	}
	if apex.ns != nil {
		soa.Ns = Presentation(apex.ns.records[fixed : fixed+int(apex.ns.records[fixed-1])])
	}
	var sets []*RRset
	if set, err := recordSet([]dns.RR{soa}); err == nil {
		apex.soa, apex.negative = set, set
		sets = append(sets, set)
	}
	if apex.ns != nil {
		sets = slices.Insert(sets, 0, apex.ns)
	}
	c.set(string(apex.wire), zone, sets)
}

// textSet packs one record with one string, which has the form of a label.
func textSet(text string, ttl uint32) *RRset {
	set := &RRset{rrtype: dns.TypeTXT, ttl: ttl, count: 1}
	data, _ := child(text, "")
	set.records = append(header(nil, dns.TypeTXT, ttl, len(data)), data...)
	return set
}
