package sync

import (
	"context"
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
	out  *lane // the release lane, for federated objects that may go

	moved func() // told, without blocking, when Clusters or Ready may say something new

	run context.Context //nolint:containedctx // the life of the dispatchers, which start and stop within Run

	mu          sync.Mutex
	seq         uint64 // of the newest want
	records     map[types.NamespacedName]*record
	dispatchers map[string]*Dispatcher
	placing     []placement.Cluster // the members, as placement sees them
	uids        map[string]types.UID
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
		uids:        map[string]types.UID{},
	}
	r.hub = newLane("sync/"+tc.Name, max(hubWorkers, host.Settings.Workers), r.log, r.reconcile)
	r.done = newLane("status/"+tc.Name, max(statusWorkers, host.Settings.Workers), r.log, r.publish)
	r.done.yields = r.spreading
	r.out = newLane("release/"+tc.Name, max(hubWorkers, host.Settings.Workers), r.log, r.release)
	scope := ""
	if host.Settings.Limited {
		scope = host.Namespace
	}
	r.feds = cluster.NewWatch(host.Client, cluster.WatchOptions{
		Resource:  r.kind.federated,
		Namespace: scope,
		Changed:   r.federatedChanged,
		Moved:     r.federatedMoved,
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
	defer r.hub.queue.ShutDown()
	defer r.done.queue.ShutDown()
	defer r.out.queue.ShutDown()
	defer r.stopDispatchers()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { r.feds.Run(ctx) })
	select {
	case <-ctx.Done():
		return
	case <-r.host.Members.Complete():
	}
	members, changed := r.host.Members.Current()
	r.take(members)
	running.Go(func() { r.followMembers(ctx, changed) })
	if r.awaitHost(ctx) {
		r.moved()
		running.Go(func() { r.done.run(ctx) })
		running.Go(func() { r.out.run(ctx) })
		r.hub.run(ctx)
	}
}

func (r *Reconciler) stopDispatchers() {
	r.mu.Lock()
	dispatchers := slices.Collect(maps.Values(r.dispatchers))
	r.mu.Unlock()
	for _, d := range dispatchers {
		d.stop()
	}
	for _, d := range dispatchers {
		d.wait()
	}
}

