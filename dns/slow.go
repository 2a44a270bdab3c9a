package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/forward"
	"github.com/hansa-dev/hansa/dns/listen"
)

// slow answers any message but noise. It returns nil when upstreams have to be asked and wait is not set.
func (r *Responder) slow(ctx context.Context, dst, message []byte, from listen.Source, wait bool) []byte {
	if len(message) < headerSize || message[2]&(flagQR>>8) != 0 {
		return dst
	}
	flags := binary.BigEndian.Uint16(message[2:])
	switch {
	case flags&opcodeMask != 0:
		return r.bare(dst, message, &from, miekg.RcodeNotImplemented)
	case binary.BigEndian.Uint64(message[4:]) == 1:
		return r.hello(dst, message, &from, flags)
	case binary.BigEndian.Uint16(message[4:]) != 1:
		return r.bare(dst, message, &from, miekg.RcodeFormatError)
	}
	q := &request{message: message, from: &from, now: r.now()}
	a := &answer{flags: flagQR | flags&(flagRD|flagCD) | r.recursion(&from), hostname: r.options.Hostname, cookies: r.cookies}
	switch err := q.read(); {
	case q.question == nil:
		return r.bare(dst, message, &from, miekg.RcodeFormatError)
	case errors.Is(err, errVersion):
		a.rcode = miekg.RcodeBadVers
	case err != nil:
		a.rcode = miekg.RcodeFormatError
	default:
		_, q.fresh = r.cookies.check(q.cookie, from.Peer.Addr(), q.now)
		if !r.answer(ctx, q, a, wait) {
			return nil
		}
	}
	base := len(dst)
	dst = r.pack(dst, q, a)
	if q.signature != nil {
		dst = signed(dst, base, q.signature)
	}
	r.countSlow(q, a, dst[base:])
	return dst
}

// hello answers a query without a question and with a cookie, by which clients get a server's cookie or find out whether theirs
// is good (RFC 7873, 5.4). Anything else of that kind is malformed.
func (r *Responder) hello(dst, message []byte, from *listen.Source, flags uint16) []byte {
	q := &request{message: message, from: from, now: r.now(), size: minUDP}
	a := &answer{flags: flagQR | flags&(flagRD|flagCD) | r.recursion(from), cookies: r.cookies}
	_, err := layout(message)
	if err == nil {
		err = q.msg.Unpack(message)
	}
	if err == nil {
		err = q.readOPT()
	}
	switch {
	case errors.Is(err, errVersion):
		a.rcode = miekg.RcodeBadVers
	case err != nil || q.cookie == nil:
		return r.bare(dst, message, from, miekg.RcodeFormatError)
	default:
		_, q.fresh = r.cookies.check(q.cookie, from.Peer.Addr(), q.now)
	}
	base := len(dst)
	dst = r.pack(dst, q, a)
	r.countSlow(q, a, dst[base:])
	return dst
}

// bare appends a response of nothing but the header.
func (r *Responder) bare(dst, message []byte, from *listen.Source, rcode int) []byte {
	dst = append(dst, message[:2]...)
	flags := flagQR | binary.BigEndian.Uint16(message[2:])&opcodeMask | uint16(rcode) //nolint:gosec // four bits
	dst = binary.BigEndian.AppendUint16(dst, flags)
	r.metrics.count(0, 0, rcode, from)
	return append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
}

func (r *Responder) countSlow(q *request, a *answer, response []byte) {
	zoneIndex := 0
	if a.apex != nil {
		zoneIndex = r.metrics.zone(a.apex.Name())
	}
	if len(response) == 0 {
		r.metrics.missed.Add(1)
		return
	}
	r.metrics.count(zoneIndex, q.rrtype, a.rcode, q.from)
	for _, code := range a.ede {
		if code == miekg.ExtendedErrorCodeStaleAnswer {
			r.metrics.staleAnswers.Add(1)
		}
	}
}

