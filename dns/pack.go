package dns

import (
	"encoding/binary"
	"maps"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/zone"
)

// packer writes a response record by record. Owners are compressed, names in data are not: so does zone.
type packer struct {
	out   []byte
	base  int
	limit int
	// names are the offsets of those within the question and of owners, targets of those that records point to; both in
	// lower case.
	names, targets map[string]int
	extra          bool // this is the additional section
}

// pack appends a response.
func (r *Responder) pack(dst []byte, q *request, a *answer) []byte {
	if a.message != nil {
		return packMessage(dst, q, a)
	}
	p := packer{out: dst, base: len(dst), limit: len(dst) + q.size - a.optLen(q), names: map[string]int{}, targets: map[string]int{}}
	p.out = append(p.out, make([]byte, headerSize)...)
	p.out = append(p.out, q.question...)
	for rest, offset := q.wire, headerSize; len(rest) > 1; {
		p.names[string(rest)] = offset
		offset += 1 + int(rest[0])
		rest = rest[1+int(rest[0]):]
	}
	if len(q.wire) > 0 {
		p.names["\x00"] = headerSize + len(q.wire) - 1
	}
	var counts [3]int
	for i, section := range [][]miekg.RR{a.answer, a.ns} {
		n, whole := p.section(section)
		counts[i] = n
		if !whole {
			a.flags |= flagTC
			break
		}
	}
	if a.flags&flagTC == 0 {
		counts[2] = p.addresses(a.extra)
	}
	out := p.out
	if q.opt != nil {
		out = a.appendOPT(out, q)
		counts[2]++
	}
	h := out[p.base:]
	binary.BigEndian.PutUint16(h, q.msg.Id)
	binary.BigEndian.PutUint16(h[2:], a.flags|uint16(a.rcode&0xf))
	if len(q.question) > 0 {
		h[5] = 1
	}
	for i, n := range counts {
		binary.BigEndian.PutUint16(h[6+2*i:], uint16(n)) //nolint:gosec // as many as fit
	}
	return out
}

// appendOPT appends the OPT of the response.
func (a *answer) appendOPT(out []byte, q *request) []byte {
	out = append(out, 0, 0, byte(miekg.TypeOPT), maxUDP>>8, maxUDP&0xff)
	flags := byte(0)
	if q.do {
		flags |= flagDO >> 8
	}
	if a.co {
		flags |= flagCO >> 8
	}
	out = append(out, byte(a.rcode>>4), 0, flags, 0) //nolint:gosec // eight bits
	options := a.options(nil, q)
	out = binary.BigEndian.AppendUint16(out, uint16(len(options))) //nolint:gosec // short
	return append(out, options...)
}

// section appends records, and reports how many fitted, all or none of them.
func (p *packer) section(rrs []miekg.RR) (n int, whole bool) {
	start := len(p.out)
	for _, rr := range rrs {
		if !p.record(rr) {
			p.out = p.out[:start]
			gone := func(_ string, at int) bool { return at >= start-p.base }
			maps.DeleteFunc(p.names, gone)
			maps.DeleteFunc(p.targets, gone)
			return 0, false
		}
	}
	return len(rrs), true
}

// addresses appends sets of records as long as they fit, and returns how many records that are.
func (p *packer) addresses(rrs []miekg.RR) (n int) {
	p.extra = true
	for len(rrs) > 0 {
		set := 1
		for set < len(rrs) && sameSet(rrs[0], rrs[set]) {
			set++
		}
		added, _ := p.section(rrs[:set])
		n += added
		rrs = rrs[set:]
	}
	return n
}

func sameSet(a, b miekg.RR) bool {
	x, y := a.Header(), b.Header()
	return x.Rrtype == y.Rrtype && x.Rrtype != miekg.TypeRRSIG && x.Name == y.Name
}

// record appends one record if it fits.
func (p *packer) record(rr miekg.RR) bool {
	scratch := make([]byte, miekg.Len(rr)+fixedRR)
	end, err := miekg.PackRR(rr, scratch, 0, nil, false)
	if err != nil {
		return false
	}
	length := nameLength(scratch)
	owner := make([]byte, length+8)
	lower(owner, scratch[:length])
	packed := scratch[length:end]
	start := len(p.out)
	if at, known := p.known(string(owner[:length])); known && at < maxPointer {
		p.out = binary.BigEndian.AppendUint16(p.out, uint16(pointer|at)) //nolint:gosec // below maxPointer
	} else {
		p.out = append(p.out, scratch[:length]...)
		p.names[string(owner[:length])] = start - p.base
	}
	if len(p.out)+len(packed) > p.limit {
		p.out = p.out[:start]
		return false
	}
	p.out = append(p.out, packed...)
	p.note(rr, len(p.out)-len(packed)-p.base-2)
	return true
}

// known returns where a name stands already. Only addresses have the names of targets.
func (p *packer) known(name string) (at int, ok bool) {
	if at, ok = p.targets[name]; ok && p.extra {
		return at, true
	}
	at, ok = p.names[name]
	return at, ok
}

// note keeps where the name is to which a record points, for the owner of its addresses.
func (p *packer) note(rr miekg.RR, start int) {
	var name string
	switch rr := rr.(type) {
	case *miekg.SRV:
		name = rr.Target
	case *miekg.NS:
		name = rr.Ns
	case *miekg.MX:
		name = rr.Mx
	default:
		return
	}
	wire, err := zone.Wire(name)
	if err != nil {
		return
	}
	if at := start + targetOffset(rr.Header().Rrtype); at < maxPointer {
		if _, known := p.targets[string(wire)]; !known {
			p.targets[string(wire)] = at
		}
	}
}

// packMessage appends somebody else's message under our OPT.
func packMessage(dst []byte, q *request, a *answer) []byte {
	m := a.message
	room := q.size - a.optLen(q)
	m.Truncate(max(room, minUDP-optSize))
	m.Compress = true
	packed, err := m.Pack()
	if err != nil || len(packed) > room {
		m.Answer, m.Ns, m.Extra, m.Truncated = nil, nil, nil, true
		if packed, err = m.Pack(); err != nil {
			return dst
		}
	}
	base := len(dst)
	dst = append(dst, packed...)
	copy(dst[base+headerSize:], q.question[:len(q.wire)]) // in the letters that were asked
	if q.opt == nil {
		return dst
	}
	extra := dst[base+10:]
	binary.BigEndian.PutUint16(extra, binary.BigEndian.Uint16(extra)+1)
	return a.appendOPT(dst, q)
}
