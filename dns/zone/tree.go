package zone

import (
	"hash/maphash"
	"iter"
	"slices"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Tree is all names of one or several zones. It is immutable. The zero value has none.
type Tree struct {
	names  trie[*Node]
	apexes []*Apex // by the zone of nodes

	// what Next needs of the tree before
	snapshot *clusterset.Snapshot
	from     Asker
	options  Options
	zones    []projection
	services trie[*owned]
	notes    []Note // about zones
}

// Note tells of something that is left out, for people.
type Note struct {
	// Service is whose names are left out; the zero value says that it is no service's.
	Service clusterset.Key
	// Text names what is left out, and why.
	Text string
}

// Sequence returns that of the snapshot from which the tree was made; 0 for static zones.
func (t *Tree) Sequence() uint64 {
	if t.snapshot == nil {
		return 0
	}
	return t.snapshot.Sequence()
}

// Len returns the number of names that exist.
func (t *Tree) Len() int { return t.names.size }

// Zones yields the apexes, in the order of the options or files.
func (t *Tree) Zones() iter.Seq[*Apex] { return slices.Values(t.apexes) }

// FindType looks a name up for a question about a type. That is Find, but for DS at the top of a zone that is inside of
// another one of the tree: the zone around has these, at the cut (RFC 4035, section 3.1.4.1). It does not allocate.
func (t *Tree) FindType(name []byte, rrtype uint16) Match {
	match := t.Find(name)
	if rrtype == dns.TypeDS && match.Kind == Exists && len(match.Apex.cut) > 0 && len(match.Apex.wire) == len(name) {
		return Match{Kind: Delegated, Node: match.Apex.cut[0], Apex: t.apexes[match.Apex.around]}
	}
	return match
}

// Find looks a name up. The name is in wire form, lower case, with the root label; what is malformed is in no zone. It does
// not allocate.
func (t *Tree) Find(name []byte) Match {
	if node, found := t.names.get(name); found {
		return t.match(node, node.kind())
	}
	for rest := name; ; {
		if len(rest) < 2 || rest[0] == 0 || rest[0] > maxLabel || int(rest[0])+1 >= len(rest) {
			return Match{}
		}
		rest = rest[int(rest[0])+1:]
		if encloser, found := t.names.get(rest); found {
			return t.below(encloser)
		}
	}
}

func (t *Tree) match(node *Node, kind Kind) Match {
	if kind == Delegated {
		node = node.place.cut
	}
	return Match{Kind: kind, Node: node, Apex: t.apexes[node.zone]}
}

// below returns what there is at a name that does not exist, below its closest encloser (RFC 4592, section 3.3.1).
func (t *Tree) below(encloser *Node) Match {
	place := encloser.place
	switch {
	case place == nil:
	case place.cut != nil:
		return t.match(encloser, Delegated)
	case place.renames:
		return t.match(encloser, Renamed)
	case place.wildcard != nil:
		kind := place.wildcard.kind()
		if kind == Exists {
			kind = Wildcard
		}
		return t.match(place.wildcard, kind)
	}
	return Match{Kind: Missing, Apex: t.apexes[encloser.zone]}
}

// Walk yields every name of a zone with its node, those without records included, in the canonical order (RFC 4034, section
// 6.1). The apex comes first. The cuts to zones inside of it are among them, with the addresses of their servers.
func (t *Tree) Walk(apex *Apex, yield func(owner string, node *Node) bool) {
	zone := slices.Index(t.apexes, apex)
	if zone < 0 {
		return
	}
	nodes := t.nodes(zone)
	slices.SortFunc(nodes, func(a, b *Node) int { return compareNames(a.name, b.name) })
	for _, node := range nodes {
		if !yield(node.Name(), node) {
			return
		}
	}
}

// nodes returns those of a zone, in no order.
func (t *Tree) nodes(zone int) []*Node {
	var nodes []*Node
	t.names.all(func(_ string, node *Node) bool {
		if int(node.zone) == zone {
			nodes = append(nodes, node)
		}
		return true
	})
	for _, inner := range t.apexes {
		if len(inner.cut) > 0 && inner.around == zone {
			nodes = append(nodes, inner.cut...)
		}
	}
	return nodes
}

// Sum returns a number that zones with other records have another one of, within this process. The SOA does not count.
func (t *Tree) Sum(apex *Apex) (sum uint64) {
	var hash maphash.Hash
	hash.SetSeed(seed)
	for _, node := range t.nodes(slices.Index(t.apexes, apex)) {
		for _, set := range node.sets {
			if set.rrtype == dns.TypeSOA {
				continue
			}
			hash.Reset()
			_, _ = hash.WriteString(node.name) // a name says where it ends
			_, _ = hash.Write(set.records)
			sum += hash.Sum64() // in any order
		}
	}
	return sum
}
