package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
)

// WatchState says how far a Watch has come.
type WatchState string

// The states of a Watch. Only Running means that its contents are complete.
const (
	WatchWaiting      WatchState = "Waiting"      // the first list is under way
	WatchRunning      WatchState = "Running"      // listed; changes arrive
	WatchForbidden    WatchState = "Forbidden"    // the cluster's RBAC refuses (HTTP 401 or 403)
	WatchNotInstalled WatchState = "NotInstalled" // the cluster does not serve this kind (HTTP 404)
	WatchUnreachable  WatchState = "Unreachable"  // any other failure of the list
)

// Backoff of a failing list: quick at first, and never so long that a granted role or an installed CRD goes unseen.
const (
	watchBackoffFirst = 200 * time.Millisecond
	watchBackoffMax   = 5 * time.Second
	// redialMax bounds the pauses within one attempt, which Restart cannot cut short.
	redialMax = time.Second
	// servesTimeout bounds the question whether a cluster serves a kind.
	servesTimeout = 10 * time.Second
)

// Watch mirrors the objects of one kind in one cluster. It is safe for concurrent use. Objects it returns are shared:
// never change them.
type Watch struct {
	client   dynamic.ResourceInterface
	resource schema.GroupVersionResource
	selector string
	shrink   func(*unstructured.Unstructured)
	pack     bool
	changed  func(types.NamespacedName)
	moved    func()
	serves   func(context.Context) (bool, error)
	reborn   func()
	restart  chan struct{}

	mu      sync.RWMutex
	items   objects
	listed  bool
	listing uint64 // version of the last list
	seen    uint64 // version of the newest event: all that happened until then is in items
	state   WatchState
	message string
}

// WatchOptions select what a Watch mirrors and whom it tells.
type WatchOptions struct {
	Resource schema.GroupVersionResource
	// Namespace limits the watch; empty means all namespaces, or a cluster-scoped kind.
	Namespace string
	// Selector is a label selector; empty means every object.
	Selector string
	// Shrink takes from an object what the caller does not read, before it is kept; nil keeps all of it.
	Shrink func(*unstructured.Unstructured)
	// Pack keeps objects as text, for kinds of which there are many that are seldom looked at: they take a quarter of the
	// memory, and Get makes a new object each time.
	Pack bool
	// Changed is called, outside of any lock, after an object came, changed or went. It must not block.
	Changed func(types.NamespacedName)
	// Serves asks whether the cluster serves the kind at all; nil means that a list answered with 404 says so. An API
	// server that refuses a list does not say whether there is anything to list, and a 404 may come from a proxy.
	Serves func(context.Context) (bool, error)
	// Moved is called after State changed. It must not block.
	Moved func()
	// Reborn is called when resource versions went back, because the cluster was restored or rebuilt: whatever was
	// noted of them is void. It must not block.
	Reborn func()
}

// NewWatch returns a Watch that Run starts.
func NewWatch(client dynamic.Interface, o WatchOptions) *Watch {
	w := &Watch{
		resource: o.Resource,
		selector: o.Selector,
		shrink:   o.Shrink,
		pack:     o.Pack,
		changed:  o.Changed,
		moved:    o.Moved,
		serves:   o.Serves,
		reborn:   o.Reborn,
		restart:  make(chan struct{}, 1),
		items:    objects{},
		state:    WatchWaiting,
	}
	w.client = client.Resource(o.Resource)
	if o.Namespace != "" {
		w.client = client.Resource(o.Resource).Namespace(o.Namespace)
	}
	return w
}

// Run lists and watches until ctx ends. Each failure is retried with a growing pause, which Restart cuts short.
func (w *Watch) Run(ctx context.Context) {
	pause := wait.Backoff{Duration: watchBackoffFirst, Factor: 2, Jitter: 0.2, Steps: 30, Cap: watchBackoffMax}
	backoff := pause
	for ctx.Err() == nil {
		started := time.Now()
		restarted, err := w.attempt(ctx)
		if restarted {
			continue
		}
		if err == nil || time.Since(started) > watchBackoffMax {
			backoff = pause
		}
		if err != nil && ctx.Err() == nil {
			w.fail(ctx, err)
		}
		timer := time.NewTimer(backoff.Step())
		select {
		case <-ctx.Done():
		case <-w.restart:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// attempt lists and watches until that ends by itself or Restart ends it.
func (w *Watch) attempt(ctx context.Context) (restarted bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- w.reflector().ListAndWatchWithContext(ctx) }()
	select {
	case err = <-done:
		return false, err
	case <-w.restart:
		cancel()
		return true, <-done
	}
}

// Restart drops the current connection, if any, and lists again at once. The registry calls it when a member's API
// answers again, since a broken watch may otherwise take long to notice.
func (w *Watch) Restart() {
	select {
	case w.restart <- struct{}{}:
	default:
	}
}

// State returns how far the watch has come and, when it is not running, why.
func (w *Watch) State() (WatchState, string) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.state, w.message
}

// Synced reports whether the watch has ever listed completely. Contents stay valid, if old, while the cluster is away.
func (w *Watch) Synced() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.listed
}

