package zone

import (
	"cmp"
	"slices"
	"strings"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// owned is what one service has in a tree.
type owned struct {
	names []string // sorted
	notes []Note
}

// Next returns the tree of a snapshot. It shares everything with the old tree that did not change, nodes and RRsets
// included, and looks only at services that may have changed; without an old tree, or with that of another asker or other
// options, at all. It never returns nil: what does not fit is left out and noted.
func Next(old *Tree, snapshot *clusterset.Snapshot, from Asker, o Options) *Tree {
	if snapshot == nil {
		snapshot = &clusterset.Snapshot{}
	}
	o = normal(o)
	if old != nil && old.snapshot == nil {
		old = nil
	}
	told := old // whose serial numbers may be known
	switch {
	case old == nil:
	case old.from != from || !old.options.equal(&o):
		old = nil
	case old.snapshot == snapshot:
		return old
	}
	c := change{edit: &edit{}, tree: &Tree{snapshot: snapshot, from: from, options: o}, touched: map[int]bool{}}
	var before *clusterset.Snapshot
	if old == nil {
		c.begin()
	} else {
		before = old.snapshot
		c.resume(old)
	}
	for _, key := range c.tree.affected(before) {
		c.project(key)
	}
	c.number(told)
	c.seal()
	return c.tree
}

// number gives zones that are not what they were in the tree before their serial numbers: see the package's documentation.
func (c change) number(old *Tree) {
	known := old != nil && old.snapshot.Sequence() != 0 // else nobody was told a serial of it
	for i, apex := range c.tree.apexes {
		if known && !c.touched[i] {
			continue
		}
		apex.serial = uint32(c.tree.snapshot.Sequence() / clusterset.Step) //nolint:gosec // modulo 2³² on purpose
		if known {
			apex.serial = old.following(apex, apex.serial)
		}
		c.authority(i, apex)
	}
}

// following returns a serial number if it is after the one that a zone had (RFC 1982, section 3.2), else the next. With numbers
// as hubs give them it always is.
func (t *Tree) following(zone *Apex, serial uint32) uint32 {
	for _, apex := range t.apexes {
		if string(apex.wire) == string(zone.wire) && int32(serial-apex.serial) <= 0 { //nolint:gosec // serial arithmetic
			return apex.serial + 1
		}
	}
	return serial
}

// Notes returns what is left out, sorted by service. It looks at all services.
func (t *Tree) Notes() []Note {
	notes := slices.Clone(t.notes)
	t.services.all(func(_ string, o *owned) bool {
		notes = append(notes, o.notes...)
		return true
	})
	slices.SortStableFunc(notes, func(a, b Note) int {
		return cmp.Or(strings.Compare(a.Service.Namespace, b.Service.Namespace), strings.Compare(a.Service.Name, b.Service.Name))
	})
	return notes
}

// affected returns the keys of the services whose names may not be what they were.
func (t *Tree) affected(before *clusterset.Snapshot) []clusterset.Key {
	changes := t.snapshot.Since(before)
	if before == nil || len(changes.Moved) == 0 {
		return changes.Services
	}
	keys := map[clusterset.Key]bool{}
	for _, key := range changes.Services {
		keys[key] = true
	}
	further := slices.ContainsFunc(t.zones, func(p projection) bool { return !p.schema })
	for _, service := range t.snapshot.Services() {
		// An address of the derived Service stays what it is, wherever the endpoints are.
		if (further || service.Properties != nil && service.Properties.Headless) && t.concerned(service, changes.Moved) {
			keys[service.Key] = true
		}
	}
	all := make([]clusterset.Key, 0, len(keys))
	for key := range keys {
		all = append(all, key)
	}
	return all
}

// concerned tells whether a service is exported or consumed by a cluster that moved.
func (t *Tree) concerned(service *clusterset.Service, moved []string) bool {
	return slices.Contains(moved, t.from.Cluster) ||
		slices.ContainsFunc(service.Sources, func(s clusterset.Source) bool { return slices.Contains(moved, s.Cluster) })
}

// project makes the names of one service anew.
func (c change) project(key clusterset.Key) {
	id := key.String()
	before, _ := c.tree.services.get([]byte(id))
	d := draft{tree: c.tree, key: key, names: map[string]*entry{}}
	if service := c.tree.snapshot.Service(key); service != nil && service.Exported() {
		d.fill(service)
	}
	now := d.owned()
	if before != nil {
		for _, name := range before.names {
			if _, stays := slices.BinarySearch(now.names, name); !stays {
				c.clear(name)
			}
		}
	}
	d.put(c, now.names)
	switch {
	case len(now.names)+len(now.notes) > 0:
		c.tree.services.put(c.edit, id, now)
	case before != nil:
		c.tree.services.remove(c.edit, id)
	}
}
