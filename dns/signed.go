package dns

import (
	"slices"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/sign"
	"github.com/hansa-dev/hansa/dns/zone"
)

// signedType tells whether records of a type come from the signer.
func signedType(rrtype uint16) bool {
	return rrtype == miekg.TypeNSEC || slices.Contains(sign.Types(), rrtype)
}

// ownSigned answers what only the signer knows: the keys at the top of a zone, and the NSEC of a name that exists. It reports
// false for everything else.
func (w *walk) ownSigned() bool {
	signer := w.r.options.Sign
	if signer != nil && w.match.Kind == zone.Delegated && w.q.rrtype == miekg.TypeDS && w.ours(w.match.Node) {
		w.a.answer = []miekg.RR{signer.DS(w.owner)}
		return true
	}
	if signer == nil || !w.exists() || len(w.a.answer) > 0 {
		return false
	}
	if w.q.rrtype == miekg.TypeNSEC {
		if nsec := w.deny(); nsec != nil {
			w.a.answer = []miekg.RR{nsec}
			return true
		}
		return false
	}
	if !w.atApex() {
		return false
	}
	w.a.answer = signer.Apex(w.owner, w.q.rrtype)
	return w.a.answer != nil
}

// ours tells whether the zone below a cut is one of this tree, and so signed with the same key.
func (w *walk) ours(cut *zone.Node) bool {
	for apex := range w.tree.Zones() {
		if apex.Name() == cut.Name() {
			return true
		}
	}
	return false
}

func (w *walk) exists() bool {
	switch w.match.Kind {
	case zone.Exists, zone.Wildcard, zone.Alias:
		return true
	default:
		return false
	}
}

func (w *walk) atApex() bool {
	return w.match.Kind == zone.Exists && w.match.Node.Len() == len(w.match.Apex.Wire())
}

// seal signs the answer, for those who want that, and proves what is not there.
func (w *walk) seal() {
	if !w.signs {
		return
	}
	w.a.co = w.q.co
	if len(w.a.ns) > 0 && !w.prove() {
		w.a.answer, w.a.ns, w.a.extra = nil, nil, nil
		w.a.fail(miekg.ExtendedErrorCodeNSECMissing)
		return
	}
	var err error
	if w.a.answer, err = w.signSets(w.a.answer, false); err == nil {
		w.a.ns, err = w.signSets(w.a.ns, true)
	}
	if err != nil {
		w.r.options.Log.Error(err, "An answer could not be signed.")
		w.a.answer, w.a.ns, w.a.extra = nil, nil, nil
		w.a.fail(miekg.ExtendedErrorCodeRRSIGsMissing)
	}
}

// prove adds the NSEC to a negative answer, or a referral to a zone that is not signed, and reports whether it could.
// Compact denial answers NOERROR for names that do not exist, unless the asker says that it can do without (RFC 9824, 5.1).
func (w *walk) prove() bool {
	if w.match.Kind == zone.Delegated && w.match.Node.RRset(miekg.TypeDS) != nil {
		if !w.a.answered(miekg.TypeDS) {
			w.a.ns = append(w.a.ns, w.match.Node.RRset(miekg.TypeDS).RRs(w.match.Node.Name())...)
		}
		return true
	}
	nsec := w.deny()
	if nsec == nil {
		return false
	}
	w.a.ns = append(w.a.ns, nsec)
	if w.match.Kind == zone.Missing && !w.q.co {
		w.a.rcode = miekg.RcodeSuccess
	}
	return true
}

func (a *answer) answered(rrtype uint16) bool {
	return slices.ContainsFunc(a.answer, func(rr miekg.RR) bool { return rr.Header().Rrtype == rrtype })
}

// deny returns the NSEC of the name found last.
func (w *walk) deny() *miekg.NSEC {
	owner, ttl := w.owner, w.match.Apex.Negative().TTL()
	if w.match.Kind == zone.Missing {
		return sign.Deny(owner, nil, false, ttl)
	}
	types := w.match.Node.Types()
	switch {
	case w.match.Kind == zone.Delegated:
		owner = w.match.Node.Name()
		types = slices.DeleteFunc(types, func(t uint16) bool { return t != miekg.TypeNS && t != miekg.TypeDS })
	case w.atApex():
		types = append(types, sign.Types()...)
	}
	return sign.Deny(owner, types, true, ttl)
}

// signSets puts a signature behind each set that is ours: the servers of a zone cut are not, nor are aliases that
// follow from a DNAME.
func (w *walk) signSets(rrs []miekg.RR, authority bool) ([]miekg.RR, error) {
	var all []miekg.RR
	for len(rrs) > 0 {
		n := 1
		for n < len(rrs) && sameSet(rrs[0], rrs[n]) {
			n++
		}
		all = append(all, rrs[:n]...)
		cut := authority && rrs[0].Header().Rrtype == miekg.TypeNS
		if !cut && !w.follows(all, n) {
			signature, err := w.r.options.Sign.Sign(w.zoneOf(rrs[0].Header()), rrs[:n])
			if err != nil {
				return nil, err
			}
			all = append(all, signature)
		}
		rrs = rrs[n:]
	}
	return all, nil
}

// follows tells whether the last of the records is an alias made from the DNAME before it, of which only that is signed.
func (w *walk) follows(all []miekg.RR, n int) bool {
	if len(all) < n+2 || all[len(all)-1].Header().Rrtype != miekg.TypeCNAME {
		return false
	}
	before, ok := all[len(all)-2].(*miekg.RRSIG)
	return ok && before.TypeCovered == miekg.TypeDNAME
}

// zoneOf returns the zone of a record: the longest that its owner is in; at a cut to another one of our zones, that of the
// parent, where the DS is and the NSEC that says which types are at the cut (RFC 4035, 2.4).
func (w *walk) zoneOf(header *miekg.RR_Header) string {
	best, above := ".", header.Rrtype == miekg.TypeDS || header.Rrtype == miekg.TypeNSEC && w.match.Kind == zone.Delegated
	for apex := range w.tree.Zones() {
		if name := apex.Name(); miekg.IsSubDomain(name, header.Name) && len(name) > len(best) && (!above || len(name) < len(header.Name)) {
			best = name
		}
	}
	return best
}
