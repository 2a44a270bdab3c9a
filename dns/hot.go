package dns

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/zone"
)

const (
	maxStream  = math.MaxUint16
	edeSize    = 4 + 2
	cookieSize = 4 + wholeCookie
	pointer    = 0xC000
)

// response is one on its way through the hot path.
type response struct {
	out    []byte
	base   int // where it begins in out
	limit  int // octets of out that the records may take
	random uint64
	flags  uint16
	rcode  int
	ede    int // extended error; -1: none
	counts [3]uint16
	cut    bool // sets may be sampled
}

// hot answers a plain query, or reports that it does not know how. It does not allocate if dst has room.
func (r *Responder) hot(dst []byte, q *query, from *listen.Source, fresh bool, now time.Time) ([]byte, bool) {
	if r.options.Sign != nil && (q.do || signedType(q.rrtype)) {
		return dst, false
	}
	of := r.views.of(from)
	tree := r.views.current(of)
	match := tree.FindType(q.name(), q.rrtype)
	if !r.plainly(tree, &match, from) {
		return dst, false
	}
	p := response{out: dst, base: len(dst), random: random(q.id, from), flags: flagQR | q.flags&(flagRD|flagCD) | r.recursion(from)}
	p.cut = r.options.Static == nil
	p.ede = r.edeOf(match.Kind) // once: it may change meanwhile
	p.limit = p.base + q.limit(from.Transport) - q.optSize(p.ede)
	p.out = append(p.out, make([]byte, headerSize)...)
	p.out = append(p.out, q.question...)
	p.answer(q, &match)
	if q.edns {
		p.out = r.appendOPT(&p, q, from, fresh, now)
	}
	p.finish(q.id, q.edns)
	if p.ede == int(miekg.ExtendedErrorCodeStaleAnswer) {
		r.metrics.staleAnswers.Add(1)
	}
	zoneIndex := 0
	if match.Apex != nil {
		zoneIndex = r.metrics.zone(match.Apex.Name())
	}
	r.metrics.count(zoneIndex, q.rrtype, p.rcode, from)
	return p.out, true
}

// plainly tells whether the hot path answers what was found.
func (r *Responder) plainly(tree *zone.Tree, match *zone.Match, from *listen.Source) bool {
	switch match.Kind {
	case zone.Exists, zone.Missing:
		return tree.Sequence() != 0 || r.options.Static != nil
	case zone.Outside:
		return !r.forwards(from)
	default:
		return false
	}
}

// edeOf returns the extended error of a response, or -1.
func (r *Responder) edeOf(kind zone.Kind) int {
	switch {
	case kind == zone.Outside && r.options.Forward != nil:
		return int(miekg.ExtendedErrorCodeProhibited)
	case kind == zone.Outside:
		return int(miekg.ExtendedErrorCodeNotAuthoritative)
	case r.stale.Load():
		return int(miekg.ExtendedErrorCodeStaleAnswer)
	default:
		return -1
	}
}

// limit returns how many octets the response may have.
func (q *query) limit(transport listen.Transport) int {
	if transport.Stream() {
		return maxStream
	}
	return q.size
}

// optSize returns how many octets the OPT of the response takes.
func (q *query) optSize(ede int) int {
	if !q.edns {
		return 0
	}
	size := optSize
	if q.cookie != nil {
		size += cookieSize
	}
	if ede >= 0 {
		size += edeSize
	}
	return size
}

// answer appends the records.
func (p *response) answer(q *query, match *zone.Match) {
	if match.Kind == zone.Outside {
		p.rcode = miekg.RcodeRefused
		return
	}
	p.flags |= flagAA
	if match.Kind == zone.Exists {
		if set := match.Node.RRset(q.rrtype); set != nil {
			p.records(set)
			return
		}
	} else {
		p.rcode = miekg.RcodeNameError
	}
	p.negative(q, match.Apex)
}

