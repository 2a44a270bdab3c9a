package dns

import (
	"encoding/binary"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/zone"
)

const (
	fixedPacked = 12 // octets before the data of a packed record: a pointer for its owner, and fixedRR
	// targets is how many records' targets get their addresses into a response.
	targets = 16
	// pointers reach so far (RFC 1035, 4.1.4).
	maxPointer = 1 << 14
)

// choice is which records of a set go into a response: count of them, from first on, around the end.
type choice struct{ first, count int }

// choose picks those that fit into room octets; none means that the response is truncated. Sets with weights answer one
// at a time. Of sets of addresses and of SRV, when they may be cut, those are left out that do not fit.
func choose(set *zone.RRset, room int, random uint64, cut bool) choice {
	records, size := set.Packed()
	n := set.Len()
	switch {
	case n == 0:
		return choice{}
	case set.Weighted():
		at := choice{set.Draw(random), 1}
		if octets(records, size, at.first) > room {
			return choice{}
		}
		return at
	case len(records) <= room && size > 0:
		return choice{int(random % uint64(n)), n} //nolint:gosec // n is a number of records
	case len(records) <= room:
		return choice{0, n}
	case !cut || !divisible(set.Type()):
		return choice{}
	}
	first := int(random % uint64(n)) //nolint:gosec // see above
	return choice{first, fit(records, size, first, room)}
}

// fit returns how many packed records fit into room octets, from the first on, around the end. They do not fit all.
func fit(records []byte, size, first, room int) (count int) {
	if size > 0 {
		return room / size
	}
	for offset := seek(records, 0, first); ; count++ {
		length := octets(records[offset:], 0, 0)
		if room -= length; room < 0 {
			return count
		}
		if offset += length; offset == len(records) {
			offset = 0
		}
	}
}

// divisible tells whether a part of a set of this type serves as well.
func divisible(rrtype uint16) bool {
	return rrtype == miekg.TypeA || rrtype == miekg.TypeAAAA || rrtype == miekg.TypeSRV
}

// octets returns the size of a packed record by its index.
func octets(records []byte, size, index int) int {
	if size > 0 {
		return size
	}
	offset := seek(records, 0, index)
	return fixedPacked + int(binary.BigEndian.Uint16(records[offset+fixedPacked-2:]))
}

// seek returns the offset of a packed record by its index.
func seek(records []byte, size, index int) int {
	if size > 0 {
		return size * index
	}
	offset := 0
	for range index {
		offset += fixedPacked + int(binary.BigEndian.Uint16(records[offset+fixedPacked-2:]))
	}
	return offset
}

// targetOffset returns where in a packed record of a type the name is to which it points.
func targetOffset(rrtype uint16) int {
	switch rrtype {
	case miekg.TypeSRV:
		return fixedPacked + 6
	case miekg.TypeMX:
		return fixedPacked + 2
	default:
		return fixedPacked
	}
}
