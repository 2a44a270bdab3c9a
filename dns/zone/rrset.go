package zone

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sort"

	"github.com/miekg/dns"
)

// owner is the first octets of every packed record: a compression pointer to the name of the question.
const owner = 0xC00C

// fixed is the length of what stands before the data of a packed record: owner, type, class, TTL, length.
const fixed = 12

// RRset is the records of one name and type. It is immutable, and packed once.
type RRset struct {
	records []byte
	more    *more
	ttl     uint32
	count   uint32
	rrtype  uint16
	size    uint16
}

// more is what few sets have.
type more struct {
	targets []*Target
	sums    []uint64 // of the weights up to each record
}

// Target is a name that a record points to, with its addresses.
type Target struct {
	// Name is in wire form. It must not be modified.
	Name []byte
	// A and AAAA are its addresses; nil for none.
	A, AAAA *RRset
}

// Len returns the number of records.
func (s *RRset) Len() int { return int(s.count) }

// Type returns the type of the records.
func (s *RRset) Type() uint16 { return s.rrtype }

// TTL returns for how many seconds they may be kept.
func (s *RRset) TTL() uint32 { return s.ttl }

// Packed returns all records in wire form, each with the owner 0xC00C, a pointer to the name at offset 12: owner (2 octets), type (2), class
// (2), TTL (4), length (2), data. Names in the data are not compressed. When size is not 0 all records have that size,
// so that a caller may start anywhere and stop early. They must not be modified.
func (s *RRset) Packed() (records []byte, size int) { return s.records, int(s.size) }

// RRs returns copies of the records, with the given owner in presentation form.
func (s *RRset) RRs(owner string) []dns.RR {
	rrs := make([]dns.RR, 0, s.count)
	for record := range s.each() {
		// The pointer leads to a root label, and the owner is put in afterwards.
		message := append(make([]byte, fixed+1, fixed+1+len(record)), record...)
		if rr, _, err := dns.UnpackRR(message, fixed+1); err == nil {
			rr.Header().Name = owner
			rrs = append(rrs, rr)
		}
	}
	return rrs
}

// each yields the packed records.
func (s *RRset) each() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := s.records; len(rest) > 0; {
			length := fixed + int(binary.BigEndian.Uint16(rest[fixed-2:]))
			if !yield(rest[:length]) {
				return
			}
			rest = rest[length:]
		}
	}
}

// setTTL changes the TTL of a set that nobody else has seen yet.
func (s *RRset) setTTL(ttl uint32) {
	s.ttl = ttl
	for record := range s.each() {
		binary.BigEndian.PutUint32(record[6:], ttl)
	}
}

// Additional returns the targets of the records of SRV, NS and MX, one for each record in their order; nil where the tree
// has no addresses for it. It returns nil when that is so for all, and for other types. How many of them fit is for the caller.
func (s *RRset) Additional() []*Target {
	if s.more == nil {
		return nil
	}
	return s.more.targets
}

// Weighted tells that the records are to be answered one at a time, drawn by Draw.
func (s *RRset) Weighted() bool { return s.more != nil && s.more.sums != nil }

// Draw returns the index of a record, chosen by a random number in proportion to the weights; where there are none, all
// weigh the same.
func (s *RRset) Draw(random uint64) int {
	if !s.Weighted() {
		return int(random % uint64(s.count)) //nolint:gosec // less than count
	}
	sums := s.more.sums
	random %= sums[len(sums)-1]
	return sort.Search(len(sums), func(i int) bool { return random < sums[i] })
}

// Weight returns the share of a record, in relation to the others of the set; without weights it is 1.
func (s *RRset) Weight(record int) uint64 {
	switch {
	case !s.Weighted():
		return 1
	case record == 0:
		return s.more.sums[0]
	}
	return s.more.sums[record] - s.more.sums[record-1]
}

// equal tells whether both say the same; targets are compared by identity.
func (s *RRset) equal(other *RRset) bool {
	if s.rrtype != other.rrtype || string(s.records) != string(other.records) || (s.more == nil) != (other.more == nil) {
		return false
	}
	return s.more == nil || slices.Equal(s.more.targets, other.more.targets) && slices.Equal(s.more.sums, other.more.sums)
}

// header appends what stands before the data of a record.
func header(b []byte, rrtype uint16, ttl uint32, length int) []byte {
	b = binary.BigEndian.AppendUint16(b, owner)
	b = binary.BigEndian.AppendUint16(b, rrtype)
	b = binary.BigEndian.AppendUint16(b, dns.ClassINET)
	b = binary.BigEndian.AppendUint32(b, ttl)
	return binary.BigEndian.AppendUint16(b, uint16(length)) //nolint:gosec // callers keep to the length of records
}

// addressSet packs addresses of one family; nil for none.
func addressSet(addrs []netip.Addr, ttl uint32) *RRset {
	if len(addrs) == 0 {
		return nil
	}
	rrtype, length := dns.TypeA, 4
	if addrs[0].Is6() {
		rrtype, length = dns.TypeAAAA, 16
	}
	set := &RRset{rrtype: rrtype, ttl: ttl, size: uint16(fixed + length), count: uint32(len(addrs))} //nolint:gosec // fits
	set.records = make([]byte, 0, len(addrs)*(fixed+length))
	for _, addr := range addrs {
		set.records = append(header(set.records, rrtype, ttl, length), addr.AsSlice()...)
	}
	return set
}

// recordSet packs records of one type with one TTL, without order or duplicates among them.
func recordSet(rrs []dns.RR) (*RRset, error) {
	set := &RRset{rrtype: rrs[0].Header().Rrtype, ttl: rrs[0].Header().Ttl}
	var packed [][]byte
	for _, rr := range rrs {
		data, err := packData(rr)
		if err != nil {
			return nil, fmt.Errorf("packing %s %s: %w", rr.Header().Name, dns.TypeToString[set.rrtype], err)
		}
		packed = append(packed, data)
	}
	slices.SortFunc(packed, slices.Compare)
	packed = slices.CompactFunc(packed, func(a, b []byte) bool { return string(a) == string(b) })
	same := true
	for _, data := range packed {
		set.records = append(header(set.records, set.rrtype, set.ttl, len(data)), data...)
		same = same && len(data) == len(packed[0])
	}
	set.records, set.count = slices.Clip(set.records), uint32(len(packed)) //nolint:gosec // fewer than octets
	if same && (set.rrtype == dns.TypeA || set.rrtype == dns.TypeAAAA) {
		set.size = uint16(fixed + len(packed[0])) //nolint:gosec // an address
	}
	return set, nil
}

// packData returns the data of a record in wire form, without compression.
func packData(rr dns.RR) ([]byte, error) {
	bare := dns.Copy(rr)
	bare.Header().Name = "."
	wire := make([]byte, dns.Len(bare)+fixed)
	end, err := dns.PackRR(bare, wire, 0, nil, false)
	if err != nil {
		return nil, err
	}
	const root = 1 + fixed - 2 // the owner is one octet, not two
	return wire[root:end:end], nil
}
