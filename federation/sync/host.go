package sync

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/hansa-dev/hansa/federation/cluster"
)

// Members is where a Reconciler learns which clusters there are. The channel is closed when the list is outdated.
type Members interface {
	Current() ([]*cluster.Member, <-chan struct{})
	// Complete is closed once Current has held every member there is. Until then nothing follows from a member's absence.
	Complete() <-chan struct{}
}

// Recorder tells people about an object, as a Warning event. member names the cluster it is about; it may be empty.
type Recorder interface {
	Warn(object runtime.Object, member, reason, message string)
}

// Settings are what a KubeFedConfig decides for propagation.
type Settings struct {
	// Adopt lets objects that exist already in a member be taken over (syncController.adoptResources).
	Adopt bool
	// Limited is the namespaced control plane (scope: Namespaced): only the hub's namespace is propagated.
	Limited bool
	// Workers is the least number of objects worked on at once per lane.
	Workers int
}

// Host is the host cluster as all types share it: federated namespaces, recorded versions, the hub's namespaces.
type Host struct {
	Client    dynamic.Interface
	Members   Members
	Recorder  Recorder
	Log       logr.Logger
	Namespace string // of the hub
	Settings  Settings

	versions        *versionStore
	clusterVersions *versionStore
	namespaces      *cluster.Watch

	fedNamespaces atomic.Pointer[cluster.Watch] // of the type "namespaces"; nil while that type is not enabled

	mu        sync.Mutex
	listeners map[int]func(namespace string)
	next      int
}

var namespacesResource = corev1.SchemeGroupVersion.WithResource("namespaces")

// Run reads the recorded versions and keeps the shared watch until ctx ends.
func (h *Host) Run(ctx context.Context) error {
	var running sync.WaitGroup
	running.Go(func() { h.namespaces.Run(ctx) })
	running.Go(func() { h.versions.load(ctx) })
	if !h.Settings.Limited {
		running.Go(func() { h.clusterVersions.load(ctx) })
	}
	running.Wait()
	return nil
}

// Start implements a manager's runnable; it is Run.
func (h *Host) Start(ctx context.Context) error { return h.Run(ctx) }

// NewHost completes h, whose exported fields are set, with its watches. Run starts them.
func NewHost(h *Host) *Host {
	scope := ""
	if h.Settings.Limited {
		scope = h.Namespace
	}
	h.listeners = map[int]func(string){}
	h.versions = newVersionStore(h.Client, "PropagatedVersion", "propagatedversions", scope)
	h.clusterVersions = newVersionStore(h.Client, "ClusterPropagatedVersion", "clusterpropagatedversions", "")
	h.namespaces = cluster.NewWatch(h.Client, cluster.WatchOptions{
		Resource: namespacesResource,
		Changed:  func(key types.NamespacedName) { h.tell(key.Name) },
	})
	return h
}

// synced reports whether what the host knows is complete; else what is missing.
func (h *Host) synced() (bool, string) {
	if ok, why := h.versions.synced(); !ok {
		return false, "in the host cluster: " + why
	}
	if h.Settings.Limited { // a namespaced hub may have no rights beyond its namespace
		return true, ""
	}
	if ok, why := h.clusterVersions.synced(); !ok {
		return false, "in the host cluster: " + why
	}
	if !h.namespaces.Synced() {
		state, message := h.namespaces.State()
		return false, fmt.Sprintf("namespaces in the host cluster are not listed (%s): %s", state, message)
	}
	return true, ""
}

// listen calls f whenever the placement of a namespace, or the namespace itself, may have changed.
func (h *Host) listen(f func(namespace string)) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := h.next
	h.next++
	h.listeners[id] = f
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners, id)
	}
}

func (h *Host) tell(namespace string) {
	h.mu.Lock()
	ids := make([]int, 0, len(h.listeners))
	for id := range h.listeners {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	listeners := make([]func(string), 0, len(ids))
	for _, id := range ids {
		listeners = append(listeners, h.listeners[id])
	}
	h.mu.Unlock()
	for _, f := range listeners {
		f(namespace)
	}
}

// federatedNamespace returns the FederatedNamespace of a namespace, nil when there is none or when it is being deleted:
// what it held leaves the members then. known is false while that cannot be told, because the type "namespaces" is not
// running or has not listed: nothing may be removed on such ground.
func (h *Host) federatedNamespace(namespace string) (fed *unstructured.Unstructured, known bool) {
	w := h.fedNamespaces.Load()
	if w == nil {
		return nil, false
	}
	fed, listed, _, _ := w.Look(types.NamespacedName{Namespace: namespace, Name: namespace})
	if !listed {
		return nil, false
	}
	if fed != nil && fed.GetDeletionTimestamp() != nil {
		return nil, true
	}
	return fed, true
}

// systemNamespace reports whether a namespace is never propagated (KubeFed's list, and kube-node-lease, which is newer).
func (h *Host) systemNamespace(name string) bool {
	return slices.Contains([]string{"kube-system", "kube-public", "kube-node-lease", "default", h.Namespace}, name)
}

// live reads one object past all watches.
func (h *Host) live(ctx context.Context, resource schema.GroupVersionResource, key types.NamespacedName) (*unstructured.Unstructured, error) {
	return scoped(h.Client, resource, key.Namespace).Get(ctx, key.Name, getOptions)
}

// scoped returns the client for a kind in a namespace, or without one.
func scoped(client dynamic.Interface, resource schema.GroupVersionResource, namespace string) dynamic.ResourceInterface {
	if namespace == "" {
		return client.Resource(resource)
	}
	return client.Resource(resource).Namespace(namespace)
}
