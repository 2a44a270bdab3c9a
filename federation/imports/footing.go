package imports

import (
	"hash/maphash"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// footing is all that an attempt at a service stands on. Once an attempt left nothing to do, another one on the same
// footing is not made: the watches tell a lane of what it wrote itself, and to find out anew that all is well costs as much
// as a write.
type footing struct {
	service  *clusterset.Service
	turns    uint64 // how often facts about clusters had changed
	complete bool
	listed   bool // what there is of imports is known
	exported bool // what there is of exports is known
	usable   bool // the namespace can be written to
	note     string
	objects  uint64 // the sum of the marks of all objects of the service in the member
	open     bool   // what was done may lead to more, whatever it says of the objects
}

var footingSeed = maphash.MakeSeed()

// mark stands for one version of one object.
func mark(resource schema.GroupVersionResource, name types.NamespacedName, version uint64) uint64 {
	return maphash.Comparable(footingSeed, struct {
		resource string
		name     types.NamespacedName
		version  uint64
	}{resource.Resource, name, version})
}

// stand returns the footing of an attempt that begins now.
func (l *lane) stand(snapshot *clusterset.Snapshot, turns uint64, key clusterset.Key) footing {
	f := footing{
		service: snapshot.Service(key), turns: turns, complete: l.r.isComplete(),
		listed: l.listed(), exported: l.exports.Synced(), usable: l.usable(key.Namespace), note: l.r.noted(key),
	}
	add := func(watch *cluster.Watch, resource schema.GroupVersionResource, name types.NamespacedName) {
		if version, there := watch.Version(name); there {
			f.objects += mark(resource, name, version)
		}
	}
	add(l.imports, importResource, key)
	add(l.exports, exportResource, key)
	for _, name := range l.serviceIndex.of(key) {
		add(l.services, serviceResource, name)
	}
	for _, name := range l.sliceIndex.of(key) {
		add(l.slices, sliceResource, name)
	}
	return f
}

// replace puts the answer to a write into the place of what was written to. Had that changed since the attempt began, the sum
// is that of nothing, and the next attempt is made. After a deletion another one has to be made when the object is gone: it
// may be there to make room.
func (f *footing) replace(step Step, answer *unstructured.Unstructured) {
	if answer == nil {
		f.open = true
		return
	}
	name := types.NamespacedName{Namespace: step.Object.GetNamespace(), Name: step.Object.GetName()}
	if step.Verb != Create {
		f.objects -= mark(step.Resource, name, cluster.VersionOf(step.Object))
	}
	f.objects += mark(step.Resource, name, cluster.VersionOf(answer))
}

// settled tells whether nothing was left to do on a footing.
func (l *lane) settled(key clusterset.Key, now footing) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	then, found := l.footings[key]
	return found && then == now
}

// settle notes whether nothing is left to do on a footing: as long as something is not known, or time alone may change the
// outcome, there is. What is gone altogether is forgotten.
func (l *lane) settle(key clusterset.Key, now footing, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, refused := l.refused[key]
	if !done || now.open || refused || !now.listed || !now.exported || now.service == nil && now.objects == 0 {
		delete(l.footings, key)
		return
	}
	l.footings[key] = now
}

// forgetFootings is for when versions begin anew, and those that are noted may come again for something else.
func (l *lane) forgetFootings() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.footings)
}

// forgetFooting is for a service about which something has changed that no footing shows.
func (l *lane) forgetFooting(key clusterset.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.footings, key)
}
