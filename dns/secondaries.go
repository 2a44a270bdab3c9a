package dns

import (
	"encoding/binary"
	"net/netip"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/transfer"
	"github.com/hansa-dev/hansa/dns/zone"
)

// announce tells secondaries what the serials of their views are now.
func (r *Responder) announce() {
	if r.options.Transfer == nil {
		return
	}
	for i, addr := range r.options.Transfer.Secondaries() {
		if !addr.IsValid() {
			continue
		}
		tree := r.views.current(r.views.of(&listen.Source{Peer: netip.AddrPortFrom(addr.Addr(), 0)}))
		if tree.Sequence() == 0 && r.options.Static == nil {
			continue
		}
		var zones []*miekg.SOA
		for apex := range tree.Zones() {
			if soa, ok := apex.SOA().RRs(apex.Name())[0].(*miekg.SOA); ok {
				zones = append(zones, soa)
			}
		}
		r.options.Transfer.Announce(i, zones)
	}
}

// verify checks the TSIG of a query, and reports whether it holds. If not, that is the answer (RFC 8945, 5.2).
func (r *Responder) verify(q *request, a *answer) bool {
	q.signature = r.options.Transfer.Verify(q.message, &q.msg)
	q.size -= q.signature.Size()
	if q.signature.Error == 0 {
		return true
	}
	a.rcode = miekg.RcodeNotAuth
	return false
}

// signed replaces the response from base on by one with a TSIG.
func signed(dst []byte, base int, signature *transfer.Signature) []byte {
	var m miekg.Msg
	if err := m.Unpack(dst[base:]); err != nil {
		return dst[:base]
	}
	m.Compress = true
	packed, err := signature.Sign(&m)
	if err != nil {
		return dst[:base]
	}
	return append(dst[:base], packed...)
}

// Stream implements listen.Streamer: it is for zone transfers to secondaries.
func (r *Responder) Stream(message []byte, from listen.Source, send func([]byte) error) (handled bool, err error) {
	if r.options.Transfer == nil || from.Transport != listen.TCP && from.Transport != listen.TLS || !asksForZone(message) {
		return false, nil
	}
	q := &request{message: message, from: &from}
	if !q.sealed() {
		return false, nil
	}
	signature := r.options.Transfer.Verify(message, &q.msg)
	tree, apex := r.zoneFor(q)
	if signature.Error != 0 || !signature.Secondary || apex == nil || apex.SOA() == nil {
		return false, nil
	}
	if tree.Sequence() == 0 && r.options.Static == nil {
		return false, nil
	}
	r.metrics.count(r.metrics.zone(apex.Name()), q.rrtype, miekg.RcodeSuccess, &from)
	now := transfer.Zone{Tree: tree, Apex: apex, Before: r.views.history(r.views.of(&from)), To: from.Peer.Addr()}
	return true, r.options.Transfer.Send(&q.msg, signature, now, send)
}

// sealed tells whether a message is a query of class IN with a TSIG.
func (q *request) sealed() bool {
	return q.read() == nil && q.class == miekg.ClassINET && q.msg.IsTsig() != nil
}

// asksForZone tells whether a message is worth a closer look.
func asksForZone(message []byte) bool {
	if len(message) < headerSize || binary.BigEndian.Uint16(message[2:])&(flagQR|opcodeMask) != 0 || binary.BigEndian.Uint16(message[4:]) != 1 {
		return false
	}
	body := message[headerSize:]
	length := nameLength(body)
	if length == 0 || len(body) < length+4 {
		return false
	}
	rrtype := binary.BigEndian.Uint16(body[length:])
	return rrtype == miekg.TypeAXFR || rrtype == miekg.TypeIXFR
}

// zoneFor returns the zone that a query names; the apex is nil for none.
func (r *Responder) zoneFor(q *request) (*zone.Tree, *zone.Apex) {
	tree := r.views.current(r.views.of(q.from))
	match := tree.Find(q.wire)
	if match.Apex == nil || string(match.Apex.Wire()) != string(q.wire) {
		return tree, nil
	}
	return tree, match.Apex
}

// transfer answers an AXFR or IXFR in one message: that it is refused, or over UDP, where a zone does not fit, with the
// SOA. Who sees there that it is behind comes back over TCP (RFC 1995, 2).
func (r *Responder) transfer(q *request, a *answer) {
	if q.signature == nil || !q.signature.Secondary {
		a.refuse(miekg.ExtendedErrorCodeProhibited)
		return
	}
	tree, apex := r.zoneFor(q)
	switch {
	case apex == nil:
		a.rcode = miekg.RcodeNotAuth
		a.ede = append(a.ede, miekg.ExtendedErrorCodeNotAuthoritative)
	case tree.Sequence() == 0 && r.options.Static == nil:
		a.fail(miekg.ExtendedErrorCodeNotReady)
	case q.rrtype == miekg.TypeIXFR && q.from.Transport == listen.UDP:
		a.apex = apex
		a.flags |= flagAA
		a.answer = apex.SOA().RRs(apex.Name())
	default:
		a.refuse(miekg.ExtendedErrorCodeNotSupported)
	}
}
