package exports

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
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
	sizes    [kinds]int // of what is held, in bytes, about

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
	s.known = record.Time
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
	if grows > 0 && s.sizes[kind]+grows > s.table.most {
		s.leaveOut(kind)
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
func (s *site) leaveOut(kind Kind) {
	s.feeds[kind].state, s.feeds[kind].message = StateUnreachable, tooMuch(kind).Error()
	s.table.stale[s] = struct{}{}
	if s.line != nil {
		s.line.full[kind].Store(true)
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

// export returns what is known of the site's export of a service: what was read, else what was restored.
func (s *site) export(name key) (clusterset.Export, bool) {
	var before clusterset.Export
	restored := false
	if s.record != nil {
		before, restored = s.record.Known.Exports[name]
	}
	if !s.feeds[kindExports].listed {
		return before, restored
	}
	e := s.exports[name]
	if e == nil {
		return clusterset.Export{}, false
	}
	export := clusterset.Export{Created: e.created}
	switch {
	case s.feeds[kindServices].listed:
		if service := s.services[name]; service != nil {
			export.Properties = service.properties(e)
		}
	case restored:
		export.Properties = e.relabel(before.Properties)
	default:
		return clusterset.Export{}, false // an export without properties would say that there is no Service
	}
	return export, true
}

// endpoints returns the endpoints of a service, and whether they are known.
func (s *site) endpoints(name key) (clusterset.Endpoints, bool) {
	if s.feeds[kindSlices].listed {
		return s.slices.endpoints(name, &s.nodes), true
	}
	if s.record == nil {
		return clusterset.Endpoints{}, false
	}
	endpoints, known := s.record.Known.Endpoints[name]
	return endpoints, known
}

// clusterIPs returns the addresses of the derived Service of a global one, and whether there is one.
func (s *site) clusterIPs(global key) ([]netip.Addr, bool) {
	if s.feeds[kindServices].listed {
		return s.derived.of(global)
	}
	if s.record == nil {
		return nil, false
	}
	addresses, known := s.record.Known.Imports[global]
	return addresses, known
}

// show brings the builder up to date with one export.
func (s *site) show(name key) {
	if s.id == "" {
		return
	}
	_, was := s.shown[name]
	export, is := s.export(name)
	switch {
	case is:
		if s.table.builder.SetExport(s.id, name, export) {
			s.version++
		}
		if !was {
			s.shown[name] = 0
			s.showEndpoints(name)
		}
	case was:
		s.table.builder.RemoveExport(s.id, name)
		s.table.builder.RemoveEndpoints(s.id, name)
		s.total -= s.shown[name]
		delete(s.shown, name)
		clusterEndpoints.WithLabelValues(s.member.Name).Set(float64(s.total))
		s.version++
	}
}

// showEndpoints brings the builder up to date with the endpoints of one service; those of services that are not exported
// concern nobody.
func (s *site) showEndpoints(name key) {
	if _, exported := s.shown[name]; !exported || s.id == "" {
		return
	}
	endpoints, known := s.endpoints(name)
	var changed bool
	if known {
		changed = s.table.builder.TakeEndpoints(s.id, name, endpoints)
	} else {
		changed = s.table.builder.RemoveEndpoints(s.id, name)
	}
	if changed {
		s.version++
	}
	count := 0
	for i := range endpoints.Groups {
		count += len(endpoints.Groups[i].Endpoints)
	}
	s.total += count - s.shown[name]
	s.shown[name] = count
	clusterEndpoints.WithLabelValues(s.member.Name).Set(float64(s.total))
}

// showMoved brings the builder up to date with the services whose slices changed.
func (s *site) showMoved() {
	for name := range s.moved {
		s.showEndpoints(name)
	}
	clear(s.moved)
}

// showImport brings the builder up to date with the derived Service of one global service.
func (s *site) showImport(global key) {
	if s.id == "" {
		return
	}
	addresses, is := s.clusterIPs(global)
	_, was := s.reached[global]
	changed := false
	switch {
	case is:
		s.reached[global] = struct{}{}
		changed = s.table.builder.SetImport(s.id, global, addresses)
	case was:
		delete(s.reached, global)
		changed = s.table.builder.RemoveImport(s.id, global)
	}
	if changed {
		s.version++
	}
}

// showAll brings the builder up to date with everything: something has become complete, was restored, or has a new id.
func (s *site) showAll() {
	if s.id == "" {
		return
	}
	exports, imports := map[key]struct{}{}, map[key]struct{}{}
	add(exports, s.exports)
	add(exports, s.shown)
	add(imports, s.derived.byGlobal)
	add(imports, s.reached)
	if s.record != nil {
		add(exports, s.record.Known.Exports)
		add(imports, s.record.Known.Imports)
	}
	for name := range exports {
		s.show(name)
		s.showEndpoints(name)
	}
	for global := range imports {
		s.showImport(global)
	}
}

func add[V any](to map[key]struct{}, from map[key]V) {
	for name := range from {
		to[name] = struct{}{}
	}
}

// rezone shows endpoints anew that have their zone from their node.
func (s *site) rezone() {
	for name := range s.shown {
		if s.slices.zoneless(name) {
			s.showEndpoints(name)
		}
	}
}

// age notes whether the hub is in step with the site, and since when it is not.
func (s *site) age() {
	inStep := s.complete() && !s.member.Away()
	for _, k := range []Kind{kindExports, kindServices, kindSlices} {
		inStep = inStep && (s.feeds[k].state == StateRunning || s.feeds[k].state == StateNotInstalled)
	}
	switch {
	case inStep:
		s.known = time.Time{}
	case s.known.IsZero():
		s.known = s.table.now()
	}
	noteAge(s.member.Name, s.known)
}

// facts returns what is known of the site as a cluster.
func (s *site) facts() clusterset.Cluster {
	c := clusterset.Cluster{ID: s.id, ControlPlane: s.controlPlane(), LastKnown: s.known}
	c.Region, c.Zone = s.place()
	info := s.table.infos[s.member.Name]
	if info == nil {
		return c
	}
	c.Network = info.Spec.Network
	c.Gateways = gateways(info.Spec.Gateways)
	c.DataPlane = clusterset.Health(info.Spec.DataPlane)
	if info.Spec.State != v1alpha1.Active {
		c.State = clusterset.State(info.Spec.State)
	}
	return c
}

// place returns region and zone: what people say, else what the nodes say, else what the leader noted when it knew.
func (s *site) place() (region, zone string) {
	region, zones := s.nodes.place()
	info := s.table.infos[s.member.Name]
	if info != nil && !s.feeds[kindNodes].listed {
		region, zones = info.Status.Region, info.Status.Zones
	}
	if len(zones) == 1 {
		zone = zones[0]
	}
	if info != nil && info.Spec.Region != "" {
		region = info.Spec.Region
	}
	if info != nil && info.Spec.Zone != "" {
		zone = info.Spec.Zone
	}
	return region, zone
}

func (s *site) controlPlane() clusterset.Health {
	switch {
	case s.member.Ready():
		return clusterset.Up
	case s.member.Away():
		return clusterset.Down
	}
	return clusterset.Unknown
}

// defaultGatewayPort is where gateways take TLS by server name.
const defaultGatewayPort = 15443

func gateways(written []v1alpha1.Gateway) []clusterset.Gateway {
	var gateways []clusterset.Gateway
	for _, g := range written {
		addr, err := netip.ParseAddr(g.Address)
		if err != nil || g.Port < 0 || g.Port > 65535 {
			continue // the CRD does not let it through
		}
		port := uint16(g.Port)
		if port == 0 {
			port = defaultGatewayPort
		}
		gateways = append(gateways, clusterset.Gateway{Addr: addr, Port: port})
	}
	return gateways
}

func (s *site) state() ClusterState {
	state := ClusterState{
		Name: s.member.Name, ID: s.id, Flaw: s.flaw, Exports: len(s.shown), Endpoints: s.total,
		ControlPlane: s.controlPlane(), LastKnown: s.known, Restored: s.record != nil,
	}
	if info := s.table.infos[s.member.Name]; info != nil {
		state.DataPlane = clusterset.Health(info.Spec.DataPlane)
	}
	region, zones := s.nodes.place()
	state.Region, _ = s.place()
	if info := s.table.infos[s.member.Name]; info != nil && !s.feeds[kindNodes].listed && region == "" {
		zones = slices.Clone(info.Status.Zones)
	}
	state.Zones = zones
	for k := range Kind(kinds) {
		f := &s.feeds[k]
		state.Watches = append(state.Watches, WatchState{Kind: k.String(), State: f.state, Message: f.message, Listed: f.listed})
	}
	return state
}

// ClusterState is how one member stands.
type ClusterState struct {
	// Name is that of the KubeFedCluster, ID that of the cluster in the clusterset: empty while the member is left out.
	Name, ID string
	// Flaw says why the member is left out, or has another id than it claims; empty when all is well.
	Flaw   string
	Region string
	Zones  []string
	// Exports and Endpoints count what the table has of the member.
	Exports, Endpoints      int
	ControlPlane, DataPlane clusterset.Health
	// LastKnown is when the hub was last in step with the member; zero while it is.
	LastKnown time.Time
	// Restored says that a part of it comes from the archive.
	Restored bool
	Watches  []WatchState
}

// WatchState is how far one watch has come.
type WatchState struct {
	Kind    string
	State   State
	Message string // why it is not running
	Listed  bool   // the facts were complete once; they stay, if old
}

// State says how far a watch has come.
type State string

// The states of a watch.
const (
	StateWaiting      State = "Waiting"      // the first list is under way
	StateRunning      State = "Running"      // listed; changes arrive
	StateForbidden    State = "Forbidden"    // the cluster's RBAC refuses
	StateNotInstalled State = "NotInstalled" // the cluster does not serve the kind
	StateUnreachable  State = "Unreachable"  // any other failure
)
