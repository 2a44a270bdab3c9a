package imports_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	clientfeatures "k8s.io/client-go/features"
	clientfeaturestesting "k8s.io/client-go/features/testing"

	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/imports"
)

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// world is a hub and its members, in the bubble of a test.
type world struct {
	t       *testing.T
	builder *clusterset.Builder
	latest  *clusterset.Latest
	stores  map[string]*store // by member; the ids of the clusters are the same with "id-" before them

	mu       sync.Mutex
	members  []*cluster.Member
	changed  chan struct{}
	away     map[string]bool
	revision string
	unknown  map[string]bool // members whose id is not known

	stop context.CancelFunc
	done chan struct{}
}

// inWorld runs a story in a world with the members a and b, both with the namespace shop. The story starts the hub.
func inWorld(t *testing.T, story func(*world)) {
	t.Helper()
	clientfeaturestesting.SetFeatureDuringTest(t, clientfeatures.WatchListClient, false) // the store cannot stream lists
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, builder: clusterset.NewBuilder(0), stores: map[string]*store{}, changed: make(chan struct{}),
			away: map[string]bool{}, unknown: map[string]bool{},
		}
		w.latest = clusterset.NewLatest(nil)
		for _, name := range []string{"a", "b"} {
			w.members = append(w.members, &cluster.Member{Name: name})
			w.stores[name] = newStore()
			w.namespace(name, "shop")
		}
		facts(w.builder, "id-a@n", "id-b@n")
		story(w)
		w.shut()
	})
}

