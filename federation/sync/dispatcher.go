package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
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
	running  sync.WaitGroup

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
	d.lane = newLane("", max(memberWorkers, r.host.Settings.Workers), r.log.WithValues("cluster", m.Name), d.handle)
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
			Reborn: func() { r.forgetVersions(m.Name) },
		})
		d.running.Go(func() { d.watch.Run(d.life) })
	}
	d.running.Go(func() { d.lane.run(d.life) })
	return d
}

// holds reports whether the member has a managed object of the name.
func (d *Dispatcher) holds(key types.NamespacedName) bool {
	return d.watch != nil && d.watch.Get(key) != nil
}

// listed reports whether the member's objects have been listed, so that absence means something.
func (d *Dispatcher) listed() bool { return d.watch != nil && d.watch.Synced() }

// blind reports whether the member answers and its objects have not been listed yet, so that it may hold anything.
func (d *Dispatcher) blind() bool {
	member, _ := d.current()
	if d.watch == nil || !member.Ready() {
		return false
	}
	state, _ := d.watch.State()
	return state == cluster.WatchWaiting && !d.watch.Synced()
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

// stop ends the dispatcher; wait returns when nothing of it runs any more.
func (d *Dispatcher) stop() { d.cancel() }

func (d *Dispatcher) wait() { d.running.Wait() }

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
	if step.Verb == plan.Update {
		if pause := task.brake(time.Now()); pause > 0 {
			return verdict{after: pause}
		}
	}
	task.seen = have.Ready && have.Synced
	out, v := d.execute(ctx, key, task, step)
	if have.Object != nil && out.version != "" && out.uid == "" {
		out = out.of(have.Object)
	}
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
	var state cluster.WatchState
	var message string
	have.Object, have.Synced, state, message = d.watch.Look(key)
	if have.Object != nil && task.last.uid != "" {
		if have.Object.GetUID() == task.last.uid {
			have.Labels = task.last.labels
		} else {
			have.Recorded = "" // of its predecessor, though the version may be the same
		}
	}
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
		return d.replace(ctx, key, step)
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
		// The last word before a federated object lets go is the member's own, unless its watch showed the object leave:
		// a create of the past may have succeeded without an answer.
		if task.want.Mode == plan.Remove && task.last.code != status.WaitingForRemoval {
			return d.confirmGone(ctx, key, task.want, out)
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
	return d.failed(key, err, "create", status.CreationFailed, status.CreationTimedOut)
}

// adopt goes on after a create met an object that the watch does not show: one without the managed label, or one that
// was written a moment ago.
func (d *Dispatcher) adopt(ctx context.Context, key types.NamespacedName, want *plan.Want, step plan.Step) (outcome, verdict) {
	live, err := d.objects(step.Object, key.Namespace).Get(ctx, key.Name, getOptions)
	if apierrors.IsNotFound(err) {
		return outcome{pending: true}, verdict{retry: true}
	}
	if err != nil {
		return d.failed(key, err, "read", status.RetrievalFailed, status.RetrievalFailed)
	}
	next := plan.Adopt(*want, d.name, live)
	if next.Verb == plan.Update {
		return d.replace(ctx, key, next)
	}
	out := outcome{code: next.Status, message: next.Message, version: next.Version, report: true}
	switch {
	case next.Status == status.OK: // as desired already: only the watch is behind
		d.watch.Observe(live)
		return out.of(live), verdict{}
	case next.Verb == plan.Wait:
		return out, verdict{after: time.Second}
	}
	return out, verdict{after: foreignRetry}
}

func (d *Dispatcher) replace(ctx context.Context, key types.NamespacedName, step plan.Step) (outcome, verdict) {
	answer, err := d.objects(step.Object, key.Namespace).Update(ctx, step.Object, metav1.UpdateOptions{})
	switch {
	case err == nil:
		out := d.written(answer)
		out.updatedAt = time.Now()
		return out, verdict{}
	case apierrors.IsConflict(err), isGone(err):
		// The object changed or went since the watch last told: the next look sees it as it is.
		return outcome{pending: true}, verdict{retry: true}
	}
	return d.failed(key, err, "update", status.UpdateFailed, status.UpdateTimedOut)
}

func (d *Dispatcher) written(answer *unstructured.Unstructured) outcome {
	if d.watch != nil {
		d.watch.Observe(answer)
	}
	return outcome{code: status.OK, report: true, wrote: true, remote: answer.Object["status"]}.of(answer)
}

// remove deletes the object as it was seen. One that changed since is looked at again: only if it is still the same and
// still managed may it go.
func (d *Dispatcher) remove(ctx context.Context, key types.NamespacedName, step plan.Step) (outcome, verdict) {
	if d.r.kind.target.IsNamespace() {
		if held, err := d.isHostNamespace(ctx, key, step.UID); held || err != nil {
			return outcome{pending: true}, verdict{retry: true} // the watch of the host's namespaces is behind
		}
	}
	objects := d.objects(nil, key.Namespace)
	err := objects.Delete(ctx, key.Name, step.Options)
	if apierrors.IsConflict(err) {
		live, readErr := objects.Get(ctx, key.Name, getOptions)
		if readErr != nil || live.GetUID() != step.UID || live.GetLabels()[api.ManagedLabel] != api.Managed || live.GetDeletionTimestamp() != nil {
			return outcome{pending: true}, verdict{retry: true} // the watch will tell what became of it
		}
		options := *step.Options.DeepCopy()
		if given := options.Preconditions.ResourceVersion; given != nil && *given == step.ResourceVersion {
			options.Preconditions.ResourceVersion = new(live.GetResourceVersion())
		}
		err = objects.Delete(ctx, key.Name, options)
	}
	switch {
	case err == nil:
		return outcome{code: status.WaitingForRemoval, message: step.Message, report: true, wrote: true}, verdict{}
	case isGone(err), apierrors.IsConflict(err):
		return outcome{pending: true}, verdict{retry: true} // the watch will show it gone, or its successor
	}
	return d.failed(key, err, "delete", status.DeletionFailed, status.DeletionTimedOut)
}

// isHostNamespace asks the host whether a namespace of a member is the host's own, seen through the host joined as a
// member. It is asked before each deletion of a namespace, since deleting that one would take the hub's objects along.
func (d *Dispatcher) isHostNamespace(ctx context.Context, key types.NamespacedName, uid types.UID) (bool, error) {
	host, err := d.r.host.live(ctx, namespacesResource, types.NamespacedName{Name: key.Name})
	if isGone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return host.GetUID() == uid, nil
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
	case err == nil, isGone(err):
		return outcome{gone: true, wrote: true}, verdict{}
	case apierrors.IsConflict(err):
		return outcome{pending: true}, verdict{retry: true}
	}
	return d.failed(key, err, "remove the managed label from", status.LabelRemovalFailed, status.LabelRemovalTimedOut)
}

