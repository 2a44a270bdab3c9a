package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/status"
	"github.com/hansa-dev/hansa/federation/sync/plan"
)

const (
	// memberTimeout bounds one request to a member (KubeFed's dispatch timeout).
	memberTimeout = 30 * time.Second
	// refusedRetry is the pause after an answer that will not change by itself, such as a validation error.
	refusedRetry = 10 * time.Second
	// foreignRetry is how often an object that may not be managed is looked at again, since the watch does not show it.
	foreignRetry = 30 * time.Second
)

// Dispatcher carries out the steps for one type in one member.
type Dispatcher struct {
	r        *Reconciler
	name     string // of the member
	revision string
	watch    *cluster.Watch // nil for a member that has no client
	lane     *lane
	life     context.Context //nolint:containedctx // of the watch and the lane
	cancel   context.CancelFunc

	mu     sync.Mutex
	member *cluster.Member
	ctx    context.Context //nolint:containedctx // of requests; renewed whenever the member stops being ready
	abort  context.CancelFunc
}

// newDispatcher starts the watch and the lane of a member.
func newDispatcher(r *Reconciler, m *cluster.Member) *Dispatcher {
	d := &Dispatcher{r: r, name: m.Name, revision: m.Revision(), member: m}
	d.life, d.cancel = context.WithCancel(r.run)
	d.ctx, d.abort = context.WithCancel(d.life)
	d.lane = newLane("dispatch/"+m.Name+"/"+r.kind.name, max(memberWorkers, r.host.Settings.Workers), d.handle)
	if client := m.Client(); client != nil {
		scope := ""
		if r.host.Settings.Limited && r.kind.target.Namespaced {
			scope = r.host.Namespace
		}
		d.watch = cluster.NewWatch(client, cluster.WatchOptions{
			Resource:  r.kind.resource,
			Namespace: scope,
			Selector:  api.ManagedLabel + "=" + api.Managed,
			Changed:   d.lane.add,
			Serves:    func(ctx context.Context) (bool, error) { return m.Serves(ctx, r.kind.resource) },
			Moved: func() {
				r.moved()
				d.wake()
			},
		})
		go d.watch.Run(d.life)
	}
	go d.lane.run(d.life)
	return d
}

// state says how far the dispatcher's view of its member has come.
func (d *Dispatcher) state() (cluster.WatchState, string) {
	member, _ := d.current()
	switch {
	case d.watch != nil && member.Health.Ready == corev1.ConditionUnknown:
		return cluster.WatchWaiting, member.Health.Message
	case d.watch == nil || !member.Ready():
		return cluster.WatchUnreachable, member.Health.Message
	}
	return d.watch.State()
}

func (d *Dispatcher) stop() { d.cancel() }

// serves reports whether the dispatcher's connection is that of m.
func (d *Dispatcher) serves(m *cluster.Member) bool { return d.revision == m.Revision() }

// update takes in a newer state of the member. A member that stopped being ready frees its workers at once; one that
// came back is listed anew and gets all its objects.
func (d *Dispatcher) update(m *cluster.Member) {
	d.mu.Lock()
	was := d.member
	d.member = m
	if was.Ready() && !m.Ready() {
		d.abort()
		d.ctx, d.abort = context.WithCancel(d.life)
	}
	d.mu.Unlock()
	if was.Ready() == m.Ready() && was.Health.Ready == m.Health.Ready {
		return
	}
	if !was.Ready() && m.Ready() && d.watch != nil {
		d.watch.Restart()
	}
	go d.wake()
	d.r.moved()
}

// wake looks again at every object that concerns the member.
func (d *Dispatcher) wake() {
	d.r.mu.Lock()
	keys := make([]types.NamespacedName, 0, len(d.r.records))
	for key, rec := range d.r.records {
		if rec.relevant[d.name] {
			keys = append(keys, key)
		}
	}
	d.r.mu.Unlock()
	for _, key := range keys {
		d.lane.add(key)
		d.r.done.add(key)
	}
}

func (d *Dispatcher) current() (*cluster.Member, context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.member, d.ctx
}

// handle is the member lane: it brings one object in one cluster a step closer to what is wanted.
func (d *Dispatcher) handle(_ context.Context, key types.NamespacedName) verdict {
	task, ok := d.r.ask(d, key)
	if !ok {
		return verdict{}
	}
	member, ctx := d.current()
	have, known := d.look(member, key, task)
	if !known {
		return verdict{} // wake comes when it is
	}
	step := plan.Make(*task.want, []plan.Have{have})[0]
	task.seen = have.Ready && have.Synced
	out, v := d.execute(ctx, key, task, step)
	if out.remote == nil && d.r.kind.remote && have.Object != nil {
		out.remote = have.Object.Object["status"]
	}
	d.r.settle(d, key, task, out, v)
	return v
}

