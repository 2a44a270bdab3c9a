package exports

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// The conditions that the leader writes.
const (
	// ConditionAccepted on a ClusterInfo: the cluster has an id; on a ServicePolicy: the policy is in force.
	ConditionAccepted = "Accepted"
	// ConditionInStep on a ClusterInfo: the hub reads everything that it should.
	ConditionInStep = "InStep"
	// ConditionResolved on a ServicePolicy: the service that it speaks of is exported.
	ConditionResolved = "Resolved"
)

// statusPace is the least time between two writes of one status.
const statusPace = time.Second

// Controllers connect a Watcher to the objects of the hub. On every replica ClusterInfos, ServicePolicies and routes of the
// Gateway API become what the Watcher is told; the leader creates the ClusterInfos of members, and writes statuses: of
// ClusterInfos, ServicePolicies and routes.
type Controllers struct {
	Client    client.Client // of the host cluster, reading through its cache
	Watcher   *Watcher
	Namespace string // of the hub
	Log       logr.Logger

	http, grpc atomic.Bool // the routes are watched
}

// SetupWithManager adds the types to the manager's scheme, and the controllers to the manager.
func (c *Controllers) SetupWithManager(mgr manager.Manager) error {
	for _, add := range []func() error{
		func() error { return v1alpha1.AddToScheme(mgr.GetScheme()) },
		func() error { return gatewayv1.Install(mgr.GetScheme()) },
		func() error { return c.addReaders(mgr) },
		func() error { return c.addWriters(mgr) },
	} {
		if err := add(); err != nil {
			return fmt.Errorf("setting up the controllers of global services: %w", err)
		}
	}
	return nil
}

// addReaders adds what runs on every replica, and with it the watches of routes, which the leader's writer of statuses needs
// too.
func (c *Controllers) addReaders(mgr manager.Manager) error {
	everywhere := controller.Options{NeedLeaderElection: new(false)}
	err := builder.ControllerManagedBy(mgr).Named("clusterinfo-reader").For(&v1alpha1.ClusterInfo{}).
		WithOptions(everywhere).Complete(reconcile.Func(c.readInfo))
	if err != nil {
		return err
	}
	policies, err := builder.ControllerManagedBy(mgr).Named("servicepolicy-reader").For(&v1alpha1.ServicePolicy{}).
		WithOptions(everywhere).Build(reconcile.Func(c.readPolicy))
	if err != nil {
		return err
	}
	statuses, err := controller.New("route-status", mgr, controller.Options{Reconciler: reconcile.Func(c.writeRoutes)})
	if err != nil {
		return err
	}
	return mgr.Add(c.newRouteWatcher(mgr, policies, statuses))
}

// addWriters adds what runs on the leader.
func (c *Controllers) addWriters(mgr manager.Manager) error {
	err := builder.ControllerManagedBy(mgr).Named("clusterinfo").For(&corev1b1.KubeFedCluster{}).
		Owns(&v1alpha1.ClusterInfo{}, builder.MatchEveryOwner).
		WatchesRawSource(source.Func(c.watchClusters)).
		Complete(reconcile.Func(c.writeInfo))
	if err != nil {
		return err
	}
	return builder.ControllerManagedBy(mgr).Named("servicepolicy").For(&v1alpha1.ServicePolicy{}).
		WatchesRawSource(source.Func(c.watchServices)).
		Complete(reconcile.Func(c.writePolicy))
}

func (c *Controllers) readInfo(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if request.Namespace != c.Namespace {
		return reconcile.Result{}, nil
	}
	var info v1alpha1.ClusterInfo
	switch err := c.Client.Get(ctx, request.NamespacedName, &info); {
	case apierrors.IsNotFound(err):
		c.Watcher.SetInfo(request.Name, nil)
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("reading ClusterInfo %q: %w", request.Name, err)
	default:
		c.Watcher.SetInfo(request.Name, &info)
	}
	return reconcile.Result{}, nil
}

