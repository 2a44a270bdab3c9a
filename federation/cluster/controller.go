package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	"sigs.k8s.io/kubefed/pkg/apis/core/common"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
	mcbuilder "sigs.k8s.io/multicluster-runtime/pkg/builder"
	mccontroller "sigs.k8s.io/multicluster-runtime/pkg/controller"
	mchandler "sigs.k8s.io/multicluster-runtime/pkg/handler"
	mcmanager "sigs.k8s.io/multicluster-runtime/pkg/manager"
	mcreconcile "sigs.k8s.io/multicluster-runtime/pkg/reconcile"
)

// probeTimePeriod is how old lastProbeTime may be in the API while nothing changes: KubeFed writes it at every probe,
// which would be the busiest write of an idle hub.
const probeTimePeriod = time.Minute

// Reconciler publishes what probes found as the status of KubeFedClusters, and renews members' tokens: it runs on the leader
// only. Its Feed, which keeps the registry in step, runs on every replica.
type Reconciler struct {
	Registry  *Registry
	Client    client.Client // of the host cluster, reading through its cache
	Members   mcmanager.Manager
	Namespace string // of the hub
}

// SetupWithManager starts the reconciler as a controller of the host cluster, and the Feed with it.
func (r *Reconciler) SetupWithManager(mgr mcmanager.Manager) error {
	feed := &Feed{Registry: r.Registry, Client: r.Client, Namespace: r.Namespace}
	if err := feed.SetupWithManager(mgr.GetLocalManager()); err != nil {
		return err
	}
	host := []mcbuilder.EngageOptions{mcbuilder.WithEngageWithLocalCluster(true), mcbuilder.WithEngageWithProviderClusters(false)}
	changed := source.TypedFunc[mcreconcile.Request](func(_ context.Context, queue workqueue.TypedRateLimitingInterface[mcreconcile.Request]) error {
		r.Registry.onChange(func(name string) {
			queue.Add(mcreconcile.Request{Request: requestFor(r.Namespace, name)})
		})
		return nil
	})
	err := mcbuilder.ControllerManagedBy(mgr).
		Named("kubefedcluster").
		For(&corev1b1.KubeFedCluster{}, host[0], host[1]).
		Watches(&corev1.Secret{}, mchandler.Lift(handler.EnqueueRequestsFromMapFunc(feed.ownersOf)), host[0], host[1]).
		WatchesRawSource(changed).
		WithOptions(mccontroller.Options{MaxConcurrentReconciles: 8}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the cluster controller: %w", err)
	}
	return nil
}