// negative appends the SOA of the zone, whose name is the end of that in the question.
func (p *response) negative(q *query, apex *zone.Apex) {
	records, _ := apex.Negative().Packed()
	if len(p.out)+len(records) > p.limit {
		p.flags |= flagTC
		return
	}
	start := len(p.out)
	p.out = append(p.out, records...)
	binary.BigEndian.PutUint16(p.out[start:], uint16(pointer|headerSize+q.length-len(apex.Wire()))) //nolint:gosec // within a name
	p.counts[1] = 1
}

// records appends those of a set, and the addresses of what they point to.
func (p *response) records(set *zone.RRset) {
	at := choose(set, p.limit-len(p.out), p.random, p.cut)
	if at.count == 0 {
		p.flags |= flagTC
		return
	}
	start := len(p.out)
	records, size := set.Packed()
	begin := seek(records, size, at.first)
	if last := at.first + at.count; last <= set.Len() {
		p.out = append(p.out, records[begin:seekFrom(records, size, begin, at.count)]...)
	} else {
		p.out = append(p.out, records[begin:]...)
		p.out = append(p.out, records[:seek(records, size, last-set.Len())]...)
	}
	p.counts[0] = uint16(at.count) //nolint:gosec // as many as fit into a message
	if more := set.Additional(); more != nil {
		p.additional(set, at, more, start)
	}
}

// seekFrom returns the offset of the record that is count records behind the one at offset.
func seekFrom(records []byte, size, offset, count int) int {
	return offset + seek(records[offset:], size, count)
}

// additional appends addresses of the targets of the records that begin at start in out, as far as they fit.
func (p *response) additional(set *zone.RRset, at choice, all []*zone.Target, start int) {
	var seen [targets]*zone.Target
	offset := start
	for i := range min(at.count, targets) {
		target := all[(at.first+i)%set.Len()]
		where := offset - p.base + targetOffset(set.Type())
		offset += fixedPacked + int(binary.BigEndian.Uint16(p.out[offset+fixedPacked-2:]))
		if target == nil || slices.Contains(seen[:i], target) || where >= maxPointer {
			continue
		}
		seen[i] = target
		p.addresses(target.A, where)
		p.addresses(target.AAAA, where)
	}
}

// addresses appends a set whose owner stands at an offset of the message, if it fits.
func (p *response) addresses(set *zone.RRset, owner int) {
	if set == nil {
		return
	}
	records, size := set.Packed()
	if size == 0 || len(p.out)+len(records) > p.limit {
		return
	}
	start := len(p.out)
	p.out = append(p.out, records...)
	for i := start; i < len(p.out); i += size {
		binary.BigEndian.PutUint16(p.out[i:], uint16(pointer|owner)) //nolint:gosec // below maxPointer
	}
	p.counts[2] += uint16(set.Len()) //nolint:gosec // they fitted
}

// appendOPT appends the OPT of the response.
func (r *Responder) appendOPT(p *response, q *query, from *listen.Source, fresh bool, now time.Time) []byte {
	out := append(p.out, 0, 0, byte(miekg.TypeOPT), maxUDP>>8, maxUDP&0xff, 0, 0, 0, 0) //nolint:gocritic // p.out is replaced by it
	if q.do {
		out[len(out)-2] |= flagDO >> 8
	}
	out = append(out, 0, byte(q.optSize(p.ede)-optSize)) //nolint:gosec // short
	if q.cookie != nil {
		out = r.cookies.appendCookie(out, q.cookie, fresh, from.Peer.Addr(), now)
	}
	if p.ede >= 0 {
		out = append(out, 0, optionEDE, 0, 2, byte(p.ede>>8), byte(p.ede)) //nolint:gosec // codes have two octets
	}
	return out
}

// finish writes the header.
func (p *response) finish(id uint16, edns bool) {
	extra := p.counts[2]
	if edns {
		extra++
	}
	h := p.out[p.base:]
	binary.BigEndian.PutUint16(h, id)
	binary.BigEndian.PutUint16(h[2:], p.flags|uint16(p.rcode)) //nolint:gosec // four bits
	binary.BigEndian.PutUint64(h[4:], 1<<48|uint64(p.counts[0])<<32|uint64(p.counts[1])<<16|uint64(extra))
}
