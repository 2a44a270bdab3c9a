package imports

import (
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// index finds the objects of a service, and the service of an object that is gone.
type index struct {
	mu    sync.Mutex
	owner map[types.NamespacedName]clusterset.Key
	named map[clusterset.Key][]types.NamespacedName // few each
}

func newIndex() *index {
	return &index{owner: map[types.NamespacedName]clusterset.Key{}, named: map[clusterset.Key][]types.NamespacedName{}}
}

// set notes that an object belongs to a service, and returns the one that it belonged to before.
func (i *index) set(name types.NamespacedName, key clusterset.Key) (was clusterset.Key, had bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	was, had = i.drop(name)
	i.owner[name] = key
	i.named[key] = append(i.named[key], name)
	return was, had
}

// unset notes that an object is gone, and returns the service that it belonged to.
func (i *index) unset(name types.NamespacedName) (was clusterset.Key, had bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.drop(name)
}

func (i *index) drop(name types.NamespacedName) (was clusterset.Key, had bool) {
	if was, had = i.owner[name]; !had {
		return was, false
	}
	delete(i.owner, name)
	left := i.named[was]
	if at := slices.Index(left, name); at >= 0 {
		left = slices.Delete(left, at, at+1)
	}
	if i.named[was] = left; len(left) == 0 {
		delete(i.named, was)
	}
	return was, true
}

// of returns the objects of a service, in no particular order.
func (i *index) of(key clusterset.Key) []types.NamespacedName {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.named[key])
}

// keys returns all services that have objects.
func (i *index) keys() []clusterset.Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Collect(maps.Keys(i.named))
}

// keyOf returns the service that an object belongs to.
func (i *index) keyOf(name types.NamespacedName) (clusterset.Key, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	key, had := i.owner[name]
	return key, had
}
