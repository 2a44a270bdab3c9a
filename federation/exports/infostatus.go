package exports

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// writeInfo creates the ClusterInfo of a member, and keeps its status.
func (c *Controllers) writeInfo(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if request.Namespace != c.Namespace {
		return reconcile.Result{}, nil
	}
	var kfc corev1b1.KubeFedCluster
	err := c.Client.Get(ctx, request.NamespacedName, &kfc)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("reading KubeFedCluster %q: %w", request.Name, err)
	}
	member := err == nil
	if member && !kfc.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil
	}
	var info v1alpha1.ClusterInfo
	err = c.Client.Get(ctx, request.NamespacedName, &info)
	switch {
	case apierrors.IsNotFound(err) && member:
		return reconcile.Result{}, c.createInfo(ctx, &kfc)
	case err != nil:
		return reconcile.Result{}, client.IgnoreNotFound(err)
	case !info.DeletionTimestamp.IsZero():
		return reconcile.Result{}, nil
	case !member:
		return reconcile.Result{}, c.writeStatus(ctx, &info, OrphanStatus(&info, metav1.Now()))
	}
	select {
	case <-c.Watcher.Ready():
	default:
		return reconcile.Result{}, nil // what stands there is all that is known so far
	}
	for _, state := range c.Watcher.Clusters() {
		if state.Name != request.Name || state.ID == "" && state.Flaw == "" {
			continue
		}
		return reconcile.Result{}, c.writeStatus(ctx, &info, InfoStatus(&info, &state, metav1.Now()))
	}
	return reconcile.Result{}, nil
}

// writeStatus writes the status of a ClusterInfo, if it changes.
func (c *Controllers) writeStatus(ctx context.Context, info *v1alpha1.ClusterInfo, status v1alpha1.ClusterInfoStatus) error {
	if equality.Semantic.DeepEqual(status, info.Status) {
		return nil
	}
	base := info.DeepCopy()
	info.Status = status
	if err := c.Client.Status().Patch(ctx, info, client.MergeFrom(base)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("writing the status of ClusterInfo %q: %w", info.Name, err)
	}
	return nil
}

func (c *Controllers) createInfo(ctx context.Context, kfc *corev1b1.KubeFedCluster) error {
	info := &v1alpha1.ClusterInfo{ObjectMeta: metav1.ObjectMeta{
		Namespace: kfc.Namespace, Name: kfc.Name,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: corev1b1.SchemeGroupVersion.String(), Kind: "KubeFedCluster", Name: kfc.Name, UID: kfc.UID,
		}},
	}}
	if err := c.Client.Create(ctx, info); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating ClusterInfo %q: %w", kfc.Name, err)
	}
	return nil
}

// OrphanStatus returns the status of a ClusterInfo that belongs to no member.
func OrphanStatus(info *v1alpha1.ClusterInfo, now metav1.Time) v1alpha1.ClusterInfoStatus {
	status := v1alpha1.ClusterInfoStatus{Conditions: info.DeepCopy().Status.Conditions}
	meta.RemoveStatusCondition(&status.Conditions, ConditionInStep)
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: ConditionAccepted, Status: metav1.ConditionFalse, Reason: ReasonNoMember, ObservedGeneration: info.Generation, LastTransitionTime: now,
		Message: fmt.Sprintf("no KubeFedCluster is called %q, so this says nothing of any cluster: join the cluster by this name (hansa join %s), or delete this ClusterInfo",
			info.Name, info.Name),
	})
	return status
}

// InfoStatus returns the status of a ClusterInfo, given the one that stands and the state of the member.
func InfoStatus(info *v1alpha1.ClusterInfo, state *ClusterState, now metav1.Time) v1alpha1.ClusterInfoStatus {
	status := *info.Status.DeepCopy()
	status.ClusterID = state.ID
	status.Network = info.Spec.Network
	status.Region, status.Zones = state.Region, state.Zones
	status.Gateways, status.DataPlaneSource = state.Gateways, state.DataPlaneSource
	status.ControlPlane, status.DataPlane = v1alpha1.Health(state.ControlPlane), v1alpha1.Health(state.DataPlane)
	status.Exports, status.Endpoints = int32(state.Exports), int32(state.Endpoints) //nolint:gosec // G115: counts of objects
	status.LastKnown = nil
	if !state.LastKnown.IsZero() {
		status.LastKnown = new(metav1.NewTime(state.LastKnown.Truncate(time.Second)))
	}
	accepted := metav1.Condition{Type: ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", Message: fmt.Sprintf("the cluster id is %q", state.ID)}
	switch {
	case state.ID == "":
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, ReasonNoClusterID, state.Flaw
	case state.Flaw != "":
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, ReasonOtherClusterID, state.Flaw
	}
	step := metav1.Condition{Type: ConditionInStep, Status: metav1.ConditionTrue, Reason: "Watching", Message: "exports, services and endpoints are watched"}
	if !state.LastKnown.IsZero() {
		step.Status, step.Reason, step.Message = metav1.ConditionFalse, "OutOfStep", state.trouble()
	}
	for _, condition := range []metav1.Condition{accepted, step} {
		condition.ObservedGeneration, condition.LastTransitionTime = info.Generation, now
		meta.SetStatusCondition(&status.Conditions, condition)
	}
	return status
}

// maxMessage bounds what a condition says; the API allows 32768 bytes.
const (
	maxMessage = 1024
	more       = " …"
)

// trouble says why the hub is not in step with a member.
func (c *ClusterState) trouble() string {
	var parts []string
	if c.ControlPlane == clusterset.Down {
		parts = append(parts, "the API server is not ready")
	}
	for _, w := range c.Watches {
		if w.State == StateForbidden || w.State == StateUnreachable {
			parts = append(parts, fmt.Sprintf("%s: %s (%s)", w.Kind, w.State, w.Message))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "the first lists are under way")
	}
	return shortened(strings.Join(parts, "; "))
}

// shortened keeps a message within its bound.
func shortened(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage-len(more)], "") + more
}
