package feed_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

func TestAnAgentFollowsTheHub(t *testing.T) {
	w := shop(t, 1000)
	a := start(t, feed.Options{}, serve(t, w, "m3", ads.Limits{}))
	snapshot := a.reaches(w.snapshot().Sequence())
	if got, want := addresses(snapshot, web, "m1"), "10.1.0.1 10.1.0.2 10.2.0.1"; got != want {
		t.Errorf("m1 uses %s, want %s", got, want)
	}
	w.Serve(web, "m1", "10.1.0.9")
	snapshot = a.reaches(w.Publish().Sequence())
	if got, want := addresses(snapshot, web, "m2"), "10.2.0.1 10.1.0.9"; got != want {
		t.Errorf("m2 uses %s, want %s", got, want)
	}
	w.SetCluster(clusterset.Cluster{ID: "m1", Network: "flat", Region: "r-m1", DataPlane: clusterset.Down})
	snapshot = a.reaches(w.Publish().Sequence())
	if got, want := addresses(snapshot, web, "m3"), "10.2.0.1"; got != want {
		t.Errorf("m3 uses %s, want %s: m1 is down", got, want)
	}
	w.RemoveExport("m1", web)
	w.RemoveExport("m2", web)
	if snapshot = a.reaches(w.Publish().Sequence()); snapshot.Len() != 0 {
		t.Errorf("%d services are there, want none", snapshot.Len())
	}
	w.RemoveCluster("m2")
	if snapshot = a.reaches(w.Publish().Sequence()); snapshot.Cluster("m2") != nil {
		t.Error("cluster m2 is still there")
	}
}

// TestNumbers jumps over numbers: small jumps keep the services, and so do changes that the agent does not see.
func TestNumbers(t *testing.T) {
	w := shop(t, 1000)
	a := start(t, feed.Options{}, serve(t, w, "m3", ads.Limits{}))
	first := a.reaches(w.snapshot().Sequence())
	for n, jump := range []int{1, 2, 7, 200} {
		for range jump - 1 { // nothing that m3 sees
			w.SetPolicy(api, clusterset.Policy{Consumers: &clusterset.Consumers{}, TTL: uint32(w.snapshot().Sequence())})
			w.SetExport("m1", api, clusterset.Export{Created: time.Unix(int64(w.snapshot().Sequence()), 0)})
			w.Publish()
		}
		w.SetImport("m3", web, clusterset.Import{ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(n)})}})
		w.SetCluster(clusterset.Cluster{ID: "m1", Network: "flat", Region: "r-m1", LastKnown: time.Unix(int64(n), 0)})
		second := a.reaches(w.Publish().Sequence())
		if changed := second.Since(first); len(changed.Services) != 1 || len(changed.Moved) != 0 || !slices.Contains(changed.Clusters, "m1") {
			t.Errorf("a jump of %d changed %+v, want web and m1", jump, changed)
		}
		first = second
	}
}

func TestAClusterSeesItsOwnPartOfWhatItMayNotConsume(t *testing.T) {
	w := shop(t, 1000)
	w.SetImport("m1", web, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}})
	w.SetImport("m2", web, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.97.0.1")}})
	w.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"m3"}}})
	number := w.Publish().Sequence()
	for _, c := range []struct {
		reason, cluster string
		sources         []string
		imports         int
	}{
		{"it may consume the service", "m3", []string{"m1", "m2"}, 2},
		{"it exports the service, and may not consume it", "m2", []string{"m2"}, 1},
	} {
		service := start(t, feed.Options{}, serve(t, w, c.cluster, ads.Limits{})).reaches(number).Service(web)
		var sources []string
		for _, source := range service.Sources {
			sources = append(sources, source.Cluster)
		}
		if !slices.Equal(sources, c.sources) || len(service.Imports) != c.imports || service.Policy == nil {
			t.Errorf("%s: sources %v, %d imports, policy %v; want %v and %d", c.reason, sources, len(service.Imports), service.Policy, c.sources, c.imports)
		}
	}
	w.SetCluster(clusterset.Cluster{ID: "m4"})
	w.Publish()
	if a := start(t, feed.Options{}, serve(t, w, "m4", ads.Limits{})); a.reaches(w.snapshot().Sequence()).Len() != 0 {
		t.Error("m4 neither may consume the service nor exports it, and sees it")
	}
}

