package forward

import "net/netip"

// Order returns the upstreams as they would be asked now.
func (f *Forwarder) Order() []netip.AddrPort { return f.order() }
