// Package hello reads what a TLS client says first, before anything is encrypted: the name of the server that it wants
// (RFC 6066, section 3) and the protocols that it offers (RFC 7301). It says which service a name means, and with which
// alert to turn a client away. It is pure: bytes come from the caller, and go on to the server as they came.
//
// A ClientHello may take several TCP segments, and several TLS records (RFC 8446, section 5.1); with post-quantum key
// shares it does. Other handshake parameters are not looked at: the server judges them.
package hello

import (
	"iter"
)

// MaxSize is how many octets a ClientHello may take, the headers of its records included.
const MaxSize = 16 << 10

// Sizes and numbers of RFC 8446.
const (
	recordHeader    = 5       // type, version, length
	maxFragment     = 1 << 14 // octets of a record
	messageHeader   = 4       // type, length
	typeHandshake   = 22
	typeAlert       = 21
	majorVersion    = 3
	typeClientHello = 1
	randomSize      = 32
	extensionName   = 0
	extensionALPN   = 16
	nameTypeHost    = 0
	maxName         = 255 // of DNS, in text one less; and the length of a protocol
)

// Hello reads one ClientHello. The zero value is ready. It does not allocate.
type Hello struct {
	scanned int // octets up to the header of the next record
	message int // octets of the message in the records that are complete up to scanned, its header included
	size    int // of the message with its header; 0: not known yet

	name      [maxName]byte
	nameSize  int
	protocols span
	raw       []byte // what protocols points into
}

// Read looks at everything that has arrived so far, from the first octet on; what it was given before must not have
// changed. It returns true when the ClientHello is complete and names one server, and false without an error when octets
// are missing. Then it costs no more than the octets that are new. Errors are of type ParseError.
func (h *Hello) Read(raw []byte) (complete bool, err error) {
	complete, err = h.scan(raw)
	if err != nil || !complete {
		return false, err
	}
	c := cursor{raw: raw}
	if err := h.parse(&c); err != nil {
		return false, err
	}
	h.raw = raw
	if h.nameSize == 0 {
		return false, ErrNoName
	}
	return true, nil
}

// Name returns the name of the server as the client wrote it. It may hold any octets: see Names.
func (h *Hello) Name() []byte { return h.name[:h.nameSize] }

// Protocols returns the protocols that the client offers, in its order. A protocol is valid until the next, and all
// while what was given to Read does not change.
func (h *Hello) Protocols() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var protocol [maxName]byte
		c := h.protocols.cursor
		c.raw = h.raw
		for end := c.used + h.protocols.size; c.used < end; {
			size := c.take(1)
			c.copy(protocol[:size])
			if !yield(protocol[:size]) {
				return
			}
		}
	}
}

// scan goes over the records, and tells whether all of the message is there.
func (h *Hello) scan(raw []byte) (bool, error) {
	raw = raw[:min(len(raw), MaxSize)]
	for {
		record := raw[min(h.scanned, len(raw)):]
		size, err := h.record(record)
		if err != nil {
			return false, err
		}
		if h.size == 0 && size > 0 {
			if err := h.header(raw, size); err != nil {
				return false, err
			}
		}
		switch {
		case h.size > 0 && h.message+max(0, min(size, len(record)-recordHeader)) >= h.size:
			return true, nil
		case size > 0 && len(record) >= recordHeader+size: // on to the next
		case len(raw) == MaxSize:
			return false, ErrTooLarge
		default:
			return false, nil
		}
		h.scanned += recordHeader + size
		h.message += size
	}
}

// record checks the header of a record, as far as it is there, and returns the size of its content; 0 while the header is
// not complete.
func (h *Hello) record(record []byte) (int, error) {
	first := h.scanned == 0
	switch {
	case len(record) > 0 && record[0] != typeHandshake, len(record) > 1 && record[1] != majorVersion:
		if first {
			return 0, ErrNotTLS
		}
		return 0, ErrUnexpected
	case len(record) < recordHeader:
		return 0, nil
	}
	size := int(record[3])<<8 | int(record[4])
	switch {
	case size == 0:
		return 0, ErrMalformed // RFC 8446, section 5.1: none of length zero for handshakes
	case size > maxFragment:
		return 0, ErrOverflow
	}
	return size, nil
}

