package clusterset_test

import (
	"sync"
	"testing"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestLatest has readers follow a publisher: numbers only rise, and everybody sees the last one.
func TestLatest(t *testing.T) {
	const last = 500
	b := clusterset.NewBuilder(0)
	latest := clusterset.NewLatest(b.Current())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for seen := uint64(0); seen < last; {
				snapshot, replaced := latest.Current()
				switch {
				case snapshot.Sequence() < seen:
					t.Errorf("number %d came after %d", snapshot.Sequence(), seen)
					return
				case snapshot.Sequence() == seen:
					<-replaced
					continue
				}
				seen = snapshot.Sequence()
				snapshot.View(key(int(seen-1)), clusterset.Consumer{Cluster: "m1"})
				if snapshot.Service(key(int(seen-1))) == nil {
					t.Errorf("snapshot %d does not have what it was published for", seen)
				}
			}
		})
	}
	for i := range last {
		b.SetExport("m1", key(i), export(i))
		latest.Publish(b.Publish())
		latest.Publish(b.Publish())
	}
	readers.Wait()
}