func (w *world) namespace(member, name string) {
	w.stores[member].put(namespaces, fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q}}`, name))
}

func (w *world) Current() ([]*cluster.Member, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.members, w.changed
}

func (w *world) reach(member string) (dynamic.Interface, string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return client{w.stores[member]}, w.revision, !w.away[member]
}

func (w *world) id(member string) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return "id-" + member, !w.unknown[member]
}

// edit changes what is known of the members.
func (w *world) edit(change func()) {
	w.mu.Lock()
	change()
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	synctest.Wait()
}

// publish gives the hub a snapshot and waits until it has done what it can.
func (w *world) publish() {
	w.latest.Publish(w.builder.Publish())
	synctest.Wait()
	w.pass(20 * time.Millisecond) // writes give way for a moment
}

func (w *world) start(edit ...func(*imports.Reconciler)) {
	r := &imports.Reconciler{Snapshots: w.latest, Members: w, ClusterID: w.id, Log: logr.Discard()}
	for _, e := range edit {
		e(r)
	}
	r.Connect(w.reach)
	ctx, cancel := context.WithCancel(w.t.Context())
	w.stop, w.done = cancel, make(chan struct{})
	go func() {
		defer close(w.done)
		if err := r.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	synctest.Wait()
	w.pass(time.Second) // watches begin after their list
}

func (w *world) shut() {
	if w.stop != nil {
		w.stop()
		<-w.done
		w.stop = nil
	}
}

func (w *world) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// export exports web from a member, with a ServiceExport in it.
func (w *world) export(member string, age int, p *clusterset.Properties, pods ...string) {
	export(w.builder, "id-"+member, age, p, pods...)
	text, err := serviceExport(age).MarshalJSON()
	if err != nil {
		w.t.Fatal(err)
	}
	if w.stores[member].get(imports.ExportResource, "shop", "web") == nil {
		w.stores[member].put(imports.ExportResource, string(text))
	}
}

// wrote checks the writes to a member since the last look, by verb and kind.
func (w *world) wrote(reason, member string, want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, short(w.stores[member].written(), nil)); diff != "" {
		w.t.Errorf("%s\nwrites to %s (-want +got):\n%s", reason, member, diff)
	}
}

var (
	imported = []string{"create endpointslices", "create serviceimports", "create services", "update serviceimports", "updateStatus serviceimports"}
	exporter = slices.Sorted(slices.Values(append([]string{"updateStatus serviceexports"}, imported...)))
)

func TestFromExportToImport(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		w.wrote("the exporter imports its own service too, and its export says how it stands", "a", exporter...)
		w.wrote("the other one imports it", "b", imported...)
		ips, _, _ := unstructured.NestedStringSlice(w.stores["b"].get(imports.ImportResource, "shop", "web").Object, "spec", "ips")
		ip, _, _ := unstructured.NestedString(w.stores["b"].get(imports.ServiceResource, "shop", imports.DerivedName("web")).Object, "spec", "clusterIP")
		if !slices.Equal(ips, []string{ip}) || ip == "" {
			t.Errorf("the import has the addresses %v, the derived Service %q", ips, ip)
		}

		w.publish()
		w.pass(time.Minute)
		w.wrote("nothing new, nothing written", "a")

		w.export("a", 1, properties(), "10.0.0.1", "10.0.0.2")
		w.publish()
		w.wrote("an endpoint is one write", "a", "update endpointslices")
		w.wrote("in each member", "b", "update endpointslices")

		w.shut()
		w.start()
		w.pass(time.Minute)
		w.wrote("a hub that starts again writes nothing", "a")
		w.wrote("a hub that starts again writes nothing", "b")

		w.builder.RemoveExport("id-a", web)
		w.stores["a"].drop(imports.ExportResource, "shop", "web")
		w.publish()
		for _, member := range []string{"a", "b"} {
			for _, resource := range []schema.GroupVersionResource{imports.ImportResource, imports.ServiceResource, imports.SliceResource} {
				if left := w.stores[member].all(resource); len(left) > 0 {
					t.Errorf("after the last export went, %s has %d %s", member, len(left), resource.Resource)
				}
			}
		}
	})
}

// TestGivingWay holds that changes which come close together are written together, and that no stream of changes holds up
// writes for long.
func TestGivingWay(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		w.wrote("", "b", imported...)
		const pause = 5 * time.Millisecond
		change := func(i int) {
			w.export("a", 1, properties(), "10.0.0.1", fmt.Sprintf("10.0.1.%d", i+1))
			w.latest.Publish(w.builder.Publish())
			w.pass(pause)
		}
		for i := range 10 {
			change(i)
		}
		w.wrote("while changes come, writes wait", "b")
		w.pass(20 * time.Millisecond)
		w.wrote("ten changes are one write", "b", "update endpointslices")
		for i := range 220 {
			change(i)
		}
		w.wrote("over a second of changes there are two", "b", "update endpointslices", "update endpointslices")
	})
}

// TestLateEvents holds that nothing is taken for done because a watch has not told of it yet.
func TestLateEvents(t *testing.T) {
	t.Run("a Service that has to be made anew", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.stores["b"].late = 5 * time.Millisecond
			w.start()
			for _, headless := range []bool{false, true, false} {
				w.export("a", 1, properties(func(p *clusterset.Properties) { p.Headless = headless }))
				w.publish()
				w.pass(time.Minute)
				derived := w.stores["b"].get(imports.ServiceResource, "shop", imports.DerivedName("web"))
				if derived == nil {
					w.t.Fatalf("headless %t: there is no derived Service", headless)
				}
				if ip, _, _ := unstructured.NestedString(derived.Object, "spec", "clusterIP"); (ip == corev1.ClusterIPNone) != headless {
					w.t.Errorf("headless %t: the derived Service has the address %q", headless, ip)
				}
			}
		})
	})
	t.Run("a slice that is there already", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.start()
			w.export("a", 1, properties(), "10.0.0.1")
			w.publish()
			slice := w.stores["b"].all(imports.SliceResource)[0]
			w.shut()
			w.stores["b"].drop(imports.SliceResource, slice.GetNamespace(), slice.GetName())
			w.start()
			w.pass(time.Minute)
			before := w.stores["b"].get(imports.SliceResource, slice.GetNamespace(), slice.GetName())
			w.stores["b"].late = time.Second
			w.stores["b"].drop(imports.SliceResource, slice.GetNamespace(), slice.GetName())
			if err := unstructured.SetNestedSlice(before.Object, []any{map[string]any{"addresses": []any{"192.0.2.9"}}}, "endpoints"); err != nil {
				w.t.Fatal(err)
			}
			text, err := before.MarshalJSON()
			if err != nil {
				w.t.Fatal(err)
			}
			w.pass(500 * time.Millisecond) // the lane does not know yet that it is gone, let alone of another one
			w.stores["b"].put(imports.SliceResource, string(text))
			w.pass(time.Minute)
			for _, look := range []string{"what somebody else put there", "that it was deleted again"} {
				after := w.stores["b"].get(imports.SliceResource, slice.GetNamespace(), slice.GetName())
				if after == nil {
					w.t.Fatalf("not seen: %s", look)
				}
				if list, _, _ := unstructured.NestedSlice(after.Object, "endpoints"); !strings.Contains(fmt.Sprint(list), "10.0.0.1") {
					w.t.Errorf("not put right: %s: %v", look, list)
				}
				w.stores["b"].drop(imports.SliceResource, slice.GetNamespace(), slice.GetName())
				w.pass(time.Minute)
			}
		})
	})
}

func TestNamespaceComesLater(t *testing.T) {
	inWorld(t, func(w *world) {
		w.stores["b"].drop(namespaces, "", "shop")
		w.start()
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		w.wrote("there is nowhere to import to", "b")
		w.namespace("b", "other")
		w.namespace("b", "shop")
		synctest.Wait()
		w.wrote("a namespace gets its imports at once", "b", imported...)
	})
}

func TestMemberReplaysDrift(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		w.wrote("", "b", imported...)
		w.stores["b"].drop(imports.ServiceResource, "shop", imports.DerivedName("web"))
		synctest.Wait()
		w.wrote("a derived Service that somebody deleted comes back, with another address", "b", "create services", "update serviceimports", "updateStatus serviceimports")
	})
}

// TestQuarrel holds that what something else keeps changing is put right, but less and less often, and that news of the table
// is written at once all the same.
func TestQuarrel(t *testing.T) {
	inWorld(t, func(w *world) {
		w.export("a", 1, properties(), "10.0.0.1")
		w.start()
		w.publish()
		derived := imports.DerivedName("web")
		spoil := func() {
			service := w.stores["b"].get(imports.ServiceResource, "shop", derived)
			if affinity, _, _ := unstructured.NestedString(service.Object, "spec", "sessionAffinity"); affinity == "ClientIP" {
				return
			}
			_ = unstructured.SetNestedField(service.Object, "ClientIP", "spec", "sessionAffinity")
			text, _ := service.MarshalJSON()
			w.stores["b"].put(imports.ServiceResource, string(text))
		}
		w.stores["b"].written()
		for range 6000 { // a minute
			spoil()
			w.pass(10 * time.Millisecond)
		}
		if writes := w.stores["b"].written(); len(writes) < 10 || len(writes) > 30 {
			t.Errorf("%d writes in a minute of quarrel, want some but not hundreds", len(writes))
		}
		w.export("a", 1, properties(), "10.0.0.1", "10.0.0.2")
		w.publish()
		if writes := short(w.stores["b"].written(), nil); !slices.Contains(writes, "update endpointslices") {
			t.Errorf("a new endpoint is not written at once: %v", writes)
		}
		w.pass(5 * time.Minute)
		w.stores["b"].written()
		spoil()
		w.pass(10 * time.Millisecond)
		if writes := short(w.stores["b"].written(), nil); !slices.Equal(writes, []string{"update services"}) {
			t.Errorf("after the quarrel a change is not put right at once: %v", writes)
		}
	})
}

func TestWaitsUntilItKnows(t *testing.T) {
	inWorld(t, func(w *world) {
		ready := make(chan struct{})
		w.export("a", 1, properties(), "10.0.0.1")
		w.unknown["b"] = true
		w.publish()
		w.start(func(r *imports.Reconciler) { r.Ready = ready })
		w.wrote("too little is known to write anything", "a")
		close(ready)
		w.pass(time.Second)
		w.wrote("", "a", exporter...)
		w.wrote("it is not known which cluster this is", "b")
		w.edit(func() { delete(w.unknown, "b") })
		w.pass(time.Second)
		w.wrote("now it is", "b", imported...)
	})
}

func TestSlowMember(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		hang := make(chan struct{})
		w.stores["b"].hang = hang
		for i := range 20 {
			w.export("a", 1, properties(), fmt.Sprintf("10.0.0.%d", i+1))
			w.publish()
		}
		if len(w.stores["a"].written()) < 20 {
			t.Error("a member that does not answer holds up the others")
		}
		w.wrote("and gets nothing itself", "b")
		w.edit(func() { w.away["b"] = true })
		w.pass(time.Minute)
		w.wrote("one that is away is left in peace", "b")
		w.stores["b"].mu.Lock()
		w.stores["b"].hang = nil
		w.stores["b"].mu.Unlock()
		w.edit(func() { delete(w.away, "b") })
		w.pass(time.Second)
		w.wrote("when it is back, it gets what is wanted by then", "b", imported...)
	})
}

// message is what the export of a member says of being ready.
func (w *world) message(member string) string {
	all, _, _ := unstructured.NestedSlice(w.stores[member].get(imports.ExportResource, "shop", "web").Object, "status", "conditions")
	for _, entry := range all {
		if c, _ := entry.(map[string]any); c["type"] == "Ready" {
			return fmt.Sprint(c["status"], " ", c["message"])
		}
	}
	return ""
}

func TestForeignImport(t *testing.T) {
	inWorld(t, func(w *world) {
		w.stores["b"].put(imports.ImportResource, `{"apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceImport","metadata":{"namespace":"shop","name":"web"},"spec":{"type":"ClusterSetIP","ports":[]}}`)
		w.start()
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		w.pass(time.Second)
		w.wrote("what somebody else made is left alone", "b")
		if got := w.message("a"); !strings.HasPrefix(got, "True") || !strings.Contains(got, "not imported in b: the ServiceImport there was not made by Hansa") {
			t.Errorf("the export says %q", got)
		}
		w.stores["b"].drop(imports.ImportResource, "shop", "web")
		w.pass(time.Second)
		w.wrote("once it is gone, the service is imported", "b", imported...)
		if got := w.message("a"); strings.Contains(got, "not imported") {
			t.Errorf("the export still says %q", got)
		}
	})
}

func TestForbidden(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.stores["b"]
		b.forbid = map[schema.GroupVersionResource]bool{imports.SliceResource: true}
		w.start()
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		w.wrote("a member that was joined before there were imports gets none", "b")
		if got := w.message("a"); !strings.Contains(got, "not imported in b: the hub may not read endpointslices there; join the cluster again") {
			t.Errorf("the export says %q", got)
		}
		b.mu.Lock()
		b.forbid = nil
		b.mu.Unlock()
		w.pass(time.Minute)
		w.wrote("joined again, it gets them", "b", imported...)
		if got := w.message("a"); strings.Contains(got, "not imported") {
			t.Errorf("the export still says %q", got)
		}
	})
}

func TestRefusedFamily(t *testing.T) {
	inWorld(t, func(w *world) {
		w.stores["b"].refuse = func(verb string, resource schema.GroupVersionResource, object *unstructured.Unstructured) error {
			if verb == "create" && resource == imports.ServiceResource {
				return invalid("Service", object.GetName(), "not configured on this cluster")
			}
			return nil
		}
		w.start()
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		got := conditions(w.stores["b"].get(imports.ImportResource, "shop", "web"))
		if diff := cmp.Diff([]string{"Ready=False IPFamilyNotSupported"}, got); diff != "" {
			t.Errorf("a cluster without the family says so (-want +got):\n%s", diff)
		}
		w.wrote("", "b", "create endpointslices", "create serviceimports", "updateStatus serviceimports")
		w.pass(10 * time.Minute)
		w.wrote("asking again now and then is no write", "b")
		w.stores["b"].mu.Lock()
		w.stores["b"].refuse = nil
		w.stores["b"].mu.Unlock()
		w.pass(2 * time.Minute)
		w.wrote("and finds out when it was given one", "b", "create services", "update serviceimports", "updateStatus serviceimports")
	})
}

func TestRetries(t *testing.T) {
	tests := map[string]struct {
		reason string
		err    error
	}{
		"Trouble":   {"an API server in trouble", apierrors.NewInternalError(errors.New("trouble"))},
		"Conflict":  {"a change in between", apierrors.NewConflict(schema.GroupResource{}, "web", errors.New("changed"))},
		"Forbidden": {"rights that come later", apierrors.NewForbidden(schema.GroupResource{}, "web", errors.New("no"))},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				left := 5
				w.stores["b"].refuse = func(string, schema.GroupVersionResource, *unstructured.Unstructured) error {
					if left--; left >= 0 {
						return tc.err
					}
					return nil
				}
				w.start()
				w.export("a", 1, properties(), "10.0.0.1")
				w.publish()
				w.pass(time.Minute)
				w.wrote(tc.reason, "b", imported...)
			})
		})
	}
}

func TestOutOfStep(t *testing.T) {
	inWorld(t, func(w *world) {
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		w.start()
		w.wrote("", "b", imported...)
		w.shut()

		// A hub that starts anew and cannot reach a, of which nothing was kept, knows no more of the export.
		w.builder = clusterset.NewBuilder(1)
		facts(w.builder, "id-b@n")
		w.builder.SetCluster(clusterset.Cluster{ID: "id-a", ControlPlane: clusterset.Down})
		w.latest = clusterset.NewLatest(w.builder.Publish())
		w.mu.Lock()
		w.away["a"] = true
		w.mu.Unlock()
		w.start()
		w.wrote("what came from a cluster that the hub does not reach stays", "b")
		facts(w.builder, "id-a@n")
		w.edit(func() { delete(w.away, "a") })
		w.publish()
		w.wrote("once the hub has read it, and there is no export, it goes", "b", "delete serviceimports")
	})
}

func TestCredentialsChange(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		w.stores["b"].written()
		w.edit(func() { w.revision = "2" })
		w.pass(time.Second)
		w.wrote("other credentials are no reason to write", "b")
		w.export("a", 1, properties(), "10.0.0.2")
		w.publish()
		w.wrote("and the work goes on with them", "b", "update endpointslices")
		w.edit(func() { w.members = w.members[:1] })
		w.export("a", 1, properties(), "10.0.0.3")
		w.publish()
		w.wrote("a member that was unjoined keeps what it has", "b")
	})
}
