package zone

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/miekg/dns"
)

// File is one zone of a static tree.
type File struct {
	// Name is for errors, usually that of a file.
	Name string
	// Origin is the name of the zone, and what relative names in Reader are completed with; empty means the owner of the SOA,
	// and then Reader has to say $ORIGIN before the first relative name.
	Origin string
	// Reader has a zone file (RFC 1035, section 5; without $INCLUDE). It may be nil.
	Reader io.Reader
	// Records are further records, which were parsed already.
	Records []dns.RR
}

// Static returns the tree of zone files: one zone each, with wildcards (RFC 4592), zone cuts and DNAMEs (RFC 6672). It
// returns an error that names the file, and the line or the owner, if one cannot be parsed, does not have exactly
// one SOA and an NS at its apex, or has records that cannot stand beside each other. A record in a zone that is inside of its own and in
// the tree as well does not count: that zone knows better. Its NS and DS at the top of that zone do: they are the cut, which
// has the NS of that zone if there are none. The TTL of a set is the least of its records' (RFC 2181, section 5.2).
func Static(files ...File) (*Tree, error) {
	c := change{edit: &edit{}, tree: &Tree{}, touched: map[int]bool{}, cuts: map[int]map[uint16][]dns.RR{}}
	zones := make([][]dns.RR, len(files))
	for i, file := range files {
		rrs, err := file.read()
		if err == nil {
			err = c.top(file, rrs)
		}
		if err != nil {
			return nil, fmt.Errorf("reading zone file %q: %w", file.Name, err)
		}
		zones[i] = rrs
	}
	for i, file := range files {
		if err := c.load(i, zones[i]); err != nil {
			return nil, fmt.Errorf("loading zone file %q: %w", file.Name, err)
		}
	}
	if zone, err := c.arrange(); err != nil {
		return nil, fmt.Errorf("loading zone file %q: %w", files[zone].Name, err)
	}
	for i := range files {
		if err := c.divide(i); err != nil {
			return nil, err
		}
	}
	c.seal()
	return c.tree, nil
}

func (f *File) read() ([]dns.RR, error) {
	rrs := slices.Clone(f.Records)
	if f.Reader == nil {
		return rrs, nil
	}
	origin := ""
	if f.Origin != "" {
		origin = dns.Fqdn(f.Origin)
	}
	parser := dns.NewZoneParser(f.Reader, origin, f.Name)
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		rrs = append(rrs, rr)
	}
	return rrs, parser.Err()
}

// top finds the apex of a file's zone.
func (c change) top(file File, rrs []dns.RR) error {
	var soa *dns.SOA
	for _, rr := range rrs {
		if is, ok := rr.(*dns.SOA); ok && soa != nil {
			return fmt.Errorf("there is a second SOA, of %s, and a zone has one: remove it", is.Hdr.Name)
		} else if ok {
			soa = is
		}
	}
	if soa == nil {
		return errors.New("there is no SOA: a zone begins with one")
	}
	wire, err := Wire(soa.Hdr.Name)
	if err != nil {
		return fmt.Errorf("the owner %q of the SOA %w", soa.Hdr.Name, err)
	}
	if file.Origin != "" {
		if origin, err := Wire(file.Origin); err != nil || string(origin) != string(wire) {
			return fmt.Errorf("the SOA is that of %s, not of the zone %s", soa.Hdr.Name, file.Origin)
		}
	}
	if slices.ContainsFunc(c.tree.apexes, func(apex *Apex) bool { return string(apex.wire) == string(wire) }) {
		return fmt.Errorf("the zone %s is there already", soa.Hdr.Name)
	}
	apex := &Apex{name: Presentation(wire), wire: wire, serial: soa.Serial}
	negative := dns.Copy(soa)
	negative.Header().Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	if apex.negative, err = recordSet([]dns.RR{negative}); err != nil {
		return err
	}
	c.tree.apexes = append(c.tree.apexes, apex)
	return nil
}

