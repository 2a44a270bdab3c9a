package sync

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	corev1a1 "sigs.k8s.io/kubefed/pkg/apis/core/v1alpha1"

	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/status"
)

// versionStore returns where the versions of a type are kept: PropagatedVersions beside federated objects that have
// namespaces, ClusterPropagatedVersions else.
func (h *Host) versionStore(k kind) (*cluster.Watch, schema.GroupVersionResource, string) {
	if k.versioned {
		return h.versions, versionsResource, "PropagatedVersion"
	}
	return h.clusterVersions, clusterVersionsResource, "ClusterPropagatedVersion"
}

// versionKey is KubeFed's name for the versions of a federated object: <lowercase target kind>-<name>.
func versionKey(k kind, fed types.NamespacedName) types.NamespacedName {
	return types.NamespacedName{Namespace: fed.Namespace, Name: strings.ToLower(k.target.GVK.Kind) + "-" + fed.Name}
}

// recorded returns the version that stands recorded for one cluster, "" when there is none for the given template and
// overrides.
func (h *Host) recorded(k kind, fed types.NamespacedName, current hashes, member string) string {
	store, _, _ := h.versionStore(k)
	stored := store.Get(versionKey(k, fed))
	if stored == nil {
		return ""
	}
	content := versionsOf(stored)
	if content.TemplateVersion != current.template || content.OverrideVersion != current.overrides {
		return ""
	}
	for _, v := range content.ClusterVersions {
		if v.ClusterName == member {
			return v.Version
		}
	}
	return ""
}

func versionsOf(obj *unstructured.Unstructured) (content corev1a1.PropagatedVersionStatus) {
	content.TemplateVersion, _, _ = unstructured.NestedString(obj.Object, "status", "templateVersion")
	content.OverrideVersion, _, _ = unstructured.NestedString(obj.Object, "status", "overridesVersion")
	list, _, _ := unstructured.NestedSlice(obj.Object, "status", "clusterVersions")
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			name, _ := m["clusterName"].(string)
			version, _ := m["version"].(string)
			content.ClusterVersions = append(content.ClusterVersions, corev1a1.ClusterObjectVersion{ClusterName: name, Version: version})
		}
	}
	return content
}

// nextVersions returns what to record: the versions that the placed clusters now have. Clusters that did not answer
// keep what was recorded for the same template and overrides, and have nothing else.
func nextVersions(before corev1a1.PropagatedVersionStatus, v view) corev1a1.PropagatedVersionStatus {
	versions := map[string]string{}
	if before.TemplateVersion == v.hashes.template && before.OverrideVersion == v.hashes.overrides {
		for _, c := range before.ClusterVersions {
			versions[c.ClusterName] = c.Version
		}
	}
	for name, out := range v.outcomes {
		if out.code == status.OK && out.version != "" && out.hashes == v.hashes {
			versions[name] = out.version
		}
	}
	next := corev1a1.PropagatedVersionStatus{TemplateVersion: v.hashes.template, OverrideVersion: v.hashes.overrides}
	for _, name := range v.want.Placed {
		if version, ok := versions[name]; ok {
			next.ClusterVersions = append(next.ClusterVersions, corev1a1.ClusterObjectVersion{ClusterName: name, Version: version})
		}
	}
	return next
}

// record stores the versions that the clusters now have, if they are not stored yet.
func (h *Host) record(ctx context.Context, k kind, fed *unstructured.Unstructured, v view) error {
	store, resource, kindName := h.versionStore(k)
	key := versionKey(k, types.NamespacedName{Namespace: fed.GetNamespace(), Name: fed.GetName()})
	stored := store.Get(key)
	var before corev1a1.PropagatedVersionStatus
	owned := stored != nil && slices.ContainsFunc(stored.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.UID == fed.GetUID() })
	if owned {
		before = versionsOf(stored)
	}
	next := nextVersions(before, v)
	if owned && equality.Semantic.DeepEqual(before, next) || stored == nil && len(next.ClusterVersions) == 0 {
		return nil
	}
	client := scoped(h.Client, resource, key.Namespace)
	if !owned {
		made, err := h.ownVersions(ctx, k, fed, stored, schema.GroupVersionKind{Group: resource.Group, Version: resource.Version, Kind: kindName})
		if err != nil {
			return err
		}
		store.Observe(made)
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{
		"templateVersion": next.TemplateVersion, "overridesVersion": next.OverrideVersion, "clusterVersions": next.ClusterVersions,
	}})
	if err != nil {
		return fmt.Errorf("encoding versions: %w", err)
	}
	answer, err := client.Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("storing the versions of %s in %s %s: %w", k.fedKind.Kind, kindName, key, err)
	}
	store.Observe(answer)
	return nil
}

// ownVersions makes the object that holds versions, owned by the federated object so that it goes with it. One that is
// left of a predecessor of the same name is taken over.
func (h *Host) ownVersions(ctx context.Context, k kind, fed, stored *unstructured.Unstructured, gvk schema.GroupVersionKind) (*unstructured.Unstructured, error) {
	store, resource, _ := h.versionStore(k)
	key := versionKey(k, types.NamespacedName{Namespace: fed.GetNamespace(), Name: fed.GetName()})
	client := scoped(h.Client, resource, key.Namespace)
	owner := []metav1.OwnerReference{{
		APIVersion: k.fedKind.GroupVersion().String(), Kind: k.fedKind.Kind, Name: fed.GetName(), UID: fed.GetUID(),
	}}
	if stored == nil {
		obj := &unstructured.Unstructured{}
		obj.SetGroupVersionKind(gvk)
		obj.SetNamespace(key.Namespace)
		obj.SetName(key.Name)
		obj.SetOwnerReferences(owner)
		made, err := client.Create(ctx, obj, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			if err != nil {
				err = fmt.Errorf("creating %s %s: %w", gvk.Kind, key, err)
			}
			return made, err
		}
	}
	live, err := client.Get(ctx, key.Name, getOptions)
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", gvk.Kind, key, err)
	}
	store.Observe(live.DeepCopy())
	live.SetOwnerReferences(owner)
	made, err := client.Update(ctx, live, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("taking over %s %s: %w", gvk.Kind, key, err)
	}
	return made, nil
}
