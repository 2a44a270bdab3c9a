package hub

import (
	"testing"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestComplete holds that names are kept back until the table is as complete as can be, and not longer.
func TestComplete(t *testing.T) {
	builder := clusterset.NewBuilder(1000)
	builder.SetCluster(clusterset.Cluster{ID: "m1"})
	latest, ready := clusterset.NewLatest(builder.Publish()), make(chan struct{})
	names := complete{latest, ready}
	snapshot, changed := names.Current()
	if snapshot.Sequence() != 0 {
		t.Errorf("before, there is a snapshot with the sequence %d", snapshot.Sequence())
	}
	builder.SetCluster(clusterset.Cluster{ID: "m2"})
	latest.Publish(builder.Publish())
	select {
	case <-changed:
		t.Error("an incomplete snapshot is announced")
	default:
	}
	close(ready)
	<-changed
	snapshot, changed = names.Current()
	if want, _ := latest.Current(); snapshot != want {
		t.Errorf("afterwards, the snapshot has the sequence %d, not %d", snapshot.Sequence(), want.Sequence())
	}
	builder.SetCluster(clusterset.Cluster{ID: "m3"})
	latest.Publish(builder.Publish())
	<-changed
}
