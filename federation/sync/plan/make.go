package plan

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/status"
)

// Make returns one step per cluster in have, sorted by cluster. It modifies neither want nor have; the objects in the
// steps share nothing with them. Without a federated object the mode is Orphan whatever Mode says, and an unknown Mode
// does nothing: neither may turn into a deletion.
func Make(want Want, have []Have) []Step {
	steps := make([]Step, 0, len(have))
	for _, h := range have {
		var step Step
		switch {
		case want.Mode == Orphan || want.Object == nil:
			step = orphan(h)
		case want.Mode == Sync && slices.Contains(want.Placed, h.Cluster):
			step = place(want, h)
		case want.Mode == Sync || want.Mode == Remove:
			step = remove(want, h)
		default:
			step = Step{Verb: None}
		}
		step.Cluster = h.Cluster
		steps = append(steps, step)
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return strings.Compare(a.Cluster, b.Cluster) })
	return steps
}

// Adopt decides how to go on when a Create found that the object exists: live is what is there now. The step is an
// Update (Record if it is as desired already), or None with AlreadyExists or ManagedLabelFalse, or a Wait while the
// object is being deleted.
func Adopt(want Want, cluster string, live *unstructured.Unstructured) Step {
	step := existing(want, Have{Cluster: cluster, Ready: true, Synced: true, Object: live})
	step.Cluster = cluster
	return step
}

// place decides for a cluster where the object should exist.
func place(want Want, h Have) Step {
	switch {
	case !h.Ready:
		return notReady(None, h)
	case !h.Synced:
		return notSynced(None, want, h)
	case h.Object != nil:
		return existing(want, h)
	}
	desired, err := Desired(want, h.Cluster, nil)
	if err != nil {
		return failed(err)
	}
	return Step{Verb: Create, Object: desired, Report: true}
}

// existing decides for a placed cluster that has an object of the name.
func existing(want Want, h Have) Step {
	obj := h.Object
	label := managedLabel(obj)
	host := isHostNamespace(want, obj)
	switch {
	case label == api.Unmanaged:
		return Step{Verb: None, Status: status.ManagedLabelFalse, Report: true, Message: fmt.Sprintf(
			"%s in cluster %q has the label %s=%s: remove the label there to have it managed", describe(want), h.Cluster, api.ManagedLabel, api.Unmanaged)}
	case obj.GetDeletionTimestamp() != nil:
		return Step{Verb: Wait, Status: status.WaitingForRemoval, Report: true, Message: fmt.Sprintf(
			"%s is being deleted in cluster %q; it is created again when it is gone: see its finalizers if that takes long", describe(want), h.Cluster)}
	case label != api.Managed && !want.Adopt && !host:
		return Step{Verb: None, Status: status.AlreadyExists, Report: true, Message: fmt.Sprintf(
			"%s exists in cluster %q and is not managed: delete it there, or set syncController.adoptResources to Enabled in the KubeFedConfig",
			describe(want), h.Cluster)}
	case want.OverridesError != nil:
		return failed(&Error{Code: status.ApplyOverridesFailed, Err: want.OverridesError})
	}

	version := Version(obj)
	if label == api.Managed && h.Recorded == version && (strings.HasPrefix(version, "rv:") || metadataAsWanted(want, h)) {
		return Step{Verb: None, Version: version, Report: true}
	}
	desired, err := Desired(want, h.Cluster, obj)
	if err != nil {
		return failed(err)
	}
	if same(desired.Object, obj.Object) {
		return Step{Verb: Record, Version: version, Report: true}
	}
	return Step{Verb: Update, Object: desired, UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(), Report: true}
}

