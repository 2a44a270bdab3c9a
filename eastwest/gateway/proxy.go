package gateway

import (
	"encoding/binary"
	"net/netip"
)

// proxyRoom is the size of the longest header.
const proxyRoom = 16 + 36

// proxySignature begins every header of the PROXY protocol, version 2.
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// appendProxy appends a header that tells who connects to whom: "The PROXY protocol, versions 1 & 2", section 2.2. Where the
// families differ, both addresses are written as IPv6.
func appendProxy(dst []byte, from, to netip.AddrPort) []byte {
	const (
		proxied = 0x21 // version 2, not the gateway's own connection
		tcp4    = 0x11
		tcp6    = 0x21
	)
	dst = append(dst, proxySignature...)
	if from.Addr().Is4() && to.Addr().Is4() {
		dst = append(dst, proxied, tcp4, 0, 12)
		source, destination := from.Addr().As4(), to.Addr().As4()
		dst = append(append(dst, source[:]...), destination[:]...)
	} else {
		dst = append(dst, proxied, tcp6, 0, 36)
		source, destination := from.Addr().As16(), to.Addr().As16()
		dst = append(append(dst, source[:]...), destination[:]...)
	}
	dst = binary.BigEndian.AppendUint16(dst, from.Port())
	return binary.BigEndian.AppendUint16(dst, to.Port())
}
