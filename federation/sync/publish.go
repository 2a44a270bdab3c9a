package sync

import (
	"context"
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

// The status waits for clusters that have not answered, so that one write tells of all of them: for patience, and while
// the type's lanes have work for busyPatience, looking again every busyCheck.
const (
	patience     = 2 * time.Second
	busyPatience = 10 * time.Second
	busyCheck    = 500 * time.Millisecond
)

// view is a copy of a record for the status lane.
type view struct {
	want     *plan.Want
	seq      uint64
	reason   status.Reason
	hashes   hashes
	source   source
	age      time.Duration
	relevant []string // sorted
	outcomes map[string]outcome
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
	switch {
	case fed == nil && v.leaving() && len(v.relevant) > 0:
		return verdict{} // objects of nobody are being released
	case fed == nil, v.want != nil && v.source.uid != fed.GetUID():
		r.hub.add(key) // it is gone, or a successor of the same name is there
		return verdict{}
	}
	members := r.members()
	if v.leaving() && departed(v, members) {
		r.out.add(key)
		return verdict{}
	}
	said := r.summary(v, fed, members)
	if wait := r.early(v, said); wait > 0 {
		return verdict{after: wait}
	}
	if err := r.write(ctx, fed, v, said); err != nil {
		// Conflicts, and namespaces that are being deleted with all that is in them, are ordinary.
		if !apierrors.IsConflict(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			r.log.Error(err, "Writing versions or status failed", "object", key)
		}
		return verdict{retry: true}
	}
	if v.reason == status.NamespaceNotFederated {
		r.warnUnfederated(key, fed, v)
	}
	r.published(key, v)
	return verdict{}
}

// warnUnfederated says what to do about an object whose namespace is not federated. KubeFed's user guide promises an
// event for every reason but CheckClusters.
func (r *Reconciler) warnUnfederated(key types.NamespacedName, fed *unstructured.Unstructured, v view) {
	message := fmt.Sprintf("Namespace %q has no FederatedNamespace, so the object is in no cluster; federate it: hansa federate namespace %s", key.Namespace, key.Namespace)
	if v.unplaceable() {
		message = "The FederatedNamespaces are not known, so the object stays where it is; enable their type: hansa enable namespaces"
	}
	r.warn(key, fed, "placement", string(status.NamespaceNotFederated), message)
}

// early returns how long to wait before something unfinished is told of, 0 for what is finished.
func (r *Reconciler) early(v view, said summary) time.Duration {
	switch {
	case !v.leaving() && !said.pending && !said.removing() && !v.unplaceable():
		return 0
	case v.age < patience:
		return patience - v.age
	case v.age < busyPatience && r.spreading():
		return busyCheck
	}
	return 0
}

// unplaceable reports whether the object is on hold because it cannot be told where its namespace is placed.
func (v view) unplaceable() bool { return v.want == nil && v.reason == status.NamespaceNotFederated }

// leaving reports whether the objects are to leave the members, or their management.
func (v view) leaving() bool { return v.want != nil && v.want.Mode != plan.Sync }

// write records the versions and then the status, each only if it says something new.
func (r *Reconciler) write(ctx context.Context, fed *unstructured.Unstructured, v view, said summary) error {
	if v.want != nil && !v.leaving() {
		if err := r.host.record(ctx, r.kind, fed, v); err != nil {
			return err
		}
	}
	return r.writeStatus(ctx, fed, v, said)
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
func departed(v view, members map[string]*cluster.Member) bool {
	for _, name := range v.relevant {
		m := members[name]
		if m == nil || v.want.Mode == plan.Orphan && !m.Ready() {
			continue
		}
		return false
	}
	return true
}

// release is the release lane: it takes the finalizer off a federated object whose removal is complete. It does not wait
// behind statuses.
func (r *Reconciler) release(ctx context.Context, key types.NamespacedName) verdict {
	v, ok := r.view(key)
	fed := r.feds.Get(r.federatedKey(key))
	if !ok || !v.leaving() || fed == nil || v.source.uid != fed.GetUID() || !departed(v, r.members()) {
		return verdict{} // something changed since; whoever changed it told the lanes concerned
	}
	if slices.Contains(fed.GetFinalizers(), api.SyncFinalizer) {
		if err := r.removeFinalizer(ctx, fed); err != nil && !apierrors.IsNotFound(err) {
			if !apierrors.IsConflict(err) {
				r.log.Error(err, "Removing the finalizer failed", "object", key)
			}
			return verdict{retry: true}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.records[key]; rec != nil && rec.seq == v.seq { // else it is a successor's
		delete(r.records, key)
	}
	return verdict{}
}

// summary is what a status says of the clusters.
type summary struct {
	clusters []status.Cluster
	pending  bool // a cluster has not answered yet
	wrote    bool // a member was written since the last status
}

func (s summary) removing() bool {
	return slices.ContainsFunc(s.clusters, func(c status.Cluster) bool { return c.Code == status.WaitingForRemoval })
}

// summary collects what to say of each cluster. Of one that has not answered, what the status said of the same
// generation stands.
func (r *Reconciler) summary(v view, fed *unstructured.Unstructured, members map[string]*cluster.Member) (s summary) {
	stored := storedClusters(fed.Object)
	if v.want == nil {
		return summary{clusters: stored}
	}
	observed, _, _ := unstructured.NestedInt64(fed.Object, "status", "observedGeneration")
	current := observed == fed.GetGeneration()
	for _, name := range v.relevant {
		m := members[name]
		if m == nil {
			continue
		}
		out, answered := v.outcomes[name]
		s.wrote = s.wrote || out.wrote
		before := slices.IndexFunc(stored, func(c status.Cluster) bool { return c.Name == name })
		switch {
		case m.Away() && (slices.Contains(v.want.Placed, name) || before >= 0):
			s.clusters = append(s.clusters, status.Cluster{Name: name, Code: status.ClusterNotReady, Message: plan.NotReady(name), Remote: out.remote})
		case answered && out.seq == v.seq:
			if out.report {
				s.clusters = append(s.clusters, status.Cluster{Name: name, Code: out.code, Message: out.message, Remote: out.remote})
			}
		case before >= 0 && current:
			s.clusters = append(s.clusters, stored[before])
			s.pending = s.pending || m.Ready()
		default:
			s.pending = true
		}
	}
	return s
}

// storedClusters reads status.clusters.
func storedClusters(fed map[string]any) []status.Cluster {
	items, _, _ := unstructured.NestedSlice(fed, "status", "clusters")
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

func (r *Reconciler) writeStatus(ctx context.Context, fed *unstructured.Unstructured, v view, said summary) error {
	old, _, _ := unstructured.NestedMap(fed.Object, "status")
	generation := v.source.generation
	if v.want == nil {
		generation = fed.GetGeneration()
	}
	next, changed := status.Summarize(old, status.Input{
		Generation: generation, Reason: v.reason, Clusters: said.clusters, Pending: said.pending, Changed: said.wrote,
		CollectRemote: r.kind.remote, Now: time.Now(),
	})
	if !changed {
		return nil
	}
	object := maps.Clone(fed.Object)
	object["status"] = next
	client := scoped(r.host.Client, r.kind.federated, fed.GetNamespace())
	answer, err := client.UpdateStatus(ctx, &unstructured.Unstructured{Object: object}, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("writing the status of %s %s/%s: %w", r.kind.fedKind.Kind, fed.GetNamespace(), fed.GetName(), err)
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
