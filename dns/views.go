package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// view is the tree of one asker.
type view struct {
	asker zone.Asker
	label string
	// tree is nil while nobody asks.
	tree atomic.Pointer[zone.Tree]
	// touched says that somebody asked since the last sweep.
	touched atomic.Bool
	used    time.Time // as of the last sweep; guarded by views.mu
	// before are the trees before, the newest last, for secondaries; guarded by views.mu. They share most of what they hold.
	before []*zone.Tree
}

// maxBefore is how many changes a secondary may be behind until it gets the whole zone.
const maxBefore = 16

// views are all that the options name, and so no more than these: what comes in a query never makes one.
type views struct {
	all       []*view // the default first
	listeners map[netip.AddrPort]*view
	sources   prefixes[*view]
	regions   prefixes[*view]
	outside   *view // of askers outside of all clusters, in no known region

	most   int
	unused time.Duration
	now    func() time.Time
	make   func(old *zone.Tree, snapshot *clusterset.Snapshot, from zone.Asker) *zone.Tree

	mu       sync.Mutex // held while trees are made
	snapshot *clusterset.Snapshot
	remember bool // keep what was before
}

func newViews(a Askers, most int, unused time.Duration, now func() time.Time) *views {
	v := &views{most: most, unused: unused, now: now, listeners: map[netip.AddrPort]*view{}}
	byAsker := map[zone.Asker]*view{}
	of := func(asker zone.Asker) *view {
		if byAsker[asker] == nil {
			byAsker[asker] = &view{asker: asker, label: label(asker)}
			v.all = append(v.all, byAsker[asker])
		}
		return byAsker[asker]
	}
	of(a.Default)
	v.outside = of(zone.Asker{})
	for addr, asker := range a.Listeners {
		v.listeners[addr] = of(asker)
	}
	sources, regions := map[netip.Prefix]*view{}, map[netip.Prefix]*view{}
	for prefix, asker := range a.Sources {
		sources[prefix] = of(asker)
	}
	for prefix, region := range a.Regions {
		regions[prefix] = of(zone.Asker{Region: region})
	}
	v.sources, v.regions = newPrefixes(sources), newPrefixes(regions)
	return v
}

// label names an asker for people.
func label(a zone.Asker) string {
	parts := slices.DeleteFunc([]string{a.Cluster, a.Region, a.Zone}, func(s string) bool { return s == "" })
	return cmp.Or(strings.Join(parts, "/"), "outside")
}

// of returns the view of who sent a query.
func (v *views) of(from *listen.Source) *view {
	if len(v.listeners) > 0 {
		if found, ok := v.listeners[from.Local]; ok {
			return found
		}
		if found, ok := v.listeners[netip.AddrPortFrom(from.Local.Addr(), 0)]; ok {
			return found
		}
	}
	peer := from.Peer.Addr().Unmap()
	if found, _, ok := v.sources.find(peer, peer.BitLen()); ok {
		return found
	}
	if found, _, ok := v.regions.find(peer, peer.BitLen()); ok {
		return found
	}
	return v.all[0]
}

// ofSubnet returns the view of askers in a network, and how many bits of it the choice depends on.
func (v *views) ofSubnet(network netip.Prefix) (found *view, scope int) {
	found, bits, ok := v.regions.find(network.Addr(), network.Bits())
	if !ok {
		found = v.outside
	}
	if network.Bits() == 0 {
		return found, 0 // who tells no network gets what holds for all (RFC 7871, 7.1.2 and 7.2.1)
	}
	return found, v.regions.scope(network.Addr(), bits)
}

// current returns the tree of a view, and makes it if need be.
func (v *views) current(of *view) *zone.Tree {
	if !of.touched.Load() {
		of.touched.Store(true)
	}
	if tree := of.tree.Load(); tree != nil {
		return tree
	}
	return v.open(of)
}

// open makes the tree of a view that had none. Who asks meanwhile waits.
func (v *views) open(of *view) *zone.Tree {
	v.mu.Lock()
	defer v.mu.Unlock()
	if tree := of.tree.Load(); tree != nil {
		return tree
	}
	var kept []*view
	for _, other := range v.all[1:] {
		if other.tree.Load() != nil {
			kept = append(kept, other)
		}
	}
	if len(kept) >= max(v.most-1, 1) {
		oldest := slices.MinFunc(kept, func(a, b *view) int { return a.used.Compare(b.used) })
		oldest.tree.Store(nil)
		oldest.before = nil
	}
	of.used = v.now()
	tree := v.make(nil, v.snapshot, of.asker)
	of.tree.Store(tree)
	return tree
}

// follow brings all trees in use up to date. It is for one goroutine.
func (v *views) follow(snapshot *clusterset.Snapshot) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.snapshot = snapshot
	for _, of := range v.all {
		if old := of.tree.Load(); old != nil {
			of.tree.Store(v.make(old, snapshot, of.asker))
			of.note(old, v.remember && renumbered(old, of.tree.Load()))
		}
	}
}

// renumbered tells whether any zone has another serial number: else a secondary has nothing to ask for.
func renumbered(old, now *zone.Tree) bool {
	serials := func(tree *zone.Tree) (all []uint32) {
		for apex := range tree.Zones() {
			all = append(all, apex.Serial())
		}
		return all
	}
	return !slices.Equal(serials(old), serials(now))
}

// note keeps a tree that is no longer the newest.
func (of *view) note(old *zone.Tree, remember bool) {
	if !remember {
		return
	}
	of.before = append(of.before, old)
	if len(of.before) > maxBefore {
		of.before = slices.Delete(of.before, 0, 1)
	}
}

// history returns the trees before the newest.
func (v *views) history(of *view) []*zone.Tree {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(of.before)
}

// sweep drops the trees that nobody asked for in a while.
func (v *views) sweep(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, of := range v.all {
		if of.touched.Swap(false) || of.used.IsZero() {
			of.used = now
		}
		if i > 0 && now.Sub(of.used) > v.unused {
			of.tree.Store(nil)
			of.used, of.before = time.Time{}, nil
		}
	}
}

// kept returns the number of trees.
func (v *views) kept() int {
	n := 0
	for _, of := range v.all {
		if of.tree.Load() != nil {
			n++
		}
	}
	return n
}
