package sync_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	clientfeatures "k8s.io/client-go/features"
	clientfeaturestesting "k8s.io/client-go/features/testing"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/federation/cluster"
	fedsync "github.com/hansa-dev/hansa/federation/sync"
)

// noMembers is a registry without members, which may not know yet that there are none.
type noMembers struct{ known, changed chan struct{} }

func (n noMembers) Current() ([]*cluster.Member, <-chan struct{}) { return nil, n.changed }
func (n noMembers) Complete() <-chan struct{}                     { return n.known }

type mute struct{}

func (mute) Warn(runtime.Object, string, string, string) {}

// The tests here are about what a hub must not do before it knows enough, so a store that notes its writes will do for
// the host; what it does with real API servers is told in e2e/scenarios.
func host(t *testing.T, members fedsync.Members, objects ...string) (*fedsync.Host, *fake.FakeDynamicClient) {
	t.Helper()
	kinds := map[schema.GroupVersionResource]string{
		{Group: "types.kubefed.io", Version: "v1beta1", Resource: "federatedthings"}:           "FederatedThingList",
		{Group: "core.kubefed.io", Version: "v1alpha1", Resource: "propagatedversions"}:        "PropagatedVersionList",
		{Group: "core.kubefed.io", Version: "v1alpha1", Resource: "clusterpropagatedversions"}: "ClusterPropagatedVersionList",
		{Version: "v1", Resource: "namespaces"}:                                                "NamespaceList",
	}
	stored := make([]runtime.Object, 0, len(objects))
	for _, text := range objects {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &obj.Object); err != nil {
			t.Fatal(err)
		}
		stored = append(stored, obj)
	}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds, stored...)
	return fedsync.NewHost(&fedsync.Host{Client: client, Members: members, Recorder: mute{}, Log: logr.Discard(), Namespace: "hub"}), client
}

func things(scope apiextv1.ResourceScope) *corev1b1.FederatedTypeConfig {
	return &corev1b1.FederatedTypeConfig{ObjectMeta: metav1.ObjectMeta{Name: "things"}, Spec: corev1b1.FederatedTypeConfigSpec{
		TargetType:    corev1b1.APIResource{Group: "x.io", Version: "v1", Kind: "Thing", PluralName: "things", Scope: scope},
		FederatedType: corev1b1.APIResource{Group: "types.kubefed.io", Version: "v1beta1", Kind: "FederatedThing", PluralName: "federatedthings", Scope: scope},
		Propagation:   corev1b1.PropagationEnabled,
	}}
}

// run propagates for some seconds of the bubble's time, calling act in between, and returns what was written.
func run(t *testing.T, h *fedsync.Host, tc *corev1b1.FederatedTypeConfig, client *fake.FakeDynamicClient, act func()) (writes []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = h.Run(ctx) })
	running.Go(func() { fedsync.NewReconciler(h, tc, func() {}).Run(ctx) })
	<-time.After(time.Second)
	act()
	<-time.After(time.Second) // less than the patience of the status lane
	cancel()
	running.Wait()
	for _, a := range client.Actions() {
		if !slices.Contains([]string{"get", "list", "watch"}, a.GetVerb()) {
			writes = append(writes, a.GetVerb()+" "+a.GetResource().Resource)
		}
	}
	return writes
}

const placed = `
apiVersion: types.kubefed.io/v1beta1
kind: FederatedThing
metadata: {name: x, uid: u, generation: 2, resourceVersion: "5", finalizers: [kubefed.io/sync-controller]}
spec: {template: {}, placement: {clusters: [{name: m1}]}}
status: {observedGeneration: 2, conditions: [{type: Propagation, status: "True"}], clusters: [{name: m1}]}
`

const leaving = `
apiVersion: types.kubefed.io/v1beta1
kind: FederatedThing
metadata: {name: x, uid: u, generation: 2, resourceVersion: "5", finalizers: [kubefed.io/sync-controller], deletionTimestamp: "2026-01-02T03:04:05Z"}
spec: {template: {}, placement: {clusters: [{name: m1}]}}
`

const inNamespace = `
apiVersion: types.kubefed.io/v1beta1
kind: FederatedThing
metadata: {name: x, namespace: ns, uid: u, generation: 2, resourceVersion: "5", finalizers: [kubefed.io/sync-controller]}
spec: {template: {}, placement: {clusters: [{name: m1}]}}
status: {observedGeneration: 2, conditions: [{type: Propagation, status: "True"}], clusters: [{name: m1}]}
`

func TestReconcilerWaitsUntilMembersAreKnown(t *testing.T) {
	tests := map[string]struct {
		reason  string
		object  string
		scope   apiextv1.ResourceScope
		learned bool
		want    []string
	}{
		"Leaving":       {"a federated object in deletion keeps its finalizer while its members are not known", leaving, apiextv1.ClusterScoped, false, nil},
		"Placed":        {"what was recorded of members that are not known yet stays", placed, apiextv1.ClusterScoped, false, nil},
		"NoNamespaces":  {"while the type namespaces does not run, nothing is said of placement at once", inNamespace, apiextv1.NamespaceScoped, true, nil},
		"LeavingNobody": {"once it is known that there is no such member, nothing holds it", leaving, apiextv1.ClusterScoped, true, []string{"update federatedthings"}},
		"PlacedNowhere": {"and a status says that it is nowhere", placed, apiextv1.ClusterScoped, true, []string{"update federatedthings"}},
	}
	clientfeaturestesting.SetFeatureDuringTest(t, clientfeatures.WatchListClient, false) // the store cannot stream lists
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				members := noMembers{known: make(chan struct{}), changed: make(chan struct{})}
				h, client := host(t, members, tt.object)
				writes := run(t, h, things(tt.scope), client, func() {
					if tt.learned {
						close(members.known)
					}
				})
				if diff := cmp.Diff(tt.want, writes); diff != "" {
					t.Errorf("%s: writes to the host: -want +got:\n%s", tt.reason, diff)
				}
			})
		})
	}
}