// Get returns the object of that name, nil when there is none.
func (w *Watch) Get(key types.NamespacedName) *unstructured.Unstructured {
	w.mu.RLock()
	found, _ := w.items.find(key)
	w.mu.RUnlock()
	return found.read()
}

// Version returns the resource version of the object of that name, and whether there is one.
func (w *Watch) Version(key types.NamespacedName) (uint64, bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	found, there := w.items.find(key)
	return found.version, there
}

// Look returns an object (nil when there is none), whether the watch has listed, and how far it has come, all as of one
// moment: only if listed is true does the absence of an object mean anything.
func (w *Watch) Look(key types.NamespacedName) (obj *unstructured.Unstructured, listed bool, state WatchState, message string) {
	w.mu.RLock()
	found, _ := w.items.find(key)
	listed, state, message = w.listed, w.state, w.message
	w.mu.RUnlock()
	return found.read(), listed, state, message
}

// KeysIn returns the names of a namespace's objects, in no particular order.
func (w *Watch) KeysIn(namespace string) []types.NamespacedName {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.items.keysIn(namespace)
}

// Keys returns the names of all objects, in no particular order.
func (w *Watch) Keys() []types.NamespacedName {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.items.keys()
}

// Observe takes in the answer to a write of our own, so that what follows does not act on an older copy while the
// watch event is still on its way. An answer that the watch has overtaken is ignored: what it speaks of may have changed
// again since, or be gone.
func (w *Watch) Observe(obj *unstructured.Unstructured) {
	w.strip(obj)
	w.mu.Lock()
	defer w.mu.Unlock()
	key := nameOf(obj)
	have, there := w.items.find(key)
	if version := VersionOf(obj); !there && version <= w.seen || there && version <= have.version {
		return
	}
	w.items.put(key, hold(obj, w.pack))
}

func (w *Watch) reflector() *cache.Reflector {
	selecting := func(options metav1.ListOptions) metav1.ListOptions {
		options.LabelSelector = w.selector
		return options
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			if options.ResourceVersion == "0" && w.hasListed() {
				// Any version will do for a first list. A later one must not be older than what is held, which an API
				// server's cache may be.
				options.ResourceVersion, options.ResourceVersionMatch = "", ""
			}
			return w.client.List(ctx, selecting(options))
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return w.client.Watch(ctx, selecting(options))
		},
	}
	return cache.NewReflectorWithOptions(lw, &unstructured.Unstructured{}, reflected{w}, cache.ReflectorOptions{
		Name:            "hansa/" + w.resource.Resource,
		TypeDescription: w.resource.String(),
		Backoff:         &wait.Backoff{Duration: watchBackoffFirst, Factor: 2, Jitter: 0.2, Steps: 30, Cap: redialMax},
	})
}

// fail records why the watch is not running. A watch that ended in the ordinary way keeps its state.
func (w *Watch) fail(ctx context.Context, err error) {
	state := WatchUnreachable
	switch {
	case errors.Is(err, context.Canceled):
		return
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		state = WatchForbidden
		if w.serves != nil && w.lacksKind(ctx) {
			state = WatchNotInstalled
		}
	case isNotServed(err) && (w.serves == nil || w.lacksKind(ctx)):
		state = WatchNotInstalled
	}
	w.move(state, err.Error())
}

// lacksKind reports whether the cluster says for certain that it does not serve the kind.
func (w *Watch) lacksKind(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, servesTimeout)
	defer cancel()
	served, err := w.serves(ctx)
	return err == nil && !served
}

func (w *Watch) hasListed() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.listing > 0
}

