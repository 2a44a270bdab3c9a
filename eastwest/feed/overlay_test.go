package feed_test

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// inside is what an agent in m3 sees of its own cluster.
func inside(t *testing.T) *table {
	t.Helper()
	own := newTable(t, 0)
	own.ShowImports()
	return own
}

// inStep says that the agent has read all of its own cluster.
func (t *table) inStep(cluster string) {
	t.SetCluster(clusterset.Cluster{ID: cluster})
	t.Publish()
}

// TestTheOwnClusterSpeaksForItself: what an agent sees of its own cluster counts, from the moment on when it has seen all.
func TestTheOwnClusterSpeaksForItself(t *testing.T) {
	w, own := shop(t, 1000), inside(t)
	w.Export(web, "m3")
	w.Serve(web, "m3", "10.3.0.1")
	w.SetImport("m3", web, clusterset.Import{GatewayPorts: []clusterset.GatewayPort{{Name: "http", Port: 20001}}})
	w.Publish()
	h := serve(t, w, "m3", ads.Limits{})
	a := start(t, feed.Options{Cluster: "m3", Own: own}, h)
	a.reaches(w.snapshot().Sequence())
	of := func(cluster string) string { return addresses(a.snapshot(), web, cluster) }

	own.SetCluster(clusterset.Cluster{ID: "m3", LastKnown: time.Unix(1, 0)}) // the lists are not there yet
	own.Publish()
	w.Serve(web, "m2", "10.2.0.2")
	a.reaches(w.Publish().Sequence())
	if got, want := of("m3"), "10.3.0.1 10.1.0.1 10.1.0.2 10.2.0.2"; got != want {
		t.Fatalf("before its own cluster was read, m3 uses %s, want %s: what the hub says", got, want)
	}

	own.Export(web, "m3")
	own.Serve(web, "m3", "10.3.0.7")
	own.inStep("m3")
	a.until("its own pods count", func() bool { return of("m3") == "10.3.0.7 10.1.0.1 10.1.0.2 10.2.0.2" })
	before := a.State().Sequence
	if before <= w.snapshot().Sequence() {
		t.Errorf("the number is %d, and was %d", before, w.snapshot().Sequence())
	}
	if len(a.snapshot().Service(web).Imports) != 0 {
		t.Error("the cluster has no derived Service any more, and the hub's word for it counts")
	}

	w.Serve(web, "m3", "10.3.0.99") // the hub hears of it later
	w.Serve(web, "m1", "10.1.0.9")
	w.Publish()
	a.until("others' pods are the hub's", func() bool { return of("m3") == "10.3.0.7 10.1.0.9 10.2.0.2" })
	if after := a.State().Sequence; after <= before {
		t.Errorf("numbers go from %d to %d", before, after)
	}

	h.Stop()
	a.until("the hub is gone", func() bool { return !a.State().Connected && a.State().Problem != "" })
	own.Serve(web, "m3", "10.3.0.8")
	own.Export(api, "m3") // which the hub has never heard of
	own.Serve(api, "m3", "10.3.1.1")
	own.Publish()
	a.until("its own pods count without a hub", func() bool {
		return of("m3") == "10.3.0.8 10.1.0.9 10.2.0.2" && addresses(a.snapshot(), api, "m3") == "10.3.1.1"
	})
	own.SetCluster(clusterset.Cluster{ID: "m3", LastKnown: time.Unix(2, 0)}) // its API server is away
	own.RemoveExport("m3", api)
	own.Publish()
	a.until("and what is known stays in step with it", func() bool { return a.snapshot().Service(api) == nil })
	if c := a.snapshot().Cluster("m3"); c == nil || c.Region != "r-m3" || !c.LastKnown.IsZero() {
		t.Errorf("the facts about the cluster are %+v, want the hub's", c)
	}
}

