package hub_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/cmd/internal/hub"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
)

// observations is a table that notes of whom it is told.
type observations struct {
	*clusterset.Latest

	of chan string
}

func (o observations) Observe(cluster string, _ exports.Observed) { o.of <- cluster }

// A cluster that was unjoined and joined again is told of again, although nothing else was observed of it meanwhile.
func TestWhatWasObservedIsToldAgainOfWhoComesBack(t *testing.T) {
	t.Parallel()
	builder := clusterset.NewBuilder(0)
	table := observations{clusterset.NewLatest(builder.Publish()), make(chan string, 16)}
	tell, run := hub.Teller(table)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run(ctx)
	}()
	var got []string
	hears := func(want ...string) {
		t.Helper()
		got = nil
		for range want {
			select {
			case cluster := <-table.of:
				got = append(got, cluster)
			case <-time.After(10 * time.Second):
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("told of others (-want +got):\n%s", diff)
		}
	}
	tell("m1", exports.Observed{DataPlane: clusterset.Up})
	tell("m2", exports.Observed{DataPlane: clusterset.Up})
	tell("m4", exports.Observed{DataPlane: clusterset.Up})
	hears("m1", "m2", "m4")
	joins := func(ids ...string) {
		for _, id := range ids {
			builder.SetCluster(clusterset.Cluster{ID: id})
		}
		table.Publish(builder.Publish())
	}
	joins("m1", "m2", "m3") // of the last one nothing was observed
	hears("m1", "m2")
	builder.RemoveCluster("m2")
	joins("m4")
	hears("m4")                    // so it was seen that m2 is gone
	tell("m1", exports.Observed{}) // nothing is known of it any more
	hears("m1")
	joins("m2")
	hears("m2")
	cancel()
	<-ended
	if n := len(table.of); n > 0 {
		t.Errorf("told %d times more", n)
	}
}