// readPolicy puts together what is said of one service: its ServicePolicy, and the routes that name it.
func (c *Controllers) readPolicy(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var policy clusterset.Policy
	var written v1alpha1.ServicePolicy
	switch err := c.Client.Get(ctx, request.NamespacedName, &written); {
	case err == nil && written.DeletionTimestamp.IsZero():
		policy = servicepolicy.FromSpec(&written.Spec, request.Namespace)
	case client.IgnoreNotFound(err) != nil:
		return reconcile.Result{}, fmt.Errorf("reading ServicePolicy %s: %w", request, err)
	}
	found := written.Name != ""
	http, grpc, err := c.routes(ctx, request.NamespacedName)
	if err != nil {
		return reconcile.Result{}, err
	}
	policy = servicepolicy.WithRoutes(policy, request.NamespacedName, http, grpc)
	if !found && reflect.ValueOf(policy).IsZero() {
		c.Watcher.SetPolicy(request.NamespacedName, nil)
	} else {
		c.Watcher.SetPolicy(request.NamespacedName, &policy)
	}
	return reconcile.Result{}, nil
}

// watchClusters asks for a look at each member whose state changed.
func (c *Controllers) watchClusters(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go func() {
		told := map[string]ClusterState{}
		c.pace(ctx, func() {
			for _, state := range c.Watcher.Clusters() {
				if old, known := told[state.Name]; !known || !reflect.DeepEqual(old, state) {
					told[state.Name] = state
					queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: c.Namespace, Name: state.Name}})
				}
			}
		})
	}()
	return nil
}

// watchServices asks for a look at each service that changed.
func (c *Controllers) watchServices(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go func() {
		var told *clusterset.Snapshot
		c.pace(ctx, func() {
			snapshot, _ := c.Watcher.Current()
			if snapshot == told {
				return
			}
			for _, key := range snapshot.Since(told).Services {
				queue.Add(reconcile.Request{NamespacedName: key})
			}
			told = snapshot
		})
	}()
	return nil
}

