package cluster_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/hansa-dev/hansa/federation/cluster"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// story drives the store of a watch as a reflector does and notes whom the watch tells.
type story struct {
	t      *testing.T
	watch  *cluster.Watch
	told   []string
	moves  int
	births int
}

// either tells a story twice: of a watch that keeps objects, and of one that keeps them as text.
func either(t *testing.T, tell func(*testing.T, *story)) {
	t.Helper()
	for name, pack := range map[string]bool{"objects": false, "text": true} {
		t.Run(name, func(t *testing.T) { tell(t, begin(t, pack)) })
	}
}

func begin(t *testing.T, pack bool) *story {
	t.Helper()
	client, err := dynamic.NewForConfig(&rest.Config{Host: "https://127.0.0.1:1"}) // never dialled
	if err != nil {
		t.Fatal(err)
	}
	s := &story{t: t}
	s.watch = cluster.NewWatch(client, cluster.WatchOptions{
		Resource: configMaps, Pack: pack,
		Changed: func(key types.NamespacedName) { s.told = append(s.told, key.Name) },
		Moved:   func() { s.moves++ },
		Reborn:  func() { s.births++ },
	})
	return s
}

func object(name, uid string, version int) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{
			"namespace": "ns", "name": name, "uid": uid, "resourceVersion": strconv.Itoa(version),
			"managedFields": []any{map[string]any{"manager": "someone"}},
		},
	}}
}

func (s *story) list(version int, objects ...*unstructured.Unstructured) {
	s.t.Helper()
	items := make([]any, 0, len(objects))
	for _, o := range objects {
		items = append(items, o)
	}
	if err := s.watch.Store().Replace(items, strconv.Itoa(version)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) event(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// holds checks the versions held, as name=version, and forgets whom the watch told so far after checking that too.
func (s *story) holds(reason string, told []string, want ...string) {
	s.t.Helper()
	var got []string
	for _, key := range s.watch.Keys() {
		got = append(got, key.Name+"="+s.watch.Get(key).GetResourceVersion())
	}
	slices.Sort(got)
	slices.Sort(s.told)
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("%s: contents: -want +got:\n%s", reason, diff)
	}
	if diff := cmp.Diff(told, s.told); diff != "" {
		s.t.Errorf("%s: told of: -want +got:\n%s", reason, diff)
	}
	s.told = nil
}

func TestWatchFollowsItsReflector(t *testing.T) { either(t, watchFollowsItsReflector) }

func watchFollowsItsReflector(t *testing.T, s *story) {
	t.Helper()
	if s.watch.Synced() {
		t.Error("a watch that has not listed is not synced")
	}
	s.list(10, object("a", "1", 5), object("b", "2", 6))
	s.holds("the first list tells of everything", []string{"a", "b"}, "a=5", "b=6")
	if state, _ := s.watch.State(); state != cluster.WatchRunning || !s.watch.Synced() || s.moves != 1 {
		t.Errorf("after a list the watch runs: state %s, moves %d", state, s.moves)
	}
	if _, found, _ := unstructured.NestedSlice(s.watch.Get(types.NamespacedName{Namespace: "ns", Name: "a"}).Object, "metadata", "managedFields"); found {
		t.Error("managedFields are not kept")
	}
	s.event(s.watch.Store().Update(object("a", "1", 11)))
	s.holds("a change is told of", []string{"a"}, "a=11", "b=6")
	s.event(s.watch.Store().Delete(object("b", "2", 12)))
	s.holds("so is a removal", []string{"b"}, "a=11")
	s.list(20, object("a", "1", 11), object("c", "3", 15))
	s.holds("a second list tells of differences only", []string{"c"}, "a=11", "c=15")
}

func TestWatchObservesOwnWrites(t *testing.T) { either(t, watchObservesOwnWrites) }

func watchObservesOwnWrites(t *testing.T, s *story) {
	t.Helper()
	s.list(10, object("a", "1", 5))
	s.holds("listed", []string{"a"}, "a=5")

	s.watch.Observe(object("a", "1", 12))
	s.holds("the answer to a write counts at once and is news to nobody", nil, "a=12")
	s.event(s.watch.Store().Update(object("a", "1", 11)))
	s.holds("an event from before the write is old news", nil, "a=12")
	s.event(s.watch.Store().Update(object("a", "1", 12)))
	s.holds("the echo of the write is no news", nil, "a=12")
	s.event(s.watch.Store().Update(object("a", "1", 13)))
	s.holds("what comes after it is", []string{"a"}, "a=13")

	s.event(s.watch.Store().Add(object("gone", "7", 14)))
	s.event(s.watch.Store().Delete(object("gone", "7", 15)))
	s.watch.Observe(object("gone", "7", 14))
	s.holds("an answer that comes after the watch saw the object go does not bring it back", []string{"gone", "gone"}, "a=13")

	s.watch.Observe(object("b", "2", 16))
	s.list(15, object("a", "1", 13))
	s.holds("a list taken before a create does not undo it", nil, "a=13", "b=16")
	s.event(s.watch.Store().Delete(object("b", "older", 9)))
	s.holds("the removal of a predecessor does not touch its successor", []string{"b"}, "a=13", "b=16")
	s.list(18, object("a", "1", 13))
	s.holds("a list taken after it does", []string{"b"}, "a=13")
}

func TestWatchOfARebuiltCluster(t *testing.T) { either(t, watchOfARebuiltCluster) }

func watchOfARebuiltCluster(t *testing.T, s *story) {
	t.Helper()
	s.list(1000, object("a", "1", 900), object("b", "2", 950))
	s.holds("listed", []string{"a", "b"}, "a=900", "b=950")
	s.list(20, object("a", "9", 15))
	s.holds("versions that went back mean another life: nothing of the old one stays", []string{"a", "a", "b"}, "a=15")
	if s.births != 1 {
		t.Errorf("a rebirth is told of once: got %d", s.births)
	}
	s.event(s.watch.Store().Update(object("a", "9", 5000)))
	s.holds("life goes on", []string{"a"}, "a=5000")
	s.list(3000, object("a", "9", 2500))
	s.holds("a restore to after the last list is noticed too", []string{"a", "a"}, "a=2500")
	s.event(s.watch.Store().Update(object("a", "9", 3100)))
	s.holds("and events of the new life count", []string{"a"}, "a=3100")
}

func TestWatchFailures(t *testing.T) {
	resource := configMaps.GroupResource()
	tests := map[string]struct {
		reason string
		err    error
		state  cluster.WatchState
		keeps  bool
	}{
		"Forbidden":    {"RBAC refuses", apierrors.NewForbidden(resource, "", errors.New("no")), cluster.WatchForbidden, true},
		"Unauthorized": {"the token is refused", apierrors.NewUnauthorized("no"), cluster.WatchForbidden, true},
		"NotServed":    {"the kind is gone, and its objects with it", apierrors.NewGenericServerResponse(404, "list", resource, "", "the server could not find the requested resource", 0, true), cluster.WatchNotInstalled, false},
		"Unreachable":  {"the cluster is away; what was known stays", errors.New("connection refused"), cluster.WatchUnreachable, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := begin(t, false)
			s.list(10, object("a", "1", 5))
			s.watch.Fail(t.Context(), tt.err)
			state, message := s.watch.State()
			if state != tt.state || message == "" {
				t.Errorf("%s: state %s (%q), want %s", tt.reason, state, message, tt.state)
			}
			if kept := len(s.watch.Keys()) == 1 && s.watch.Synced(); kept != tt.keeps {
				t.Errorf("%s: kept=%v, want %v", tt.reason, kept, tt.keeps)
			}
		})
	}
}

