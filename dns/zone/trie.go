package zone

import (
	"hash/maphash"
	"math/bits"
	"slices"
)

// trie is a persistent map from strings, a hash array mapped trie of 64 ways: put and remove return another one that shares
// all but the path to what changed. The zero value is empty.
type trie[V any] struct {
	root *branch[V]
	size int
}

// branch has a slot for each set bit, in the order of bits. Below the last level it is a list of those whose hash is the
// same, and the bits say nothing.
type branch[V any] struct {
	bits  uint64
	slots []slot[V]
	// edit is of whom it may still be modified; nil or another's is of nobody.
	edit *edit
}

// slot holds a branch or, without one, a key.
type slot[V any] struct {
	key   string
	value V
	child *branch[V]
}

// edit stands for a run of changes whose result nobody has seen yet.
type edit struct{ _ byte }

const (
	stride = 6
	depth  = 10 // levels, of 64 bits
)

// seed is that of this process: nobody outside can choose names that collide.
var seed = maphash.MakeSeed()

// get returns the value of a key. It does not allocate.
func (t *trie[V]) get(key []byte) (V, bool) { return t.root.get(key, maphash.Bytes(seed, key), 0) }

func (b *branch[V]) get(key []byte, hash uint64, level int) (V, bool) {
	for ; b != nil; level++ {
		if level == depth {
			for i := range b.slots {
				if b.slots[i].key == string(key) {
					return b.slots[i].value, true
				}
			}
			break
		}
		bit := uint64(1) << (hash >> (stride * level) & 63)
		if b.bits&bit == 0 {
			break
		}
		s := &b.slots[bits.OnesCount64(b.bits&(bit-1))]
		if s.child == nil {
			if s.key == string(key) {
				return s.value, true
			}
			break
		}
		b = s.child
	}
	var none V
	return none, false
}

// put sets the value of a key.
func (t *trie[V]) put(e *edit, key string, value V) {
	if t.root == nil {
		t.root = &branch[V]{edit: e}
	}
	var added bool
	t.root, added = t.root.put(e, slot[V]{key: key, value: value}, maphash.String(seed, key), 0)
	if added {
		t.size++
	}
}

// remove forgets a key.
func (t *trie[V]) remove(e *edit, key string) {
	if t.root == nil {
		return
	}
	var removed bool
	t.root, removed = t.root.remove(e, key, maphash.String(seed, key), 0)
	if removed {
		t.size--
	}
}

// all yields every key and value, in no order.
func (t *trie[V]) all(yield func(string, V) bool) {
	if t.root != nil {
		t.root.all(yield)
	}
}

func (b *branch[V]) all(yield func(string, V) bool) bool {
	for i := range b.slots {
		s := &b.slots[i]
		if s.child != nil && !s.child.all(yield) || s.child == nil && !yield(s.key, s.value) {
			return false
		}
	}
	return true
}

// own returns the branch, or a copy that the edit may modify.
func (b *branch[V]) own(e *edit) *branch[V] {
	if b.edit == e && e != nil {
		return b
	}
	return &branch[V]{bits: b.bits, slots: slices.Clone(b.slots), edit: e}
}

func (b *branch[V]) put(e *edit, s slot[V], hash uint64, level int) (*branch[V], bool) {
	b = b.own(e)
	if level == depth {
		at := slices.IndexFunc(b.slots, func(other slot[V]) bool { return other.key == s.key })
		if at >= 0 {
			b.slots[at] = s
			return b, false
		}
		b.slots = append(b.slots, s)
		return b, true
	}
	bit := uint64(1) << (hash >> (stride * level) & 63)
	at := bits.OnesCount64(b.bits & (bit - 1))
	if b.bits&bit == 0 {
		b.bits |= bit
		b.slots = slices.Insert(b.slots, at, s)
		return b, true
	}
	there := &b.slots[at]
	switch {
	case there.child != nil:
		var added bool
		there.child, added = there.child.put(e, s, hash, level+1)
		return b, added
	case there.key == s.key:
		*there = s
		return b, false
	}
	below := &branch[V]{edit: e}
	below, _ = below.put(e, *there, maphash.String(seed, there.key), level+1)
	below, _ = below.put(e, s, hash, level+1)
	*there = slot[V]{child: below}
	return b, true
}

func (b *branch[V]) remove(e *edit, key string, hash uint64, level int) (*branch[V], bool) {
	if level == depth {
		at := slices.IndexFunc(b.slots, func(s slot[V]) bool { return s.key == key })
		if at < 0 {
			return b, false
		}
		b = b.own(e)
		b.slots = slices.Delete(b.slots, at, at+1)
		return b, true
	}
	bit := uint64(1) << (hash >> (stride * level) & 63)
	if b.bits&bit == 0 {
		return b, false
	}
	at := bits.OnesCount64(b.bits & (bit - 1))
	if there := &b.slots[at]; there.child != nil {
		below, removed := there.child.remove(e, key, hash, level+1)
		if !removed {
			return b, false
		}
		b = b.own(e)
		b.slots[at].child = below
		if len(below.slots) == 1 && below.slots[0].child == nil {
			b.slots[at] = below.slots[0]
		}
		return b, true
	}
	if b.slots[at].key != key {
		return b, false
	}
	b = b.own(e)
	b.bits &^= bit
	b.slots = slices.Delete(b.slots, at, at+1)
	return b, true
}