// load puts the records of a zone into the tree.
func (c change) load(zone int, rrs []dns.RR) error {
	byName := map[string]map[uint16][]dns.RR{}
	var names []string
	for _, rr := range rrs {
		name, err := c.owner(zone, rr)
		if err != nil {
			return err
		}
		if inner := c.tree.zoneOf(name); inner != zone {
			c.claim(zone, inner, name, rr)
			continue
		}
		if byName[name] == nil {
			byName[name] = map[uint16][]dns.RR{}
			names = append(names, name)
		}
		byName[name][rr.Header().Rrtype] = append(byName[name][rr.Header().Rrtype], rr)
	}
	for _, name := range names {
		if err := compatible(name, byName[name]); err != nil {
			return err
		}
		sets, err := pack(byName[name])
		if err == nil {
			err = answerable(name, sets)
		}
		if err != nil {
			return err
		}
		c.set(name, zone, sets)
	}
	apex := c.tree.apexes[zone]
	node, _ := c.tree.names.get(apex.wire)
	apex.soa, apex.ns = node.RRset(dns.TypeSOA), node.RRset(dns.TypeNS)
	if apex.ns == nil {
		return fmt.Errorf("%s has no NS: name the servers of the zone", apex.name)
	}
	return nil
}

// claim keeps what a zone has to say of one inside of it.
func (c change) claim(zone, inner int, name string, rr dns.RR) {
	rrtype := rr.Header().Rrtype
	if name != c.apex(inner) || c.around(inner) != zone || rrtype != dns.TypeNS && rrtype != dns.TypeDS {
		return
	}
	if c.cuts[inner] == nil {
		c.cuts[inner] = map[uint16][]dns.RR{}
	}
	c.cuts[inner][rrtype] = append(c.cuts[inner][rrtype], rr)
}

// divide makes the cut between a zone and that around it, unless another cut is between them.
func (c change) divide(zone int) error {
	apex := c.tree.apexes[zone]
	for above, ok := parent(string(apex.wire)); ok; above, ok = parent(above) {
		if node, found := c.tree.names.get([]byte(above)); found {
			if node.place != nil && node.place.cut != nil {
				return nil
			}
			break
		}
	}
	sets, err := pack(c.cuts[zone])
	if err != nil {
		return err
	}
	for _, set := range sets {
		c.aim(set)
	}
	if len(sets) == 0 || sets[0].rrtype != dns.TypeNS {
		sets = slices.Insert(sets, 0, apex.ns)
	}
	c.cut(zone, sets...)
	return nil
}

// owner returns the name of a record, if it may stand in the zone.
func (c change) owner(zone int, rr dns.RR) (string, error) {
	header := rr.Header()
	kind := dns.Type(header.Rrtype)
	wire, err := Wire(header.Name)
	switch {
	case err != nil:
		return "", fmt.Errorf("the owner %q of a record of type %s %w", header.Name, kind, err)
	case !within(string(wire), c.apex(zone)):
		return "", fmt.Errorf("%s %s is not in the zone %s", header.Name, kind, c.tree.apexes[zone].name)
	case header.Class != dns.ClassINET:
		return "", fmt.Errorf("%s %s is of class %s, and only IN is served", header.Name, kind, dns.Class(header.Class))
	case header.Rrtype == dns.TypeNone || header.Rrtype == dns.TypeOPT || 128 <= header.Rrtype && header.Rrtype <= 255:
		return "", fmt.Errorf("%s has a record of type %s, which is not for zones (RFC 6895, section 3.1)", header.Name, kind)
	case wire[0] == 1 && wire[1] == '*' && (header.Rrtype == dns.TypeNS || header.Rrtype == dns.TypeDNAME):
		return "", fmt.Errorf("%s %s: a wildcard can neither delegate nor rename (RFC 4592, section 4)", header.Name, kind)
	}
	return string(wire), nil
}

