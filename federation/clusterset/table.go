package clusterset

import (
	"cmp"
	"slices"
)

// buckets is the number of parts of a table: with 10,000 services a change copies this many slice headers and some 40
// pointers.
const buckets = 256

// table is a persistent map from keys to services: with returns a new one that shares all buckets without a change.
type table struct {
	parts [buckets][]*Service // each sorted by key
	size  int
}

// bucket spreads keys by FNV-1a over the namespace, a slash and the name.
func bucket(key Key) int {
	hash := uint32(2166136261)
	for i := range len(key.Namespace) {
		hash = (hash ^ uint32(key.Namespace[i])) * 16777619
	}
	hash = (hash ^ '/') * 16777619
	for i := range len(key.Name) {
		hash = (hash ^ uint32(key.Name[i])) * 16777619
	}
	return int((hash ^ hash>>16) % buckets)
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func search(part []*Service, key Key) (int, bool) {
	return slices.BinarySearchFunc(part, key, func(s *Service, key Key) int { return compareKeys(s.Key, key) })
}

func (t *table) get(key Key) *Service {
	part := t.parts[bucket(key)]
	if at, found := search(part, key); found {
		return part[at]
	}
	return nil
}

// edit is what becomes of one key: the new service, or nil to remove it.
type edit struct {
	key     Key
	service *Service
}

// with returns a table with the edits made. Each bucket that an edit touches is copied once.
func (t *table) with(edits []edit) *table {
	next := *t
	var copied [buckets]bool
	for _, e := range edits {
		b := bucket(e.key)
		if !copied[b] {
			copied[b] = true
			next.parts[b] = slices.Clone(next.parts[b])
		}
		at, found := search(next.parts[b], e.key)
		switch {
		case found && e.service == nil:
			next.parts[b] = slices.Delete(next.parts[b], at, at+1)
			next.size--
		case found:
			next.parts[b][at] = e.service
		case e.service != nil:
			next.parts[b] = slices.Insert(next.parts[b], at, e.service)
			next.size++
		}
	}
	return &next
}

// sorted returns all services in the order of their keys.
func (t *table) sorted() []*Service {
	all := make([]*Service, 0, t.size)
	for _, part := range t.parts {
		all = append(all, part...)
	}
	slices.SortFunc(all, func(a, b *Service) int { return compareKeys(a.Key, b.Key) })
	return all
}

// since returns the keys whose service is another one than in the older table, sorted. Buckets that both share are passed
// over.
func (t *table) since(old *table) []Key {
	var keys []Key
	for i := range t.parts {
		keys = appendChanged(keys, old.parts[i], t.parts[i])
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

func appendChanged(keys []Key, old, now []*Service) []Key {
	if len(old) == len(now) && (len(now) == 0 || &old[0] == &now[0]) {
		return keys
	}
	for len(old) > 0 || len(now) > 0 {
		var order int
		switch {
		case len(old) == 0:
			order = 1
		case len(now) == 0:
			order = -1
		default:
			order = compareKeys(old[0].Key, now[0].Key)
		}
		switch {
		case order < 0:
			keys, old = append(keys, old[0].Key), old[1:]
		case order > 0:
			keys, now = append(keys, now[0].Key), now[1:]
		default:
			if old[0] != now[0] {
				keys = append(keys, now[0].Key)
			}
			old, now = old[1:], now[1:]
		}
	}
	return keys
}
