package transfer

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/zone"
)

// Zone is a zone as it is now.
type Zone struct {
	Tree *zone.Tree
	Apex *zone.Apex
	// Before are trees of the same asker from before, of which secondaries may hold the zone.
	Before []*zone.Tree
	// To is the address of who asks.
	To netip.Addr
}

// contents yields what answers the query. sent are the versions of the zone that who asks has from this server.
func (z *Zone) contents(query *dns.Msg, sent versions) iter.Seq[dns.RR] {
	soa := z.Apex.SOA().RRs(z.Apex.Name())
	if UpToDate(query, z.Apex) {
		return slices.Values(soa)
	}
	if then, apex := z.before(query, sent); then != nil {
		return chain(slices.Values(soa), difference(then, apex, z), slices.Values(soa))
	}
	return chain(slices.Values(soa), whole(z.Tree, z.Apex), slices.Values(soa))
}

// before returns the tree that an IXFR's sender has the zone of, or nil. A serial number alone does not tell: a server of
// another hub, or one that was started otherwise, may have used the same for other records.
func (z *Zone) before(query *dns.Msg, sent versions) (*zone.Tree, *zone.Apex) {
	serial, ok := serialOf(query)
	if !ok {
		return nil, nil
	}
	for _, tree := range z.Before {
		for apex := range tree.Zones() {
			if apex.Name() == z.Apex.Name() && apex.Serial() == serial && sent.has(serial, tree.Sum(apex)) {
				return tree, apex
			}
		}
	}
	return nil, nil
}

// serialOf returns which zone the sender of an IXFR has; ok is false for other queries.
func serialOf(query *dns.Msg) (serial uint32, ok bool) {
	if query.Question[0].Qtype != dns.TypeIXFR || len(query.Ns) != 1 {
		return 0, false
	}
	soa, ok := query.Ns[0].(*dns.SOA)
	if !ok {
		return 0, false
	}
	return soa.Serial, true
}

// UpToDate tells whether an IXFR is from somebody who has the zone already: its serial is ours, or a later one.
func UpToDate(query *dns.Msg, apex *zone.Apex) bool {
	serial, ok := serialOf(query)
	return ok && int32(serial-apex.Serial()) >= 0 //nolint:gosec // serial arithmetic (RFC 1982)
}

// chain yields one sequence after the other.
func chain(sequences ...iter.Seq[dns.RR]) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		for _, sequence := range sequences {
			for rr := range sequence {
				if !yield(rr) {
					return
				}
			}
		}
	}
}

// whole yields all records of a zone but the SOA.
func whole(tree *zone.Tree, apex *zone.Apex) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		tree.Walk(apex, func(owner string, node *zone.Node) bool {
			for _, set := range node.RRsets() {
				if set.Type() == dns.TypeSOA {
					continue
				}
				for _, rr := range set.RRs(owner) {
					if !yield(rr) {
						return false
					}
				}
			}
			return true
		})
	}
}

// difference yields the old SOA and what is gone, then the new one and what has come (RFC 1995, 4).
func difference(then *zone.Tree, apex *zone.Apex, now *Zone) iter.Seq[dns.RR] {
	old := nodes(then, apex)
	var gone, come []dns.RR
	now.Tree.Walk(now.Apex, func(owner string, node *zone.Node) bool {
		before := old[owner]
		delete(old, owner)
		if before != node {
			gone = append(gone, missing(owner, before, node)...)
			come = append(come, missing(owner, node, before)...)
		}
		return true
	})
	then.Walk(apex, func(owner string, node *zone.Node) bool {
		if old[owner] != nil {
			gone = append(gone, missing(owner, node, nil)...)
		}
		return true
	})
	return chain(slices.Values(apex.SOA().RRs(apex.Name())), slices.Values(gone),
		slices.Values(now.Apex.SOA().RRs(now.Apex.Name())), slices.Values(come))
}

func nodes(tree *zone.Tree, apex *zone.Apex) map[string]*zone.Node {
	all := map[string]*zone.Node{}
	tree.Walk(apex, func(owner string, node *zone.Node) bool {
		all[owner] = node
		return true
	})
	return all
}

// missing returns the records of a node that another one does not have; SOA is not looked at.
func missing(owner string, node, other *zone.Node) (rrs []dns.RR) {
	if node == nil {
		return nil
	}
	for _, set := range node.RRsets() {
		if set.Type() == dns.TypeSOA {
			continue
		}
		var there *zone.RRset
		if other != nil {
			there = other.RRset(set.Type())
		}
		switch there {
		case set:
		case nil:
			rrs = append(rrs, set.RRs(owner)...)
		default:
			rrs = append(rrs, without(set.RRs(owner), there.RRs(owner))...)
		}
	}
	return rrs
}

// without returns the records that are not among others. A record with another TTL is another one.
func without(rrs, others []dns.RR) []dns.RR {
	known := make(map[string]bool, len(others))
	for _, rr := range others {
		known[rr.String()] = true
	}
	return slices.DeleteFunc(rrs, func(rr dns.RR) bool { return known[rr.String()] })
}
