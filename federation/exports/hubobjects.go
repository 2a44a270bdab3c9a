package exports

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
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
	// ConditionAccepted on a ClusterInfo: the cluster is a member with the id that it claims; on a ServicePolicy: the policy is in
	// force.
	ConditionAccepted = "Accepted"
	// ConditionInStep on a ClusterInfo: the hub reads everything that it should.
	ConditionInStep = "InStep"
	// ConditionResolved on a ServicePolicy: the service that it speaks of is exported, and so is what else it names.
	ConditionResolved = "Resolved"
)

// Reasons why a ClusterInfo is not accepted.
const (
	// ReasonNoMember: there is no KubeFedCluster of its name.
	ReasonNoMember = "NoMember"
	// ReasonNoClusterID: the cluster has no id, since another one has it or it is none, and nothing of it is used.
	ReasonNoClusterID = "NoClusterID"
	// ReasonOtherClusterID: the cluster has another id than it claims, and is used by that.
	ReasonOtherClusterID = "OtherClusterID"
)

// statusPace is the least time between two writes of one status.
const statusPace = time.Second

// lookBackTimeout bounds the one request that a hub makes before it starts.
const lookBackTimeout = 5 * time.Second

// Controllers connect a Watcher to the objects of the hub. On every replica ClusterInfos, ServicePolicies, Revocations and
// routes of the Gateway API become what the Watcher is told; the leader creates the ClusterInfos of members, and writes
// statuses: of ClusterInfos, ServicePolicies and routes.
type Controllers struct {
	Client    client.Client // of the host cluster, reading through its cache
	Watcher   *Watcher
	Namespace string // of the hub
	Log       logr.Logger

	http, grpc atomic.Bool // the routes are watched
}

// SetupWithManager adds the types to the manager's scheme, and the controllers to the manager.
func (c *Controllers) SetupWithManager(mgr manager.Manager) error {
	c.lookBack(mgr.GetAPIReader())
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

// lookBack finds out when a hub last led: before this one competes, since the Lease tells of this one afterwards.
func (c *Controllers) lookBack(reader client.Reader) {
	ctx, cancel := context.WithTimeout(context.Background(), lookBackTimeout)
	defer cancel()
	led, err := lastLed(ctx, reader, c.Namespace)
	if err != nil {
		c.Log.Info("When a hub led last is not known, so clusters that cannot be reached may be shown as older than they are", "reason", err.Error())
	}
	c.Watcher.setLed(led)
}

// addReaders adds what runs on every replica, and with it the watches of routes, which the leader's writer of statuses needs
// too.
func (c *Controllers) addReaders(mgr manager.Manager) error {
	everywhere := controller.Options{NeedLeaderElection: new(false)}
	seldom := predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }} // the time of creation does not change
	err := builder.ControllerManagedBy(mgr).Named("clusterinfo-reader").For(&v1alpha1.ClusterInfo{}).
		Watches(&corev1b1.KubeFedCluster{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(seldom)).
		WithOptions(everywhere).Complete(reconcile.Func(c.readInfo))
	if err != nil {
		return err
	}
	err = builder.ControllerManagedBy(mgr).Named("revocation-reader").For(&v1alpha1.Revocation{}).
		WithOptions(everywhere).Complete(reconcile.Func(c.readRevocations))
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
		Watches(&v1alpha1.ClusterInfo{}, &handler.EnqueueRequestForObject{}). // also of those that belong to no member
		WatchesRawSource(source.Func(c.watchClusters)).
		Complete(reconcile.Func(c.writeInfo))
	if err != nil {
		return err
	}
	return builder.ControllerManagedBy(mgr).Named("servicepolicy").For(&v1alpha1.ServicePolicy{}).
		WatchesRawSource(source.Func(c.watchPolicies)).
		Complete(reconcile.Func(c.writePolicy))
}

func (c *Controllers) readInfo(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if request.Namespace != c.Namespace {
		return reconcile.Result{}, nil
	}
	var member corev1b1.KubeFedCluster
	if err := c.Client.Get(ctx, request.NamespacedName, &member); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("reading KubeFedCluster %q: %w", request.Name, err)
	}
	c.Watcher.setBorn(request.Name, member.CreationTimestamp.Time)
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

// watchPolicies asks for a look at each policy whose service, or another that it names, changed, and at all when clusters did.
func (c *Controllers) watchPolicies(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go func() {
		var told *clusterset.Snapshot
		c.pace(ctx, func() {
			snapshot, _ := c.Watcher.Current()
			if snapshot == told {
				return
			}
			var policies v1alpha1.ServicePolicyList
			if err := c.Client.List(ctx, &policies, client.UnsafeDisableDeepCopy); err != nil {
				return // nothing was told; the next tick tries again
			}
			for _, key := range touched(policies.Items, snapshot.Since(told)) {
				queue.Add(reconcile.Request{NamespacedName: key})
			}
			told = snapshot
		})
	}()
	return nil
}

// touched returns the policies that changes may concern.
func touched(policies []v1alpha1.ServicePolicy, changes clusterset.Changes) []clusterset.Key {
	changed := make(map[clusterset.Key]struct{}, len(changes.Services))
	for _, key := range changes.Services {
		changed[key] = struct{}{}
	}
	concerns := func(key clusterset.Key) bool {
		_, is := changed[key]
		return is
	}
	var keys []clusterset.Key
	for i := range policies {
		policy := &policies[i]
		key := client.ObjectKeyFromObject(policy)
		if len(changes.Clusters) > 0 || concerns(key) || slices.ContainsFunc(servicepolicy.References(&policy.Spec, key.Namespace), concerns) {
			keys = append(keys, key)
		}
	}
	return keys
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
