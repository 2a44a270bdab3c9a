package wan

import (
	"fmt"
	"net/netip"
	"slices"
)

// routes finds the port whose ranges hold an address.
type routes struct {
	bits  []int // lengths of the ranges
	ports map[netip.Prefix]int
}

// add makes ranges lead to a port.
func (r *routes) add(port int, ranges []netip.Prefix) error {
	if r.ports == nil {
		r.ports = map[netip.Prefix]int{}
	}
	for _, prefix := range ranges {
		if !prefix.Addr().Is4() {
			return fmt.Errorf("range %s: only IPv4 is carried", prefix)
		}
		for other := range r.ports {
			if other.Overlaps(prefix) {
				return fmt.Errorf("range %s overlaps %s", prefix, other)
			}
		}
		r.ports[prefix.Masked()] = port
		if !slices.Contains(r.bits, prefix.Bits()) {
			r.bits = append(r.bits, prefix.Bits())
		}
	}
	return nil
}

func (r *routes) find(addr netip.Addr) (int, bool) {
	for _, bits := range r.bits {
		prefix, err := addr.Prefix(bits)
		if err != nil {
			continue
		}
		if port, ok := r.ports[prefix]; ok {
			return port, true
		}
	}
	return 0, false
}
