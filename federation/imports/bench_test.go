package imports_test

import (
	"fmt"
	"testing"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/imports"
)

// BenchmarkInStep is what it costs to see that nothing is to be done for a service of three clusters with nine pods each.
func BenchmarkInStep(b *testing.B) {
	builder := clusterset.NewBuilder(0)
	facts(builder, "id-a@n", "id-b@n", "id-c@n")
	for c, id := range []string{"id-a", "id-b", "id-c"} {
		var pods []string
		for p := range 9 {
			pods = append(pods, fmt.Sprintf("10.%d.0.%d", c, p+1))
		}
		export(builder, id, c, properties(), pods...)
	}
	snapshot := builder.Publish()
	s := newStore()
	settle(b, s, snapshot, "id-a")
	have := look(s)
	for _, slice := range have.Slices {
		imports.Shrink(slice)
	}
	b.ReportAllocs()
	b.Run("For", func(b *testing.B) {
		for b.Loop() {
			imports.For(snapshot, "id-a", web, whole)
		}
	})
	b.Run("Make", func(b *testing.B) {
		wanted := imports.For(snapshot, "id-a", web, whole)
		b.ReportAllocs()
		for b.Loop() {
			if plan, err := imports.Make(wanted, have, epoch); err != nil || len(plan.Steps) > 0 {
				b.Fatal(plan, err)
			}
		}
	})
}
