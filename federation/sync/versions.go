package sync

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	corev1a1 "sigs.k8s.io/kubefed/pkg/apis/core/v1alpha1"

	"github.com/hansa-dev/hansa/federation/status"
)

// versionPage is how many recorded versions are read at a time.
const versionPage = 1000

// versionStore holds what PropagatedVersions or ClusterPropagatedVersions say. The leading hub is their only writer, so
// they are listed once, when it starts to lead, and not watched: each would come back as two events.
type versionStore struct {
	client    dynamic.Interface
	gvk       schema.GroupVersionKind
	resource  schema.GroupVersionResource
	namespace string // to list; empty means all

	mu     sync.RWMutex
	items  map[types.NamespacedName]recorded
	listed bool
	err    error // of the last list
}

// recorded is the content of one object of a versionStore.
type recorded struct {
	owner           types.UID // of the federated object
	resourceVersion string
	status          corev1a1.PropagatedVersionStatus
}

func newVersionStore(client dynamic.Interface, kind, resource, namespace string) *versionStore {
	return &versionStore{
		client:    client,
		gvk:       corev1a1.SchemeGroupVersion.WithKind(kind),
		resource:  corev1a1.SchemeGroupVersion.WithResource(resource),
		namespace: namespace,
		items:     map[types.NamespacedName]recorded{},
	}
}

// load lists until that succeeds or ctx ends.
func (s *versionStore) load(ctx context.Context) {
	for pause := retryFirst; ctx.Err() == nil; pause = min(2*pause, retryMax) {
		err := s.list(ctx)
		s.mu.Lock()
		s.listed, s.err = err == nil, err
		s.mu.Unlock()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (s *versionStore) list(ctx context.Context) error {
	options := metav1.ListOptions{Limit: versionPage}
	for {
		page, err := scoped(s.client, s.resource, s.namespace).List(ctx, options)
		if err != nil {
			return fmt.Errorf("listing %s: %w", s.resource.Resource, err)
		}
		for i := range page.Items {
			s.put(&page.Items[i])
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}

// synced reports whether the store is complete; else why not.
func (s *versionStore) synced() (bool, string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.listed:
		return true, ""
	case s.err != nil:
		return false, s.err.Error()
	}
	return false, s.resource.Resource + " are being listed"
}

func (s *versionStore) get(key types.NamespacedName) (recorded, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.items[key]
	return r, ok
}

func (s *versionStore) put(obj *unstructured.Unstructured) {
	r := recorded{resourceVersion: obj.GetResourceVersion()}
	if owners := obj.GetOwnerReferences(); len(owners) > 0 {
		r.owner = owners[0].UID
	}
	if content, ok := obj.Object["status"].(map[string]any); ok {
		// Fields of another shape than the API's are as good as none: the versions are recorded anew.
		_ = runtime.DefaultUnstructuredConverter.FromUnstructured(content, &r.status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items[types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}] = r
}

func (s *versionStore) drop(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items, key)
}

// versionStore returns where the versions of a type are kept: PropagatedVersions beside federated objects that have
// namespaces, ClusterPropagatedVersions else.
func (h *Host) versionStore(k kind) *versionStore {
	if k.versioned {
		return h.versions
	}
	return h.clusterVersions
}

// versionKey is KubeFed's name for the versions of a federated object: <lowercase target kind>-<name>.
func versionKey(k kind, fed types.NamespacedName) types.NamespacedName {
	return types.NamespacedName{Namespace: fed.Namespace, Name: strings.ToLower(k.target.GVK.Kind) + "-" + fed.Name}
}

// recorded returns the version that stands recorded for one cluster, "" when there is none for the given template and
// overrides.
func (h *Host) recorded(k kind, fed types.NamespacedName, current hashes, member string) string {
	stored, _ := h.versionStore(k).get(versionKey(k, fed))
	if stored.status.TemplateVersion != current.template || stored.status.OverrideVersion != current.overrides {
		return ""
	}
	for _, v := range stored.status.ClusterVersions {
		if v.ClusterName == member {
			return v.Version
		}
	}
	return ""
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
	store := h.versionStore(k)
	key := versionKey(k, types.NamespacedName{Namespace: fed.GetNamespace(), Name: fed.GetName()})
	stored, exists := store.get(key)
	owned := exists && stored.owner == fed.GetUID()
	var before corev1a1.PropagatedVersionStatus
	if owned {
		before = stored.status
	}
	next := nextVersions(before, v)
	if owned && equality.Semantic.DeepEqual(before, next) || !exists && len(next.ClusterVersions) == 0 {
		return nil
	}
	if !owned {
		if err := store.own(ctx, k, fed, key, exists); err != nil {
			return err
		}
		stored, _ = store.get(key)
	}
	return store.write(ctx, key, stored.resourceVersion, next)
}

// write stores the versions of one federated object in its status subresource.
func (s *versionStore) write(ctx context.Context, key types.NamespacedName, resourceVersion string, next corev1a1.PropagatedVersionStatus) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&next)
	if err != nil {
		return fmt.Errorf("encoding versions: %w", err)
	}
	obj := s.object(key)
	obj.SetResourceVersion(resourceVersion)
	obj.Object["status"] = content
	client := scoped(s.client, s.resource, key.Namespace)
	answer, err := client.UpdateStatus(ctx, obj, metav1.UpdateOptions{})
	switch {
	case err == nil:
		s.put(answer)
		return nil
	case apierrors.IsNotFound(err): // somebody removed it: the next try makes another
		s.drop(key)
	case apierrors.IsConflict(err): // somebody changed it: the next try starts from there
		if live, readErr := client.Get(ctx, key.Name, getOptions); readErr == nil {
			s.put(live)
		}
	}
	return fmt.Errorf("storing versions in %s %s: %w", s.gvk.Kind, key, err)
}

func (s *versionStore) object(key types.NamespacedName) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(s.gvk)
	obj.SetNamespace(key.Namespace)
	obj.SetName(key.Name)
	return obj
}

// own makes the object that holds the versions of a federated object, owned by it so that it goes with it. One that is
// left of a predecessor of the same name is taken over.
func (s *versionStore) own(ctx context.Context, k kind, fed *unstructured.Unstructured, key types.NamespacedName, exists bool) error {
	client := scoped(s.client, s.resource, key.Namespace)
	owner := []metav1.OwnerReference{{
		APIVersion: k.fedKind.GroupVersion().String(), Kind: k.fedKind.Kind, Name: fed.GetName(), UID: fed.GetUID(),
	}}
	if !exists {
		obj := s.object(key)
		obj.SetOwnerReferences(owner)
		made, err := client.Create(ctx, obj, metav1.CreateOptions{})
		if err == nil {
			s.put(made)
			return nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating %s %s: %w", s.gvk.Kind, key, err)
		}
	}
	live, err := client.Get(ctx, key.Name, getOptions)
	if apierrors.IsNotFound(err) {
		s.drop(key) // it went with its owner: the next try makes another
	}
	if err != nil {
		return fmt.Errorf("reading %s %s: %w", s.gvk.Kind, key, err)
	}
	if !slices.ContainsFunc(live.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.UID == fed.GetUID() }) {
		live.SetOwnerReferences(owner)
		if live, err = client.Update(ctx, live, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("taking over %s %s: %w", s.gvk.Kind, key, err)
		}
	}
	s.put(live)
	return nil
}