// look returns what is known of an object in the member. known is false while the first probe or the first list is
// under way, when nothing can be said either way.
func (d *Dispatcher) look(member *cluster.Member, key types.NamespacedName, task task) (have plan.Have, known bool) {
	have = plan.Have{Cluster: d.name, Ready: member.Ready(), Recorded: task.recorded}
	if d.watch == nil {
		have.SyncError = member.Health.Message
		return have, true
	}
	have.Object = d.watch.Get(key)
	have.Synced = d.watch.Synced()
	state, message := d.watch.State()
	switch state {
	case cluster.WatchNotInstalled:
		have.SyncError = fmt.Sprintf("cluster %q does not serve %s: install its CustomResourceDefinition there", d.name, d.r.kind.resource.GroupResource())
		have.Synced = task.want.Mode != plan.Sync // where the kind does not exist, nothing is left to remove
	case cluster.WatchForbidden:
		have.SyncError = fmt.Sprintf("cluster %q does not let the hub read %s; the FederatedTypeConfig %q says how to grant it", d.name, d.r.kind.resource.GroupResource(), d.r.kind.name)
	default:
		have.SyncError = message
	}
	probed := member.Health.Ready == corev1.ConditionTrue || member.Health.Ready == corev1.ConditionFalse
	return have, probed && (!member.Ready() || have.Synced || state != cluster.WatchWaiting)
}

// execute carries out one step.
func (d *Dispatcher) execute(ctx context.Context, key types.NamespacedName, task task, step plan.Step) (outcome, verdict) {
	out := outcome{code: step.Status, message: step.Message, version: step.Version, report: step.Report}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	switch step.Verb {
	case plan.Create:
		defer func() { observeOperation("create", began) }()
		return d.create(ctx, key, task.want, step)
	case plan.Update:
		defer func() { observeOperation("update", began) }()
		return d.replace(ctx, step)
	case plan.Delete:
		defer func() { observeOperation("delete", began) }()
		return d.remove(ctx, key, step)
	case plan.Unlabel:
		return d.unlabel(ctx, key, step)
	case plan.Wait:
		return out, verdict{}
	case plan.None, plan.Record:
	}
	if task.seen && !step.Report && step.Status == status.OK {
		out.gone = true
		if task.uncertain {
			return d.confirmGone(ctx, key, out)
		}
	}
	if step.Status == status.AlreadyExists || step.Status == status.ManagedLabelFalse {
		return out, verdict{after: foreignRetry}
	}
	return out, verdict{}
}

// objects returns the member's client for the kind. obj may choose another version or group of it, as KubeFed allows
// for Ingress; nil means that of the FederatedTypeConfig.
func (d *Dispatcher) objects(obj *unstructured.Unstructured, namespace string) dynamic.ResourceInterface {
	member, _ := d.current()
	resource := d.r.kind.resource
	if obj != nil {
		gvk := obj.GroupVersionKind()
		resource = schema.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: resource.Resource}
	}
	return scoped(member.Client(), resource, namespace)
}

func (d *Dispatcher) create(ctx context.Context, key types.NamespacedName, want *plan.Want, step plan.Step) (outcome, verdict) {
	answer, err := d.objects(step.Object, key.Namespace).Create(ctx, step.Object, metav1.CreateOptions{})
	switch {
	case err == nil:
		return d.written(answer), verdict{}
	case apierrors.IsAlreadyExists(err):
		return d.adopt(ctx, key, want, step)
	}
	out, v := d.failed(step, err, "create", status.CreationFailed, status.CreationTimedOut)
	out.uncertain = !definite(err)
	return out, v
}

// adopt goes on after a create met an object that the watch does not show: one without the managed label, or one that
// was written a moment ago.
func (d *Dispatcher) adopt(ctx context.Context, key types.NamespacedName, want *plan.Want, step plan.Step) (outcome, verdict) {
	live, err := d.objects(step.Object, key.Namespace).Get(ctx, key.Name, getOptions)
	if apierrors.IsNotFound(err) {
		return outcome{pending: true}, verdict{retry: true}
	}
	if err != nil {
		return d.failed(step, err, "read", status.RetrievalFailed, status.RetrievalFailed)
	}
	next := plan.Adopt(*want, d.name, live)
	if next.Verb == plan.Update {
		return d.replace(ctx, next)
	}
	out := outcome{code: next.Status, message: next.Message, version: next.Version, report: true}
	switch {
	case next.Status == status.OK: // as desired already: only the watch is behind
		d.watch.Observe(live)
		return out, verdict{}
	case next.Verb == plan.Wait:
		return out, verdict{after: time.Second}
	}
	return out, verdict{after: foreignRetry}
}

