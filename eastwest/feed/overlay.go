package feed

import (
	"context"
	"time"

	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Snapshots are tables of services, as exports.Watcher publishes them: Current returns the newest one, and a channel that is
// closed when there is a newer one.
type Snapshots interface {
	Current() (*clusterset.Snapshot, <-chan struct{})
}

// followOwn lays what the agent's own cluster says over what the hub says of it.
func (c *Client) followOwn(ctx context.Context) {
	for {
		snapshot, newer := c.options.Own.Current()
		c.adopt(snapshot)
		select {
		case <-newer:
		case <-ctx.Done():
			return
		}
	}
}

// adopt takes in a snapshot of the own cluster, and publishes at once: but nothing before something is known of the others,
// since what is missing would count as not there; and not between the parts of a response, which is published with all of them.
func (c *Client) adopt(snapshot *clusterset.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if snapshot == c.table.own.snapshot || c.table.own.snapshot == nil && !whole(snapshot, c.options.Cluster) {
		return
	}
	c.table.lay(snapshot)
	if c.state.Sequence == 0 || c.held {
		return
	}
	// It is not saved: on disk is what the hub says. After a restart the clock has numbers rise nevertheless.
	next := c.table.publish(clusterset.NextSequence(c.state.Sequence, time.Now()))
	if old, _ := c.latest.Current(); next != old {
		c.latest.Publish(next)
		c.state.Sequence = next.Sequence()
	}
}

// whole tells whether a snapshot has all of a cluster: whoever made it was in step with it. Later ones that are not have what
// was known last, and are no worse than what the hub has.
func whole(snapshot *clusterset.Snapshot, cluster string) bool {
	facts := snapshot.Cluster(cluster)
	return facts != nil && facts.LastKnown.IsZero()
}

// overlay is what a table takes from the agent's own cluster: whatever the hub says of the exports, endpoints and imports of
// that cluster does not count.
type overlay struct {
	cluster  string
	snapshot *clusterset.Snapshot // nil: nothing yet, and the hub's counts
}

func (o *overlay) covers(cluster string) bool { return o.snapshot != nil && cluster == o.cluster }

// lay replaces what the overlay says.
func (t *table) lay(snapshot *clusterset.Snapshot) {
	first, changes := t.own.snapshot == nil, snapshot.Since(t.own.snapshot)
	t.own.snapshot = snapshot
	if first {
		for _, h := range t.services {
			if h.facts != nil {
				t.layService(h.facts.Key)
			}
		}
	}
	for _, key := range changes.Services {
		t.layService(key)
	}
}

// layAll says everything once more.
func (t *table) layAll() {
	for _, service := range t.own.snapshot.Services() {
		t.layService(service.Key)
	}
}

// layService tells the builder what the own cluster has of a service.
func (t *table) layService(key clusterset.Key) {
	source, derived := t.own.of(key)
	id := t.own.cluster
	if source == nil {
		t.builder.RemoveExport(id, key)
	} else {
		t.builder.SetExport(id, key, clusterset.Export{Created: source.Created, Properties: source.Properties})
	}
	if source == nil || source.Endpoints == nil {
		t.builder.RemoveEndpoints(id, key)
	} else {
		t.builder.TakeEndpoints(id, key, *source.Endpoints)
	}
	if derived == nil {
		t.builder.RemoveImport(id, key)
	} else {
		t.builder.SetImport(id, key, *derived)
	}
}

// of returns what the own cluster has of a service; nil for what it has not.
func (o *overlay) of(key clusterset.Key) (source *clusterset.Source, derived *clusterset.Import) {
	service := o.snapshot.Service(key)
	if service == nil {
		return nil, nil
	}
	for i := range service.Sources {
		if service.Sources[i].Cluster == o.cluster {
			source = &service.Sources[i]
		}
	}
	for i := range service.Imports {
		if service.Imports[i].Cluster == o.cluster {
			derived = &service.Imports[i]
		}
	}
	return source, derived
}

// uncovered returns facts without what the overlay says instead.
func (t *table) uncovered(facts *servicepb.Facts) *servicepb.Facts {
	if t.own.snapshot == nil {
		return facts
	}
	rest := &servicepb.Facts{Key: facts.Key, Policy: facts.Policy}
	for _, source := range facts.Sources {
		if !t.own.covers(source.Cluster) {
			rest.Sources = append(rest.Sources, source)
		}
	}
	for _, i := range facts.Imports {
		if !t.own.covers(i.Cluster) {
			rest.Imports = append(rest.Imports, i)
		}
	}
	return rest
}
