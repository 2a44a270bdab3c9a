package exports

import (
	"maps"
	"slices"
	"time"

	"github.com/go-logr/logr"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// table is all that the Watcher knows: what was read of each member, and the Builder that makes snapshots of it. Only the
// holder of Watcher.mu touches it.
type table struct {
	log     logr.Logger
	now     func() time.Time
	builder *clusterset.Builder
	limits  limits
	id      string // of the only member; empty when members claim theirs

	sites    map[string]*site                 // by the member's name
	infos    map[string]*v1alpha1.ClusterInfo // may come before the member
	born     map[string]time.Time             // when members were registered; may come before the member, or later
	records  map[string]Record                // restored, for members that have not come yet
	members  []*cluster.Member                // as of the last look
	observed map[string]*observation          // what agents told, by cluster id
	led      time.Time                        // when a hub last led before this one started; zero if that is not known

	stale  map[*site]struct{} // sites whose facts have to be looked at again
	moved  map[*site]struct{} // sites with services whose endpoints have to be shown
	claims bool               // the ids have to be looked at again

	whole     bool // the list of members is
	restored  bool // the archive has been read, or cannot be
	impatient bool // the first snapshot waits no longer
	published bool
}

func newTable(log logr.Logger, now func() time.Time) *table {
	return &table{
		log:      log,
		now:      now,
		builder:  clusterset.NewBuilder(uint64(now().UnixNano())),
		limits:   defaultLimits,
		sites:    map[string]*site{},
		infos:    map[string]*v1alpha1.ClusterInfo{},
		born:     map[string]time.Time{},
		records:  map[string]Record{},
		observed: map[string]*observation{},
		stale:    map[*site]struct{}{},
		moved:    map[*site]struct{}{},
	}
}

// apply takes in one change.
func (t *table) apply(c *change) {
	switch {
	case c.apply != nil:
		c.apply(t)
	case c.line.site.line == c.line: // else a worker that is no longer in use
		s := c.line.site
		s.take(c.fact)
		if c.fact.news != newsItem || c.fact.kind == kindNodes || c.fact.kind == kindProperty {
			t.stale[s] = struct{}{}
		}
	}
}

func (t *table) sameMembers(members []*cluster.Member) bool {
	return slices.Equal(t.members, members) && t.members != nil
}

// join takes in a member, and tells whether its workers have to start anew: because the member is new, because its
// connection is another one, or because it is back.
func (t *table) join(m *cluster.Member) (*site, bool) {
	s := t.sites[m.Name]
	if s != nil && s.member.UID != m.UID {
		t.leave(m.Name) // another cluster was registered by the same name
		s = nil
	}
	if s == nil {
		s = newSite(t, m)
		t.sites[m.Name] = s
		t.adopt(s)
		t.stale[s], t.claims = struct{}{}, true
		return s, true
	}
	was := s.member
	if was == m {
		return s, false
	}
	s.member = m
	t.stale[s] = struct{}{}
	if m.Ready() && !was.Ready() && !was.Away() {
		s.line.hurry() // the first probe: workers that already failed need not wait any longer
	}
	return s, was.Revision() != m.Revision() || m.Ready() && was.Away()
}

// adopt gives a site what was restored of it.
func (t *table) adopt(s *site) {
	record, found := t.records[s.member.Name]
	if !found {
		return
	}
	delete(t.records, s.member.Name)
	if record.UID == s.member.UID {
		s.remember(&record)
		t.stale[s], t.claims = struct{}{}, true
	}
}

// leave forgets a member that is no longer registered.
func (t *table) leave(name string) {
	s := t.sites[name]
	s.line.close()
	s.line = nil
	if s.id != "" {
		t.builder.RemoveCluster(s.id)
		delete(t.observed, s.id)
	}
	delete(t.sites, name)
	delete(t.stale, s)
	delete(t.moved, s)
	t.claims = true
	forgetCluster(name)
}

func (t *table) restore(records []Record) {
	t.restored = true
	for _, record := range records {
		if other, found := t.records[record.Member]; found && other.Time.After(record.Time) {
			continue // an older id of the same member, which nobody had the time to remove
		}
		t.records[record.Member] = record
	}
	for _, record := range records {
		if s := t.sites[record.Member]; s != nil {
			t.adopt(s)
		}
	}
}

func (t *table) setInfo(name string, info *v1alpha1.ClusterInfo) {
	if info == nil {
		delete(t.infos, name)
	} else {
		t.infos[name] = info
	}
	if s := t.sites[name]; s != nil {
		t.stale[s], t.claims = struct{}{}, true
		if s.record != nil {
			s.known = LastKnown(s.record, info, t.led)
		}
	}
}

func (t *table) setBorn(name string, born time.Time) {
	if t.born[name].Equal(born) {
		return
	}
	t.claims = true
	t.born[name] = born
	if born.IsZero() {
		delete(t.born, name)
	}
}

// settle brings ids, facts of clusters, and endpoints up to date.
func (t *table) settle() {
	for s := range t.moved {
		s.showMoved()
	}
	clear(t.moved)
	for s := range t.stale {
		if claim := s.claim(); claim != s.claimed {
			s.claimed, t.claims = claim, true
		}
	}
	if t.claims {
		t.claims = false
		t.assign()
	}
	for s := range t.stale {
		s.age()
		if s.id != "" {
			t.builder.SetCluster(s.facts())
		}
	}
	clear(t.stale)
}

// presentable tells whether the first snapshot may be made.
func (t *table) presentable() bool {
	if t.impatient {
		return true
	}
	if !t.whole || !t.restored {
		return false
	}
	for _, s := range t.sites {
		if !s.settled() {
			return false
		}
	}
	return true
}

func (t *table) states() []ClusterState {
	states := make([]ClusterState, 0, len(t.sites))
	for _, name := range slices.Sorted(maps.Keys(t.sites)) {
		states = append(states, t.sites[name].state())
	}
	return states
}
