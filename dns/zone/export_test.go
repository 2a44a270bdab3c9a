package zone

import "iter"

// Trie is the map behind a tree, with values that tests can count.
type Trie struct{ of trie[int] }

// With returns a trie with the changes made: values of 0 remove.
func (t Trie) With(changes map[string]int) Trie {
	e := &edit{}
	for key, value := range changes {
		if value == 0 {
			t.of.remove(e, key)
		} else {
			t.of.put(e, key, value)
		}
	}
	return t
}

// Get returns a value, or 0.
func (t Trie) Get(key string) int {
	value, _ := t.of.get([]byte(key))
	return value
}

// Len returns the number of keys.
func (t Trie) Len() int { return t.of.size }

// All yields what is in it.
func (t Trie) All() iter.Seq2[string, int] {
	return func(yield func(string, int) bool) { t.of.all(yield) }
}

// Collision is a part of a trie in which all keys have the same hash.
type Collision struct{ of *branch[int] }

// NewCollision returns an empty one.
func NewCollision() Collision { return Collision{&branch[int]{}} }

// With returns one with a key more, or without it for the value 0, and whether the number of keys changed.
func (c Collision) With(key string, value int) (Collision, bool) {
	var changed bool
	if value == 0 {
		c.of, changed = c.of.remove(&edit{}, key, 1, depth)
	} else {
		c.of, changed = c.of.put(&edit{}, slot[int]{key: key, value: value}, 1, depth)
	}
	return c, changed
}

// Get returns a value, or 0.
func (c Collision) Get(key string) int {
	value, _ := c.of.get([]byte(key), 1, depth)
	return value
}
