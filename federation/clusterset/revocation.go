package clusterset

import (
	"cmp"
	"slices"
	"time"
)

// Revocation says which certificates of a cluster are no longer good: those that were issued before a moment. Later ones
// are, so a cluster may come back.
type Revocation struct {
	// Cluster is an id, which no cluster may have any more.
	Cluster string
	Before  time.Time
}

// revoked is a list of revocations, sorted by cluster, each once.
type revoked struct{ list []Revocation }

// all returns the list; nil has none.
func (r *revoked) all() []Revocation {
	if r == nil {
		return nil
	}
	return r.list
}

// Revoked tells whether a certificate of a cluster that was issued at the given time is no longer good.
func (s *Snapshot) Revoked(cluster string, issued time.Time) bool {
	list := s.revoked.all()
	at, found := slices.BinarySearchFunc(list, cluster, func(r Revocation, id string) int { return cmp.Compare(r.Cluster, id) })
	return found && issued.Before(list[at].Before)
}

// Revocations returns all revocations, sorted by cluster. The slice is the caller's.
func (s *Snapshot) Revocations() []Revocation { return slices.Clone(s.revoked.all()) }

// SetRevocations notes all revocations that there are. Of two of one cluster, the later counts.
func (b *Builder) SetRevocations(revocations []Revocation) bool {
	normal := slices.Clone(revocations)
	for i := range normal {
		normal[i].Before = instant(normal[i].Before)
	}
	slices.SortFunc(normal, func(a, b Revocation) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), b.Before.Compare(a.Before))
	})
	normal = slices.CompactFunc(normal, func(a, b Revocation) bool { return a.Cluster == b.Cluster })
	next := &revoked{clone(normal)}
	if b.revoked.equal(next) {
		return false
	}
	b.revoked = next
	return true
}

// revocations returns the list for the next snapshot: the current one when it says the same.
func (b *Builder) revocations() *revoked {
	if b.revoked.equal(b.current.revoked) {
		b.revoked = b.current.revoked
	}
	return b.revoked
}

func (r *revoked) equal(other *revoked) bool {
	return r == other || slices.EqualFunc(r.all(), other.all(), func(a, b Revocation) bool {
		return a.Cluster == b.Cluster && a.Before.Equal(b.Before)
	})
}