func TestEverythingStaysWhileTheHubIsAway(t *testing.T) {
	w := shop(t, 1000)
	h := serve(t, w, "m3", ads.Limits{})
	a := start(t, feed.Options{}, h)
	before := a.reaches(w.snapshot().Sequence())
	h.Stop()
	a.until("the client notices", func() bool { return !a.State().Connected && a.State().Problem != "" })
	if a.snapshot() != before {
		t.Error("the snapshot changed when the hub went away")
	}
	state := a.State()
	if age := state.Age(state.Heard.Add(time.Minute)); age != time.Minute {
		t.Errorf("after a minute the age is %v", age)
	}
	if state.Hub != h.address || !strings.Contains(state.Problem, h.address) {
		t.Errorf("the state does not name hub %s: %+v", h.address, state)
	}
}

// TestAnotherReplicaSendsOnlyWhatChanged goes to another hub, which learned the same in another order and whose numbers are
// others, and then to one that was restarted.
func TestAnotherReplicaSendsOnlyWhatChanged(t *testing.T) {
	one := shop(t, 1_000_000)
	many(one, 50)
	one.Publish()
	first := serve(t, one, "m3", ads.Limits{})
	current := announce(first.address)
	a := start(t, feed.Options{Hubs: current.Addresses})
	a.reaches(one.snapshot().Sequence())
	if all := a.sent.take(); all.resources != 54 {
		t.Errorf("at first %d resources were sent, want 54: %v", all.resources, all.names)
	}

	other := newTable(t, 5000, "m3", "m2", "m1")
	many(other, 50)
	other.Serve(web, "m1", "10.1.0.2", "10.1.0.1")
	other.Export(web, "m1", "m2")
	other.Serve(web, "m2", "10.2.0.7")
	other.Publish()
	second := serve(t, other, "m3", ads.Limits{})
	current.Set(second.address)
	first.Stop()
	a.until("the client has the other hub's table", func() bool {
		return addresses(a.snapshot(), web, "m2") == "10.2.0.7 10.1.0.1 10.1.0.2" && a.State().Complete
	})
	sent := a.sent.take()
	if diff := cmp.Diff([]string{"shop/web"}, sent.names); diff != "" || sent.bytes > 1000 {
		t.Errorf("the other hub sent %d bytes (-want +got):\n%s", sent.bytes, diff)
	}
	if got, want := a.State().Sequence, clusterset.NextSequence(one.snapshot().Sequence(), time.Time{}); got != want {
		t.Errorf("the number is %d, want %d, a step more than before: the other hub's are less", got, want)
	}

	third := shop(t, 2_000_000_000)
	current.Set(serve(t, third, "m3", ads.Limits{}).address)
	second.Stop()
	snapshot := a.reaches(third.snapshot().Sequence())
	if sent := a.sent.take(); len(sent.removed) != 50 || !slices.Equal(sent.names, []string{"shop/web"}) || snapshot.Len() != 1 {
		t.Errorf("a hub that knows less removed %d services and sent %v; %d are left", len(sent.removed), sent.names, snapshot.Len())
	}
}

// many adds services.
func many(w *table, services int) {
	for i := range services {
		key := clusterset.Key{Namespace: "many", Name: "svc-" + string(rune('a'+i/26)) + string(rune('a'+i%26))}
		w.Export(key, "m1")
		w.Serve(key, "m1", netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}).String())
	}
}

