package feed

import (
	"time"

	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Encode returns the bytes of a store's file.
func Encode(kept Kept) []byte { return encode(kept) }

// Decode reads the bytes of a store's file.
func Decode(data []byte) (Kept, error) { return decode(data) }

// DecodeContent reads what follows the header, which fuzzing could never guess.
func DecodeContent(content []byte, version byte) (Kept, error) {
	return decodeContent(content, version)
}

// Content returns what follows the header.
func Content(data []byte) []byte { return data[header:] }

// Table is a table in the hands of a test.
type Table struct{ t *table }

// NewTable returns an empty table.
func NewTable(sequence uint64) Table { return Table{newTable(sequence)} }

// Take takes a resource in.
func (t Table) Take(url string, r Resource) error { return t.t.take(&servicepb.Decoder{}, url, r) }

// Remove removes one.
func (t Table) Remove(url, name string) bool { return t.t.remove(url, name) }

// Lay lays a snapshot of the own cluster over it.
func (t Table) Lay(cluster string, snapshot *clusterset.Snapshot) {
	t.t.own.cluster = cluster
	t.t.lay(snapshot)
}

// Publish publishes under a number.
func (t Table) Publish(number uint64) *clusterset.Snapshot { return t.t.publish(number) }

// Pauses returns how long a client waits before each of some tries that all fail at once.
func Pauses(list func() []string, timing Timing, tries int) []time.Duration {
	h := newHubs(list, timing.orDefault())
	var pauses []time.Duration
	for range tries {
		h.left(0)
		pauses = append(pauses, h.pause())
	}
	return pauses
}
