package dns

import (
	"encoding/binary"

	miekg "github.com/miekg/dns"
)

const (
	headerSize = 12
	fixedRR    = 10 // type, class, TTL, length: what follows the owner
	optSize    = 1 + fixedRR

	minUDP = 512  // what everybody takes (RFC 1035, 4.2.1)
	maxUDP = 1232 // what no path breaks into fragments

	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagCD = 1 << 4

	opcodeMask = 0xf << 11

	optionCookie = 10
	optionEDE    = 15

	flagDO = 1 << 15
	flagCO = 1 << 14 // compact answers are welcome (RFC 9824, 5.1)
)

// query is a question without anything special about it: of class IN, for a type that has records, with at most an OPT
// that holds at most a cookie. It is meant for the stack.
type query struct {
	id, flags uint16
	question  []byte // as it came: name, type, class
	length    int    // of the name
	rrtype    uint16
	edns      bool
	do        bool
	size      int    // that the peer takes over UDP
	cookie    []byte // nil: none
	lower     [maxName + 9]byte
}

// name returns the name in lower case.
func (q *query) name() []byte { return q.lower[:q.length] }

// kind is what parse found.
type kind uint8

const (
	plain    kind = iota // a query, now parsed
	uncommon             // something that needs a closer look
	noise                // nothing that is to be answered
)

// parse reads a message. It neither allocates nor keeps message beyond q.
func (q *query) parse(message []byte) kind {
	if len(message) < headerSize {
		return noise
	}
	q.id = binary.BigEndian.Uint16(message)
	q.flags = binary.BigEndian.Uint16(message[2:])
	if q.flags&flagQR != 0 {
		return noise
	}
	// One question, nothing in the answer and authority sections, at most one record in the last.
	counts := binary.BigEndian.Uint64(message[4:])
	if q.flags&opcodeMask != 0 || counts&^1 != 1<<48 {
		return uncommon
	}
	body := message[headerSize:]
	q.length = nameLength(body)
	end := q.length + 4
	if q.length == 0 || len(body) < end {
		return uncommon
	}
	q.question = body[:end]
	q.rrtype = binary.BigEndian.Uint16(body[q.length:])
	if binary.BigEndian.Uint16(body[q.length+2:]) != miekg.ClassINET || !ordinary(q.rrtype) {
		return uncommon
	}
	if rest := body[end:]; counts&1 == 0 {
		if len(rest) != 0 {
			return uncommon
		}
		q.size = minUDP
	} else if !q.parseOPT(rest) {
		return uncommon
	}
	lower(q.lower[:], body[:q.length])
	return plain
}

// ordinary tells whether a type is one of records, not of questions or of the protocol (RFC 6895, 3.1).
func ordinary(rrtype uint16) bool {
	return rrtype != 0 && rrtype != miekg.TypeOPT && (rrtype < 128 || rrtype > 255)
}

// parseOPT reads the last section, and reports whether it is a plain OPT of version 0 and nothing else.
func (q *query) parseOPT(b []byte) bool {
	if len(b) < optSize || b[0] != 0 || binary.BigEndian.Uint16(b[1:]) != miekg.TypeOPT {
		return false
	}
	flags := binary.BigEndian.Uint16(b[7:])
	if b[5] != 0 || b[6] != 0 || flags&flagCO != 0 || int(binary.BigEndian.Uint16(b[9:])) != len(b)-optSize {
		return false
	}
	q.edns, q.do = true, flags&flagDO != 0
	q.size = min(max(int(binary.BigEndian.Uint16(b[3:])), minUDP), maxUDP)
	options := b[optSize:]
	if len(options) == 0 {
		return true
	}
	if len(options) < 4 || options[0] != 0 || options[1] != optionCookie {
		return false
	}
	length := int(binary.BigEndian.Uint16(options[2:]))
	if length != len(options)-4 || !cookieLength(length) {
		return false
	}
	q.cookie = options[4:]
	return true
}
