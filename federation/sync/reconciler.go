package sync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/status"
	"github.com/hansa-dev/hansa/federation/sync/plan"
	"github.com/hansa-dev/hansa/placement"
)

// How many objects of one type are worked on at once, per lane. Member lanes are per cluster.
const (
	hubWorkers    = 32
	memberWorkers = 32
	statusWorkers = 16
)

// hostTimeout bounds one request to the host cluster.
const hostTimeout = 30 * time.Second

var getOptions = metav1.GetOptions{}

// Reconciler propagates the objects of one type.
type Reconciler struct {
	host *Host
	kind kind
	log  logr.Logger
	feds *cluster.Watch // the federated objects
	hub  *lane
	done *lane // the status lane

	moved func() // told, without blocking, when Clusters or Ready may say something new

	run context.Context //nolint:containedctx // the life of the dispatchers, which start and stop within Run

	mu          sync.Mutex
	records     map[types.NamespacedName]*record
	dispatchers map[string]*Dispatcher
	placing     []placement.Cluster // the members, as placement sees them
}

// NewReconciler returns the reconciler of a type. Run starts it. moved is called, and must not block, whenever Clusters
// or Ready may say something new.
func NewReconciler(host *Host, tc *corev1b1.FederatedTypeConfig, moved func()) *Reconciler {
	r := &Reconciler{
		moved:       moved,
		host:        host,
		kind:        kindOf(tc),
		log:         host.Log.WithValues("type", tc.Name),
		records:     map[types.NamespacedName]*record{},
		dispatchers: map[string]*Dispatcher{},
	}
	r.hub = newLane("sync/"+tc.Name, max(hubWorkers, host.Settings.Workers), r.reconcile)
	r.done = newLane("status/"+tc.Name, max(statusWorkers, host.Settings.Workers), r.publish)
	r.done.yields = r.spreading
	scope := ""
	if host.Settings.Limited {
		scope = host.Namespace
	}
	r.feds = cluster.NewWatch(host.Client, cluster.WatchOptions{
		Resource:  r.kind.federated,
		Namespace: scope,
		Changed:   r.federatedChanged,
		Moved: func() {
			r.moved()
			if r.kind.target.IsNamespace() {
				r.host.tell("")
			}
		},
	})
	return r
}

// Run propagates until ctx ends, then stops all its lanes and returns.
func (r *Reconciler) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.run = ctx
	defer r.host.listen(r.namespaceChanged)()
	if r.kind.target.IsNamespace() {
		r.host.fedNamespaces.Store(r.feds)
		r.host.tell("")
		defer func() {
			r.host.fedNamespaces.CompareAndSwap(r.feds, nil)
			r.host.tell("")
		}()
	}
	var running sync.WaitGroup
	running.Go(func() { r.feds.Run(ctx) })
	running.Go(func() { r.followMembers(ctx) })
	running.Go(func() {
		if r.awaitHost(ctx) {
			running.Go(func() { r.done.run(ctx) })
			r.hub.run(ctx)
		}
	})
	running.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.dispatchers {
		d.stop()
	}
}

// awaitHost waits until all that the hub lane reads from the host is complete.
func (r *Reconciler) awaitHost(ctx context.Context) bool {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !r.feds.Synced() || !r.host.synced() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return ctx.Err() == nil
}