// TestARestartedAgent starts from its store with the hub away, and then asks only for what changed.
func TestARestartedAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	w := shop(t, 1000)
	h := serve(t, w, "m3", ads.Limits{})
	a := start(t, feed.Options{Store: feed.NewStore(path)}, h)
	before := a.reaches(w.snapshot().Sequence())
	a.stop()

	again := feed.New(feed.Options{Store: feed.NewStore(path)})
	snapshot, _ := again.Current()
	if snapshot.Sequence() != before.Sequence() || addresses(snapshot, web, "m3") != addresses(before, web, "m3") {
		t.Errorf("after a restart the snapshot is %d with %q", snapshot.Sequence(), addresses(snapshot, web, "m3"))
	}
	if state := again.State(); state.Connected || state.Heard.IsZero() || state.Since != state.Heard {
		t.Errorf("after a restart the state is %+v, want one that says when the hub was heard", state)
	}
	select {
	case <-again.Ready():
	default:
		t.Error("a client with a saved snapshot is not ready")
	}

	w.Export(api, "m1")
	w.Publish()
	b := start(t, feed.Options{Store: feed.NewStore(path)}, h)
	b.reaches(w.snapshot().Sequence())
	if sent := b.sent.take(); !slices.Equal(sent.names, []string{"shop/api"}) {
		t.Errorf("after a restart %v was sent, want shop/api", sent.names)
	}
	b.until("the change is saved", func() bool {
		kept, err := feed.NewStore(path).Load()
		return err == nil && len(kept.Services) == 2
	})
}

func TestACorruptedSnapshotIsNoReasonNotToStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := shop(t, 1000)
	a := start(t, feed.Options{Store: feed.NewStore(path)}, serve(t, w, "m3", ads.Limits{}))
	a.reaches(w.snapshot().Sequence())
	a.stop()
	if kept, err := feed.NewStore(path).Load(); err != nil || len(kept.Services) != 1 {
		t.Errorf("the new snapshot has %d services: %v", len(kept.Services), err)
	}
}

// TestASilentHub is behind a valve: nothing says that it is gone.
func TestASilentHub(t *testing.T) {
	w := shop(t, 1000)
	black := newValve(t, serve(t, w, "m3", ads.Limits{}).address)
	hubs := announce(black.address)
	other := serve(t, w, "m3", ads.Limits{})
	timing := quick
	timing.Heartbeat, timing.Silence = 100*time.Millisecond, 800*time.Millisecond
	a := start(t, feed.Options{Hubs: hubs.Addresses, Timing: timing})
	a.reaches(w.snapshot().Sequence())
	hubs.Set(other.address)
	black.Shut()
	begin := time.Now()
	a.until("the client goes to the other hub", func() bool { return a.State().Hub == other.address && a.State().Connected })
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("it took %v to leave a hub that was silent for %v", took, timing.Silence)
	}
	w.Serve(web, "m2", "10.2.0.8")
	a.reaches(w.Publish().Sequence())
}

// TestAHubThatKnowsNothingYet lets nobody in until it has read its members.
func TestAHubThatKnowsNothingYet(t *testing.T) {
	w := newTable(t, 1000)
	path := filepath.Join(t.TempDir(), "snapshot")
	first := shop(t, 900)
	h := serve(t, first, "m3", ads.Limits{})
	a := start(t, feed.Options{Store: feed.NewStore(path)}, h)
	a.reaches(first.snapshot().Sequence())
	a.stop()
	for _, c := range []struct {
		reason string
		store  *feed.Store
		before int
	}{{"nothing is known", nil, 0}, {"a snapshot was saved", feed.NewStore(path), 1}} {
		w := newTable(t, w.snapshot().Sequence())
		a := start(t, feed.Options{Store: c.store}, serve(t, w, "m3", ads.Limits{}))
		if n := a.snapshot().Len(); n != c.before || a.State().Connected {
			t.Errorf("%s: %d services are known, want %d, and the state is %+v", c.reason, n, c.before, a.State())
		}
		for _, id := range []string{"m1", "m2", "m3"} {
			w.SetCluster(clusterset.Cluster{ID: id})
		}
		w.Export(web, "m2")
		w.Export(api, "m2")
		if n := a.reaches(w.Publish().Sequence()).Len(); n != 2 {
			t.Errorf("%s: then %d services are known, want 2", c.reason, n)
		}
	}
}