// compatible checks what stands beside each other at a name.
func compatible(name string, sets map[uint16][]dns.RR) error {
	owner := Presentation([]byte(name))
	for _, single := range []uint16{dns.TypeCNAME, dns.TypeDNAME} {
		rrs := sets[single]
		if slices.ContainsFunc(rrs, func(rr dns.RR) bool { return !dns.IsDuplicate(rr, rrs[0]) }) {
			return fmt.Errorf("%s has %d records of type %s, and may have one", owner, len(rrs), dns.Type(single))
		}
	}
	if sets[dns.TypeCNAME] == nil {
		return nil
	}
	for rrtype := range sets {
		switch rrtype {
		case dns.TypeCNAME, dns.TypeRRSIG, dns.TypeNSEC:
		default:
			return fmt.Errorf("%s has a CNAME and other records, of type %s: an alias stands alone (RFC 2181, section 10.1)", owner, dns.Type(rrtype))
		}
	}
	return nil
}

// maxAnswer is how many octets of records an answer can have: as many as a message, less the header, the question and what an OPT
// and a signature need.
const maxAnswer = 1<<16 - 1 - 12 - (maxName + 4) - 1024

// answerable checks that each set of a name fits into a message.
func answerable(name string, sets []*RRset) error {
	for _, set := range sets {
		if len(set.records) > maxAnswer {
			return fmt.Errorf("%s has %d records of type %s with %d octets, more than the %d that fit into an answer: spread them over several names",
				Presentation([]byte(name)), set.count, dns.Type(set.rrtype), len(set.records), maxAnswer)
		}
	}
	return nil
}

// pack returns the sets of a name, sorted by type.
func pack(byType map[uint16][]dns.RR) ([]*RRset, error) {
	var sets []*RRset
	for _, rrs := range byType {
		least := rrs[0].Header().Ttl
		for _, rr := range rrs {
			least = min(least, rr.Header().Ttl)
		}
		if least > maxTTL {
			least = 0 // RFC 2181, section 8
		}
		set, err := recordSet(rrs)
		if err != nil {
			return nil, err
		}
		set.setTTL(least)
		sets = append(sets, set)
	}
	slices.SortFunc(sets, func(a, b *RRset) int { return int(a.rrtype) - int(b.rrtype) })
	return sets, nil
}

// arrange finds cuts, wildcards, DNAMEs and the targets of records, once all names are there. An
// error is that of the zone which it returns.
func (c change) arrange() (int, error) {
	var nodes []*Node
	c.tree.names.all(func(_ string, node *Node) bool {
		nodes = append(nodes, node)
		return true
	})
	slices.SortFunc(nodes, func(a, b *Node) int { return compareNames(a.name, b.name) })
	for _, node := range nodes { // those above come first
		if err := c.arrangeNode(node); err != nil {
			return int(node.zone), err
		}
		for _, set := range node.sets {
			c.aim(set)
		}
	}
	return 0, nil
}

func (c change) arrangeNode(node *Node) error {
	of := &place{renames: node.RRset(dns.TypeDNAME) != nil}
	if node.name != c.apex(int(node.zone)) {
		above, _ := parent(node.name)
		up, _ := c.tree.names.get([]byte(above))
		if err := of.under(up, node); err != nil {
			return err
		}
	}
	if of.cut != nil || of.renames {
		node.place = of
	}
	return nil
}

// under takes over what holds for the node above, and tells that one of a wildcard.
func (p *place) under(up, node *Node) error {
	if up.place != nil {
		p.cut = up.place.cut
		if up.place.renames {
			return fmt.Errorf("%s is below %s, which has a DNAME: nothing can be (RFC 6672, section 2.4)", node.Name(), up.Name())
		}
	}
	if p.cut == nil && node.RRset(dns.TypeNS) != nil {
		p.cut = node
	}
	if node.name[:2] == "\x01*" {
		if up.place == nil {
			up.place = &place{}
		}
		up.place.wildcard = node
	}
	return nil
}

// aim finds the addresses of what the records point to.
func (c change) aim(set *RRset) {
	before := map[uint16]int{dns.TypeNS: 0, dns.TypeMX: 2, dns.TypeSRV: 6}
	skip, points := before[set.rrtype]
	if !points {
		return
	}
	targets := make([]*Target, 0, set.count)
	found := false
	for record := range set.each() {
		target := c.tree.target(string(lower(slices.Clone(record[fixed+skip:]))))
		targets = append(targets, target)
		found = found || target != nil
	}
	if found {
		set.more = &more{targets: targets}
	}
}