// confirmGone asks the member itself whether anything managed is left.
func (d *Dispatcher) confirmGone(ctx context.Context, key types.NamespacedName, want *plan.Want, out outcome) (outcome, verdict) {
	live, err := d.objects(nil, key.Namespace).Get(ctx, key.Name, getOptions)
	switch {
	case isGone(err):
		return out, verdict{}
	case apierrors.IsNotFound(err):
		member, _ := d.current()
		if served, err := member.Serves(ctx, d.r.kind.resource); err == nil && !served {
			return out, verdict{} // where the kind does not exist, nothing of it does
		}
		return outcome{pending: true}, verdict{retry: true}
	case err != nil:
		return d.failed(key, err, "read", status.RetrievalFailed, status.RetrievalFailed)
	case live.GetLabels()[api.ManagedLabel] != api.Managed:
		return out, verdict{}
	case want.HostNamespaceUID != "" && live.GetUID() == want.HostNamespaceUID:
		return out, verdict{} // the plan has let go of it already
	}
	if d.watch != nil {
		d.watch.Observe(live)
	}
	return outcome{pending: true}, verdict{retry: true}
}

// isGone reports whether an API server said that an object does not exist. A 404 of another kind, that the path is
// unknown or that a proxy has no backend, says nothing of the object.
func isGone(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// failed turns an error of a member's API into an outcome that names the object, the cluster and, where it is known,
// the next step.
func (d *Dispatcher) failed(key types.NamespacedName, err error, attempt string, code, timedOut status.Code) (outcome, verdict) {
	out := outcome{code: code, cause: apierrors.ReasonForError(err), report: true}
	out.message = fmt.Sprintf("Failed to %s %s %q in cluster %q: %v", attempt, d.r.kind.target.GVK.Kind, display(key), d.name, plain(err))
	switch {
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err):
		out.code = timedOut
		return out, verdict{retry: true}
	case errors.Is(err, context.Canceled):
		return outcome{pending: true}, verdict{retry: true} // the member is known to be away, or the hub stops
	case apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		out.message += "; if the hub is to be allowed this, grant it with a ClusterRole in the member that carries the label " + api.AggregateToMemberLabel +
			"=true; if the object names another apiVersion than its type's, check that"
		return out, verdict{after: refusedRetry}
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err), apierrors.IsNotFound(err) && !isGone(err):
		return out, verdict{after: refusedRetry}
	}
	return out, verdict{retry: true}
}

// plain leaves out of a transport error what differs from one try to the next, such as local ports.
func plain(err error) error {
	if failure, ok := errors.AsType[*url.Error](err); ok {
		err = failure.Err
	}
	if failure, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("%s: %w", failure.Op, failure.Err)
	}
	return err
}

func display(key types.NamespacedName) string {
	if key.Namespace == "" {
		return key.Name
	}
	return key.String()
}
