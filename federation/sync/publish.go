package sync

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/status"
	"github.com/hansa-dev/hansa/federation/sync/plan"
)

// patience is how long the status waits for clusters that have not answered, so that one write tells of all of them.
const patience = 2 * time.Second

// view is a copy of a record for the status lane.
type view struct {
	want      *plan.Want
	seq       uint64
	reason    status.Reason
	hashes    hashes
	source    source
	age       time.Duration
	relevant  []string // sorted
	outcomes  map[string]outcome
	removable bool // nothing that has to answer is left
}

func (r *Reconciler) view(key types.NamespacedName) (view, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[key]
	if rec == nil {
		return view{}, false
	}
	return view{
		want: rec.want, seq: rec.seq, reason: rec.reason, hashes: rec.hashes, source: rec.source,
		age:      time.Since(rec.changedAt),
		relevant: slices.Sorted(maps.Keys(rec.relevant)),
		outcomes: maps.Clone(rec.outcomes),
	}, true
}

// publish is the status lane: it records versions and status of an object, or lets go of one whose removal is complete.
func (r *Reconciler) publish(ctx context.Context, key types.NamespacedName) verdict {
	v, ok := r.view(key)
	if !ok {
		return verdict{}
	}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	fed := r.feds.Get(r.federatedKey(key))
	if fed == nil {
		if v.want == nil || v.want.Mode != plan.Orphan || len(v.relevant) == 0 {
			r.hub.add(key)
		}
		return verdict{}
	}
	leaving := v.want != nil && v.want.Mode != plan.Sync
	members := r.members()
	if leaving && r.departed(v, members) {
		return r.release(ctx, key, fed)
	}
	if v.want != nil && v.want.Mode == plan.Sync && v.source.uid != fed.GetUID() {
		r.hub.add(key) // a successor of the same name
		return verdict{}
	}
	clusters, pending, wrote := r.clustersOf(v, fed, members)
	removing := slices.ContainsFunc(clusters, func(c status.Cluster) bool { return c.Code == status.WaitingForRemoval })
	if wait := patience - v.age; wait > 0 && (leaving || pending || removing) {
		return verdict{after: wait}
	}
	if v.want != nil && !leaving {
		if err := r.host.record(ctx, r.kind, fed, v); err != nil {
			r.log.Error(err, "Recording versions failed", "object", key)
			return verdict{retry: true}
		}
	}
	if err := r.writeStatus(ctx, fed, v, clusters, pending, wrote); err != nil {
		r.log.Error(err, "Writing the status failed", "object", key)
		return verdict{retry: true}
	}
	r.published(key, v)
	return verdict{}
}

func (r *Reconciler) members() map[string]*cluster.Member {
	list, _ := r.host.Members.Current()
	members := make(map[string]*cluster.Member, len(list))
	for _, m := range list {
		members[m.Name] = m
	}
	return members
}

// departed reports whether nothing is left to wait for before a federated object may go. A member that left the
// registry is not waited for, and with orphaning neither is one that is away: what it holds is released on its return.
func (r *Reconciler) departed(v view, members map[string]*cluster.Member) bool {
	for _, name := range v.relevant {
		m := members[name]
		if m == nil || v.want.Mode == plan.Orphan && !m.Ready() {
			continue
		}
		if r.leavesWithItsHost(v, name) {
			continue
		}
		return false
	}
	return true
}

// leavesWithItsHost recognises the namespace of a FederatedNamespace itself, seen through the host joined as a member:
// while it is being deleted it cannot go before the FederatedNamespace in it has gone.
func (r *Reconciler) leavesWithItsHost(v view, member string) bool {
	if v.want.HostNamespaceUID == "" {
		return false
	}
	r.mu.Lock()
	d := r.dispatchers[member]
	r.mu.Unlock()
	if d == nil || d.watch == nil {
		return false
	}
	obj := d.watch.Get(types.NamespacedName{Name: v.want.Name})
	return obj != nil && obj.GetUID() == v.want.HostNamespaceUID && obj.GetDeletionTimestamp() != nil
}

