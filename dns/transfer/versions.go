package transfer

import (
	"net/netip"
	"slices"
)

const (
	// maxReceivers is of how many secondaries and zones it is remembered what they were sent.
	maxReceivers = 1024
	// maxVersions is how many versions of a zone that is.
	maxVersions = 16
)

// receiver is a secondary, and a zone that it has.
type receiver struct {
	key  string
	addr netip.Addr
	zone string
}

// version is what a zone was when it was sent: the serial number, and the sum of its records.
type version struct {
	serial uint32
	sum    uint64
}

// versions are those that one receiver was sent, the newest last. It is immutable.
type versions []version

func (s *Server) versionsOf(to receiver) versions {
	sent, _ := s.sent.Get(to)
	return sent
}

// has tells whether the version with a serial number was sent, and had these records.
func (v versions) has(serial uint32, sum uint64) bool {
	for _, each := range slices.Backward(v) {
		if each.serial == serial {
			return each.sum == sum
		}
	}
	return false
}

// with returns the versions with one more.
func (v versions) with(sent version) versions {
	kept := v[max(0, len(v)-maxVersions+1):]
	return append(slices.Clone(kept), sent)
}