func (d *Dispatcher) replace(ctx context.Context, step plan.Step) (outcome, verdict) {
	answer, err := d.objects(step.Object, step.Object.GetNamespace()).Update(ctx, step.Object, metav1.UpdateOptions{})
	switch {
	case err == nil:
		return d.written(answer), verdict{}
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		// The object changed or went since the watch last told: the next look sees it as it is.
		return outcome{pending: true}, verdict{retry: true}
	}
	return d.failed(step, err, "update", status.UpdateFailed, status.UpdateTimedOut)
}

func (d *Dispatcher) written(answer *unstructured.Unstructured) outcome {
	if d.watch != nil {
		d.watch.Observe(answer)
	}
	return outcome{code: status.OK, version: plan.Version(answer), report: true, wrote: true, remote: answer.Object["status"]}
}

func (d *Dispatcher) remove(ctx context.Context, key types.NamespacedName, step plan.Step) (outcome, verdict) {
	err := d.objects(nil, key.Namespace).Delete(ctx, key.Name, step.Options)
	switch {
	case err == nil:
		return outcome{code: status.WaitingForRemoval, message: step.Message, report: true, wrote: true}, verdict{}
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return outcome{code: status.WaitingForRemoval, report: true}, verdict{after: time.Second} // the watch will show it gone, or its successor
	}
	return d.failed(step, err, "delete", status.DeletionFailed, status.DeletionTimedOut)
}

func (d *Dispatcher) unlabel(ctx context.Context, key types.NamespacedName, step plan.Step) (outcome, verdict) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"labels":          map[string]any{api.ManagedLabel: nil},
		"uid":             step.UID,
		"resourceVersion": step.ResourceVersion,
	}})
	if err == nil {
		_, err = d.objects(nil, key.Namespace).Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return outcome{gone: true, wrote: true}, verdict{}
	case apierrors.IsConflict(err):
		return outcome{pending: true}, verdict{retry: true}
	}
	return d.failed(step, err, "remove the managed label from", status.LabelRemovalFailed, status.LabelRemovalTimedOut)
}

// confirmGone asks the member itself, since a create without an answer may have succeeded after all.
func (d *Dispatcher) confirmGone(ctx context.Context, key types.NamespacedName, out outcome) (outcome, verdict) {
	live, err := d.objects(nil, key.Namespace).Get(ctx, key.Name, getOptions)
	switch {
	case apierrors.IsNotFound(err):
		return out, verdict{}
	case err != nil:
		return outcome{pending: true, uncertain: true}, verdict{retry: true}
	case live.GetLabels()[api.ManagedLabel] == api.Managed && d.watch != nil:
		d.watch.Observe(live)
		return outcome{pending: true}, verdict{retry: true}
	}
	return out, verdict{}
}

// failed turns an error of a member's API into an outcome that names the object, the cluster and, where it is known,
// the next step.
func (d *Dispatcher) failed(step plan.Step, err error, attempt string, code, timedOut status.Code) (outcome, verdict) {
	out := outcome{code: code, report: true}
	if step.Object != nil {
		out.message = fmt.Sprintf("Failed to %s %s %q in cluster %q: %v", attempt, d.r.kind.target.GVK.Kind, display(step.Object), d.name, err)
	} else {
		out.message = fmt.Sprintf("Failed to %s the %s in cluster %q: %v", attempt, d.r.kind.target.GVK.Kind, d.name, err)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err):
		out.code = timedOut
		return out, verdict{retry: true}
	case errors.Is(err, context.Canceled):
		return outcome{pending: true, uncertain: true}, verdict{retry: true} // the member is known to be away, or the hub stops
	case apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		out.message += fmt.Sprintf("; allow it with a ClusterRole in the member that carries the label %s=%s", api.AggregateToMemberLabel, "true")
		return out, verdict{after: refusedRetry}
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err):
		return out, verdict{after: refusedRetry}
	}
	return out, verdict{retry: true}
}

// definite reports whether the API server itself refused, so that nothing can have been written.
func definite(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return false
	}
	code := answer.Status().Code
	return code >= http.StatusBadRequest && code < http.StatusInternalServerError && code != http.StatusRequestTimeout
}

func display(obj *unstructured.Unstructured) string {
	if obj.GetNamespace() == "" {
		return obj.GetName()
	}
	return obj.GetNamespace() + "/" + obj.GetName()
}
