package clusterset

import (
	"maps"
	"slices"
)

// Known is everything that is known of one cluster's services: what it exports, the endpoints behind the exports, and its
// derived Services.
type Known struct {
	Exports   map[Key]Export
	Endpoints map[Key]Endpoints
	Imports   map[Key]Import
}

// Known returns what is held of a cluster. What its values point to is shared with snapshots and must not be modified.
func (b *Builder) Known(cluster string) Known {
	known := Known{Exports: map[Key]Export{}, Endpoints: map[Key]Endpoints{}, Imports: map[Key]Import{}}
	for key, d := range b.drafts {
		if at, held := d.find(cluster); held {
			source := &d.sources[at]
			if source.exported {
				known.Exports[key] = Export{Created: source.Created, Properties: source.Properties}
			}
			if source.Endpoints != nil {
				known.Endpoints[key] = *source.Endpoints
			}
		}
		if at, held := d.findImport(cluster); held {
			known.Imports[key] = d.imports[at]
		}
	}
	return known
}

// SetKnown notes everything that is known of a cluster; what is not in it is removed. The facts about the cluster stay.
func (b *Builder) SetKnown(cluster string, known Known) bool {
	changed := false
	old := b.Known(cluster)
	each(old.Exports, known.Exports, func(key Key, export Export) {
		changed = b.SetExport(cluster, key, export) || changed
	}, func(key Key) { changed = b.RemoveExport(cluster, key) || changed })
	each(old.Endpoints, known.Endpoints, func(key Key, endpoints Endpoints) {
		changed = b.SetEndpoints(cluster, key, endpoints) || changed
	}, func(key Key) { changed = b.RemoveEndpoints(cluster, key) || changed })
	each(old.Imports, known.Imports, func(key Key, i Import) {
		changed = b.SetImport(cluster, key, i) || changed
	}, func(key Key) { changed = b.RemoveImport(cluster, key) || changed })
	return changed
}

// each calls set for all of the new map, and remove for what only the old one has, in the order of the keys.
func each[V any](old, now map[Key]V, set func(Key, V), remove func(Key)) {
	for _, key := range slices.SortedFunc(maps.Keys(now), compareKeys) {
		set(key, now[key])
	}
	for _, key := range slices.SortedFunc(maps.Keys(old), compareKeys) {
		if _, stays := now[key]; !stays {
			remove(key)
		}
	}
}
