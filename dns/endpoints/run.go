package endpoints

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	// workers is how many services are worked on at once.
	workers = 4
	// retryFirst and retryMax bound the pause before the next attempt at a service.
	retryFirst = 100 * time.Millisecond
	retryMax   = time.Minute
)

var namespaceResource = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// run is what a Writer holds while it runs: mirrors of what is there, and a queue of services to look at.
type run struct {
	*Writer
	objects, namespaces *cluster.Watch
	queue               workqueue.TypedRateLimitingInterface[clusterset.Key]
	complaints          complaints

	mu       sync.Mutex
	snapshot *clusterset.Snapshot // nil until there is one
	tree     *zone.Tree
	indexed  *clusterset.Snapshot        // that spaces is of
	spaces   map[string][]clusterset.Key // services by namespace
	held     map[clusterset.Key]bool     // what to look at again when something is heard of clusters
}

func newRun(w *Writer) *run {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[clusterset.Key](retryFirst, retryMax)
	r := &run{Writer: w, queue: workqueue.NewTypedRateLimitingQueue(limiter), held: map[clusterset.Key]bool{}}
	r.complaints = complaints{log: w.o.Log}
	r.objects = cluster.NewWatch(w.o.Client, cluster.WatchOptions{
		Resource: Resource, Selector: Label + "=" + w.o.Namespace, Pack: true, Changed: r.objectChanged, Moved: r.moved,
	})
	r.namespaces = cluster.NewWatch(w.o.Client, cluster.WatchOptions{
		Resource: namespaceResource, Shrink: bare, Changed: r.namespaceChanged, Moved: r.moved,
	})
	return r
}

// bare takes from a namespace all but its name and whether it is about to go.
func bare(namespace *unstructured.Unstructured) {
	kept := &unstructured.Unstructured{Object: map[string]any{}}
	kept.SetName(namespace.GetName())
	kept.SetUID(namespace.GetUID())
	kept.SetResourceVersion(namespace.GetResourceVersion())
	kept.SetDeletionTimestamp(namespace.GetDeletionTimestamp())
	namespace.Object = kept.Object
}

// start starts watches and workers, which end with ctx.
func (r *run) start(ctx context.Context, start func(func())) {
	context.AfterFunc(ctx, r.queue.ShutDown)
	for _, watch := range []*cluster.Watch{r.objects, r.namespaces} {
		start(func() { watch.Run(ctx) })
	}
	for range workers {
		start(func() { r.work(ctx) })
	}
}

// take looks at what a snapshot changed.
func (r *run) take(snapshot *clusterset.Snapshot) {
	if snapshot == nil {
		return
	}
	r.mu.Lock()
	old := r.snapshot
	tree := r.tree
	r.mu.Unlock()
	if old == snapshot {
		return
	}
	tree = zone.Next(tree, snapshot, zone.Asker{}, r.options())
	r.mu.Lock()
	r.snapshot, r.tree = snapshot, tree
	r.mu.Unlock()
	if old == nil {
		r.wake()
		return
	}
	changes := snapshot.Since(old)
	for _, key := range changes.Services {
		r.queue.Add(key)
	}
	for _, id := range changes.Moved {
		for _, key := range snapshot.Exports(id) {
			r.queue.Add(key)
		}
	}
	if len(changes.Clusters) > 0 {
		r.addHeld()
	}
}

// world returns what is known now; nil while there is no snapshot.
func (r *run) world() *World {
	complete := r.isComplete()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.snapshot == nil {
		return nil
	}
	return &World{Snapshot: r.snapshot, Tree: r.tree, Zones: r.zones, Complete: complete}
}

// listed tells whether it is known what is there.
func (r *run) listed() bool { return r.objects.Synced() && r.namespaces.Synced() }

// moved looks at everything once it is known what is there, and says what is in the way of that.
func (r *run) moved() {
	for resource, watch := range map[string]*cluster.Watch{Resource.GroupResource().String(): r.objects, namespaceResource.Resource: r.namespaces} {
		state, message := watch.State()
		r.complaints.stand(resource, state, message)
	}
	listed := r.listed()
	r.complaints.publishes(listed)
	if listed {
		r.wake()
	}
}

// wake looks at every service that there is, or that there is a DNSEndpoint of.
func (r *run) wake() {
	world := r.world()
	if world == nil || !r.listed() {
		return
	}
	for _, service := range world.Snapshot.Services() {
		r.queue.Add(service.Key)
	}
	for _, name := range r.objects.Keys() {
		r.objectChanged(name)
	}
}

// objectChanged looks at a service soon: if somebody else writes its DNSEndpoint again and again, so does the hub, but not
// more often than it takes in snapshots.
func (r *run) objectChanged(name types.NamespacedName) {
	if key, ok := KeyOf(name, r.o.Namespace); ok {
		r.queue.AddAfter(key, quietTime)
	}
}

// namespaceChanged looks at the services of a namespace.
func (r *run) namespaceChanged(name types.NamespacedName) {
	if !r.listed() {
		return
	}
	for _, key := range r.servicesIn(name.Name) {
		r.queue.Add(key)
	}
	for _, object := range r.objects.KeysIn(name.Name) { // of services that are known no more, too
		if key, ok := KeyOf(object, r.o.Namespace); ok {
			r.queue.Add(key)
		}
	}
}

func (r *run) servicesIn(namespace string) []clusterset.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.snapshot == nil {
		return nil
	}
	if r.indexed != r.snapshot {
		r.indexed, r.spaces = r.snapshot, map[string][]clusterset.Key{}
		for _, service := range r.snapshot.Services() {
			r.spaces[service.Namespace] = append(r.spaces[service.Namespace], service.Key)
		}
	}
	return r.spaces[namespace]
}

func (r *run) hold(key clusterset.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[key] = true
}

// addHeld looks again at what was kept since something was not known.
func (r *run) addHeld() {
	r.mu.Lock()
	held := r.held
	r.held = map[clusterset.Key]bool{}
	r.mu.Unlock()
	for key := range held {
		r.queue.Add(key)
	}
}
