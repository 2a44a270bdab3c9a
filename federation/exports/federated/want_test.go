package federated_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/federation/exports/federated"
)

var (
	serviceKind = schema.GroupVersionKind{Group: "types.kubefed.io", Version: "v1beta1", Kind: "FederatedService"}
	exportKind  = schema.GroupVersionKind{Group: "types.kubefed.io", Version: "v1beta1", Kind: "FederatedServiceExport"}
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

// service is a FederatedService with more metadata and a spec.
func service(t *testing.T, metadata, spec string) *unstructured.Unstructured {
	t.Helper()
	return object(t, "{apiVersion: types.kubefed.io/v1beta1, kind: FederatedService, metadata: {namespace: shop, name: web, uid: u1"+metadata+"}, spec: "+spec+"}")
}

const (
	exported = `, annotations: {hansa.dev/export: "true"}`
	byOwner  = `ownerReferences: [{apiVersion: types.kubefed.io/v1beta1, kind: FederatedService, name: web, uid: u1, controller: true, blockOwnerDeletion: true}]`
)

func TestWanted(t *testing.T) {
	head := "{apiVersion: types.kubefed.io/v1beta1, kind: FederatedServiceExport, metadata: {namespace: shop, name: web, " + byOwner + "}, spec: "
	cases := []struct{ reason, metadata, spec, want string }{
		{"nobody asked", "", `{}`, ""},
		{"only true means yes", `, annotations: {hansa.dev/export: "yes"}`, `{}`, ""},
		{"what goes is not exported any more", exported + `, deletionTimestamp: "2026-01-01T00:00:00Z"`, `{}`, ""},
		{"no placement places nowhere", exported, `{template: {spec: {ports: []}}}`, head + `{template: {}}}`},
		{"clusters by name", exported, `{placement: {clusters: [{name: m1}, {name: m2}]}}`, head + `{template: {}, placement: {clusters: [{name: m1}, {name: m2}]}}}`},
		{"all clusters; overrides concern the service", exported, `{placement: {clusterSelector: {}}, overrides: [{clusterName: m1}]}`, head + `{template: {}, placement: {clusterSelector: {}}}}`},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			got := federated.Wanted(service(t, tc.metadata, tc.spec), exportKind)
			var want *unstructured.Unstructured
			if tc.want != "" {
				want = object(t, tc.want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAdjusted(t *testing.T) {
	wanted := federated.Wanted(service(t, exported, `{placement: {clusters: [{name: m1}]}}`), exportKind)
	live := func(refs, spec string) *unstructured.Unstructured {
		return object(t, "{apiVersion: types.kubefed.io/v1beta1, kind: FederatedServiceExport, metadata: {namespace: shop, name: web, finalizers: [kubefed.io/sync-controller], "+refs+"}, spec: "+spec+"}")
	}
	cases := []struct {
		reason           string
		live, want       *unstructured.Unstructured
		changed, isOwned bool
	}{
		{"nothing to do", live(byOwner, `{template: {}, placement: {clusters: [{name: m1}]}}`), live(byOwner, `{template: {}, placement: {clusters: [{name: m1}]}}`), false, true},
		{
			"people's overrides stay", live(byOwner, `{template: {spec: {exportedLabels: {a: b}}}, placement: {clusterSelector: {}}, overrides: [{clusterName: m1}]}`),
			live(byOwner, `{template: {spec: {exportedLabels: {a: b}}}, placement: {clusters: [{name: m1}]}, overrides: [{clusterName: m1}]}`), true, true,
		},
		{
			"an earlier service of the name, and another owner",
			live(`ownerReferences: [{apiVersion: types.kubefed.io/v1beta1, kind: FederatedService, name: web, uid: u0, controller: true}, {apiVersion: v1, kind: ConfigMap, name: c, uid: u9}]`, `{}`),
			live(byOwner[:len(byOwner)-1]+`, {apiVersion: v1, kind: ConfigMap, name: c, uid: u9}]`, `{placement: {clusters: [{name: m1}]}}`), true, true,
		},
		{"no owner", live("labels: {}", `{}`), nil, false, false},
		{"an owner that is not the controller", live(`ownerReferences: [{apiVersion: types.kubefed.io/v1beta1, kind: FederatedService, name: web, uid: u1}]`, `{}`), nil, false, false},
		{"another service", live(`ownerReferences: [{apiVersion: types.kubefed.io/v1beta1, kind: FederatedService, name: other, uid: u1, controller: true}]`, `{}`), nil, false, false},
		{"another group", live(`ownerReferences: [{apiVersion: example.com/v1, kind: FederatedService, name: web, uid: u1, controller: true}]`, `{}`), nil, false, false},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			if owned := federated.Owned(tc.live, serviceKind.GroupKind()); owned != tc.isOwned {
				t.Fatalf("owned: %v", owned)
			}
			if tc.want == nil {
				return
			}
			got, changed := federated.Adjusted(tc.live, wanted)
			if diff := cmp.Diff(tc.want, got); diff != "" || changed != tc.changed {
				t.Errorf("changed: %v (-want +got):\n%s", changed, diff)
			}
		})
	}
}
