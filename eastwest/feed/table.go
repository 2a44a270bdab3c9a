package feed

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// table is what the hub said, and the table of services made of it. It is for one goroutine.
type table struct {
	builder  *clusterset.Builder
	services map[string]*held
	clusters map[string]*held
	sum      uint64 // of what was offered, as in servicepb.Table
	revoked  []clusterset.Revocation
	own      overlay
}

// held is what is known of one resource.
type held struct {
	offered string // the version that the hub sent last, even if it could not be read
	version string // of value; empty if there is none
	value   []byte
	facts   *servicepb.Facts // of a service
	cluster clusterset.Cluster
}

func newTable(sequence uint64) *table {
	return &table{
		builder: clusterset.NewBuilder(sequence), services: map[string]*held{}, clusters: map[string]*held{},
	}
}

// of returns the resources of one type.
func (t *table) of(url string) map[string]*held {
	if url == servicepb.ClusterType {
		return t.clusters
	}
	return t.services
}

func (t *table) empty() bool { return len(t.services)+len(t.clusters) == 0 }

// take notes a resource. An error says what is wrong with it, and that the last one that could be read stays.
func (t *table) take(d *servicepb.Decoder, url string, r Resource) error {
	h := t.of(url)[r.Name]
	if h == nil {
		h = &held{}
		t.of(url)[r.Name] = h
	} else {
		t.sum -= servicepb.Element(url, r.Name, h.offered)
	}
	h.offered = r.Version
	t.sum += servicepb.Element(url, r.Name, r.Version)
	if h.version != "" && h.version == r.Version {
		return nil
	}
	err := errNoVersion
	if r.Version != "" {
		err = t.read(d, url, h, r)
	}
	if err != nil {
		kept := "nothing is known of it"
		if h.version != "" {
			kept = "what was known of it stays"
		}
		return fmt.Errorf("resource %s: %w; %s", r.Name, err, kept)
	}
	h.version, h.value = r.Version, r.Value
	return nil
}

var errNoVersion = errors.New("it has no version")

// read decodes a resource and tells the builder.
func (t *table) read(d *servicepb.Decoder, url string, h *held, r Resource) error {
	if url == servicepb.ClusterType {
		cluster, err := servicepb.DecodeCluster(r.Name, r.Value)
		if err != nil {
			return err //nolint:wrapcheck // take says what it is about
		}
		h.cluster = cluster
		t.builder.SetCluster(cluster)
		return nil
	}
	facts, err := d.Service(r.Name, r.Value)
	if err != nil {
		return err //nolint:wrapcheck // take says what it is about
	}
	t.leave(h.facts, facts)
	t.set(facts)
	h.facts = facts
	return nil
}

// set tells the builder what the hub knows of a service.
func (t *table) set(facts *servicepb.Facts) {
	facts = t.uncovered(facts)
	for _, source := range facts.Sources {
		t.builder.SetExport(source.Cluster, facts.Key, clusterset.Export{Created: source.Created, Properties: source.Properties})
		if source.Endpoints == nil {
			t.builder.RemoveEndpoints(source.Cluster, facts.Key)
		} else {
			t.builder.TakeEndpoints(source.Cluster, facts.Key, *source.Endpoints)
		}
	}
	for _, i := range facts.Imports {
		t.builder.SetImport(i.Cluster, facts.Key, i)
	}
	if facts.Policy == nil {
		t.builder.RemovePolicy(facts.Key)
	} else {
		t.builder.SetPolicy(facts.Key, *facts.Policy)
	}
}

// leave takes out what the old facts say of clusters that the new ones do not name.
func (t *table) leave(old, now *servicepb.Facts) {
	if old == nil {
		return
	}
	old = t.uncovered(old)
	for _, source := range old.Sources {
		if !slices.ContainsFunc(now.Sources, func(s clusterset.Source) bool { return s.Cluster == source.Cluster }) {
			t.builder.RemoveExport(source.Cluster, old.Key)
			t.builder.RemoveEndpoints(source.Cluster, old.Key)
		}
	}
	for _, i := range old.Imports {
		if !slices.ContainsFunc(now.Imports, func(j clusterset.Import) bool { return j.Cluster == i.Cluster }) {
			t.builder.RemoveImport(i.Cluster, old.Key)
		}
	}
}

// remove notes that the hub says that a resource is gone.
func (t *table) remove(url, name string) bool {
	h := t.of(url)[name]
	if h == nil {
		return false
	}
	delete(t.of(url), name)
	t.sum -= servicepb.Element(url, name, h.offered)
	if url == servicepb.ClusterType {
		if h.version != "" {
			t.removeCluster(name)
		}
		return true
	}
	if h.facts != nil {
		t.leave(h.facts, &servicepb.Facts{})
		t.builder.RemovePolicy(h.facts.Key)
	}
	return true
}

// removeCluster forgets the facts about a cluster. Builder.RemoveCluster forgets what came from it, too, which is for the
// hub to say: service by service.
func (t *table) removeCluster(id string) {
	t.builder.RemoveCluster(id)
	for _, h := range t.services {
		if h.facts != nil {
			t.set(h.facts)
		}
	}
	if t.own.covers(id) {
		t.layAll()
	}
}

// revoke notes all revocations, and tells whether they are others than before.
func (t *table) revoke(revoked []clusterset.Revocation) bool {
	t.revoked = revoked
	return t.builder.SetRevocations(revoked)
}

// renew returns an empty table with the same revocations and the same overlay.
func (t *table) renew(sequence uint64) *table {
	next := newTable(sequence)
	next.revoke(t.revoked)
	next.own.cluster = t.own.cluster
	if t.own.snapshot != nil {
		next.lay(t.own.snapshot)
	}
	return next
}

// versions are those of what can be read, by name: the hub sends the rest again.
func (t *table) versions(url string) map[string]string {
	versions := make(map[string]string, len(t.of(url)))
	for name, h := range t.of(url) {
		if h.version != "" {
			versions[name] = h.version
		}
	}
	return versions
}

// holds tells whether the table has all that the hub sums up.
func (t *table) holds(all *servicepb.Table) bool {
	return all != nil && all.GetSum() == t.sum && int(all.GetServices()) == len(t.services) && int(all.GetClusters()) == len(t.clusters)
}

// resources returns what can be read, sorted by name.
func (t *table) resources(url string) []Resource {
	made := make([]Resource, 0, len(t.of(url)))
	for _, name := range slices.Sorted(maps.Keys(t.of(url))) {
		if h := t.of(url)[name]; h.version != "" {
			made = append(made, Resource{Name: name, Version: h.version, Value: h.value})
		}
	}
	return made
}

// restore takes in what was kept. The error names what was left out of it.
func (t *table) restore(kept Kept) error {
	var errs []error
	t.revoke(kept.Revocations)
	d := &servicepb.Decoder{}
	for _, part := range []struct {
		url       string
		resources []Resource
	}{{servicepb.ClusterType, kept.Clusters}, {servicepb.ServiceType, kept.Services}} {
		for _, r := range part.resources {
			if err := t.take(d, part.url, r); err != nil {
				errs = append(errs, err)
				t.remove(part.url, r.Name)
			}
		}
	}
	return errors.Join(errs...)
}

// publish returns a snapshot with everything that was taken in. Its number is the given one, or the next one if that of the
// last snapshot is not less. Where nothing changed it is the last snapshot.
func (t *table) publish(number uint64) *clusterset.Snapshot { return t.builder.PublishAs(number) }