// isNotServed recognises the answer of an API server that has no such resource: a 404 about no particular object.
func isNotServed(err error) bool {
	if meta.IsNoMatchError(err) {
		return true
	}
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code == http.StatusNotFound
}

func (w *Watch) move(state WatchState, message string) {
	w.mu.Lock()
	same := w.state == state
	w.state, w.message = state, message
	if state == WatchRunning {
		w.listed = true
	}
	if state == WatchNotInstalled {
		// The kind is gone from the cluster, and its objects with it.
		w.listed = false
		w.items = objects{}
	}
	w.mu.Unlock()
	if !same && w.moved != nil {
		w.moved()
	}
}

// reflected is the side of a Watch that its reflector writes to.
type reflected struct{ *Watch }

var _ cache.ReflectorStore = reflected{}

func (r reflected) Add(obj any) error    { return r.set(obj) }
func (r reflected) Update(obj any) error { return r.set(obj) }
func (r reflected) Resync() error        { return nil }

func (r reflected) set(obj any) error {
	u, err := asUnstructured(obj)
	if err != nil {
		return err
	}
	r.strip(u)
	key, kept := nameOf(u), hold(u, r.pack)
	r.mu.Lock()
	r.seen = max(r.seen, kept.version)
	if have, there := r.items.find(key); there && kept.version <= have.version {
		r.mu.Unlock()
		return nil // the echo of a write that Observe has taken in
	}
	r.items.put(key, kept)
	r.mu.Unlock()
	if r.changed != nil {
		r.changed(key)
	}
	return nil
}

func (r reflected) Delete(obj any) error {
	u, err := asUnstructured(obj)
	if err != nil {
		return err
	}
	key, version := nameOf(u), VersionOf(u)
	r.mu.Lock()
	r.seen = max(r.seen, version)
	// What has been written since, to it or to a successor of the same name, is not what went.
	if have, there := r.items.find(key); there && have.uid == u.GetUID() && have.version <= version {
		r.items.drop(key)
	}
	r.mu.Unlock()
	if r.changed != nil {
		r.changed(key)
	}
	return nil
}

func (r reflected) Replace(list []any, version string) error {
	items := objects{}
	for _, obj := range list {
		u, err := asUnstructured(obj)
		if err != nil {
			return err
		}
		r.strip(u)
		items.put(nameOf(u), hold(u, r.pack))
	}
	r.mu.Lock()
	reborn := versionNumber(version) < r.seen
	r.listing = versionNumber(version)
	r.seen = r.listing
	touched := r.merge(items, reborn)
	r.items = items
	r.mu.Unlock()
	if reborn && r.reborn != nil {
		r.reborn()
	}
	r.move(WatchRunning, "")
	if r.changed != nil {
		for _, key := range touched {
			r.changed(key)
		}
	}
	return nil
}

// merge carries into a new list what was written after it was taken, and returns the names that the list says something
// new of. After a rebirth nothing is carried: what is held is of another life. The caller holds the lock.
func (r reflected) merge(list objects, reborn bool) (touched []types.NamespacedName) {
	for _, key := range r.items.keys() {
		have, _ := r.items.find(key)
		listed, there := list.find(key)
		switch {
		case reborn:
			touched = append(touched, key)
		case !there && have.version > r.listing:
			list.put(key, have)
		case !there:
			touched = append(touched, key)
		case have.version > listed.version:
			list.put(key, have)
		}
	}
	for _, key := range list.keys() {
		have, there := r.items.find(key)
		if listed, _ := list.find(key); !there || have.version != listed.version {
			touched = append(touched, key)
		}
	}
	return touched
}

func asUnstructured(obj any) (*unstructured.Unstructured, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("watch delivered %T, not an object", obj)
	}
	return u, nil
}

func nameOf(obj *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// strip drops what nobody reads: managedFields are often half of an object.
func (w *Watch) strip(obj *unstructured.Unstructured) {
	unstructured.RemoveNestedField(obj.Object, "metadata", "managedFields")
	if w.shrink != nil {
		w.shrink(obj)
	}
}

// VersionOf reads a resource version as the integer that it is (KEP-5504 makes their order official).
func VersionOf(obj *unstructured.Unstructured) uint64 { return versionNumber(obj.GetResourceVersion()) }

func versionNumber(version string) uint64 {
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