// spreading reports whether objects are still on their way to ready members. Statuses yield to them: they compete for
// the host's API server, and later ones tell more.
func (r *Reconciler) spreading() bool {
	if r.hub.busy() {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.dispatchers {
		if member, _ := d.current(); member.Ready() && d.lane.busy() {
			return true
		}
	}
	return false
}

// followMembers starts and stops dispatchers as members come, go, and change.
func (r *Reconciler) followMembers(ctx context.Context) {
	for {
		members, changed := r.host.Members.Current()
		r.take(members)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (r *Reconciler) take(members []*cluster.Member) {
	placing := make([]placement.Cluster, 0, len(members))
	seen := map[string]bool{}
	r.mu.Lock()
	for _, m := range members {
		placing = append(placing, placement.Cluster{Name: m.Name, Labels: m.Labels})
		seen[m.Name] = true
		old := r.dispatchers[m.Name]
		if old != nil && old.serves(m) {
			old.update(m)
			continue
		}
		if old != nil {
			old.stop()
		}
		r.dispatchers[m.Name] = newDispatcher(r, m)
	}
	for name, d := range r.dispatchers {
		if !seen[name] {
			d.stop()
			delete(r.dispatchers, name)
			for _, rec := range r.records {
				delete(rec.outcomes, name)
				delete(rec.relevant, name)
			}
		}
	}
	moved := !slices.EqualFunc(r.placing, placing, func(a, b placement.Cluster) bool {
		return a.Name == b.Name && maps.Equal(a.Labels, b.Labels)
	})
	r.placing = placing
	r.mu.Unlock()
	if moved {
		r.resync()
	}
	r.moved()
}

// resync looks at every object again.
func (r *Reconciler) resync() {
	for _, key := range r.feds.Keys() {
		r.federatedChanged(key)
	}
	r.mu.Lock()
	keys := slices.Collect(maps.Keys(r.records))
	r.mu.Unlock()
	for _, key := range keys {
		r.hub.add(key)
	}
}

// federatedChanged maps a federated object to its key here: the name of the target. A FederatedNamespace counts only
// if it is named as its namespace is.
func (r *Reconciler) federatedChanged(key types.NamespacedName) {
	if !r.kind.target.IsNamespace() {
		r.hub.add(key)
		return
	}
	r.host.tell(key.Namespace)
	if key.Name == key.Namespace {
		r.hub.add(types.NamespacedName{Name: key.Name})
		return
	}
	if fed := r.feds.Get(key); fed != nil {
		r.host.Recorder.Warn(fed, "", "InvalidName", fmt.Sprintf("The FederatedNamespace %q has no effect in namespace %q: name it as its namespace is named.", key.Name, key.Namespace))
	}
}

// namespaceChanged is told of every change that may alter what a namespace's objects may do. Empty means all.
func (r *Reconciler) namespaceChanged(namespace string) {
	if namespace == "" {
		r.resync()
		return
	}
	if r.kind.target.IsNamespace() {
		r.hub.add(types.NamespacedName{Name: namespace})
		return
	}
	for _, key := range r.feds.Keys() {
		if key.Namespace == namespace {
			r.hub.add(key)
		}
	}
}

// federatedKey is the name of the federated object of a target.
func (r *Reconciler) federatedKey(key types.NamespacedName) types.NamespacedName {
	if r.kind.target.IsNamespace() {
		return types.NamespacedName{Namespace: key.Name, Name: key.Name}
	}
	return key
}

// reconcile is the hub lane: it computes what is wanted of one object and tells the member lanes.
func (r *Reconciler) reconcile(ctx context.Context, key types.NamespacedName) verdict {
	began := time.Now()
	defer func() { reconcileDuration.Observe(time.Since(began).Seconds()) }()
	if r.kind.target.IsNamespace() && r.host.systemNamespace(key.Name) {
		return verdict{}
	}
	fed := r.feds.Get(r.federatedKey(key))
	if fed == nil {
		return r.abandon(ctx, key)
	}
	if fed.GetDeletionTimestamp() == nil && !slices.Contains(fed.GetFinalizers(), api.SyncFinalizer) {
		answer, err := r.addFinalizer(ctx, fed)
		if err != nil {
			if !apierrors.IsNotFound(err) {
				r.log.Error(err, "Adding the finalizer failed", "object", key)
			}
			return verdict{retry: !apierrors.IsNotFound(err)}
		}
		fed = answer
	}
	want, reason, known := r.wanted(key, fed)
	if !known {
		r.hold(key, fed, reason)
		return verdict{}
	}
	r.set(key, want, reason, fed)
	return verdict{}
}

// set stores what is wanted and wakes the members concerned, unless nothing changed.
func (r *Reconciler) set(key types.NamespacedName, want *plan.Want, reason status.Reason, fed *unstructured.Unstructured) {
	from := sourceOf(fed)
	r.mu.Lock()
	rec := r.records[key]
	same := rec != nil && rec.want != nil && rec.source.equal(from) && rec.reason == reason &&
		rec.want.HostNamespaceUID == want.HostNamespaceUID && slices.Equal(rec.want.Placed, want.Placed)
	r.mu.Unlock()
	if same {
		return
	}
	hash, err := hashesOf(fed.Object)
	if err != nil {
		want.OverridesError = errors.Join(want.OverridesError, err)
	}
	r.mu.Lock()
	rec = r.recordFor(key)
	rec.want, rec.hashes, rec.reason, rec.source = want, hash, reason, from
	wake := r.renew(key, rec)
	r.mu.Unlock()
	for _, d := range wake {
		d.lane.add(key)
	}
	if len(wake) == 0 {
		r.done.add(key)
	}
}

// renew starts a new round of answers for a record whose want changed, and returns the dispatchers that have to answer:
// those of the placed clusters, and those that hold an object. The caller holds the lock.
func (r *Reconciler) renew(key types.NamespacedName, rec *record) []*Dispatcher {
	rec.seq++
	rec.changedAt = time.Now()
	rec.relevant = map[string]bool{}
	if rec.want.Mode != plan.Orphan {
		for _, name := range rec.want.Placed {
			rec.relevant[name] = true
		}
	}
	var wake []*Dispatcher
	for name, d := range r.dispatchers {
		if d.watch != nil && d.watch.Get(key) != nil {
			rec.relevant[name] = true
		}
		if rec.relevant[name] {
			wake = append(wake, d)
		}
	}
	return wake
}

// hold keeps the members as they are, and reports why.
func (r *Reconciler) hold(key types.NamespacedName, fed *unstructured.Unstructured, reason status.Reason) {
	r.mu.Lock()
	rec := r.recordFor(key)
	rec.want, rec.reason, rec.source = nil, reason, source{}
	r.mu.Unlock()
	r.done.add(key)
	r.log.V(1).Info("Holding an object", "object", key, "generation", fed.GetGeneration(), "reason", reason)
}

// recordFor returns the record of an object, a new one if needed. The caller holds the lock.
func (r *Reconciler) recordFor(key types.NamespacedName) *record {
	rec := r.records[key]
	if rec == nil {
		rec = &record{relevant: map[string]bool{}, outcomes: map[string]outcome{}, warned: map[string]string{}}
		r.records[key] = rec
	}
	return rec
}

// abandon takes the managed label off objects that no federated object owns. Nothing is deleted: a federated object
// that should have taken its objects along had a finalizer.
func (r *Reconciler) abandon(ctx context.Context, key types.NamespacedName) verdict {
	r.mu.Lock()
	held := false
	for _, d := range r.dispatchers {
		held = held || d.watch != nil && d.watch.Get(key) != nil
	}
	if !held {
		delete(r.records, key)
		r.mu.Unlock()
		return verdict{}
	}
	r.mu.Unlock()
	// The watch may be behind the API: only the API's word lets go of an object.
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	if _, err := r.host.live(ctx, r.kind.federated, r.federatedKey(key)); !apierrors.IsNotFound(err) {
		return verdict{retry: true}
	}
	r.mu.Lock()
	rec := r.recordFor(key)
	rec.want = &plan.Want{Target: r.kind.target, Name: key.Name, Namespace: key.Namespace, Mode: plan.Orphan}
	rec.hashes, rec.reason, rec.source = hashes{}, status.Success, source{}
	wake := r.renew(key, rec)
	clusters := slices.Sorted(maps.Keys(rec.relevant))
	r.mu.Unlock()
	r.log.Info("Releasing objects that no federated object owns", "object", key, "clusters", clusters)
	for _, d := range wake {
		d.lane.add(key)
	}
	return verdict{}
}
