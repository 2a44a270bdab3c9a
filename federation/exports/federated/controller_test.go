package federated_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/exports/federated"
)

const hub = "kube-federation-system"

// warnings notes the reasons of events.
type warnings []string

func (w *warnings) Warn(_ runtime.Object, _, reason, _ string) { *w = append(*w, reason) }

// enabled is the FederatedTypeConfig of a type.
func enabled(name, kind string) *corev1b1.FederatedTypeConfig {
	return &corev1b1.FederatedTypeConfig{
		ObjectMeta: metav1.ObjectMeta{Namespace: hub, Name: name},
		Spec: corev1b1.FederatedTypeConfigSpec{
			Propagation:   corev1b1.PropagationEnabled,
			FederatedType: corev1b1.APIResource{Group: exportKind.Group, Version: exportKind.Version, Kind: kind},
		},
	}
}

func services() *corev1b1.FederatedTypeConfig { return enabled("services", "FederatedService") }

func exports() *corev1b1.FederatedTypeConfig {
	return enabled("serviceexports.multicluster.x-k8s.io", "FederatedServiceExport")
}

// world is a host cluster and the controller.
type world struct {
	*testing.T

	host     client.Client
	run      *federated.Controller
	warnings warnings
	watched  []string
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1b1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{"FederatedService", "FederatedServiceExport"} {
		mapper.Add(exportKind.GroupVersion().WithKind(kind), meta.RESTScopeNamespace)
		scheme.AddKnownTypeWithName(exportKind.GroupVersion().WithKind(kind), &unstructured.Unstructured{})
		scheme.AddKnownTypeWithName(exportKind.GroupVersion().WithKind(kind+"List"), &unstructured.UnstructuredList{})
	}
	w := &world{T: t, host: fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(mapper).WithObjects(objects...).Build()}
	w.run = &federated.Controller{Client: w.host, Recorder: &w.warnings, Namespace: hub}
	w.run.Watched(func(services, exports string) { w.watched = append(w.watched, services+" "+exports) })
	return w
}

func (w *world) reconcile(request federated.Request) {
	w.Helper()
	if _, err := w.run.Reconcile(w.Context(), request); err != nil {
		w.Fatal(err)
	}
}

var web = types.NamespacedName{Namespace: "shop", Name: "web"}

// export returns the FederatedServiceExport; nil when there is none.
func (w *world) export() *unstructured.Unstructured {
	w.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(exportKind)
	if err := w.host.Get(w.Context(), web, u); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		w.Fatal(err)
	}
	return u
}

// change reads the FederatedService, changes it and writes it back.
func (w *world) change(how func(*unstructured.Unstructured)) {
	w.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(serviceKind)
	if err := w.host.Get(w.Context(), web, u); err != nil {
		w.Fatal(err)
	}
	how(u)
	if err := w.host.Update(w.Context(), u); err != nil {
		w.Fatal(err)
	}
}

// TestLife tells the story of one export.
func TestLife(t *testing.T) {
	w := newWorld(t, services(), exports(), service(t, exported, `{placement: {clusters: [{name: m1}]}}`))
	one := federated.Request{Service: web}

	w.reconcile(one)
	first := w.export()
	if first == nil {
		t.Fatal("it was not made")
	}
	if placement, _, _ := unstructured.NestedSlice(first.Object, "spec", "placement", "clusters"); len(placement) != 1 {
		t.Errorf("its placement is not the service's: %v", first.Object["spec"])
	}

	w.reconcile(one)
	if again := w.export(); again.GetResourceVersion() != first.GetResourceVersion() {
		t.Error("it was written without need")
	}

	w.change(func(u *unstructured.Unstructured) {
		u.Object["spec"] = map[string]any{"placement": map[string]any{"clusterSelector": map[string]any{}}}
	})
	w.reconcile(one)
	want := map[string]any{"template": map[string]any{}, "placement": map[string]any{"clusterSelector": map[string]any{}}}
	if diff := cmp.Diff(want, w.export().Object["spec"]); diff != "" {
		t.Errorf("it did not follow the placement (-want +got):\n%s", diff)
	}

	w.change(func(u *unstructured.Unstructured) { u.SetAnnotations(nil) })
	w.reconcile(one)
	if w.export() != nil {
		t.Error("it did not go with the annotation")
	}
	if len(w.warnings) > 0 {
		t.Errorf("unexpected events %v", w.warnings)
	}
}

