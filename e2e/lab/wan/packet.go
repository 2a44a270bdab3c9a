package wan

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

const (
	ethernetHeader = 14
	ipv4Header     = 20
)

// packet is an Ethernet frame with an IPv4 packet in it, on its way.
type packet struct {
	frame [2048]byte // more than a frame can have, so that one which is too long is noticed
	size  int        // of the frame

	due  time.Duration
	next *packet // on its lane
}

var packets = sync.Pool{New: func() any { return new(packet) }}

func newPacket() *packet { return packets.Get().(*packet) } //nolint:forcetypeassert // nothing else is in the pool

func (p *packet) release() {
	p.next = nil
	packets.Put(p)
}

// addresses returns the source and the destination, and cuts off what follows the packet in its frame; false if it is
// no whole IPv4 packet.
func (p *packet) addresses() (source, destination netip.Addr, ok bool) {
	if p.size < ethernetHeader+ipv4Header || p.size == len(p.frame) {
		return source, destination, false
	}
	ip := p.frame[ethernetHeader:p.size]
	length := int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || length < ipv4Header || length > len(ip) {
		return source, destination, false
	}
	p.size = ethernetHeader + length
	return netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20])), true
}

// length is that of the IP packet.
func (p *packet) length() int { return p.size - ethernetHeader }
