package dns

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// prefixes finds the longest prefix that holds an address. It does not allocate for that. Lookups cost one hash per
// length of prefixes.
type prefixes[V any] struct{ v4, v6 []level[V] }

// level are the prefixes of one length.
type level[V any] struct {
	bits int
	of   map[netip.Prefix]V
}

func newPrefixes[V any](table map[netip.Prefix]V) prefixes[V] {
	var p prefixes[V]
	for _, prefix := range slices.SortedFunc(maps.Keys(table), longestFirst) {
		value := table[prefix]
		prefix = unmap(prefix)
		family := &p.v6
		if prefix.Addr().Is4() {
			family = &p.v4
		}
		if n := len(*family); n == 0 || (*family)[n-1].bits != prefix.Bits() {
			*family = append(*family, level[V]{prefix.Bits(), map[netip.Prefix]V{}})
		}
		(*family)[len(*family)-1].of[prefix] = value
	}
	return p
}

// unmap returns a prefix of IPv4 addresses within IPv6 as one of IPv4, as addresses come.
func unmap(prefix netip.Prefix) netip.Prefix {
	if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked()
}

func longestFirst(a, b netip.Prefix) int {
	a, b = unmap(a), unmap(b)
	return cmp.Or(cmp.Compare(b.Bits(), a.Bits()), a.Addr().Compare(b.Addr()))
}

// find returns the value of the longest prefix that holds addr and has at most so many bits, and its length.
func (p *prefixes[V]) find(addr netip.Addr, most int) (value V, bits int, ok bool) {
	levels := p.v6
	if addr.Is4() {
		levels = p.v4
	}
	for i := range levels {
		l := &levels[i]
		if l.bits > most {
			continue
		}
		prefix, err := addr.Prefix(l.bits)
		if err != nil {
			continue
		}
		if v, ok := l.of[prefix]; ok {
			return v, l.bits, true
		}
	}
	return value, 0, false
}

// scope returns how many bits of addr an answer depends on that find gave: as many as are needed to tell addr's
// addresses from those of longer prefixes within (RFC 7871, 7.2.1).
func (p *prefixes[V]) scope(addr netip.Addr, bits int) int {
	levels := p.v6
	if addr.Is4() {
		levels = p.v4
	}
	scope := bits
	for i := range levels {
		if levels[i].bits <= bits {
			break
		}
		for prefix := range levels[i].of {
			scope = max(scope, min(common(prefix.Addr(), addr)+1, levels[i].bits))
		}
	}
	return scope
}

// common returns how many leading bits two addresses of the same family share.
func common(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			n := i * 8
			for ; d&0x80 == 0; d <<= 1 {
				n++
			}
			return n
		}
	}
	return len(x) * 8
}