// TestAnOverlayIsNotSaved: after a restart the hub's word counts until the own cluster has been read, and numbers rise.
func TestAnOverlayIsNotSaved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	w, own := shop(t, 1000), inside(t)
	w.Export(web, "m3")
	w.Serve(web, "m3", "10.3.0.1")
	w.SetRevocations([]clusterset.Revocation{{Cluster: "m9", Before: time.Unix(7, 0)}})
	w.Publish()
	own.Export(web, "m3")
	own.Serve(web, "m3", "10.3.0.7")
	own.inStep("m3")
	a := start(t, feed.Options{Cluster: "m3", Own: own, Store: feed.NewStore(path)}, serve(t, w, "m3", ads.Limits{}))
	a.until("its own pods count", func() bool { return addresses(a.snapshot(), web, "m3") == "10.3.0.7 10.1.0.1 10.1.0.2 10.2.0.1" })
	before := a.snapshot().Sequence()
	a.stop()

	again := feed.New(feed.Options{Cluster: "m3", Own: inside(t), Store: feed.NewStore(path)})
	snapshot, _ := again.Current()
	if got, want := addresses(snapshot, web, "m3"), "10.3.0.1 10.1.0.1 10.1.0.2 10.2.0.1"; got != want {
		t.Errorf("after a restart m3 uses %s, want %s", got, want)
	}
	if snapshot.Sequence() <= before {
		t.Errorf("after a restart the number is %d, and was %d", snapshot.Sequence(), before)
	}
	if !snapshot.Revoked("m9", time.Unix(6, 0)) {
		t.Error("after a restart nothing is revoked")
	}
}

// TestNothingIsPublishedOfTheOwnClusterAlone: services of others would count as not there.
func TestNothingIsPublishedOfTheOwnClusterAlone(t *testing.T) {
	own := inside(t)
	own.Export(web, "m3")
	own.Serve(web, "m3", "10.3.0.7")
	own.inStep("m3")
	current := announce()
	a := start(t, feed.Options{Cluster: "m3", Own: own, Hubs: current.Addresses})
	a.until("no hub is known", func() bool { return a.State().Problem != "" })
	if a.snapshot().Sequence() != 0 || a.snapshot().Len() != 0 {
		t.Errorf("there is a snapshot with %d services", a.snapshot().Len())
	}
	w := shop(t, 1000)
	w.SetRevocations([]clusterset.Revocation{{Cluster: "m9", Before: time.Unix(7, 0)}})
	w.Publish()
	current.Set(serve(t, w, "m3", ads.Limits{}).address)
	a.until("all is there at once", func() bool { return a.snapshot().Sequence() != 0 })
	if got, want := addresses(a.snapshot(), web, "m3"), "10.3.0.7 10.1.0.1 10.1.0.2 10.2.0.1"; got != want {
		t.Errorf("m3 uses %s, want %s", got, want)
	}
	if !a.snapshot().Revoked("m9", time.Unix(6, 0)) {
		t.Error("nothing is revoked")
	}
}

// TestRevocationsReachAgents, alone and with nothing else.
func TestRevocationsReachAgents(t *testing.T) {
	w := shop(t, 1000)
	a := start(t, feed.Options{}, serve(t, w, "m3", ads.Limits{}))
	first := a.reaches(w.snapshot().Sequence())
	w.SetRevocations([]clusterset.Revocation{{Cluster: "m9", Before: time.Unix(7, 0)}})
	second := a.reaches(w.Publish().Sequence())
	if changes := second.Since(first); !second.Revoked("m9", time.Unix(6, 0)) || !changes.Revoked || len(changes.Services)+len(changes.Clusters) != 0 {
		t.Errorf("changes are %+v", changes)
	}
	w.SetRevocations(nil)
	if third := a.reaches(w.Publish().Sequence()); third.Revoked("m9", time.Unix(6, 0)) {
		t.Error("a revocation that was taken back is there")
	}
}

