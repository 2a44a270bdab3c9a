package clusterset_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

func TestRevocations(t *testing.T) {
	b := clusterset.NewBuilder(0)
	first := b.Publish()
	b.SetRevocations([]clusterset.Revocation{{"m2", epoch}, {"m1", epoch.Add(-time.Hour)}, {"m1", epoch}})
	second := b.Publish()
	if diff := cmp.Diff(clusterset.Changes{Revoked: true}, second.Since(first)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]clusterset.Revocation{{"m1", epoch}, {"m2", epoch}}, second.Revocations()); diff != "" {
		t.Errorf("of two of one cluster the later counts (-want +got):\n%s", diff)
	}
	for _, row := range []struct {
		why     string
		cluster string
		issued  time.Time
		want    bool
	}{
		{"it was issued before", "m1", epoch.Add(-time.Second), true},
		{"it was issued at that moment: the cluster is back", "m1", epoch, false},
		{"nobody revoked anything of the cluster", "m3", epoch.Add(-time.Hour), false},
	} {
		if got := second.Revoked(row.cluster, row.issued); got != row.want {
			t.Errorf("%s: revoked is %t", row.why, got)
		}
	}
	b.SetCluster(clusterset.Cluster{ID: "m1"})
	if third := b.Publish(); third.Since(second).Revoked || len(third.Revocations()) != 2 {
		t.Error("news about something else is news about revocations")
	}
	b.SetRevocations(nil)
	if last := b.Publish(); last.Revocations() != nil || !last.Since(second).Revoked || !second.Since(nil).Revoked {
		t.Error("a revocation that is taken back is there")
	}
}
