package exports_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hansa-dev/hansa/federation/exports"
)

// TestWeights: a service counts the sum of its slices, and a sum is kept only where there are several.
func TestWeights(t *testing.T) {
	t.Parallel()
	type held struct {
		service   string
		endpoints int
	}
	random := rand.New(rand.NewPCG(1, 2))
	w, slices := exports.NewWeights(), map[string]held{}
	for range 5000 {
		name, service, endpoints := fmt.Sprintf("s%d", random.IntN(8)), fmt.Sprintf("svc-%d", random.IntN(4)), random.IntN(6)-1
		w.Put(name, service, endpoints)
		if delete(slices, name); endpoints >= 0 {
			slices[name] = held{service, endpoints}
		}
		sums, counts, several := map[string]int{}, map[string]int{}, 0
		for _, s := range slices {
			sums[s.service] += 1 + s.endpoints
			if counts[s.service]++; counts[s.service] == 2 {
				several++
			}
		}
		for i := range 4 {
			if service := fmt.Sprintf("svc-%d", i); w.Of(service) != sums[service] {
				t.Fatalf("%s counts %d, want %d", service, w.Of(service), sums[service])
			}
		}
		if w.Held() != several {
			t.Fatalf("%d sums are kept for %d services with several slices", w.Held(), several)
		}
	}
}