// remove decides for a cluster where the object should not exist.
func remove(want Want, h Have) Step {
	deleting := want.Mode == Remove
	managed := h.Object != nil && managedLabel(h.Object) == api.Managed
	// What is known or supposed to exist in an unreachable cluster holds up a deletion; a move to other clusters it
	// does not.
	waits := deleting && (managed || slices.Contains(want.Placed, h.Cluster))
	switch {
	case !h.Ready && waits:
		return notReady(Wait, h)
	case !h.Synced && waits:
		return notSynced(Wait, want, h)
	case !h.Ready && managed:
		// Nothing waits for it, but it is told of: a hub that is restarted meanwhile knows from the status what is left.
		return notReady(Wait, h)
	case !h.Ready, !h.Synced, !managed:
		return Step{Verb: None}
	}

	terminating := h.Object.GetDeletionTimestamp() != nil
	switch host := isHostNamespace(want, h.Object); {
	case host && terminating:
		// The federated object lives in this namespace: waiting for it would be waiting for itself.
		return Step{Verb: None}
	case host:
		return unlabel(h.Object)
	case terminating:
		return Step{Verb: Wait, Status: status.WaitingForRemoval, Report: true, Message: fmt.Sprintf(
			"%s is being deleted in cluster %q: see its finalizers if that takes long", describe(want), h.Cluster)}
	}
	return Step{
		Verb: Delete, Options: deleteOptions(want, h.Object), UID: h.Object.GetUID(), ResourceVersion: h.Object.GetResourceVersion(),
		Status: status.WaitingForRemoval, Report: true,
	}
}

// orphan decides for a cluster whose object is to be let go.
func orphan(h Have) Step {
	if !h.Ready || !h.Synced || h.Object == nil || managedLabel(h.Object) != api.Managed || h.Object.GetDeletionTimestamp() != nil {
		return Step{Verb: None}
	}
	return unlabel(h.Object)
}

func unlabel(obj *unstructured.Unstructured) Step {
	return Step{Verb: Unlabel, UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion()}
}

// deleteOptions are the user's grace period, preconditions and policy for dependents, as in KubeFed, with two additions:
// only this very object as it was seen may be deleted, and its dependents go with it unless the user says otherwise (a Job deleted
// through batch/v1 would leave its Pods behind).
func deleteOptions(want Want, obj *unstructured.Unstructured) metav1.DeleteOptions {
	given := want.DeleteOptions.DeepCopy()
	options := metav1.DeleteOptions{
		GracePeriodSeconds: given.GracePeriodSeconds,
		Preconditions:      given.Preconditions,
		PropagationPolicy:  given.PropagationPolicy,
	}
	if options.Preconditions == nil {
		options.Preconditions = &metav1.Preconditions{}
	}
	if options.Preconditions.UID == nil {
		options.Preconditions.UID = new(obj.GetUID())
	}
	if options.Preconditions.ResourceVersion == nil {
		options.Preconditions.ResourceVersion = new(obj.GetResourceVersion()) // its label may have gone since
	}
	if options.PropagationPolicy == nil {
		options.PropagationPolicy = new(metav1.DeletePropagationBackground)
	}
	return options
}

func notReady(verb Verb, h Have) Step {
	return Step{Verb: verb, Status: status.ClusterNotReady, Report: true, Message: NotReady(h.Cluster)}
}

// NotReady is what a status says of a cluster that is not ready. It holds no detail of the failure: that would be
// written once per object whenever it changes.
func NotReady(cluster string) string {
	return fmt.Sprintf("cluster %q is not ready: see the conditions of its KubeFedCluster", cluster)
}

func notSynced(verb Verb, want Want, h Have) Step {
	message := h.SyncError
	if message == "" {
		message = fmt.Sprintf("the %s objects of cluster %q have not been listed yet", want.Target.GVK.Kind, h.Cluster)
	}
	return Step{Verb: verb, Status: status.CachedRetrievalFailed, Report: true, Message: message}
}

func failed(err error) Step {
	return Step{Verb: None, Status: CodeOf(err), Report: true, Message: err.Error()}
}

// managedLabel returns the value of the managed label without copying the labels.
func managedLabel(obj *unstructured.Unstructured) string {
	value, _ := field(field(obj.Object, "metadata"), "labels")[api.ManagedLabel].(string)
	return value
}

func isHostNamespace(want Want, obj *unstructured.Unstructured) bool {
	return want.HostNamespaceUID != "" && want.Target.IsNamespace() && obj.GetUID() == want.HostNamespaceUID
}

// describe names the object for messages.
func describe(want Want) string {
	if want.Namespace == "" {
		return want.Target.GVK.Kind + " " + want.Name
	}
	return want.Target.GVK.Kind + " " + want.Namespace + "/" + want.Name
}