// TestAFirstTableComesWhole has the hub send it in many parts.
func TestAFirstTableComesWhole(t *testing.T) {
	w := shop(t, 1000)
	many(w, 100)
	w.Publish()
	a := start(t, feed.Options{}, serve(t, w, "m3", ads.Limits{ResponseBytes: 200}))
	_, newer := a.Current()
	select {
	case <-newer:
	case <-time.After(patience):
		t.Fatal("nothing is published")
	}
	if n := a.snapshot().Len(); n != 101 {
		t.Errorf("the first snapshot has %d services, want all 101", n)
	}
}

// TestWhatIsNotCompleteIsPublishedInTheEnd has a hub whose sum is never right.
func TestWhatIsNotCompleteIsPublishedInTheEnd(t *testing.T) {
	timing := quick
	timing.First, timing.Hold = 50*time.Millisecond, 10*time.Millisecond
	h := serveSource(t, &scripted{t: t, updates: []ads.Update{{Sequence: 77, Whole: true, Changed: []ads.Resource{
		encoded(t, servicepb.ClusterType, "m3", &servicepb.Cluster{Id: "m3"}),
		encoded(t, servicepb.TableType, servicepb.TableName, &servicepb.Table{Sum: 1}),
	}}}}, ads.Limits{})
	a := start(t, feed.Options{Timing: timing}, h)
	a.until("the cluster is there", func() bool { return a.snapshot().Cluster("m3") != nil })
	if state := a.State(); state.Complete || state.HubSequence != 77 {
		t.Errorf("the state is %+v, want one that is not complete", state)
	}
}

