package dns

import (
	"bytes"
	"slices"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/zone"
)

// signatureData is the octets in an RRSIG of algorithm 13, but for the name of the zone (RFC 4034, 3.1; RFC 6605, 4).
const signatureData = 18 + 64

// maxAliases bounds how many CNAME and DNAME records one answer follows.
const maxAliases = 8

// inZones answers from our zones, and reports false when none has the name.
func (r *Responder) inZones(q *request, a *answer) bool {
	tree := r.views.current(r.views.of(q.from))
	match := tree.FindType(q.wire, q.rrtype)
	if match.Kind == zone.Outside {
		return false
	}
	if r.external[match.Apex.Name()] {
		if network, ok := q.network(); ok {
			of, scope := r.views.ofSubnet(network)
			tree = r.views.current(of)
			match = tree.FindType(q.wire, q.rrtype)
			a.subnet, a.scope = true, scope
		}
	}
	a.apex = match.Apex
	if tree.Sequence() == 0 && r.options.Static == nil {
		a.fail(miekg.ExtendedErrorCodeNotReady)
		return true
	}
	if r.stale.Load() {
		a.ede = append(a.ede, miekg.ExtendedErrorCodeStaleAnswer)
	}
	a.flags |= flagAA
	w := walk{
		r: r, tree: tree, q: q, a: a, random: random(q.msg.Id, q.from), signs: q.do && r.options.Sign != nil,
	}
	w.cut = r.options.Static == nil && (!w.signs || q.from.Transport.Stream())
	w.run(q.msg.Question[0].Name, q.wire, match)
	w.seal()
	return true
}

// walk follows a name through a tree.
type walk struct {
	r      *Responder
	tree   *zone.Tree
	q      *request
	a      *answer
	random uint64
	cut    bool // sets may be sampled
	signs  bool // the answer is to be signed

	owner string     // of the records found last, in presentation form
	match zone.Match // found last
}

// run adds the records for a name, and for those to which it points.
func (w *walk) run(owner string, wire []byte, match zone.Match) {
	var seen [][]byte
	for range maxAliases {
		w.owner, w.match = owner, match
		seen = append(seen, wire)
		target := w.step(wire)
		if target == "" {
			return
		}
		var err error
		if wire, err = zone.Wire(target); err != nil {
			return
		}
		if slices.ContainsFunc(seen, func(name []byte) bool { return bytes.Equal(name, wire) }) {
			return // aliases that go round
		}
		owner = target
		if match = w.tree.FindType(wire, w.q.rrtype); match.Kind == zone.Outside {
			w.match = match
			return // the resolver goes on by itself
		}
	}
}

// step adds the records for one name and returns the one to which it points, if that is the next to look at.
func (w *walk) step(wire []byte) (target string) {
	switch node := w.match.Node; w.match.Kind {
	case zone.Outside:
	case zone.Missing:
		w.a.rcode = miekg.RcodeNameError
		w.a.soa(w.match.Apex)
	case zone.Exists, zone.Wildcard:
		w.records(node)
	case zone.Alias:
		if w.q.rrtype == miekg.TypeCNAME || w.q.rrtype == miekg.TypeANY || node.RRset(w.q.rrtype) != nil {
			w.records(node)
			return ""
		}
		alias := node.RRset(miekg.TypeCNAME).RRs(w.owner)
		w.a.answer = append(w.a.answer, alias...)
		if cname, ok := alias[0].(*miekg.CNAME); ok {
			return cname.Target
		}
	case zone.Renamed:
		return w.rename(node)
	case zone.Delegated:
		w.refer(node, len(wire))
	}
	return ""
}

// records adds those of the type asked for. Type ANY gets the first type that there is (RFC 8482, 4.1).
func (w *walk) records(node *zone.Node) {
	set := node.RRset(w.q.rrtype)
	if sets := node.RRsets(); w.q.rrtype == miekg.TypeANY && len(sets) > 0 {
		set = sets[0]
	}
	if set == nil && w.ownSigned() {
		return
	}
	if set == nil {
		w.a.soa(w.match.Apex)
		return
	}
	rrs := set.RRs(w.owner)
	if len(w.a.answer) > 0 { // behind an alias there is no sampling
		if set.Weighted() {
			rrs = rrs[set.Draw(w.random):][:1]
		}
		w.a.answer = append(w.a.answer, rrs...)
		return
	}
	room := w.q.room(w.a)
	if w.signs {
		room -= fixedPacked + signatureData + len(w.match.Apex.Wire())
	}
	at := choose(set, room, w.random, w.cut)
	if at.count == 0 {
		w.a.flags |= flagTC
		return
	}
	for i := range at.count {
		w.a.answer = append(w.a.answer, rrs[(at.first+i)%len(rrs)])
	}
	w.additional(set, at)
}

// additional adds the addresses of what records point to.
func (w *walk) additional(set *zone.RRset, at choice) {
	all := set.Additional()
	if all == nil {
		return
	}
	var seen []*zone.Target
	for i := range min(at.count, targets) {
		target := all[(at.first+i)%set.Len()]
		if target == nil || slices.Contains(seen, target) {
			continue
		}
		seen = append(seen, target)
		name := zone.Presentation(target.Name)
		for _, addresses := range []*zone.RRset{target.A, target.AAAA} {
			if addresses != nil {
				w.a.extra = append(w.a.extra, addresses.RRs(name)...)
			}
		}
	}
}

// rename adds a DNAME and the alias that follows from it (RFC 6672, 3.1).
func (w *walk) rename(node *zone.Node) (target string) {
	set := node.RRset(miekg.TypeDNAME).RRs(node.Name())
	dname, ok := set[0].(*miekg.DNAME)
	if !ok {
		return ""
	}
	w.a.answer = append(w.a.answer, dname)
	labels := miekg.CountLabel(w.owner) - miekg.CountLabel(node.Name())
	start := 0
	for range labels {
		start, _ = miekg.NextLabel(w.owner, start)
	}
	target = w.owner[:start] + dname.Target
	if dname.Target == "." {
		target = w.owner[:start]
	}
	if wire, err := zone.Wire(target); err != nil || len(wire) > maxName {
		w.a.rcode = miekg.RcodeYXDomain
		return ""
	}
	header := miekg.RR_Header{Name: w.owner, Rrtype: miekg.TypeCNAME, Class: miekg.ClassINET, Ttl: dname.Hdr.Ttl}
	w.a.answer = append(w.a.answer, &miekg.CNAME{Hdr: header, Target: target})
	if w.q.rrtype == miekg.TypeCNAME || w.q.rrtype == miekg.TypeANY {
		return ""
	}
	return target
}

// refer sends the asker to the servers of a zone cut; the records of type DS at the cut are ours (RFC 4035, 3.1.4.1).
func (w *walk) refer(cut *zone.Node, length int) {
	if w.q.rrtype == miekg.TypeDS && cut.Len() == length {
		w.records(cut)
		return
	}
	if len(w.a.answer) == 0 {
		w.a.flags &^= flagAA
	}
	ns := cut.RRset(miekg.TypeNS)
	w.a.ns = append(w.a.ns, ns.RRs(cut.Name())...)
	w.additional(ns, choice{0, ns.Len()})
}
