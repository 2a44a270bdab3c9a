package zone_test

import (
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/dns/zone"
)

// TestTrie holds versions of a trie against maps. Versions before stay what they were.
func TestTrie(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var tries []zone.Trie
	var models []map[string]int
	trie, model := zone.Trie{}, map[string]int{}
	for range 200 {
		changes := map[string]int{}
		for range 1 + r.IntN(100) {
			changes[strconv.Itoa(r.IntN(3000))] = max(0, r.IntN(30)-r.IntN(30))
		}
		trie, model = trie.With(changes), maps.Clone(model)
		for key, value := range changes {
			if model[key] = value; value == 0 {
				delete(model, key)
			}
		}
		tries, models = append(tries, trie), append(models, model)
	}
	for i, trie := range tries {
		if diff := cmp.Diff(models[i], maps.Collect(trie.All())); diff != "" || trie.Len() != len(models[i]) {
			t.Fatalf("version %d has %d keys (-want +got):\n%s", i, trie.Len(), diff)
		}
		for key := range 3000 {
			if got, want := trie.Get(strconv.Itoa(key)), models[i][strconv.Itoa(key)]; got != want {
				t.Fatalf("version %d: %d is %d, want %d", i, key, got, want)
			}
		}
	}
}

func TestTrieCollision(t *testing.T) {
	first := zone.NewCollision()
	second, added := first.With("a", 1)
	third, more := second.With("b", 2)
	fourth, again := third.With("b", 3)
	fifth, removed := fourth.With("a", 0)
	_, absent := fifth.With("c", 0)
	if !added || !more || again || !removed || absent {
		t.Errorf("the number of keys changed: %t %t %t %t %t, want true true false true false", added, more, again, removed, absent)
	}
	for i, c := range []struct {
		of   zone.Collision
		a, b int
	}{{first, 0, 0}, {second, 1, 0}, {third, 1, 2}, {fourth, 1, 3}, {fifth, 0, 3}} {
		if c.of.Get("a") != c.a || c.of.Get("b") != c.b {
			t.Errorf("version %d has %d and %d, want %d and %d", i, c.of.Get("a"), c.of.Get("b"), c.a, c.b)
		}
	}
}
