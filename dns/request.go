package dns

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/transfer"
	"github.com/hansa-dev/hansa/dns/zone"
)

// request is a query on the long way.
type request struct {
	message []byte
	from    *listen.Source
	msg     miekg.Msg
	now     time.Time

	question []byte // as it came: name, type, class
	wire     []byte // the name in lower case
	rrtype   uint16
	class    uint16

	opt    *miekg.OPT
	size   int // that the response may have
	do, co bool
	nsid   bool
	cookie []byte
	fresh  bool // the cookie is one of ours, and young
	subnet *miekg.EDNS0_SUBNET

	signature *transfer.Signature // nil: the query has no TSIG
}

var (
	errFormat  = errors.New("malformed query")
	errVersion = errors.New("unknown version of EDNS")
)

// read unpacks the message. With an error, what was read so far stands.
func (q *request) read() error {
	q.size = minUDP
	if q.from.Transport.Stream() {
		q.size = maxStream
	}
	body := q.message[headerSize:]
	length := nameLength(body)
	if length == 0 || len(body) < length+4 {
		return errFormat
	}
	options, err := layout(q.message)
	if err == nil {
		err = q.msg.Unpack(q.message)
	}
	if err != nil || len(q.msg.Question) != 1 || !strictSubnets(options) {
		return errFormat
	}
	q.question = body[:length+4]
	q.rrtype, q.class = q.msg.Question[0].Qtype, q.msg.Question[0].Qclass
	q.wire = make([]byte, length+8)
	lower(q.wire, body[:length])
	q.wire = q.wire[:length]
	return q.readOPT()
}

func (q *request) readOPT() error {
	for i, rr := range q.msg.Extra {
		if tsig, ok := rr.(*miekg.TSIG); ok && (i < len(q.msg.Extra)-1 || tsig.Algorithm == "") {
			return errFormat // RFC 8945, 5.1; the library takes one without any data
		}
		opt, ok := rr.(*miekg.OPT)
		if !ok {
			continue
		}
		if q.opt != nil || opt.Hdr.Name != "." {
			return errFormat // RFC 6891, 6.1.1 and 6.1.2
		}
		q.opt = opt
	}
	if misplaced(q.msg.Answer) || misplaced(q.msg.Ns) {
		return errFormat
	}
	if q.opt == nil {
		return nil
	}
	if !q.from.Transport.Stream() {
		q.size = min(max(int(q.opt.UDPSize()), minUDP), maxUDP)
	}
	if q.opt.Version() != 0 {
		return errVersion
	}
	q.do, q.co = q.opt.Do(), q.opt.Co()
	return q.readOptions()
}

// misplaced tells whether a section other than the last has what belongs there.
func misplaced(section []miekg.RR) bool {
	for _, rr := range section {
		if t := rr.Header().Rrtype; t == miekg.TypeOPT || t == miekg.TypeTSIG {
			return true
		}
	}
	return false
}

// readOptions reads those that are known. Of several of a kind the first counts (RFC 7873, 5.2).
func (q *request) readOptions() error {
	for _, option := range q.opt.Option {
		switch o := option.(type) {
		case *miekg.EDNS0_COOKIE:
			cookie, err := hex.DecodeString(o.Cookie)
			if err != nil || !cookieLength(len(cookie)) {
				return errFormat
			}
			if q.cookie == nil {
				q.cookie = cookie
			}
		case *miekg.EDNS0_NSID:
			q.nsid = true
		case *miekg.EDNS0_SUBNET:
			if o.SourceScope != 0 {
				return errFormat // RFC 7871, 6
			}
			if q.subnet == nil {
				q.subnet = o
			}
		}
	}
	return nil
}

// network returns that of the client-subnet option; ok is false if it names none.
func (q *request) network() (netip.Prefix, bool) {
	if q.subnet == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(q.subnet.Address)
	if !ok {
		return netip.Prefix{}, false
	}
	if q.subnet.Family == 1 {
		addr = addr.Unmap()
	}
	prefix, err := addr.Prefix(int(q.subnet.SourceNetmask))
	return prefix, err == nil
}

// room returns the octets that are left for the records of an answer.
func (q *request) room(a *answer) int {
	return q.size - headerSize - len(q.question) - a.optLen(q)
}

// answer is what is said to a request.
type answer struct {
	flags             uint16
	rcode             int // twelve bits
	answer, ns, extra []miekg.RR
	ede               []uint16
	apex              *zone.Apex // nil: of no zone
	subnet            bool       // the answer depends on the client's network,
	scope             int        // on so many bits of it
	co                bool       // compact answers are given
	hostname          string     // for NSID; empty: none
	cookies           *cookies
	message           *miekg.Msg // instead of all above but ede: what somebody else says
}

func (a *answer) soa(apex *zone.Apex) {
	a.ns = append(a.ns, apex.Negative().RRs(apex.Name())...)
}

// options appends the OPT's options to dst.
func (a *answer) options(dst []byte, q *request) []byte {
	if q.cookie != nil {
		dst = a.cookies.appendCookie(dst, q.cookie, q.fresh, q.from.Peer.Addr(), q.now)
	}
	if q.nsid && a.hostname != "" && len(a.hostname) <= MaxHostname {
		dst = appendOption(dst, miekg.EDNS0NSID, []byte(a.hostname))
	}
	if a.subnet {
		dst = append(dst, 0, miekg.EDNS0SUBNET)
		address := subnetOctets(q.subnet)
		dst = binary.BigEndian.AppendUint16(dst, uint16(4+len(address))) //nolint:gosec // at most 20
		dst = binary.BigEndian.AppendUint16(dst, q.subnet.Family)
		dst = append(dst, q.subnet.SourceNetmask, byte(a.scope)) //nolint:gosec // bits of an address
		dst = append(dst, address...)
	}
	for _, code := range a.ede {
		dst = appendOption(dst, miekg.EDNS0EDE, binary.BigEndian.AppendUint16(nil, code))
	}
	return dst
}

func appendOption(dst []byte, code uint16, value []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, code)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(value))) //nolint:gosec // short
	return append(dst, value...)
}

// subnetOctets returns the address of the option as short as it came (RFC 7871, 6).
func subnetOctets(subnet *miekg.EDNS0_SUBNET) []byte {
	address := []byte(subnet.Address.To4())
	if subnet.Family == 2 {
		address = subnet.Address.To16()
	}
	return address[:min(len(address), (int(subnet.SourceNetmask)+7)/8)]
}

func (a *answer) optLen(q *request) int {
	if q.opt == nil {
		return 0
	}
	return optSize + len(a.options(nil, q))
}