// header reads type and size of the message as soon as they are there. size is that of the record at scanned.
func (h *Hello) header(raw []byte, size int) error {
	available := h.message + min(size, len(raw)-h.scanned-recordHeader)
	if available < 1 {
		return nil
	}
	c := cursor{raw: raw}
	if c.take(1) != typeClientHello {
		return ErrUnexpected
	}
	if available < messageHeader {
		return nil
	}
	if h.size = messageHeader + c.take(3); h.size > MaxSize-recordHeader {
		return ErrTooLarge
	}
	return nil
}

// parse reads the message, which is complete.
func (h *Hello) parse(c *cursor) error {
	if !c.within(h.size, messageHeader+2+randomSize) {
		return ErrMalformed
	}
	c.skip(messageHeader + 2 + randomSize)
	for _, width := range [...]int{1, 2, 1} { // session, cipher suites, compression methods
		size := c.field(h.size, width)
		if size < 0 {
			return ErrMalformed
		}
		c.skip(size)
	}
	if c.used == h.size {
		return nil // older than extensions
	}
	if extensions := c.field(h.size, 2); extensions < 0 || c.used+extensions != h.size {
		return ErrMalformed
	}
	return h.extensions(c)
}

func (h *Hello) extensions(c *cursor) error {
	for c.used < h.size {
		if !c.within(h.size, 4) {
			return ErrMalformed
		}
		kind := c.take(2)
		size := c.field(h.size, 2)
		if size < 0 {
			return ErrMalformed
		}
		end := c.used + size
		var err error
		switch kind {
		case extensionName:
			err = h.serverName(c, end)
		case extensionALPN:
			err = h.alpn(c, end)
		default:
			c.skip(size)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// serverName reads a list of names, of which one may be a host's.
func (h *Hello) serverName(c *cursor, end int) error {
	if h.nameSize > 0 {
		return ErrSeveralNames
	}
	if list := c.field(end, 2); list <= 0 || c.used+list != end {
		return ErrMalformed
	}
	for c.used < end {
		kind := c.take(1)
		size := c.field(end, 2)
		switch {
		case size <= 0:
			return ErrMalformed
		case kind != nameTypeHost:
			c.skip(size)
		case h.nameSize > 0:
			return ErrSeveralNames
		case size > maxName:
			return ErrNotAService
		default:
			h.nameSize = size
			c.copy(h.name[:size])
		}
	}
	return nil
}

// alpn notes where the protocols are, and that each is well formed.
func (h *Hello) alpn(c *cursor, end int) error {
	list := c.field(end, 2)
	if h.protocols.size > 0 || list <= 0 || c.used+list != end {
		return ErrMalformed
	}
	h.protocols = span{cursor: *c, size: list}
	for c.used < end {
		size := c.field(end, 1)
		if size <= 0 {
			return ErrMalformed
		}
		c.skip(size)
	}
	return nil
}

// span is a part of the message.
type span struct {
	cursor cursor
	size   int
}

// cursor walks over a message that is spread over records. Whoever moves it has made sure that the octets are there.
type cursor struct {
	raw  []byte
	at   int // in raw
	left int // of the current record
	used int // octets of the message before the cursor
}

// within tells whether n octets follow before the end, which counts in octets of the message.
func (c *cursor) within(end, n int) bool { return c.used+n <= end }

// field reads a length of the given width, and returns it; -1 when that many octets do not follow before the end.
func (c *cursor) field(end, width int) int {
	if !c.within(end, width) {
		return -1
	}
	if n := c.take(width); c.within(end, n) {
		return n
	}
	return -1
}

// enter makes sure that the cursor stands in a record with octets left.
func (c *cursor) enter() {
	if c.left == 0 {
		c.left = int(c.raw[c.at+3])<<8 | int(c.raw[c.at+4])
		c.at += recordHeader
	}
}

// take reads a number of n octets.
func (c *cursor) take(n int) int {
	value := 0
	for range n {
		c.enter()
		value = value<<8 | int(c.raw[c.at])
		c.advance(1)
	}
	return value
}

func (c *cursor) skip(n int) {
	for n > 0 {
		c.enter()
		n -= c.advance(min(n, c.left))
	}
}

func (c *cursor) copy(to []byte) {
	for len(to) > 0 {
		c.enter()
		n := copy(to, c.raw[c.at:c.at+c.left])
		to = to[c.advance(n):]
	}
}

func (c *cursor) advance(n int) int {
	c.at, c.left, c.used = c.at+n, c.left-n, c.used+n
	return n
}
