package ads_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

// TestRecords plays at random what may happen to records, and compares them with a map.
func TestRecords(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		records, want := ads.NewRecords(), map[string]ads.Record{}
		names := 1 + random.IntN(2000)
		for step := range 5000 {
			name := fmt.Sprintf("outbound|80||s%04d", random.IntN(names))
			if random.IntN(3) == 0 {
				records.Remove(name)
				delete(want, name)
			} else {
				rec := ads.Record{Held: random.IntN(2) == 0, Flags: uint8(random.UintN(16))}
				records.Put(name, rec)
				want[name] = rec
			}
			if got, ok := records.Get(name); ok != has(want, name) || got != want[name] {
				t.Fatalf("seed %d, step %d: %s is %+v (%t), want %+v (%t)", seed, step, name, got, ok, want[name], has(want, name))
			}
			if records.Len() != len(want) {
				t.Fatalf("seed %d, step %d: there are %d records, want %d", seed, step, records.Len(), len(want))
			}
		}
		if diff := cmp.Diff(want, records.All()); diff != "" {
			t.Fatalf("seed %d: -want +got:\n%s", seed, diff)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), records.Sorted(), cmp.Transformer("empty", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
			t.Fatalf("seed %d: names in order: -want +got:\n%s", seed, diff)
		}
	}
}

func has(m map[string]ads.Record, name string) bool {
	_, there := m[name]
	return there
}

// TestRecordsRest looks where many records stand that nobody touches any more.
func TestRecordsRest(t *testing.T) {
	records := ads.NewRecords()
	const many = 10_000
	for i := range many {
		records.Put(strconv.Itoa(i), ads.Record{Held: true})
	}
	if recent := records.Recent(); recent > many/4 {
		t.Errorf("of %d records %d are still in the map", many, recent)
	}
	for i := range many {
		records.Remove(strconv.Itoa(i))
	}
	if lists := records.Resting(); lists > 100 {
		t.Errorf("of no records the lists have still %d entries", lists)
	}
}