// pace calls look from the first snapshot on, until ctx ends.
func (c *Controllers) pace(ctx context.Context, look func()) {
	select {
	case <-c.Watcher.Ready():
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(statusPace)
	defer tick.Stop()
	for {
		look()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// writeInfo creates the ClusterInfo of a member, and keeps its status.
func (c *Controllers) writeInfo(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var kfc corev1b1.KubeFedCluster
	if err := c.Client.Get(ctx, request.NamespacedName, &kfc); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if request.Namespace != c.Namespace || !kfc.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil
	}
	var info v1alpha1.ClusterInfo
	err := c.Client.Get(ctx, request.NamespacedName, &info)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, c.createInfo(ctx, &kfc)
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading ClusterInfo %q: %w", request.Name, err)
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
		status := InfoStatus(&info, &state, metav1.Now())
		if equality.Semantic.DeepEqual(status, info.Status) {
			return reconcile.Result{}, nil
		}
		base := info.DeepCopy()
		info.Status = status
		if err := c.Client.Status().Patch(ctx, &info, client.MergeFrom(base)); client.IgnoreNotFound(err) != nil {
			return reconcile.Result{}, fmt.Errorf("writing the status of ClusterInfo %q: %w", request.Name, err)
		}
	}
	return reconcile.Result{}, nil
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

// InfoStatus returns the status of a ClusterInfo, given the one that stands and the state of the member.
func InfoStatus(info *v1alpha1.ClusterInfo, state *ClusterState, now metav1.Time) v1alpha1.ClusterInfoStatus {
	status := *info.Status.DeepCopy()
	status.ClusterID = state.ID
	status.Network = info.Spec.Network
	status.Region, status.Zones = state.Region, state.Zones
	status.Gateways = info.Spec.Gateways
	status.ControlPlane, status.DataPlane = v1alpha1.Health(state.ControlPlane), v1alpha1.Health(state.DataPlane)
	status.Exports, status.Endpoints = int32(state.Exports), int32(state.Endpoints) //nolint:gosec // G115: counts of objects
	status.LastKnown = nil
	if !state.LastKnown.IsZero() {
		status.LastKnown = new(metav1.NewTime(state.LastKnown.Truncate(time.Second)))
	}
	accepted := metav1.Condition{Type: ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", Message: fmt.Sprintf("the cluster id is %q", state.ID)}
	switch {
	case state.ID == "":
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, "NoClusterID", state.Flaw
	case state.Flaw != "":
		accepted.Reason, accepted.Message = "OtherClusterID", state.Flaw
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
const maxMessage = 1024

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
	message := strings.Join(parts, "; ")
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "")
	}
	return message
}

// writePolicy keeps the status of a ServicePolicy.
func (c *Controllers) writePolicy(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var policy v1alpha1.ServicePolicy
	if err := c.Client.Get(ctx, request.NamespacedName, &policy); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	snapshot, _ := c.Watcher.Current()
	status := PolicyStatus(&policy, snapshot, metav1.Now())
	if equality.Semantic.DeepEqual(status, policy.Status) {
		return reconcile.Result{}, nil
	}
	base := policy.DeepCopy()
	policy.Status = status
	if err := c.Client.Status().Patch(ctx, &policy, client.MergeFrom(base)); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("writing the status of ServicePolicy %s: %w", request, err)
	}
	return reconcile.Result{}, nil
}

// strangers returns the clusters that a policy names and nobody is, sorted.
func strangers(spec *v1alpha1.ServicePolicySpec, snapshot *clusterset.Snapshot) []string {
	var named []string
	for _, tier := range spec.Failover {
		if tier.By == string(clusterset.ByCluster) {
			named = append(named, tier.Names...)
		}
	}
	for _, weight := range spec.ClusterWeights {
		named = append(named, weight.Cluster)
	}
	if spec.Consumers != nil {
		named = append(named, spec.Consumers.Clusters...)
	}
	subsets := func(mirror *v1alpha1.Mirror) {
		if mirror != nil {
			named = append(named, mirror.Clusters...)
		}
	}
	subsets(spec.Mirror)
	for i := range spec.Routes {
		subsets(spec.Routes[i].Mirror)
		for j := range spec.Routes[i].Destinations {
			named = append(named, spec.Routes[i].Destinations[j].Clusters...)
		}
	}
	slices.Sort(named)
	return slices.DeleteFunc(slices.Compact(named), func(id string) bool { return snapshot.Cluster(id) != nil })
}

// ids returns the ids of all members, sorted.
func ids(snapshot *clusterset.Snapshot) []string {
	clusters := snapshot.Clusters()
	list := make([]string, 0, len(clusters))
	for _, c := range clusters {
		list = append(list, c.ID)
	}
	return list
}

// PolicyStatus returns the status of a ServicePolicy, given the one that stands and the newest snapshot.
func PolicyStatus(policy *v1alpha1.ServicePolicy, snapshot *clusterset.Snapshot, now metav1.Time) v1alpha1.ServicePolicyStatus {
	status := *policy.Status.DeepCopy()
	status.ObservedGeneration = policy.Generation
	status.HonouredBy = servicepolicy.Support(&policy.Spec)
	key := client.ObjectKeyFromObject(policy)
	conditions := []metav1.Condition{{Type: ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", Message: "the policy is in force"}}
	if snapshot.Sequence() > 0 {
		resolved := metav1.Condition{Type: ConditionResolved, Status: metav1.ConditionTrue, Reason: "Exported", Message: "the service is exported"}
		if service := snapshot.Service(key); service == nil || !service.Exported() {
			resolved.Status, resolved.Reason = metav1.ConditionFalse, "NotExported"
			resolved.Message = fmt.Sprintf("no cluster exports %s: create a ServiceExport of that name beside its Service", key)
		}
		if unknown := strangers(&policy.Spec, snapshot); len(unknown) > 0 && resolved.Status == metav1.ConditionTrue {
			resolved.Status, resolved.Reason = metav1.ConditionFalse, "UnknownCluster"
			resolved.Message = fmt.Sprintf("the policy names clusters that are not members: %s; members by their ids are: %s",
				strings.Join(unknown, ", "), strings.Join(ids(snapshot), ", "))
		}
		conditions = append(conditions, resolved)
	}
	for _, condition := range conditions {
		condition.ObservedGeneration, condition.LastTransitionTime = policy.Generation, now
		meta.SetStatusCondition(&status.Conditions, condition)
	}
	return status
}
