package clusterset

import (
	"cmp"
	"maps"
	"slices"
)

// Builder collects what is seen and publishes Snapshots. The methods that report whether something changed say so relative
// to what the builder holds, so repeated news costs nothing. A Builder is for one goroutine; its snapshots are for all.
//
// What is given to a builder is copied, but for Policy.L7 and what TakeEndpoints takes.
type Builder struct {
	drafts   map[Key]*draft
	changed  []Key // drafts that differ from the current snapshot, in the order of the changes
	clusters map[string]*Cluster
	moved    bool // clusters differ from the current snapshot
	revoked  *revoked
	partial  bool
	current  *Snapshot
}

// draft is all that is held for one key, including what no snapshot shows yet: endpoints and imports may come before the
// export.
type draft struct {
	sources []heldSource // sorted by cluster
	imports []Import     // sorted by cluster
	policy  *Policy
	changed bool // is in Builder.changed
	resolve bool // exports changed: the agreement has to be found anew
}

// heldSource is a Source and whether it is an export.
type heldSource struct {
	Source
	exported bool
}

// NewBuilder returns an empty builder whose snapshots are numbered from sequence+1. Numbers that rise over restarts and
// replicas are the caller's to choose, the time in nanoseconds for example.
func NewBuilder(sequence uint64) *Builder {
	return &Builder{
		drafts:   map[Key]*draft{},
		clusters: map[string]*Cluster{},
		current:  &Snapshot{sequence: sequence, services: &table{}, clusters: newMembers(nil)},
	}
}

// ShowImports has snapshots show services that are imported and that nobody is known to export: for a builder that sees a
// part of what there is, and whose snapshots are put together with what others see. It is for a new builder.
func (b *Builder) ShowImports() { b.partial = true }

// SetCluster notes the facts about cluster.ID.
func (b *Builder) SetCluster(cluster Cluster) bool {
	normal := cluster.normal()
	if held := b.clusters[cluster.ID]; held != nil && held.equal(normal) {
		return false
	}
	b.clusters[cluster.ID] = normal
	b.moved = true
	return true
}

// RemoveCluster forgets a cluster that has left: the facts and everything that came from it. It is not for clusters that do
// not answer; those keep what is known of them.
func (b *Builder) RemoveCluster(id string) bool {
	_, found := b.clusters[id]
	delete(b.clusters, id)
	b.moved = b.moved || found
	for _, key := range slices.SortedFunc(maps.Keys(b.drafts), compareKeys) {
		d := b.drafts[key]
		if at, held := d.find(id); held {
			b.touch(key, d, d.sources[at].exported)
			d.sources = slices.Delete(d.sources, at, at+1)
			found = true
		}
		if at, held := d.findImport(id); held {
			b.touch(key, d, false)
			d.imports = slices.Delete(d.imports, at, at+1)
			found = true
		}
	}
	return found
}

// SetExport notes that a cluster exports a service.
func (b *Builder) SetExport(cluster string, key Key, export Export) bool {
	created, properties := instant(export.Created), export.Properties.normal()
	d := b.draft(key)
	source := d.at(cluster)
	if source.exported && source.Created.Equal(created) && source.Properties.equal(properties) {
		return false
	}
	source.exported, source.Created, source.Properties = true, created, d.share(properties)
	b.touch(key, d, true)
	return true
}

// RemoveExport notes that a cluster no longer exports a service. Its endpoints are kept aside until they are removed too.
func (b *Builder) RemoveExport(cluster string, key Key) bool {
	d := b.drafts[key]
	at, held := d.find(cluster)
	if !held || !d.sources[at].exported {
		return false
	}
	b.touch(key, d, true)
	if d.sources[at].Endpoints == nil {
		d.sources = slices.Delete(d.sources, at, at+1)
		return true
	}
	d.sources[at] = heldSource{Source: Source{Cluster: cluster, Endpoints: d.sources[at].Endpoints}}
	return true
}

// SetEndpoints notes the endpoints of a service in a cluster, all of them. No groups means that there are none, which is not
// the same as not knowing.
func (b *Builder) SetEndpoints(cluster string, key Key, endpoints Endpoints) bool {
	return b.setEndpoints(cluster, key, endpoints.normal(false))
}

// TakeEndpoints is SetEndpoints for lists that nobody will modify any more. Those that are in order already are held as they
// are, so that a caller who keeps them too shares the memory.
func (b *Builder) TakeEndpoints(cluster string, key Key, endpoints Endpoints) bool {
	return b.setEndpoints(cluster, key, endpoints.normal(true))
}

func (b *Builder) setEndpoints(cluster string, key Key, normal *Endpoints) bool {
	d := b.draft(key)
	source := d.at(cluster)
	if source.Endpoints != nil && source.Endpoints.equal(normal) {
		return false
	}
	for i := range d.sources {
		if d.sources[i].Endpoints != nil {
			normal.sharePorts(d.sources[i].Endpoints)
			break
		}
	}
	source.Endpoints = normal
	b.touch(key, d, false)
	return true
}

// RemoveEndpoints notes that nothing is known of the endpoints of a service in a cluster.
func (b *Builder) RemoveEndpoints(cluster string, key Key) bool {
	d := b.drafts[key]
	at, held := d.find(cluster)
	if !held || d.sources[at].Endpoints == nil {
		return false
	}
	b.touch(key, d, false)
	if d.sources[at].Endpoints = nil; !d.sources[at].exported {
		d.sources = slices.Delete(d.sources, at, at+1)
	}
	return true
}

