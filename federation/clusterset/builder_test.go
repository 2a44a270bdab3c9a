package clusterset_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

func key(i int) clusterset.Key {
	return clusterset.Key{Namespace: fmt.Sprintf("ns-%d", i%7), Name: fmt.Sprintf("svc-%d", i)}
}

func TestPublishShares(t *testing.T) {
	b := clusterset.NewBuilder(41)
	const services = 2000
	for i := range services {
		b.SetExport("m1", key(i), export(0))
	}
	first := b.Publish()
	if first.Sequence() != 42 || first.Len() != services {
		t.Fatalf("snapshot %d has %d services, want number 42 and %d", first.Sequence(), first.Len(), services)
	}

	b.SetEndpoints("m1", key(7), slices8080("10.0.0.1"))
	b.SetExport("m2", key(9), export(1))
	b.RemoveExport("m1", key(11))
	b.SetExport("m1", key(services), export(0))
	second := b.Publish()
	changed := map[clusterset.Key]bool{key(7): true, key(9): true, key(11): true, key(services): true}
	for i := range services + 1 {
		if same := first.Service(key(i)) == second.Service(key(i)); same == changed[key(i)] {
			t.Errorf("service %s is the same: %t", key(i), same)
		}
	}
	if first.Service(key(11)) == nil || first.Service(key(7)).Sources[0].Endpoints != nil {
		t.Error("the first snapshot changed: snapshots are immutable")
	}
	want := clusterset.Changes{Services: []clusterset.Key{key(7), key(9), key(11), key(services)}}
	if diff := cmp.Diff(want, second.Since(first)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if got := len(second.Since(nil).Services); got != services {
		t.Errorf("%d services are new since nothing, want all %d", got, services)
	}
	if first.Service(key(9)).Properties == second.Service(key(9)).Properties {
		t.Error("another export was put in, and nothing was merged anew")
	}
	if first.Service(key(7)).Properties != second.Service(key(7)).Properties {
		t.Error("endpoints changed, and the exports were merged anew")
	}
}

func TestNoNewsNoSnapshot(t *testing.T) {
	b := clusterset.NewBuilder(0)
	policy := clusterset.Policy{Failover: []clusterset.Tier{{By: clusterset.Any}}}
	cluster := clusterset.Cluster{ID: "m1", Gateways: gateways("192.0.2.1")}
	ips := []netip.Addr{netip.MustParseAddr("10.96.0.7")}
	revocations := []clusterset.Revocation{{Cluster: "m1", Before: epoch}}
	news := map[string]func() bool{
		"cluster":   func() bool { return b.SetCluster(cluster) },
		"export":    func() bool { return b.SetExport("m1", web, export(0)) },
		"endpoints": func() bool { return b.SetEndpoints("m1", web, slices8080("10.0.0.2", "10.0.0.1")) },
		"import":    func() bool { return b.SetImport("m1", web, clusterset.Import{ClusterIPs: ips}) },
		"policy":    func() bool { return b.SetPolicy(web, policy) },
		"revoked":   func() bool { return b.SetRevocations(revocations) },
	}
	for name, tell := range news {
		if !tell() {
			t.Errorf("%s: is no news the first time", name)
		}
		if tell() {
			t.Errorf("%s: is news the second time", name)
		}
	}
	snapshot := b.Publish()
	b.SetEndpoints("m1", web, slices8080("10.0.0.1", "10.0.0.2"))
	if b.Publish() != snapshot {
		t.Error("the order of endpoints is news")
	}
	b.RemoveEndpoints("m1", web)
	b.SetEndpoints("m1", web, slices8080("10.0.0.1", "10.0.0.2"))
	b.SetCluster(clusterset.Cluster{ID: "m1"})
	b.SetCluster(cluster)
	b.SetRevocations(nil)
	b.SetRevocations(revocations)
	if b.Publish() != snapshot {
		t.Error("changes that undo each other make a snapshot")
	}
	if got := snapshot.Service(web).ClusterSetIPs("m1"); len(got) != 1 || got[0] != ips[0] {
		t.Errorf("the derived Service has %v, want %v", got, ips)
	}
	if got := snapshot.Service(web).ClusterSetIPs("m2"); got != nil {
		t.Errorf("a cluster without a derived Service has %v", got)
	}
}

func TestInputsAreCopied(t *testing.T) {
	b := clusterset.NewBuilder(0)
	e := export(0, label("a"))
	endpoints := slices8080("10.0.0.1")
	ips := []netip.Addr{netip.MustParseAddr("10.96.0.7")}
	b.SetExport("m1", web, e)
	b.SetEndpoints("m1", web, endpoints)
	b.SetImport("m1", web, clusterset.Import{ClusterIPs: ips})
	before := dump(b.Publish())
	e.Properties.Ports[0].Port = 9
	e.Properties.Labels["team"] = "b"
	endpoints.Groups[0].Endpoints[0].Addr = netip.MustParseAddr("10.0.0.9")
	ips[0] = netip.MustParseAddr("10.96.0.9")
	if diff := cmp.Diff(before, dump(b.Current())); diff != "" {
		t.Errorf("a snapshot changed with what it was made from (-before +after):\n%s", diff)
	}
}

// TestShowImports: who sees one cluster only sees imports of what others export.
func TestShowImports(t *testing.T) {
	b := clusterset.NewBuilder(0)
	b.ShowImports()
	b.SetImport("m1", web, clusterset.Import{GatewayPorts: []clusterset.GatewayPort{{Name: "http", Port: 20000}}})
	first := b.Publish()
	service := first.Service(web)
	if service == nil || len(service.Imports) != 1 || service.Exported() {
		t.Fatalf("the service is %+v, want one with an import and nothing else", service)
	}
	if got := first.View(web, clusterset.Consumer{Cluster: "m1"}).Reason; got != clusterset.NotExported {
		t.Errorf("its view says %q", got)
	}
	b.SetExport("m1", web, export(0))
	b.RemoveExport("m1", web)
	if b.Publish() != first {
		t.Error("changes that undo each other make a snapshot")
	}
	b.RemoveImport("m1", web)
	if b.Publish().Service(web) != nil {
		t.Error("nothing is known of the service, and it is there")
	}
}

func TestRemoveCluster(t *testing.T) {
	w := newWorld()
	w.serve("m1", "10.1.0.1")
	w.SetImport("m2", web, clusterset.Import{})
	first := w.Publish()
	if !w.RemoveCluster("m2") || w.RemoveCluster("m2") {
		t.Error("a cluster can be removed once")
	}
	second := w.Publish()
	if diff := cmp.Diff([]string{"m1", "m3"}, second.Service(web).Exporters()); diff != "" {
		t.Errorf("exporters (-want +got):\n%s", diff)
	}
	if second.Cluster("m2") != nil || len(second.Service(web).Imports) != 0 {
		t.Error("something of a cluster that left is still there")
	}
	if diff := cmp.Diff(clusterset.Changes{Services: []clusterset.Key{web}, Clusters: []string{"m2"}, Moved: []string{"m2"}}, second.Since(first)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	for _, id := range []string{"m1", "m3"} {
		w.RemoveCluster(id)
	}
	third := w.Publish()
	if third.Len() != 0 || len(third.Clusters()) != 0 || third.Service(web) != nil {
		t.Error("the last cluster left something behind")
	}
}

// TestRemovals covers that nothing can be removed that is not there, and that an unknown key is no reason to panic.
func TestRemovals(t *testing.T) {
	b := clusterset.NewBuilder(0)
	first := b.Current()
	for name, remove := range map[string]func() bool{
		"export":    func() bool { return b.RemoveExport("m1", web) },
		"endpoints": func() bool { return b.RemoveEndpoints("m1", web) },
		"import":    func() bool { return b.RemoveImport("m1", web) },
		"policy":    func() bool { return b.RemovePolicy(web) },
		"cluster":   func() bool { return b.RemoveCluster("m1") },
	} {
		if remove() {
			t.Errorf("%s: removed from nothing", name)
		}
	}
	if b.Publish() != first {
		t.Error("nothing made a snapshot")
	}
	var zero clusterset.Snapshot
	if zero.Len() != 0 || zero.Service(web) != nil || zero.Services() != nil || zero.Cluster("m1") != nil || zero.Clusters() != nil ||
		zero.View(web, clusterset.Consumer{}).Reason != clusterset.NoSuchService {
		t.Error("the zero snapshot is not empty")
	}
}

// TestMoved covers which facts about clusters are a reason to look at views again.
func TestMoved(t *testing.T) {
	tests := map[string]struct {
		reason string
		change func(*clusterset.Cluster)
		moved  bool
	}{
		"control plane": {reason: "it never decides where traffic goes", change: func(c *clusterset.Cluster) { c.ControlPlane, c.LastKnown = clusterset.Down, epoch }},
		"data plane":    {reason: "it does", change: func(c *clusterset.Cluster) { c.DataPlane = clusterset.Down }, moved: true},
		"gateways":      {reason: "others reach it there", change: func(c *clusterset.Cluster) { c.Gateways = nil }, moved: true},
		"state":         {reason: "operators want traffic elsewhere", change: func(c *clusterset.Cluster) { c.State = clusterset.Draining }, moved: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			first := w.Publish()
			w.change("m3", tt.change)
			want := clusterset.Changes{Clusters: []string{"m3"}}
			if tt.moved {
				want.Moved = want.Clusters
			}
			snapshot := w.Publish()
			if diff := cmp.Diff(want, snapshot.Since(first)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
			if diff := cmp.Diff([]clusterset.Key{web}, snapshot.Exports("m3")); diff != "" {
				t.Errorf("exports (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPublishAs: who follows another builder has its numbers, and never one twice.
func TestPublishAs(t *testing.T) {
	b := clusterset.NewBuilder(10)
	for _, row := range []struct {
		why          string
		change       bool
		number, want uint64
	}{
		{"the number that is asked for", true, 100, 100},
		{"nothing changed: the snapshot is what it was", false, 200, 100},
		{"a number that was given already is not given again", true, 50, 101},
		{"by itself it goes on from there", true, 0, 102},
	} {
		if row.change {
			b.SetCluster(clusterset.Cluster{ID: "m1", Region: row.why})
		}
		if got := b.PublishAs(row.number).Sequence(); got != row.want {
			t.Errorf("%s: %d, want %d", row.why, got, row.want)
		}
	}
}