// awaitHost waits until all that the hub lane reads from the host is complete.
func (r *Reconciler) awaitHost(ctx context.Context) bool {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if ready, _ := r.Ready(); ready {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
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
func (r *Reconciler) followMembers(ctx context.Context, changed <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		var members []*cluster.Member
		members, changed = r.host.Members.Current()
		r.take(members)
	}
}

// take brings the dispatchers in step with the members.
func (r *Reconciler) take(members []*cluster.Member) {
	placing := make([]placement.Cluster, 0, len(members))
	seen := map[string]bool{}
	var wake []*Dispatcher
	var left []types.NamespacedName // objects that waited for a cluster which is no member any more
	r.mu.Lock()
	for _, m := range members {
		placing = append(placing, placement.Cluster{Name: m.Name, Labels: m.Labels})
		seen[m.Name] = true
		if d := r.serve(m); d != nil {
			wake = append(wake, d)
		}
	}
	for name, d := range r.dispatchers {
		if !seen[name] {
			d.stop()
			delete(r.dispatchers, name)
			delete(r.uids, name)
			left = append(left, r.forget(name)...)
		}
	}
	moved := !slices.EqualFunc(r.placing, placing, func(a, b placement.Cluster) bool {
		return a.Name == b.Name && maps.Equal(a.Labels, b.Labels)
	})
	r.placing = placing
	r.mu.Unlock()
	for _, d := range wake {
		d.wake()
	}
	for _, key := range left {
		r.done.add(key)
	}
	if moved {
		r.resync()
	}
	r.moved()
}

// serve makes sure that a member has a dispatcher for its present connection, and returns a new one. The caller holds
// the lock.
func (r *Reconciler) serve(m *cluster.Member) *Dispatcher {
	old := r.dispatchers[m.Name]
	if old != nil && old.serves(m) {
		old.update(m)
		return nil
	}
	if old != nil {
		old.stop()
	}
	if r.uids[m.Name] != m.UID {
		r.uids[m.Name] = m.UID
		for _, rec := range r.records { // another cluster of the same name: nothing of the former holds
			delete(rec.outcomes, m.Name)
		}
	}
	r.dispatchers[m.Name] = newDispatcher(r, m)
	return r.dispatchers[m.Name]
}

// forget drops all that was noted of a cluster and returns the objects that waited for it. The caller holds the lock.
func (r *Reconciler) forget(name string) (waited []types.NamespacedName) {
	for key, rec := range r.records {
		if rec.relevant[name] {
			waited = append(waited, key)
		}
		delete(rec.outcomes, name)
		delete(rec.relevant, name)
	}
	return waited
}

// forgetVersions voids the recorded versions of a cluster that was restored or rebuilt: what they were written for may
// not be what carries them now.
func (r *Reconciler) forgetVersions(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.records {
		out := rec.outcomes[name]
		out.version, out.hashes, out.uid = "none", rec.hashes, ""
		rec.outcomes[name] = out
	}
}

// resync looks at every object again.
func (r *Reconciler) resync() {
	for _, key := range r.feds.Keys() {
		if target, ok := r.targetOf(key); ok {
			r.hub.add(target)
		}
	}
	r.mu.Lock()
	keys := slices.Collect(maps.Keys(r.records))
	r.mu.Unlock()
	for _, key := range keys {
		r.hub.add(key)
	}
}

// federatedMoved is told when the watch of the federated objects stops or starts being complete.
func (r *Reconciler) federatedMoved() {
	r.moved()
	if state, message := r.feds.State(); state != cluster.WatchRunning {
		r.log.Info("The federated objects cannot be listed", "state", state, "message", message)
		return
	}
	r.resync() // what went while the watch was blind was told of by nobody
	if r.kind.target.IsNamespace() {
		r.host.tell("")
	}
}

// targetOf returns the key of a federated object here: the name of its target. A FederatedNamespace counts only if it is
// named as its namespace is.
func (r *Reconciler) targetOf(key types.NamespacedName) (types.NamespacedName, bool) {
	if !r.kind.target.IsNamespace() {
		return key, true
	}
	return types.NamespacedName{Name: key.Name}, key.Name == key.Namespace
}

// federatedChanged is told of every change of a federated object.
func (r *Reconciler) federatedChanged(key types.NamespacedName) {
	if r.kind.target.IsNamespace() {
		r.host.tell(key.Namespace)
	}
	if target, ok := r.targetOf(key); ok {
		r.hub.add(target)
		return
	}
	if fed := r.feds.Get(key); fed != nil && fed.GetGeneration() == 1 {
		r.host.Recorder.Warn(fed, "", "InvalidName", fmt.Sprintf("The FederatedNamespace %q has no effect in namespace %q: name it as its namespace is named.", key.Name, key.Namespace))
	}
}

// namespaceChanged is told of every change that may alter what a namespace's objects may do. Empty means all.
func (r *Reconciler) namespaceChanged(namespace string) {
	switch {
	case namespace == "":
		r.resync()
	case r.kind.target.IsNamespace():
		r.hub.add(types.NamespacedName{Name: namespace})
	default:
		for _, key := range r.feds.KeysIn(namespace) {
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
	r.mu.Lock()
	r.recordFor(key)
	r.mu.Unlock()
	if fed.GetDeletionTimestamp() == nil && !slices.Contains(fed.GetFinalizers(), api.SyncFinalizer) {
		answer, err := r.addFinalizer(ctx, fed)
		if err != nil {
			if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
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
	hash := hashesOf(fed.Object)
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
// those of the placed clusters, those that hold an object, and those that held one when their members were last seen.
// The caller holds the lock.
func (r *Reconciler) renew(key types.NamespacedName, rec *record) []*Dispatcher {
	r.seq++
	rec.seq = r.seq
	rec.changedAt = time.Now()
	rec.relevant = map[string]bool{}
	if rec.want.Mode != plan.Orphan {
		for _, name := range rec.want.Placed {
			rec.relevant[name] = true
		}
	}
	told := map[string]bool{} // clusters that the status names, because they hold something or may
	for _, c := range storedClusters(rec.want.Object) {
		told[c.Name] = true
	}
	var wake []*Dispatcher
	for name, d := range r.dispatchers {
		if d.holds(key) || rec.want.Mode == plan.Remove && d.blind() || told[name] && !d.listed() {
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
	rec.changedAt = time.Now()
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
	if !r.feds.Synced() {
		return verdict{} // federatedMoved looks again
	}
	r.host.versionStore(r.kind).drop(versionKey(r.kind, r.federatedKey(key)))
	r.mu.Lock()
	held := false
	for _, d := range r.dispatchers {
		held = held || d.holds(key)
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
	if _, err := r.host.live(ctx, r.kind.federated, r.federatedKey(key)); !isGone(err) {
		return verdict{retry: true}
	}
	r.mu.Lock()
	rec := r.recordFor(key)
	if rec.want != nil && rec.want.Object == nil && time.Since(rec.changedAt) < time.Second {
		r.mu.Unlock()
		return verdict{after: time.Second} // the watches may not have shown yet that it was released
	}
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