// TestServiceGone deletes the service where no garbage collector runs.
func TestServiceGone(t *testing.T) {
	w := newWorld(t, services(), exports(), service(t, exported, `{}`))
	w.reconcile(federated.Request{Service: web})
	if err := w.host.Delete(t.Context(), service(t, "", `{}`)); err != nil {
		t.Fatal(err)
	}
	w.reconcile(federated.Request{Service: web})
	if w.export() != nil {
		t.Error("the export of a service that is gone stays")
	}
}

// TestNotOurs leaves alone what somebody else made, with and without the annotation.
func TestNotOurs(t *testing.T) {
	theirs := `{apiVersion: types.kubefed.io/v1beta1, kind: FederatedServiceExport, metadata: {namespace: shop, name: web}, spec: {placement: {clusters: [{name: m9}]}}}`
	for metadata, want := range map[string]warnings{exported: {federated.ReasonExportNotOurs}, "": nil} {
		w := newWorld(t, services(), exports(), service(t, metadata, `{}`), object(t, theirs))
		w.reconcile(federated.Request{Service: web})
		if diff := cmp.Diff(object(t, theirs).Object["spec"], w.export().Object["spec"]); diff != "" {
			t.Errorf("it was touched (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, w.warnings); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	}
}

// TestTypes enables types one by one.
func TestTypes(t *testing.T) {
	w := newWorld(t, service(t, exported, `{}`))
	w.reconcile(federated.Request{Types: true})
	if len(w.watched) > 0 {
		t.Errorf("watches %v, whose definitions need not exist", w.watched)
	}

	if err := w.host.Create(t.Context(), services()); err != nil {
		t.Fatal(err)
	}
	w.reconcile(federated.Request{Types: true})
	if diff := cmp.Diff(warnings{federated.ReasonExportsNotEnabled}, w.warnings); diff != "" || w.export() != nil {
		t.Errorf("an event should say how to enable exports (-want +got):\n%s", diff)
	}

	if err := w.host.Create(t.Context(), exports()); err != nil {
		t.Fatal(err)
	}
	w.reconcile(federated.Request{Types: true})
	if w.export() == nil {
		t.Error("services that wait for the type should be exported when it comes")
	}
	if diff := cmp.Diff([]string{"FederatedService ", "FederatedService FederatedServiceExport"}, w.watched); diff != "" {
		t.Errorf("watches (-want +got):\n%s", diff)
	}
}

// TestNotServedYet enables a type whose definition the type engine has not made.
func TestNotServedYet(t *testing.T) {
	w := newWorld(t, services(), enabled("serviceexports.multicluster.x-k8s.io", "FederatedLater"))
	result, err := w.run.Reconcile(t.Context(), federated.Request{Types: true})
	if err != nil || result.RequeueAfter <= 0 || len(w.watched) > 0 {
		t.Errorf("it should look again later: %+v, %v, watches %v", result, err, w.watched)
	}
}

// TestDisabled leaves things as they are while a type is turned off.
func TestDisabled(t *testing.T) {
	off := services()
	off.Spec.Propagation = corev1b1.PropagationDisabled
	w := newWorld(t, off, exports(), service(t, exported, `{}`))
	w.reconcile(federated.Request{Service: web})
	if w.export() != nil || len(w.warnings) > 0 {
		t.Error("a type that is turned off exports nothing")
	}
}

// TestNotClear tells those who write something else than true or false, whether or not exports are enabled.
func TestNotClear(t *testing.T) {
	for value, want := range map[string]warnings{
		"yes": {federated.ReasonExportNotClear}, "True": {federated.ReasonExportNotClear}, "": {federated.ReasonExportNotClear}, "false": nil,
	} {
		for reason, types := range map[string][]client.Object{"enabled": {services(), exports()}, "not enabled": {services()}} {
			w := newWorld(t, append(types, service(t, fmt.Sprintf(", annotations: {hansa.dev/export: %q}", value), `{}`))...)
			w.reconcile(federated.Request{Service: web})
			if diff := cmp.Diff(want, w.warnings); diff != "" || w.export() != nil {
				t.Errorf("%q, exports are %s (-want +got):\n%s", value, reason, diff)
			}
		}
	}
	// One that asked before is not exported any more, and is told.
	w := newWorld(t, services(), exports(), service(t, exported, `{}`))
	w.reconcile(federated.Request{Service: web})
	w.change(func(u *unstructured.Unstructured) { u.SetAnnotations(map[string]string{"hansa.dev/export": "TRUE"}) })
	w.reconcile(federated.Request{Service: web})
	if diff := cmp.Diff(warnings{federated.ReasonExportNotClear}, w.warnings); diff != "" || w.export() != nil {
		t.Errorf("it is not exported any more (-want +got):\n%s", diff)
	}
}

// TestAsking lets pass what asks to be exported or did so; else every change of every service would be read.
func TestAsking(t *testing.T) {
	plain := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	asking := plain.DeepCopy()
	asking.Annotations = map[string]string{"hansa.dev/export": "true"}
	unclear, no := plain.DeepCopy(), plain.DeepCopy()
	unclear.Annotations = map[string]string{"hansa.dev/export": "yes"}
	no.Annotations = map[string]string{"hansa.dev/export": "false"}
	p := federated.Asking()
	type update = event.TypedUpdateEvent[*metav1.PartialObjectMetadata]
	cases := []struct {
		reason    string
		got, want bool
	}{
		{"a new service that asks", p.Create(event.TypedCreateEvent[*metav1.PartialObjectMetadata]{Object: asking}), true},
		{"a new service that does not", p.Create(event.TypedCreateEvent[*metav1.PartialObjectMetadata]{Object: plain}), false},
		{"it begins to ask", p.Update(update{ObjectOld: plain, ObjectNew: asking}), true},
		{"it ends to ask", p.Update(update{ObjectOld: asking, ObjectNew: plain}), true},
		{"it never asked", p.Update(update{ObjectOld: plain, ObjectNew: plain}), false},
		{"a new service that says neither yes nor no", p.Create(event.TypedCreateEvent[*metav1.PartialObjectMetadata]{Object: unclear}), true},
		{"it begins to say neither", p.Update(update{ObjectOld: plain, ObjectNew: unclear}), true},
		{"it was told already", p.Update(update{ObjectOld: unclear, ObjectNew: unclear}), false},
		{"it says no", p.Update(update{ObjectOld: plain, ObjectNew: no}), false},
		{"it asked and is gone", p.Delete(event.TypedDeleteEvent[*metav1.PartialObjectMetadata]{Object: asking}), true},
		{"it is gone and never asked", p.Delete(event.TypedDeleteEvent[*metav1.PartialObjectMetadata]{Object: plain}), false},
	}
	for _, tc := range cases {
		if tc.got != tc.want {
			t.Errorf("%s: got %v", tc.reason, tc.got)
		}
	}
}

// TestOfService leads from an export to the service that it was made for.
func TestOfService(t *testing.T) {
	of := federated.OfService(serviceKind.GroupKind())
	export := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	if got := of(t.Context(), export); got != nil {
		t.Errorf("an export that is not ours leads to %v", got)
	}
	export.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(export, serviceKind)}
	if diff := cmp.Diff([]federated.Request{{Service: web}}, of(t.Context(), export)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