// release takes the finalizer off a federated object.
func (r *Reconciler) release(ctx context.Context, key types.NamespacedName, fed *unstructured.Unstructured) verdict {
	if slices.Contains(fed.GetFinalizers(), api.SyncFinalizer) {
		if err := r.removeFinalizer(ctx, fed); err != nil && !apierrors.IsNotFound(err) {
			if !apierrors.IsConflict(err) {
				r.log.Error(err, "Removing the finalizer failed", "object", key)
			}
			return verdict{retry: true}
		}
	}
	r.mu.Lock()
	delete(r.records, key)
	r.mu.Unlock()
	return verdict{}
}

// clustersOf lists what to say of each cluster. pending means that a ready cluster has not answered yet and nothing
// still valid is known of it.
func (r *Reconciler) clustersOf(v view, fed *unstructured.Unstructured, members map[string]*cluster.Member) (list []status.Cluster, pending, wrote bool) {
	if v.want == nil {
		return storedClusters(fed), false, false
	}
	stored := map[string]status.Cluster{}
	if observed, _, _ := unstructured.NestedInt64(fed.Object, "status", "observedGeneration"); observed == fed.GetGeneration() {
		for _, c := range storedClusters(fed) {
			stored[c.Name] = c
		}
	}
	for _, name := range v.relevant {
		m := members[name]
		if m == nil {
			continue
		}
		placed := slices.Contains(v.want.Placed, name)
		out, answered := v.outcomes[name]
		wrote = wrote || out.wrote
		answered = answered && out.seq == v.seq
		known, before := stored[name]
		switch {
		case placed && (m.Health.Ready == corev1.ConditionFalse || m.Health.Reason == cluster.ReasonMalformed):
			list = append(list, status.Cluster{Name: name, Code: status.ClusterNotReady, Message: m.Health.Message, Remote: out.remote})
		case answered && out.report:
			list = append(list, status.Cluster{Name: name, Code: out.code, Message: out.message, Remote: out.remote})
		case answered:
		case before:
			list = append(list, known)
			pending = pending || m.Ready()
		default:
			pending = true
		}
	}
	return list, pending, wrote
}

// storedClusters reads status.clusters.
func storedClusters(fed *unstructured.Unstructured) []status.Cluster {
	items, _, _ := unstructured.NestedSlice(fed.Object, "status", "clusters")
	list := make([]status.Cluster, 0, len(items))
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			name, _ := m["name"].(string)
			code, _ := m["status"].(string)
			message, _ := m["message"].(string)
			list = append(list, status.Cluster{Name: name, Code: status.Code(code), Message: message, Remote: m["remoteStatus"]})
		}
	}
	return list
}

func (r *Reconciler) writeStatus(ctx context.Context, fed *unstructured.Unstructured, v view, clusters []status.Cluster, pending, wrote bool) error {
	old, _, _ := unstructured.NestedMap(fed.Object, "status")
	generation := v.source.generation
	if v.want == nil {
		generation = fed.GetGeneration()
	}
	next, changed := status.Summarize(old, status.Input{
		Generation: generation, Reason: v.reason, Clusters: clusters, Pending: pending, Changed: wrote,
		CollectRemote: r.kind.remote, Now: time.Now(),
	})
	if !changed {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": next})
	if err != nil {
		return fmt.Errorf("encoding a status: %w", err)
	}
	answer, err := scoped(r.host.Client, r.kind.federated, fed.GetNamespace()).Patch(ctx, fed.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("patching the status of %s %s/%s: %w", r.kind.fedKind.Kind, fed.GetNamespace(), fed.GetName(), err)
	}
	if answer.GetDeletionTimestamp() == nil {
		r.feds.Observe(answer)
	}
	return nil
}

// published clears what was told of, unless it changed meanwhile.
func (r *Reconciler) published(key types.NamespacedName, v view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[key]
	if rec == nil {
		return
	}
	for name, out := range v.outcomes {
		if now, ok := rec.outcomes[name]; ok && now.wrote && now.seq == out.seq && now.version == out.version {
			now.wrote = false
			rec.outcomes[name] = now
		}
	}
}
