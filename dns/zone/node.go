package zone

import (
	"github.com/miekg/dns"
)

// Kind is what a tree has at a name.
type Kind uint8

// The kinds.
const (
	// Outside: no zone of the tree has the name. There is no Apex.
	Outside Kind = iota
	// Missing: the name does not exist (NXDOMAIN). There is no Node.
	Missing
	// Exists: Node is what is there, without records when only names below it exist.
	Exists
	// Alias: Node has a CNAME. It is at the name, or that of a wildcard which covers it.
	Alias
	// Wildcard: Node is that of a wildcard which covers the name (RFC 4592), and is to be used as if it were there.
	Wildcard
	// Delegated: the name is at or below a zone cut. Node is at the cut and has the NS, whose Additional are the glue.
	Delegated
	// Renamed: the name is below Node, which has a DNAME (RFC 6672).
	Renamed
)

// Match is what Find found.
type Match struct {
	Kind Kind
	Node *Node
	Apex *Apex
}

// Node is a name that exists. It is immutable.
type Node struct {
	name     string
	sets     []*RRset // sorted by type
	place    *place
	children uint32
	zone     uint16
	// kept says that it exists even with neither records nor children.
	kept bool
}

// place is what only nodes of static zones have.
type place struct {
	cut      *Node // the zone cut at or above it
	wildcard *Node // its child "*"
	renames  bool  // it has a DNAME
}

// RRset returns the records of a type; nil for none (NODATA).
func (n *Node) RRset(rrtype uint16) *RRset {
	for _, set := range n.sets {
		if set.rrtype == rrtype {
			return set
		}
	}
	return nil
}

// RRsets returns those of all types, sorted by type. The slice must not be modified.
func (n *Node) RRsets() []*RRset { return n.sets }

// Types returns the types of which there are records, sorted.
func (n *Node) Types() []uint16 {
	types := make([]uint16, len(n.sets))
	for i, set := range n.sets {
		types[i] = set.rrtype
	}
	return types
}

// Name returns the name in presentation form; that of a wildcard begins with "*".
func (n *Node) Name() string { return Presentation([]byte(n.name)) }

// Len returns the length of the name in wire form, in octets. Of Match.Node it tells whether it is at the name itself.
func (n *Node) Len() int { return len(n.name) }

func (n *Node) kind() Kind {
	switch {
	case n.place != nil && n.place.cut != nil:
		return Delegated
	case len(n.sets) > 0 && n.RRset(dns.TypeCNAME) != nil:
		return Alias
	}
	return Exists
}

// Apex is the top of a zone.
type Apex struct {
	name     string
	wire     []byte
	node     *Node
	soa      *RRset
	negative *RRset
	ns       *RRset
	serial   uint32
	// cut is what the zone around has of this one: the zone cut, and the addresses of servers below it. It is empty when no zone of
	// the tree is around; else around is the index of that.
	cut    []*Node
	around int
}

// Name returns the name of the zone in presentation form, with the final dot.
func (a *Apex) Name() string { return a.name }

// Wire returns the name of the zone as Find takes it. It must not be modified.
func (a *Apex) Wire() []byte { return a.wire }

// Serial returns the serial number of the zone.
func (a *Apex) Serial() uint32 { return a.serial }

// Node returns what is at the name of the zone.
func (a *Apex) Node() *Node { return a.node }

// SOA returns the start of authority.
func (a *Apex) SOA() *RRset { return a.soa }

// Negative returns the SOA as negative answers have it: with the TTL for which they may be kept (RFC 2308, section 3).
func (a *Apex) Negative() *RRset { return a.negative }

// NS returns the zone's servers; Additional has the addresses that are in the tree.
func (a *Apex) NS() *RRset { return a.ns }
