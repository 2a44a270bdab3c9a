package sync

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/status"
	"github.com/hansa-dev/hansa/federation/sync/plan"
	"github.com/hansa-dev/hansa/overrides"
	"github.com/hansa-dev/hansa/placement"
)

// source is what want was computed from, to tell a change that matters from the echo of our own writes.
type source struct {
	uid         types.UID
	generation  int64
	deleting    bool
	annotations map[string]string
}

func (s source) equal(o source) bool {
	return s.uid == o.uid && s.generation == o.generation && s.deleting == o.deleting && maps.Equal(s.annotations, o.annotations)
}

// wanted computes the plan's input from a federated object. known is false when its placement cannot be told now: its
// objects stay as they are then.
func (r *Reconciler) wanted(key types.NamespacedName, fed *unstructured.Unstructured) (want *plan.Want, reason status.Reason, known bool) {
	placed, reason, known := r.place(fed, key)
	if !known {
		return nil, reason, false
	}
	want = &plan.Want{
		Target: r.kind.target, Object: fed.Object, Name: key.Name, Namespace: key.Namespace,
		Placed: placed, Adopt: r.host.Settings.Adopt, Mode: plan.Sync,
	}
	if r.kind.target.IsNamespace() {
		// A FederatedNamespace lives in that namespace: a watch that does not show it is behind, and without its UID
		// it could not be told from a member's.
		host := r.host.namespaces.Get(types.NamespacedName{Name: key.Name})
		if host == nil {
			return nil, status.Success, false
		}
		want.HostNamespaceUID = host.GetUID()
	}
	want.Overrides, want.OverridesError = overrides.Parse(fed.Object)
	if fed.GetDeletionTimestamp() != nil {
		r.withdraw(key, want, fed)
	}
	return want, reason, true
}

// place applies placement and, for namespaced targets, the intersection with the FederatedNamespace.
func (r *Reconciler) place(fed *unstructured.Unstructured, key types.NamespacedName) (placed []string, reason status.Reason, known bool) {
	r.mu.Lock()
	clusters := r.placing
	r.mu.Unlock()
	deleting := fed.GetDeletionTimestamp() != nil
	own, err := placement.Parse(fed.Object)
	if err != nil {
		r.warn(key, fed, "placement", string(status.ComputePlacementFailed), err.Error())
		return nil, status.ComputePlacementFailed, deleting
	}
	placed = own.Select(clusters)
	if deleting {
		return placed, status.Success, true
	}
	if unknown := own.Unknown(clusters); len(unknown) > 0 {
		r.warn(key, fed, "placement", "UnknownCluster", fmt.Sprintf(
			"spec.placement.clusters names %s, which no KubeFedCluster in namespace %q is called; join it or correct the name.", strings.Join(unknown, ", "), r.host.Namespace))
	}
	if !r.kind.target.Namespaced {
		return placed, status.Success, true
	}
	namespace, known := r.host.federatedNamespace(key.Namespace)
	switch {
	case namespace == nil && r.host.Settings.Limited:
		return placed, status.Success, true // the one namespace exists everywhere by definition
	case namespace == nil:
		return nil, status.NamespaceNotFederated, known
	}
	outer, err := placement.Parse(namespace.Object)
	if err != nil {
		r.warn(key, fed, "placement", string(status.ComputePlacementFailed), fmt.Sprintf("FederatedNamespace %q: %v", key.Namespace, err))
		return nil, status.ComputePlacementFailed, false
	}
	return placement.Intersect(placed, outer.Select(clusters)), status.Success, true
}

// withdraw turns want into the removal of a federated object that is being deleted.
func (r *Reconciler) withdraw(key types.NamespacedName, want *plan.Want, fed *unstructured.Unstructured) {
	annotations := fed.GetAnnotations()
	want.Mode = plan.Remove
	if annotations[api.OrphanAnnotation] == "true" {
		want.Mode = plan.Orphan
	}
	if text, ok := annotations[api.DeleteOptionAnnotation]; ok {
		if err := json.Unmarshal([]byte(text), &want.DeleteOptions); err != nil {
			r.warn(key, fed, "deleteoption", "InvalidDeleteOptions", fmt.Sprintf("The annotation %s is not metav1.DeleteOptions as JSON (%v); objects are deleted with default options.", api.DeleteOptionAnnotation, err))
		}
	}
}

func sourceOf(fed *unstructured.Unstructured) source {
	return source{
		uid:         fed.GetUID(),
		generation:  fed.GetGeneration(),
		deleting:    fed.GetDeletionTimestamp() != nil,
		annotations: fed.GetAnnotations(),
	}
}

// hashesOf returns KubeFed's versions of template and overrides. What cannot be hashed has none, and is refused with a
// reason when the object is computed.
func hashesOf(object map[string]any) (h hashes) {
	var err error
	if h.template, err = plan.TemplateVersion(object); err != nil {
		h.template = ""
	}
	if h.overrides, err = overrides.Version(object); err != nil {
		h.overrides = ""
	}
	return h
}
