package dns

import "encoding/binary"

const (
	maxName  = 255 // octets of a name in wire form (RFC 1035, 2.3.4)
	maxLabel = 63
)

// nameLength returns the octets of the name at the start of b, root label included, or 0 if there is no whole name without
// compression.
func nameLength(b []byte) int {
	for i := 0; i < len(b) && i < maxName; {
		length := int(b[i])
		if length == 0 {
			return i + 1
		}
		if length > maxLabel {
			return 0
		}
		i += 1 + length
	}
	return 0
}

// lower copies a name in wire form to dst, which has room for eight octets more, with its ASCII letters in lower case.
// Octets of length are at most 63 and so never taken for letters, which start at 65: the eight octets of a word are
// looked at together.
func lower(dst, name []byte) {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	i := 0
	for ; i+8 <= len(name); i += 8 {
		x := binary.LittleEndian.Uint64(name[i:])
		sevens := x &^ highs
		aboveZ, fromA := sevens+(0x7f-'Z')*ones, sevens+(0x80-'A')*ones
		upper := (fromA ^ aboveZ) & highs &^ x
		binary.LittleEndian.PutUint64(dst[i:], x|upper>>2)
	}
	for ; i < len(name); i++ {
		c := name[i]
		if c-'A' < 26 {
			c |= 0x20
		}
		dst[i] = c
	}
}