// answer decides what is said. It reports false when upstreams have to be asked and wait is not set.
func (r *Responder) answer(ctx context.Context, q *request, a *answer, wait bool) bool {
	if q.msg.IsTsig() != nil && !r.verify(q, a) {
		return true
	}
	switch {
	case q.class == miekg.ClassCHAOS:
		r.chaos(q, a)
	case q.class != miekg.ClassINET:
		a.refuse(miekg.ExtendedErrorCodeNotAuthoritative)
	case q.rrtype == miekg.TypeAXFR || q.rrtype == miekg.TypeIXFR:
		r.transfer(q, a)
	case nonsense(q.rrtype):
		a.rcode = miekg.RcodeFormatError
	case q.rrtype == miekg.TypeMAILA || q.rrtype == miekg.TypeMAILB:
		a.rcode = miekg.RcodeNotImplemented
	default:
		if r.inZones(q, a) {
			break
		}
		return r.forward(ctx, q, a, wait)
	}
	return true
}

// nonsense are the types that nobody can ask for: those of the protocol, 0, and NXNAME (RFC 9824, 3.5).
func nonsense(rrtype uint16) bool {
	switch rrtype {
	case miekg.TypeNone, miekg.TypeOPT, miekg.TypeTSIG, miekg.TypeTKEY, miekg.TypeNXNAME:
		return true
	default:
		return false
	}
}

// refuse makes the answer a REFUSED that says why.
func (a *answer) refuse(why uint16) {
	a.rcode = miekg.RcodeRefused
	a.ede = append(a.ede, why)
}

// fail makes the answer a SERVFAIL that says why.
func (a *answer) fail(why uint16) {
	a.rcode = miekg.RcodeServerFailure
	a.ede = append(a.ede, why)
}

// chaos answers who the server is, as far as its operators want that told (RFC 4892).
func (r *Responder) chaos(q *request, a *answer) {
	text := ""
	switch strings.ToLower(q.msg.Question[0].Name) {
	case "version.bind.", "version.server.":
		text = r.options.Version
	case "hostname.bind.", "id.server.":
		text = r.options.Hostname
	}
	if text == "" {
		a.refuse(miekg.ExtendedErrorCodeProhibited)
		return
	}
	a.flags = a.flags&^flagRA | flagAA
	if q.rrtype == miekg.TypeTXT || q.rrtype == miekg.TypeANY {
		header := miekg.RR_Header{Name: q.msg.Question[0].Name, Rrtype: miekg.TypeTXT, Class: miekg.ClassCHAOS}
		a.answer = []miekg.RR{&miekg.TXT{Hdr: header, Txt: []string{text[:min(len(text), MaxText)]}}}
	}
}

// forward says what an upstream says. It reports false when that takes time and wait is not set.
func (r *Responder) forward(ctx context.Context, q *request, a *answer, wait bool) bool {
	f := r.options.Forward
	switch {
	case f == nil:
		a.refuse(miekg.ExtendedErrorCodeNotAuthoritative)
		return true
	case !r.forwards(q.from):
		a.refuse(miekg.ExtendedErrorCodeProhibited)
		return true
	}
	if q.msg.RecursionDesired = a.flags&flagRD != 0; !q.msg.RecursionDesired {
		a.refuse(miekg.ExtendedErrorCodeNotAuthoritative)
		return true
	}
	if a.message = f.Cached(&q.msg); a.message != nil {
		a.rcode = a.message.Rcode
		return true
	}
	if !wait {
		return false
	}
	message, err := f.Ask(ctx, &q.msg)
	switch {
	case errors.Is(err, forward.ErrBusy):
		a.fail(miekg.ExtendedErrorCodeOther)
	case err != nil:
		r.options.Log.V(1).Info("No upstream name server answers.", "name", q.msg.Question[0].Name, "err", err.Error())
		a.fail(miekg.ExtendedErrorCodeNoReachableAuthority)
	default:
		a.message, a.rcode = message, message.Rcode
	}
	return true
}
