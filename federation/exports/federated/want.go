// Package federated exports federated services. A FederatedService with the annotation hansa.dev/export: "true" gets a
// FederatedServiceExport of the same name and placement, which the type engine carries to the members like any other
// federated object: the service is exported from where it runs.
//
// The FederatedServiceExport is owned by the FederatedService. It goes when the annotation goes, or the service. One that
// somebody else made is never touched. "false" says no, and of any other value an event tells that it says nothing.
package federated

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/hansa-dev/hansa/federation/api"
)

// Wanted returns the FederatedServiceExport (of the given kind) for a FederatedService, or nil when the service is not
// to be exported: it does not say so, or is being deleted. It shares nothing with the service.
func Wanted(service *unstructured.Unstructured, kind schema.GroupVersionKind) *unstructured.Unstructured {
	if !asks(service) || service.GetDeletionTimestamp() != nil {
		return nil
	}
	spec := map[string]any{"template": map[string]any{}}
	if placement, ok, err := unstructured.NestedFieldNoCopy(service.Object, "spec", "placement"); ok && err == nil {
		spec["placement"] = runtime.DeepCopyJSONValue(placement)
	}
	export := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	export.SetGroupVersionKind(kind)
	export.SetNamespace(service.GetNamespace())
	export.SetName(service.GetName())
	export.SetOwnerReferences([]metav1.OwnerReference{owner(service)})
	return export
}

// Adjusted returns the live FederatedServiceExport with the owner and the placement of the wanted one, and whether that
// is a change. What else people wrote into it, overrides for example, stays.
func Adjusted(live, wanted *unstructured.Unstructured) (*unstructured.Unstructured, bool) {
	next := live.DeepCopy()
	refs := slices.DeleteFunc(next.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.Controller != nil && *ref.Controller })
	next.SetOwnerReferences(append(wanted.GetOwnerReferences(), refs...))
	placement, ok, _ := unstructured.NestedFieldCopy(wanted.Object, "spec", "placement")
	spec, _, _ := unstructured.NestedMap(next.Object, "spec")
	if spec == nil {
		spec = map[string]any{"template": map[string]any{}}
	}
	delete(spec, "placement")
	if ok {
		spec["placement"] = placement
	}
	next.Object["spec"] = spec
	return next, !equality.Semantic.DeepEqual(live.Object, next.Object)
}

// Owned tells whether the FederatedServiceExport was made for the FederatedService of its own name. One made for an
// earlier service of that name counts too, so that it is taken over instead of made anew.
func Owned(export metav1.Object, service schema.GroupKind) bool {
	ref := metav1.GetControllerOf(export)
	if ref == nil || ref.Kind != service.Kind || ref.Name != export.GetName() {
		return false
	}
	version, err := schema.ParseGroupVersion(ref.APIVersion)
	return err == nil && version.Group == service.Group
}

func owner(service *unstructured.Unstructured) metav1.OwnerReference {
	return *metav1.NewControllerRef(service, service.GroupVersionKind())
}

// mumbles tells whether an object has the annotation with a value that says neither yes nor no.
func mumbles(object metav1.Object) bool {
	value, found := object.GetAnnotations()[api.ExportAnnotation]
	return found && value != "true" && value != "false"
}

// asks tells whether an object asks to be exported.
func asks(object metav1.Object) bool { return object.GetAnnotations()[api.ExportAnnotation] == "true" }