// TestOverlaysAreMerged plays random changes of a hub and of one of its clusters, which the hub hears of in another way: the
// table is what a builder makes of the hub's facts and, for that cluster, of its own.
func TestOverlaysAreMerged(t *testing.T) {
	for seed := range uint64(60) {
		own := []string{"m1", "m3"}[seed%2] // of which the hub loses sight of the second now and then
		r, hub, self := newRandom(seed), newTable(t, 0, "m1", "m2"), inside(t)
		agent := feed.NewTable(0)
		have := map[string]map[string]string{servicepb.ServiceType: {}, servicepb.ClusterType: {}}
		send(t, agent, have, hub.snapshot(), own, "first")
		laid := false
		for step := range 40 {
			if r.IntN(3) > 0 {
				r.change(hub)
				hub.Publish()
				send(t, agent, have, hub.snapshot(), own, strconv.Itoa(step))
			} else {
				r.changeOwn(self, own)
				self.Publish()
				if laid = laid || r.IntN(3) == 0; laid {
					agent.Lay(own, self.snapshot())
				}
			}
			got, want := agent.Publish(0), merged(hub.snapshot(), self.snapshot(), own, laid)
			if diff := cmp.Diff(want.Services(), got.Services(), exactly); diff != "" {
				t.Fatalf("seed %d, step %d: services (-merged +overlay):\n%s", seed, step, diff)
			}
			if diff := cmp.Diff(want.Clusters(), got.Clusters(), exactly); diff != "" {
				t.Fatalf("seed %d, step %d: clusters (-merged +overlay):\n%s", seed, step, diff)
			}
			for _, service := range want.Services() {
				from := r.consumer()
				if diff := cmp.Diff(want.View(service.Key, from), got.View(service.Key, from), exactly); diff != "" {
					t.Fatalf("seed %d, step %d: the view of %s (-merged +overlay):\n%s", seed, step, service.Key, diff)
				}
			}
		}
	}
}

// changeOwn makes one change in a cluster, as its own agent sees it.
func (r random) changeOwn(t *table, own string) {
	switch r.IntN(8) {
	case 0, 1:
		t.SetExport(own, r.key(), r.export())
	case 2:
		t.RemoveExport(own, r.key())
	case 3:
		t.SetImport(own, r.key(), clusterset.Import{GatewayPorts: []clusterset.GatewayPort{{Name: "http", Port: uint16(20000 + r.IntN(3))}}})
	case 4:
		t.RemoveImport(own, r.key())
	case 5:
		t.RemoveEndpoints(own, r.key())
	default:
		t.SetEndpoints(own, r.key(), r.endpoints())
	}
}

// send tells a table what agents of a cluster are told of a hub's snapshot.
func send(t *testing.T, agent feed.Table, have map[string]map[string]string, s *clusterset.Snapshot, cluster, version string) {
	t.Helper()
	now := map[string]map[string]string{servicepb.ServiceType: {}, servicepb.ClusterType: {}}
	for key, value := range told(s, cluster) {
		now[servicepb.ServiceType][servicepb.ResourceName(key)] = value
	}
	for _, c := range s.Clusters() {
		now[servicepb.ClusterType][c.ID] = marshal(servicepb.OfCluster(c))
	}
	for url := range now {
		for name, value := range now[url] {
			if old, held := have[url][name]; held && old == value {
				continue
			}
			if err := agent.Take(url, feed.Resource{Name: name, Version: version, Value: []byte(value)}); err != nil {
				t.Fatal(err)
			}
		}
		for name := range have[url] {
			if _, stays := now[url][name]; !stays {
				agent.Remove(url, name)
			}
		}
		have[url] = now[url]
	}
}

// merged builds a table of what the hub tells a cluster and, if it speaks for itself, what that cluster says of itself.
func merged(hub, self *clusterset.Snapshot, own string, laid bool) *clusterset.Snapshot {
	b := clusterset.NewBuilder(0)
	for _, c := range hub.Clusters() {
		b.SetCluster(*c)
	}
	add := func(s *clusterset.Snapshot, counts func(service *clusterset.Service, cluster string) bool) {
		for _, service := range s.Services() {
			for _, source := range service.Sources {
				if !counts(service, source.Cluster) {
					continue
				}
				b.SetExport(source.Cluster, service.Key, clusterset.Export{Created: source.Created, Properties: source.Properties})
				if source.Endpoints != nil {
					b.SetEndpoints(source.Cluster, service.Key, *source.Endpoints)
				}
			}
			for _, i := range service.Imports {
				if counts(service, i.Cluster) {
					b.SetImport(i.Cluster, service.Key, i)
				}
			}
		}
	}
	isTold := told(hub, own)
	add(hub, func(service *clusterset.Service, cluster string) bool {
		_, is := isTold[service.Key]
		return is && (cluster == own && !laid || cluster != own && consumes(service, own))
	})
	for _, service := range hub.Services() {
		if _, is := isTold[service.Key]; is && service.Policy != nil {
			b.SetPolicy(service.Key, *service.Policy)
		}
	}
	if laid {
		add(self, func(*clusterset.Service, string) bool { return true })
	}
	return b.Publish()
}
