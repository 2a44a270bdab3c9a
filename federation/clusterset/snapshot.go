package clusterset

import (
	"cmp"
	"maps"
	"slices"
)

// Snapshot is the whole service table at one moment. It never changes, and any number of goroutines may read it. The zero
// value is empty.
type Snapshot struct {
	sequence uint64
	services *table
	clusters *members
	revoked  *revoked
}

// members are the facts about clusters, of one or several snapshots.
type members struct {
	seal seal
	byID map[string]*Cluster
	list []*Cluster // sorted by id
}

func newMembers(byID map[string]*Cluster) *members {
	m := &members{byID: byID}
	m.list = slices.SortedFunc(maps.Values(byID), func(a, b *Cluster) int { return cmp.Compare(a.ID, b.ID) })
	m.seal.apply(&m.list)
	return m
}

// Sequence returns the number of the snapshot; a later one has a greater number.
func (s *Snapshot) Sequence() uint64 { return s.sequence }

// Len returns the number of services, those without a valid export included.
func (s *Snapshot) Len() int {
	if s.services == nil {
		return 0
	}
	return s.services.size
}

// Service returns a service, or nil when no cluster exports it.
func (s *Snapshot) Service(key Key) *Service {
	if s.services == nil {
		return nil
	}
	service := s.services.get(key)
	if service != nil {
		service.seal.verify(service)
	}
	return service
}

// Services returns all services, sorted by namespace and name. The slice is the caller's.
func (s *Snapshot) Services() []*Service {
	if s.services == nil {
		return nil
	}
	all := s.services.sorted()
	for _, service := range all {
		service.seal.verify(service)
	}
	return all
}

// Cluster returns the facts about a cluster, or nil when there are none.
func (s *Snapshot) Cluster(id string) *Cluster {
	if s.clusters == nil {
		return nil
	}
	s.clusters.seal.verify(&s.clusters.list)
	return s.clusters.byID[id]
}

// Clusters returns the facts about all clusters, sorted by id. The slice is the caller's.
func (s *Snapshot) Clusters() []*Cluster {
	if s.clusters == nil {
		return nil
	}
	s.clusters.seal.verify(&s.clusters.list)
	return slices.Clone(s.clusters.list)
}

// facts returns what is known of a cluster, if only its id: then it has a network of its own.
func (s *Snapshot) facts(id string) *Cluster {
	if s.clusters != nil {
		if cluster, known := s.clusters.byID[id]; known {
			return cluster
		}
	}
	return &Cluster{ID: id}
}

// Changes tells in what two snapshots differ.
type Changes struct {
	// Services are the keys of services that were added, removed or changed, sorted.
	Services []Key
	// Clusters are the ids of clusters whose facts were added, removed or changed, sorted.
	Clusters []string
	// Moved are those of Clusters whose change may show in views: in those of every service that they export (Exports), and
	// in everything that they consume themselves. What was heard of a control plane shows in no view.
	Moved []string
	// Revoked says that other certificates are revoked than before.
	Revoked bool
}

// Since returns what changed from an older snapshot of the same builder to this one; everything for nil. What both share is
// not looked at.
func (s *Snapshot) Since(old *Snapshot) Changes {
	if old == nil {
		old = &Snapshot{}
	}
	if s == old {
		return Changes{}
	}
	before, now := cmp.Or(old.services, &table{}), cmp.Or(s.services, &table{})
	changes := Changes{Services: now.since(before), Clusters: s.clusters.since(old.clusters), Revoked: !s.revoked.equal(old.revoked)}
	for _, id := range changes.Clusters {
		was, is := old.facts(id), s.facts(id)
		if !was.sameWay(is) {
			changes.Moved = append(changes.Moved, id)
		}
	}
	return changes
}

// Exports returns the keys of the services that a cluster exports, validly or not, sorted. It looks at all services.
func (s *Snapshot) Exports(cluster string) []Key {
	var keys []Key
	for _, service := range s.Services() {
		if _, exports := service.source(cluster); exports {
			keys = append(keys, service.Key)
		}
	}
	return keys
}

func (m *members) since(old *members) []string {
	if m == old {
		return nil
	}
	m, old = cmp.Or(m, &members{}), cmp.Or(old, &members{})
	changed := map[string]bool{}
	for id, cluster := range m.byID {
		if old.byID[id] != cluster {
			changed[id] = true
		}
	}
	for id := range old.byID {
		if m.byID[id] == nil {
			changed[id] = true
		}
	}
	return slices.Sorted(maps.Keys(changed))
}