// Reconcile brings the status and the token of one member up to date.
func (r *Reconciler) Reconcile(ctx context.Context, request mcreconcile.Request) (reconcile.Result, error) {
	var kfc corev1b1.KubeFedCluster
	if err := r.Client.Get(ctx, request.NamespacedName, &kfc); err != nil {
		if !apierrors.IsNotFound(err) {
			return reconcile.Result{}, fmt.Errorf("reading KubeFedCluster %q: %w", request.Name, err)
		}
		return reconcile.Result{}, nil
	}
	if !kfc.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil
	}
	health, topology, known := r.Registry.look(kfc.Name)
	if !known {
		return reconcile.Result{}, nil // the feed tells when it is
	}
	if err := r.publish(ctx, &kfc, health, topology); err != nil {
		return reconcile.Result{}, err
	}
	if health.Ready != corev1.ConditionTrue {
		return reconcile.Result{RequeueAfter: probeTimePeriod}, nil
	}
	secret, err := secretOf(ctx, r.Client, &kfc)
	if err != nil || secret == nil {
		return reconcile.Result{RequeueAfter: probeTimePeriod}, err
	}
	again := probeTimePeriod
	renewal, err := r.renew(ctx, &kfc, secret)
	if err != nil {
		// The old token is still good; the status stays true and the next round tries again.
		log.FromContext(ctx).Error(err, "Renewing the token of a member failed", "cluster", kfc.Name)
		return reconcile.Result{RequeueAfter: probeTimePeriod}, nil
	}
	if renewal > 0 {
		again = min(again, renewal)
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// publish writes the status of a member when it says something new, or when its probe time has grown old.
func (r *Reconciler) publish(ctx context.Context, kfc *corev1b1.KubeFedCluster, health Health, topology Topology) error {
	if health.Probed.IsZero() && len(kfc.Status.Conditions) > 0 {
		return nil // a restarted hub keeps what stands there until it knows better
	}
	status := StatusFor(kfc.Status, health, topology, time.Now())
	if equality.Semantic.DeepEqual(status, kfc.Status) {
		return nil
	}
	// Every field is named, so that one which became empty is removed by the merge.
	patch, err := json.Marshal(map[string]any{"status": map[string]any{
		"conditions":        status.Conditions,
		"kubernetesVersion": status.KubernetesVersion,
		"zones":             status.Zones,
		"region":            status.Region,
	}})
	if err != nil {
		return fmt.Errorf("encoding the status of cluster %q: %w", kfc.Name, err)
	}
	target := &corev1b1.KubeFedCluster{ObjectMeta: metav1.ObjectMeta{Namespace: kfc.Namespace, Name: kfc.Name}}
	if err := r.Client.Status().Patch(ctx, target, client.RawPatch(types.MergePatchType, patch)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("writing the status of cluster %q: %w", kfc.Name, err)
	}
	return nil
}

// StatusFor returns the status to show, given the one that stands and what is known. Times move only when something
// changed, or when the probe time shown is older than a minute. Ready stands beside Offline always; ConfigMalformed
// appears only while it is true.
func StatusFor(old corev1b1.KubeFedClusterStatus, health Health, topology Topology, now time.Time) corev1b1.KubeFedClusterStatus {
	next := *old.DeepCopy()
	if topology.Version != "" {
		next.KubernetesVersion = topology.Version
		next.Zones = slices.Clone(topology.Zones)
		next.Region = nil
		if topology.Region != "" {
			next.Region = new(topology.Region)
		}
	}
	wanted := []corev1b1.ClusterCondition{
		condition(common.ClusterReady, health.Ready, health.Reason, health.Message),
		offline(health),
	}
	if health.Reason == ReasonMalformed {
		wanted = append(wanted, condition(common.ClusterConfigMalformed, corev1.ConditionTrue, ReasonMalformed, health.Message))
	}
	changed := len(wanted) != len(old.Conditions)
	probed := health.Probed
	if probed.IsZero() {
		probed = now
	}
	for i := range wanted {
		if stamp(&wanted[i], find(old.Conditions, wanted[i].Type), probed, now) {
			changed = true
		}
	}
	if changed {
		next.Conditions = wanted
	}
	return next
}

// stamp sets the times of a condition, given the one that stands (nil for none), and reports whether it says something
// new.
func stamp(c, before *corev1b1.ClusterCondition, probed, now time.Time) bool {
	c.LastProbeTime = metav1.NewTime(probed.Truncate(time.Second))
	c.LastTransitionTime = new(metav1.NewTime(now.Truncate(time.Second)))
	if before == nil {
		return true
	}
	if before.Status == c.Status && before.LastTransitionTime != nil {
		c.LastTransitionTime = before.LastTransitionTime
	}
	return before.Status != c.Status || deref(before.Reason) != deref(c.Reason) || deref(before.Message) != deref(c.Message) ||
		probed.Sub(before.LastProbeTime.Time) >= probeTimePeriod
}

func offline(health Health) corev1b1.ClusterCondition {
	reason := ReasonReachable
	switch {
	case health.Offline == corev1.ConditionTrue:
		reason = ReasonNotReachable
	case health.Offline != corev1.ConditionFalse:
		reason = health.Reason
	}
	return condition(common.ClusterOffline, health.Offline, reason, health.Message)
}

func condition(kind common.ClusterConditionType, status corev1.ConditionStatus, reason, message string) corev1b1.ClusterCondition {
	return corev1b1.ClusterCondition{Type: kind, Status: status, Reason: &reason, Message: &message}
}

func find(conditions []corev1b1.ClusterCondition, kind common.ClusterConditionType) *corev1b1.ClusterCondition {
	for i := range conditions {
		if conditions[i].Type == kind {
			return &conditions[i]
		}
	}
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
