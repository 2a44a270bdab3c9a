package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/status"
	"github.com/hansa-dev/hansa/federation/sync/plan"
	"github.com/hansa-dev/hansa/overrides"
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

// kind is what a FederatedTypeConfig says, in the forms needed here.
type kind struct {
	name      string // of the FederatedTypeConfig
	target    plan.Target
	resource  schema.GroupVersionResource // of the target
	federated schema.GroupVersionResource
	fedKind   schema.GroupVersionKind
	versioned bool // the federated objects have namespaces, and so have their PropagatedVersions
	remote    bool // statusCollection
}

func kindOf(tc *corev1b1.FederatedTypeConfig) kind {
	target, federated := tc.GetTargetType(), tc.GetFederatedType()
	return kind{
		name: tc.Name,
		target: plan.Target{
			GVK:        schema.GroupVersionKind{Group: target.Group, Version: target.Version, Kind: target.Kind},
			Namespaced: tc.GetNamespaced(),
		},
		resource:  schema.GroupVersionResource{Group: target.Group, Version: target.Version, Resource: target.Name},
		federated: schema.GroupVersionResource{Group: federated.Group, Version: federated.Version, Resource: federated.Name},
		fedKind:   schema.GroupVersionKind{Group: federated.Group, Version: federated.Version, Kind: federated.Kind},
		versioned: tc.GetFederatedNamespaced(),
		remote:    tc.GetStatusEnabled(),
	}
}

// record is what the lanes know together of one object. Keys are the target's name in the members.
type record struct {
	seq       uint64 // grows with every change of want
	want      *plan.Want
	reason    status.Reason
	hashes    hashes
	source    source
	changedAt time.Time
	relevant  map[string]bool // clusters that have to answer
	outcomes  map[string]outcome
	warned    map[string]string // by subject (a cluster, or a part of the spec): what events were sent for
}

// hashes are KubeFed's versions of template and overrides.
type hashes struct{ template, overrides string }

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

// outcome is what became of one object in one cluster.
type outcome struct {
	seq       uint64
	code      status.Code
	message   string
	version   string
	hashes    hashes // that version was written with
	remote    any
	report    bool
	gone      bool // nothing of ours is left in the cluster
	wrote     bool // since the last status
	uncertain bool // a create may have succeeded without an answer
	pending   bool // no answer yet
}

// ClusterState says how propagation of one type stands with one member.
type ClusterState struct {
	Name    string
	State   cluster.WatchState
	Message string
}

// Clusters returns the state of every member, sorted by name.
func (r *Reconciler) Clusters() []ClusterState {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]ClusterState, 0, len(r.dispatchers))
	for _, name := range slices.Sorted(maps.Keys(r.dispatchers)) {
		state, message := r.dispatchers[name].state()
		list = append(list, ClusterState{Name: name, State: state, Message: message})
	}
	return list
}

// Ready reports whether the federated objects are known, so that propagation runs; else why not.
func (r *Reconciler) Ready() (bool, string) {
	state, message := r.feds.State()
	if r.feds.Synced() {
		return true, ""
	}
	return false, fmt.Sprintf("%s: %s", state, message)
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
		if host := r.host.namespaces.Get(types.NamespacedName{Name: key.Name}); host != nil {
			want.HostNamespaceUID = host.GetUID()
		}
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
	want.Mode = plan.Delete
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

func hashesOf(object map[string]any) (h hashes, err error) {
	if h.template, err = plan.TemplateVersion(object); err != nil {
		return h, err
	}
	h.overrides, err = overrides.Version(object)
	return h, err
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

func (r *Reconciler) addFinalizer(ctx context.Context, fed *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return r.patchFinalizers(ctx, fed, append(slices.Clone(fed.GetFinalizers()), api.SyncFinalizer))
}

func (r *Reconciler) removeFinalizer(ctx context.Context, fed *unstructured.Unstructured) error {
	rest := slices.DeleteFunc(slices.Clone(fed.GetFinalizers()), func(f string) bool { return f == api.SyncFinalizer })
	_, err := r.patchFinalizers(ctx, fed, rest)
	return err
}

// patchFinalizers replaces the list under the precondition that the object is still the one that was read.
func (r *Reconciler) patchFinalizers(ctx context.Context, fed *unstructured.Unstructured, finalizers []string) (*unstructured.Unstructured, error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers":      finalizers,
		"resourceVersion": fed.GetResourceVersion(),
		"uid":             fed.GetUID(),
	}})
	if err != nil {
		return nil, fmt.Errorf("encoding a patch: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	answer, err := scoped(r.host.Client, r.kind.federated, fed.GetNamespace()).Patch(ctx, fed.GetName(), types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return nil, fmt.Errorf("patching the finalizers of %s %s/%s: %w", r.kind.fedKind.Kind, fed.GetNamespace(), fed.GetName(), err)
	}
	if answer.GetDeletionTimestamp() == nil {
		r.feds.Observe(answer)
	}
	return answer, nil
}
