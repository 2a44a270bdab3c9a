package zone

import "github.com/miekg/dns"

// change makes a tree from another one. Nobody else sees the tree until it is done.
type change struct {
	*edit
	tree *Tree
	// touched are the zones with other records or names than before.
	touched map[int]bool
	// cuts are the records that files have at the tops of zones inside of theirs, by that zone and type.
	cuts map[int]map[uint16][]dns.RR
}

// set puts records at a name, in place of those that are there. It and everything between it and its apex exist from then
// on, with or without records.
func (c change) set(name string, zone int, sets []*RRset) {
	c.touched[zone] = true
	node, found := c.tree.names.get([]byte(name))
	if found {
		next := *node
		next.sets, next.kept = sets, true
		c.tree.names.put(c.edit, name, &next)
		return
	}
	c.tree.names.put(c.edit, name, &Node{name: name, sets: sets, zone: uint16(zone), kept: true}) //nolint:gosec // few zones
	c.count(name, zone, +1)
}

// clear takes the records of a name away, and with the last reason to exist the name.
func (c change) clear(name string) {
	node, found := c.tree.names.get([]byte(name))
	if !found {
		return
	}
	c.touched[int(node.zone)] = true
	if node.children > 0 {
		next := *node
		next.sets, next.kept = nil, false
		c.tree.names.put(c.edit, name, &next)
		return
	}
	c.tree.names.remove(c.edit, name)
	c.count(name, int(node.zone), -1)
}

// count tells the name above that a child has come or gone. That is how empty non-terminals come and go.
func (c change) count(name string, zone, by int) {
	above, ok := parent(name)
	if name == c.apex(zone) {
		zone = c.around(zone)
	}
	if !ok || zone < 0 {
		return
	}
	node, found := c.tree.names.get([]byte(above))
	if !found {
		node = &Node{name: above, zone: uint16(zone)} //nolint:gosec // few zones
	}
	next := *node
	next.children = uint32(int(node.children) + by) //nolint:gosec // never negative: each child was counted
	if next.children == 0 && !next.kept {
		c.tree.names.remove(c.edit, above)
	} else {
		c.tree.names.put(c.edit, above, &next)
	}
	if !found || next.children == 0 && !next.kept {
		c.count(above, int(node.zone), by)
	}
}

func (c change) apex(zone int) string { return string(c.tree.apexes[zone].wire) }

// around returns the innermost zone that another one is in, or -1. A name between both must exist in it.
func (c change) around(zone int) int {
	best, name := -1, c.apex(zone)
	for i := range c.tree.apexes {
		if i != zone && within(name, c.apex(i)) && (best < 0 || len(c.apex(i)) > len(c.apex(best))) {
			best = i
		}
	}
	return best
}
