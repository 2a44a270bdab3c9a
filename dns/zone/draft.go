package zone

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// draft is the names of one service while they are put together.
type draft struct {
	tree    *Tree
	key     clusterset.Key
	service *clusterset.Service
	ttl     uint32
	names   map[string]*entry
	notes   []Note
}

// entry is what a name is going to have.
type entry struct {
	zone  int
	addrs []address
	srv   []srv
	cname string
	// weighted says that one address is to be answered at a time.
	weighted bool
	target   *Target
}

type address struct {
	netip.Addr
	weight uint64
}

// srv is a record of that type. Its target is a name of the same draft.
type srv struct {
	port   uint16
	target string
}

// mostNotes bounds what is kept for one service.
const mostNotes = 20

// fill puts the service's names of all zones together.
func (d *draft) fill(service *clusterset.Service) {
	d.service = service
	d.ttl = d.tree.options.TTL
	if service.Policy != nil {
		d.ttl = min(cmp.Or(service.Policy.TTL, d.ttl), maxTTL)
	}
	if !hostLabel(d.key.Name) || !hostLabel(d.key.Namespace) {
		d.note("its name or namespace is no DNS label in lower case, so it has no names")
		return
	}
	for i := range d.tree.zones {
		p := &d.tree.zones[i]
		p.fill(d, p)
	}
}

func (d *draft) note(format string, args ...any) {
	note := Note{Service: d.key, Text: fmt.Sprintf(format, args...)}
	switch {
	case len(d.notes) > mostNotes || slices.Contains(d.notes, note):
	case len(d.notes) == mostNotes:
		d.notes = append(d.notes, Note{Service: d.key, Text: "and more of its names"})
	default:
		d.notes = append(d.notes, note)
	}
}

// name makes a name exist: the labels, first to last, before base. It returns nil when that does not fit.
func (d *draft) name(zone int, base string, labels ...string) (string, *entry) {
	name := base
	for _, label := range slices.Backward(labels) {
		longer, ok := child(label, name)
		if !ok {
			d.note("%s.%s is too long for a name, so it is left out", strings.Join(labels, "."), Presentation([]byte(base)))
			return "", nil
		}
		name = longer
	}
	if at := d.names[name]; at != nil {
		return name, at
	}
	p := &d.tree.zones[zone]
	if p.reserved[name] || slices.ContainsFunc(p.inner, func(inner string) bool { return within(name, inner) }) {
		d.note("%s is a name of the zone itself or in another zone, so the service does not have it", Presentation([]byte(name)))
		return "", nil
	}
	at := &entry{zone: zone}
	d.names[name] = at
	return name, at
}

// add adds an address.
func (e *entry) add(addr netip.Addr, weight uint64) {
	if addr = addr.Unmap().WithZone(""); !addr.IsValid() {
		return
	}
	e.addrs = append(e.addrs, address{addr, weight})
}

// owned returns the names in order.
func (d *draft) owned() *owned {
	return &owned{names: slices.Sorted(maps.Keys(d.names)), notes: d.notes}
}

// put packs what the names have and puts it into the tree; what the tree has already stays.
func (d *draft) put(c change, names []string) {
	sets := make([][]*RRset, len(names))
	for i, name := range names {
		sets[i] = d.addresses(name)
	}
	var shared []*RRset
	for i, name := range names {
		at := d.names[name]
		old, found := c.tree.names.get([]byte(name))
		if len(at.srv) > 0 {
			set := d.services(at)
			if found {
				set = reuse(set, old.sets)
			}
			set = reuse(set, shared)
			shared = append(shared, set)
			sets[i] = append(sets[i], set)
		}
		if !found || !old.kept || !slices.Equal(old.sets, sets[i]) {
			c.set(name, at.zone, slices.Clip(sets[i]))
		}
	}
}

// reuse returns a set that says the same, if there is one.
func reuse(set *RRset, sets []*RRset) *RRset {
	if at := slices.IndexFunc(sets, set.equal); at >= 0 {
		return sets[at]
	}
	return set
}

// addresses packs the addresses of a name, or its CNAME, and remembers it as a target.
func (d *draft) addresses(name string) []*RRset {
	at := d.names[name]
	var old []*RRset
	if node, found := d.tree.names.get([]byte(name)); found {
		old = node.sets
	}
	if at.cname != "" {
		return []*RRset{reuse(aliasSet(at.cname, d.ttl), old)}
	}
	if len(at.addrs) == 0 {
		return nil
	}
	at.target = &Target{Name: []byte(name)}
	var sets []*RRset
	for _, ipv6 := range []bool{false, true} {
		set := at.family(ipv6, d.ttl)
		if set == nil {
			continue
		}
		set = reuse(set, old)
		sets = append(sets, set)
		if ipv6 {
			at.target.AAAA = set
		} else {
			at.target.A = set
		}
	}
	return sets
}

// family packs the addresses of one family, without duplicates: those that are weighed together add up.
func (e *entry) family(ipv6 bool, ttl uint32) *RRset {
	var addrs []netip.Addr
	var weights []uint64
	for _, addr := range e.addrs {
		if addr.Is6() != ipv6 {
			continue
		}
		if e.weighted {
			if at := slices.Index(addrs, addr.Addr); at >= 0 {
				weights[at] += addr.weight
				continue
			}
		}
		addrs, weights = append(addrs, addr.Addr), append(weights, addr.weight)
	}
	set := addressSet(addrs, ttl)
	if e.weighted && len(weights) > 1 {
		for i := 1; i < len(weights); i++ {
			weights[i] += weights[i-1]
		}
		set.more = &more{sums: weights}
	}
	return set
}

// sort orders addresses and drops duplicates.
func (e *entry) sort() {
	slices.SortFunc(e.addrs, func(a, b address) int { return a.Compare(b.Addr) })
	e.addrs = slices.CompactFunc(e.addrs, func(a, b address) bool { return a.Addr == b.Addr })
}

// services packs the SRV records of a name, with equal priorities, and weights as cluster DNS gives them.
func (d *draft) services(at *entry) *RRset {
	slices.SortFunc(at.srv, func(a, b srv) int { return cmp.Or(strings.Compare(a.target, b.target), cmp.Compare(a.port, b.port)) })
	at.srv = slices.Compact(at.srv)
	const priority, whole = 0, 100
	weight := uint16(max(1, whole/len(at.srv))) //nolint:gosec // at most 100
	size := 0
	for _, r := range at.srv {
		size += fixed + 6 + len(r.target)
	}
	set := &RRset{rrtype: dns.TypeSRV, ttl: d.ttl, count: uint32(len(at.srv)), records: make([]byte, 0, size), more: &more{}} //nolint:gosec // fits
	for _, r := range at.srv {
		set.records = header(set.records, dns.TypeSRV, d.ttl, 6+len(r.target))
		set.records = binary.BigEndian.AppendUint16(set.records, priority)
		set.records = binary.BigEndian.AppendUint16(set.records, weight)
		set.records = binary.BigEndian.AppendUint16(set.records, r.port)
		set.records = append(set.records, r.target...)
		set.more.targets = append(set.more.targets, d.names[r.target].target)
	}
	set.more.targets = slices.Clip(set.more.targets)
	return set
}

func aliasSet(target string, ttl uint32) *RRset {
	set := &RRset{rrtype: dns.TypeCNAME, ttl: ttl, count: 1}
	set.records = append(header(make([]byte, 0, fixed+len(target)), dns.TypeCNAME, ttl, len(target)), target...)
	return set
}
