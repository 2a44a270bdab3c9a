package exports

import (
	"time"

	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

type key = clusterset.Key

// site is one member with what was read of it.
type site struct {
	table  *table
	member *cluster.Member
	line   *line // the workers in use; nil before the first, and after the member has left

	id      string // in the clusterset; empty while none is decided or another member has it
	claimed claim
	flaw    string

	feeds    [kinds]feed
	exports  map[key]*exportFact
	services map[key]*serviceFact
	derived  derivedServices
	slices   sliceStore
	nodes    nodeStore
	property string
	sizes    [kinds]int    // of what is held, in bytes, about
	told     [kinds]string // what was logged last of what is left out

	record *Record // restored; nil once everything has been listed

	moved   map[key]struct{} // services whose slices changed, to be shown
	shown   map[key]int      // exports that the builder has of it, with the number of endpoints
	total   int              // of the endpoints in shown
	reached map[key]struct{} // imports that the builder has of it
	known   time.Time        // when the hub was last in step with it; zero while it is
	version uint64           // rises with every change of what is known
}

// feed is how far one worker has come.
type feed struct {
	state   State
	message string
	listed  bool // the facts are complete, if old
}

func newSite(t *table, m *cluster.Member) *site {
	s := &site{
		table: t, member: m, exports: map[key]*exportFact{}, services: map[key]*serviceFact{},
		derived: newDerivedServices(), slices: newSliceStore(), nodes: newNodeStore(),
		moved: map[key]struct{}{}, shown: map[key]int{}, reached: map[key]struct{}{}, known: t.now(),
	}
	for i := range s.feeds {
		s.feeds[i].state = StateWaiting
	}
	return s
}

// remember takes what was restored of the site, and shows it where nothing was read yet.
func (s *site) remember(record *Record) {
	if s.complete() {
		return
	}
	s.record = record
	s.known = LastKnown(record, s.table.infos[s.member.Name], s.table.led)
	s.showAll()
}

// complete tells whether everything that services consist of has been listed.
func (s *site) complete() bool {
	return s.feeds[kindExports].listed && s.feeds[kindServices].listed && s.feeds[kindSlices].listed
}

// settled tells whether the first snapshot need not wait for the site.
func (s *site) settled() bool {
	if s.claimed == (claim{}) {
		return false
	}
	for _, k := range []Kind{kindExports, kindServices, kindSlices} {
		f := &s.feeds[k]
		if !f.listed && f.state != StateForbidden && !s.member.Away() && (s.record == nil || f.state != StateUnreachable) {
			return false
		}
	}
	return true
}

// take takes in what a worker found.
func (s *site) take(f *fact) {
	feed := &s.feeds[f.kind]
	switch f.news {
	case newsState:
		feed.state, feed.message = f.state, f.message
		if f.state == StateNotInstalled {
			s.replace(f.kind, nil)
		}
	case newsList:
		feed.state, feed.message = StateRunning, ""
		s.replace(f.kind, f.items)
	case newsItem:
		s.put(f.kind, f.item)
	}
}

// replace makes the items all that there is of a kind.
func (s *site) replace(kind Kind, items []item) {
	first := !s.feeds[kind].listed
	s.feeds[kind].listed = true
	present := make(map[key]struct{}, len(items))
	for _, i := range items {
		present[i.name] = struct{}{}
	}
	for _, name := range s.names(kind) {
		if _, stays := present[name]; !stays {
			s.put(kind, item{name: name})
		}
	}
	for _, i := range items {
		s.put(kind, i)
	}
	if first {
		s.showAll()
	}
	if s.complete() {
		s.record = nil
	}
}

// names returns the names of what is held of a kind.
func (s *site) names(kind Kind) []key {
	var names []key
	switch kind {
	case kindExports:
		for name := range s.exports {
			names = append(names, name)
		}
	case kindServices:
		for name := range s.services {
			names = append(names, name)
		}
		names = append(names, s.derived.names()...)
	case kindSlices:
		names = s.slices.names()
	case kindNodes:
		names = s.nodes.names()
	case kindProperty:
		names = append(names, key{Name: propertyName})
	}
	return names
}

// put takes in one object; an item without a fact says that there is none.
func (s *site) put(kind Kind, i item) {
	held := s.held(kind, i.name)
	grows := i.size() - held.size()
	if why := s.excess(kind, &i, &held); why != nil {
		s.leaveOut(kind, why)
		return
	}
	if kind != kindProperty { // of which there is one
		s.sizes[kind] += grows
	}
	switch kind {
	case kindExports:
		s.putExport(i)
	case kindServices:
		s.putService(i)
	case kindSlices:
		for _, service := range s.slices.put(i) {
			s.moved[service] = struct{}{} // shown once, however many slices of it come together
			s.table.moved[s] = struct{}{}
		}
	case kindNodes:
		if s.nodes.put(i) {
			s.rezone()
		}
	case kindProperty:
		if i.name.Name == propertyName {
			s.property = i.property
		}
	}
}

// held returns what is held of one object, without what takes no room.
func (s *site) held(kind Kind, name key) item {
	i := item{name: name}
	switch kind {
	case kindExports:
		i.export = s.exports[name]
	case kindServices:
		i.service, i.derived = s.services[name], s.derived.byName[name]
	case kindSlices:
		i.slice = s.slices.byName[name]
	case kindNodes:
		if node, found := s.nodes.byName[clusterset.Intern(name.Name)]; found {
			i.node = &node
		}
	case kindProperty:
	}
	return i
}

// leaveOut notes that there is more of a kind than is kept, and has its worker begin anew: until everything fits, the site is
// out of step, and says so.
func (s *site) leaveOut(kind Kind, why *excess) {
	leftOut.WithLabelValues(s.member.Name, kind.String()).Inc()
	if s.line != nil && !s.line.full[kind].CompareAndSwap(nil, why) {
		if first := s.line.full[kind].Load(); first != nil {
			why = first // one of them is told
		}
	}
	s.feeds[kind].state, s.feeds[kind].message = StateUnreachable, why.message
	s.table.stale[s] = struct{}{}
	if s.told[kind] != why.message { // not at every list
		s.told[kind] = why.message
		s.table.log.Info("A part of what a member has is left out", "cluster", s.member.Name, "kind", kind.String(), "reason", why.message)
	}
}

func (s *site) putExport(i item) {
	if i.export == nil {
		delete(s.exports, i.name)
	} else {
		s.exports[i.name] = i.export
	}
	s.show(i.name)
}

func (s *site) putService(i item) {
	plain, imported := i.service, i.derived
	if plain == nil {
		if _, held := s.services[i.name]; held {
			delete(s.services, i.name)
			s.show(i.name)
		}
	} else {
		s.services[i.name] = plain
		s.show(i.name)
	}
	for _, global := range s.derived.put(i.name, imported) {
		s.showImport(global)
	}
}