func TestARefusedResource(t *testing.T) {
	part := func(address ...byte) *servicepb.Service {
		return &servicepb.Service{Namespace: "shop", Name: "web", Sources: []*servicepb.Source{{
			Cluster: "m1", Properties: &servicepb.Properties{Ports: []*servicepb.Port{{Name: "http", Port: 80}}},
			Endpoints: &servicepb.Endpoints{Groups: []*servicepb.Group{{
				Ports: []*servicepb.TargetPort{{Name: "http", Port: 8080}}, Endpoints: []*servicepb.Endpoint{{Address: address, Conditions: 1}},
			}}},
		}}}
	}
	other := func(ttl uint32) *servicepb.Service {
		m := part(10, 0, 0, 2)
		m.Name, m.Policy = "webshop", &servicepb.Policy{TtlSeconds: ttl}
		return m
	}
	cluster := encoded(t, servicepb.ClusterType, "m1", &servicepb.Cluster{Id: "m1"})
	step := func(sequence uint64, web, webshop *servicepb.Service) ads.Update {
		resources := []ads.Resource{cluster, encoded(t, servicepb.ServiceType, "shop/web", web), encoded(t, servicepb.ServiceType, "shop/webshop", webshop)}
		sum := uint64(0)
		for _, r := range resources {
			sum += servicepb.Element(r.Type, r.Name, r.Version())
		}
		table := encoded(t, servicepb.TableType, servicepb.TableName, &servicepb.Table{Services: 2, Clusters: 1, Sum: sum})
		return ads.Update{Sequence: sequence, Whole: true, Changed: append(resources, table)}
	}
	s := &scripted{t: t, more: make(chan ads.Update, 1), updates: []ads.Update{step(1, part(10, 0, 0, 1), other(1))}}
	h := serveSource(t, s, ads.Limits{})
	a := start(t, feed.Options{}, h)
	a.reaches(1)
	if refusals := a.sent.take().refusals; len(refusals) > 0 {
		t.Fatalf("the client refused %v", refusals)
	}

	s.more <- step(2, part(10, 0, 0), other(2)) // an address of three bytes
	snapshot := a.reaches(2)
	if got := addresses(snapshot, web, "m1"); got != "10.0.0.1" {
		t.Errorf("the service that could not be read has %q, want what was known of it", got)
	}
	if ttl := snapshot.Service(clusterset.Key{Namespace: "shop", Name: "webshop"}).Policy.TTL; ttl != 2 {
		t.Errorf("the service beside it has TTL %d, want the new one", ttl)
	}
	refused := a.State().Refused
	if len(refused) != 1 || refused[0].Name != "shop/web" || !strings.Contains(refused[0].Problem, "address has 3 bytes") {
		t.Errorf("refused is %+v, want shop/web and why", refused)
	}
	if refusals := a.sent.take().refusals; len(refusals) != 1 || !strings.Contains(refusals[0], "resource shop/web: ") {
		t.Errorf("the client said %q, want one refusal of shop/web", refusals)
	}
	blamed := func() []string {
		for _, c := range h.Clients() {
			for _, kind := range c.Kinds {
				if kind.Type == servicepb.ServiceType {
					return kind.Rejected
				}
			}
		}
		return nil
	}
	a.until("the hub knows which resource was refused", func() bool { return slices.Equal(blamed(), []string{"shop/web"}) })

	s.more <- step(3, part(10, 0, 0, 3), other(2))
	if got := addresses(a.reaches(3), web, "m1"); got != "10.0.0.3" || len(a.State().Refused) != 0 {
		t.Errorf("what can be read again has %q; refused is %v", got, a.State().Refused)
	}
	s.more <- step(4, part(10, 0, 0), other(2))
	a.until("shop/web is refused again", func() bool { return len(a.State().Refused) == 1 })
	s.more <- ads.Update{Sequence: 5, Whole: true, Changed: []ads.Resource{cluster, encoded(t, servicepb.TableType, servicepb.TableName, &servicepb.Table{
		Clusters: 1, Sum: servicepb.Element(cluster.Type, cluster.Name, cluster.Version()),
	})}}
	if snapshot := a.reaches(5); snapshot.Len() != 0 || len(a.State().Refused) != 0 {
		t.Errorf("%d services are left, and refused is %v", snapshot.Len(), a.State().Refused)
	}
}

// scripted is a source that says what a test wants.
type scripted struct {
	t       *testing.T
	updates []ads.Update
	more    chan ads.Update
}

func (s *scripted) Admit(context.Context, ads.Client) (ads.Admission, error) {
	return ads.Admission{View: "all", Identity: "agent"}, nil
}

func (s *scripted) Fill(ctx context.Context, v *ads.View) error {
	for _, u := range s.updates {
		v.Apply(u)
	}
	for {
		select {
		case u := <-s.more:
			v.Apply(u)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestNoHubIsKnown(t *testing.T) {
	a := start(t, feed.Options{Hubs: func() []string { return nil }})
	a.until("the state says that no hub is known", func() bool { return strings.Contains(a.State().Problem, "no address of a hub is known") })
}

func TestPausesGrow(t *testing.T) {
	list := func() []string { return []string{"a", "b", "c"} }
	pauses := feed.Pauses(list, feed.Timing{Backoff: time.Second, MaxBackoff: 10 * time.Second}, 40)
	for i, pause := range pauses {
		least, most := time.Second/2, time.Second
		if i >= 2 {
			most = min(time.Second<<min(i-1, 10), 10*time.Second)
			least = most / 2
		}
		if pause < least || pause > most {
			t.Errorf("after %d failures of three hubs the pause is %v, want between %v and %v", i+1, pause, least, most)
		}
	}
}
