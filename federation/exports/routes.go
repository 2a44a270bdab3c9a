package exports

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/hansa-dev/hansa/federation/api"
)

// routesPeriod is how often it is looked whether the host cluster serves routes of the Gateway API by now.
const routesPeriod = 15 * time.Second

// routeWatcher has the controller of policies watch routes as soon as the host cluster serves them.
type routeWatcher struct {
	owner    *Controllers
	manager  manager.Manager
	policies controller.Controller
}

// NeedLeaderElection says that it runs on every replica.
func (*routeWatcher) NeedLeaderElection() bool { return false }

// Start looks for the routes until both kinds are watched.
func (r *routeWatcher) Start(ctx context.Context) error {
	tick := time.NewTicker(routesPeriod)
	defer tick.Stop()
	for {
		if !r.owner.http.Load() && r.served("HTTPRoute") {
			r.owner.http.Store(true)
			r.watch(source.Kind(r.manager.GetCache(), client.Object(&gatewayv1.HTTPRoute{}), handler.EnqueueRequestsFromMapFunc(concerned)))
		}
		if !r.owner.grpc.Load() && r.served("GRPCRoute") {
			r.owner.grpc.Store(true)
			r.watch(source.Kind(r.manager.GetCache(), client.Object(&gatewayv1.GRPCRoute{}), handler.EnqueueRequestsFromMapFunc(concerned)))
		}
		if r.owner.http.Load() && r.owner.grpc.Load() {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (r *routeWatcher) served(kind string) bool {
	_, err := r.manager.GetRESTMapper().RESTMapping(schema.GroupKind{Group: gatewayv1.GroupName, Kind: kind}, gatewayv1.GroupVersion.Version)
	return err == nil
}

func (r *routeWatcher) watch(routes source.Source) {
	if err := r.policies.Watch(routes); err != nil {
		r.owner.Log.Error(fmt.Errorf("watching routes of the Gateway API: %w", err), "Routes are not followed; restart the hub to try again")
	}
}

// concerned returns the global services that a route names as parent or backend.
func concerned(_ context.Context, object client.Object) []reconcile.Request {
	c := &concern{namespace: object.GetNamespace(), found: map[types.NamespacedName]struct{}{}}
	switch route := object.(type) {
	case *gatewayv1.HTTPRoute:
		c.parents(route.Spec.ParentRefs)
		for i := range route.Spec.Rules {
			for j := range route.Spec.Rules[i].BackendRefs {
				c.backend(&route.Spec.Rules[i].BackendRefs[j].BackendObjectReference)
			}
		}
	case *gatewayv1.GRPCRoute:
		c.parents(route.Spec.ParentRefs)
		for i := range route.Spec.Rules {
			for j := range route.Spec.Rules[i].BackendRefs {
				c.backend(&route.Spec.Rules[i].BackendRefs[j].BackendObjectReference)
			}
		}
	}
	requests := make([]reconcile.Request, 0, len(c.found))
	for name := range c.found {
		requests = append(requests, reconcile.Request{NamespacedName: name})
	}
	return requests
}

type concern struct {
	namespace string
	found     map[types.NamespacedName]struct{}
}

func (c *concern) parents(refs []gatewayv1.ParentReference) {
	for i := range refs {
		c.add(refs[i].Group, refs[i].Kind, refs[i].Namespace, refs[i].Name)
	}
}

func (c *concern) backend(ref *gatewayv1.BackendObjectReference) {
	c.add(ref.Group, ref.Kind, ref.Namespace, ref.Name)
}

func (c *concern) add(group *gatewayv1.Group, kind *gatewayv1.Kind, namespace *gatewayv1.Namespace, name gatewayv1.ObjectName) {
	if group == nil || *group != api.MCSGroup || kind == nil || *kind != "ServiceImport" {
		return
	}
	in := c.namespace
	if namespace != nil {
		in = string(*namespace)
	}
	c.found[types.NamespacedName{Namespace: in, Name: string(name)}] = struct{}{}
}
