package dns

import (
	"net/netip"

	"github.com/hansa-dev/hansa/dns"
)

// Askers is what flags say of who is answered how.
func Askers(f *Flags) (dns.Askers, error) { return f.askers() }

// ParseServer reads IP[:PORT].
func ParseServer(text string) (netip.AddrPort, error) { return parseServer(text) }

// AsksItself tells whether an upstream is a socket of ours.
func AsksItself(socket string, upstream netip.AddrPort) bool { return asksItself(socket, upstream) }