func TestLocate(t *testing.T) {
	node := func(labels ...string) metav1.PartialObjectMetadata {
		m := metav1.PartialObjectMetadata{}
		m.Labels = map[string]string{}
		for i := 0; i < len(labels); i += 2 {
			m.Labels[labels[i]] = labels[i+1]
		}
		return m
	}
	const region, zone, oldRegion = "topology.kubernetes.io/region", "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region"
	tests := map[string]struct {
		reason string
		nodes  []metav1.PartialObjectMetadata
		region string
		zones  []string
	}{
		"None":     {"no nodes, no place", nil, "", nil},
		"Zones":    {"zones are sorted and named once", []metav1.PartialObjectMetadata{node(region, "eu", zone, "b"), node(region, "eu", zone, "a"), node(region, "eu", zone, "b")}, "eu", []string{"a", "b"}},
		"Majority": {"the region of most nodes stands for the cluster", []metav1.PartialObjectMetadata{node(region, "us"), node(region, "eu"), node(region, "us")}, "us", nil},
		"Tie":      {"among equals the first by name", []metav1.PartialObjectMetadata{node(region, "us"), node(region, "eu")}, "eu", nil},
		"Old":      {"old labels count where new ones are missing", []metav1.PartialObjectMetadata{node(oldRegion, "eu")}, "eu", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			region, zones := cluster.Locate(tt.nodes)
			if region != tt.region || !slices.Equal(zones, tt.zones) {
				t.Errorf("%s: got %q %v, want %q %v", tt.reason, region, zones, tt.region, tt.zones)
			}
		})
	}
}

// TestWatchPacks: text gives back what was put in, numbers as the numbers they were, and a copy for everyone who asks.
func TestWatchPacks(t *testing.T) {
	s := begin(t, true)
	given := object("a", "1", 5)
	given.Object["spec"] = map[string]any{"whole": int64(1) << 60, "broken": 1.5, "list": []any{"x", nil, true}}
	want := given.DeepCopy()
	unstructured.RemoveNestedField(want.Object, "metadata", "managedFields")
	s.list(10, given)
	key := types.NamespacedName{Namespace: "ns", Name: "a"}
	got := s.watch.Get(key)
	if diff := cmp.Diff(want.Object, got.Object); diff != "" {
		t.Errorf("-given +got:\n%s", diff)
	}
	got.SetName("another")
	if name := s.watch.Get(key).GetName(); name != "a" {
		t.Errorf("what one reader did to its copy another one sees: %s", name)
	}
	if s.watch.Get(types.NamespacedName{Namespace: "ns", Name: "none"}) != nil {
		t.Error("there is an object that was never listed")
	}
}