// SetImport notes the derived Service in an importing cluster. The cluster is the one that is given, whatever i says.
func (b *Builder) SetImport(cluster string, key Key, i Import) bool {
	normal := i.normal(cluster)
	d := b.draft(key)
	at, held := d.findImport(cluster)
	switch {
	case held && d.imports[at].equal(&normal):
		return false
	case held:
		d.imports[at] = normal
	default:
		d.imports = slices.Insert(d.imports, at, normal)
	}
	b.touch(key, d, false)
	return true
}

// RemoveImport notes that there is no derived Service in a cluster.
func (b *Builder) RemoveImport(cluster string, key Key) bool {
	d := b.drafts[key]
	at, held := d.findImport(cluster)
	if !held {
		return false
	}
	b.touch(key, d, false)
	d.imports = slices.Delete(d.imports, at, at+1)
	return true
}

// SetPolicy notes the policy of a service, which need not be exported yet.
func (b *Builder) SetPolicy(key Key, policy Policy) bool {
	normal := policy.normal()
	d := b.draft(key)
	if d.policy != nil && d.policy.equal(normal) {
		return false
	}
	d.policy = normal
	b.touch(key, d, false)
	return true
}

// RemovePolicy notes that a service has no policy.
func (b *Builder) RemovePolicy(key Key) bool {
	d := b.drafts[key]
	if d == nil || d.policy == nil {
		return false
	}
	d.policy = nil
	b.touch(key, d, false)
	return true
}

// Current returns the snapshot that was published last; before the first it is empty.
func (b *Builder) Current() *Snapshot { return b.current }

// Publish returns a snapshot with all changes. Without any it returns the current one, and so it does when the changes
// undid each other. A service whose content is what it was keeps its pointer.
func (b *Builder) Publish() *Snapshot { return b.PublishAs(0) }

// PublishAs is Publish for who follows another builder and gives its own snapshots the same numbers: the next snapshot has
// the given number, if that is greater than the one it would have.
func (b *Builder) PublishAs(sequence uint64) *Snapshot {
	edits := make([]edit, 0, len(b.changed))
	for _, key := range b.changed {
		d := b.drafts[key]
		old := b.current.services.get(key)
		service := d.service(key, old, b.partial)
		d.changed, d.resolve = false, false
		if d.empty() {
			delete(b.drafts, key)
		}
		if service != old {
			edits = append(edits, edit{key, service})
		}
	}
	b.changed = b.changed[:0]

	next := *b.current
	if len(edits) > 0 {
		next.services = b.current.services.with(edits)
	}
	next.clusters, next.revoked = b.members(), b.revocations()
	if next == *b.current {
		return b.current
	}
	next.sequence = max(next.sequence+1, sequence)
	b.current = &next
	return b.current
}

// members returns the facts about the clusters, the current ones when nothing changed.
func (b *Builder) members() *members {
	if !b.moved {
		return b.current.clusters
	}
	b.moved = false
	same := len(b.clusters) == len(b.current.clusters.byID)
	for id, cluster := range b.clusters {
		if old := b.current.clusters.byID[id]; old != nil && old.equal(cluster) {
			b.clusters[id] = old
		} else {
			same = false
		}
	}
	if same {
		return b.current.clusters
	}
	return newMembers(maps.Clone(b.clusters))
}

// draft returns what is held for a key, made if need be.
func (b *Builder) draft(key Key) *draft {
	d := b.drafts[key]
	if d == nil {
		d = &draft{}
		b.drafts[key] = d
	}
	return d
}

// touch has the next snapshot show the draft; resolve says that exports changed.
func (b *Builder) touch(key Key, d *draft, resolve bool) {
	d.resolve = d.resolve || resolve
	if !d.changed {
		d.changed = true
		b.changed = append(b.changed, key)
	}
}

// find returns where the source of a cluster is or belongs. A nil draft has none.
func (d *draft) find(cluster string) (int, bool) {
	if d == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(d.sources, cluster, func(s heldSource, id string) int { return cmp.Compare(s.Cluster, id) })
}

func (d *draft) findImport(cluster string) (int, bool) {
	if d == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(d.imports, cluster, func(i Import, id string) int { return cmp.Compare(i.Cluster, id) })
}

// at returns the source of a cluster, made if need be. It is valid until the next change.
func (d *draft) at(cluster string) *heldSource {
	at, held := d.find(cluster)
	if !held {
		d.sources = slices.Insert(d.sources, at, heldSource{Source: Source{Cluster: Intern(cluster).String()}})
	}
	return &d.sources[at]
}

// share returns properties that another export has already, if they are equal: most clusters export the same service.
func (d *draft) share(properties *Properties) *Properties {
	if properties == nil {
		return nil
	}
	for i := range d.sources {
		if held := d.sources[i].Properties; held != nil && held.equal(properties) {
			return held
		}
	}
	return properties
}

func (d *draft) empty() bool { return len(d.sources) == 0 && len(d.imports) == 0 && d.policy == nil }

// service returns what a snapshot shows of the draft: nil without an export (or an import, if they are shown), the old one if
// it is the same. The old one's agreement is taken over when the exports did not change.
func (d *draft) service(key Key, old *Service, imports bool) *Service {
	sources := make([]Source, 0, len(d.sources))
	for i := range d.sources {
		if d.sources[i].exported {
			sources = append(sources, d.sources[i].Source)
		}
	}
	if len(sources) == 0 && (!imports || len(d.imports) == 0) {
		return nil
	}
	next := &Service{Key: key, Policy: d.policy, Sources: sources, Imports: clone(d.imports)}
	if old != nil && old.equal(next) {
		return old
	}
	if old != nil && !d.resolve {
		next.Properties, next.Conflicts, next.ports = old.Properties, old.Conflicts, old.ports
	} else {
		agreed := merge(sources)
		next.Properties, next.Conflicts, next.ports = agreed.properties, agreed.conflicts, agreed.ports
	}
	next.seal.apply(next)
	return next
}
