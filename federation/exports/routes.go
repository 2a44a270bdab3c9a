package exports

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// routesPeriod is how often it is looked whether the host cluster serves routes of the Gateway API by now.
const routesPeriod = 10 * time.Second

// routeWatcher has controllers watch routes as soon as the host cluster serves them.
type routeWatcher struct {
	owner    *Controllers
	manager  manager.Manager
	policies controller.Controller // reads routes, on every replica
	statuses controller.Controller // writes their statuses, on the leader
}

// NeedLeaderElection says that it runs on every replica.
func (*routeWatcher) NeedLeaderElection() bool { return false }

// Start looks for the routes until both kinds are watched.
func (r *routeWatcher) Start(ctx context.Context) error {
	tick := time.NewTicker(routesPeriod)
	defer tick.Stop()
	for {
		r.look()
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

// look begins to watch what is served and not watched yet. Both kinds are known to be there before either is acted on: a
// GRPCRoute that is read later would change what became of HTTPRoutes.
func (r *routeWatcher) look() {
	var found []client.Object
	for _, kind := range []struct {
		name    string
		watched *atomic.Bool
		object  client.Object
	}{
		{servicepolicy.KindHTTPRoute, &r.owner.http, &gatewayv1.HTTPRoute{}},
		{servicepolicy.KindGRPCRoute, &r.owner.grpc, &gatewayv1.GRPCRoute{}},
	} {
		if !kind.watched.Load() && r.served(kind.name) {
			kind.watched.Store(true)
			found = append(found, kind.object)
		}
	}
	for _, object := range found {
		routes, changed := handler.EnqueueRequestsFromMapFunc(concerned), predicate.GenerationChangedPredicate{}
		r.watch(r.policies, source.Kind(r.manager.GetCache(), object, routes, changed)) // statuses say nothing of use to clients
		r.watch(r.statuses, source.Kind(r.manager.GetCache(), object, routes))
	}
}

func (r *routeWatcher) served(kind string) bool {
	_, err := r.manager.GetRESTMapper().RESTMapping(schema.GroupKind{Group: gatewayv1.GroupName, Kind: kind}, gatewayv1.GroupVersion.Version)
	return err == nil
}

func (r *routeWatcher) watch(by controller.Controller, routes source.Source) {
	if err := by.Watch(routes); err != nil {
		r.owner.Log.Error(fmt.Errorf("watching routes of the Gateway API: %w", err), "Routes are not followed; restart the hub to try again")
	}
}

// routes returns the routes of the Gateway API that concern a service. There may be many others, so those are not copied.
func (c *Controllers) routes(ctx context.Context, service types.NamespacedName) (http []gatewayv1.HTTPRoute, grpc []gatewayv1.GRPCRoute, err error) {
	if c.http.Load() {
		var list gatewayv1.HTTPRouteList
		if err := c.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, nil, fmt.Errorf("listing HTTPRoutes: %w", err)
		}
		for i := range list.Items {
			if about(&list.Items[i]).concerns(service) {
				http = append(http, *list.Items[i].DeepCopy())
			}
		}
	}
	if c.grpc.Load() {
		var list gatewayv1.GRPCRouteList
		if err := c.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, nil, fmt.Errorf("listing GRPCRoutes: %w", err)
		}
		for i := range list.Items {
			if about(&list.Items[i]).concerns(service) {
				grpc = append(grpc, *list.Items[i].DeepCopy())
			}
		}
	}
	return http, grpc, nil
}

// concerned returns the services that a route may hold for, or did when its status was written.
func concerned(_ context.Context, object client.Object) []reconcile.Request {
	c := about(object)
	if c == nil {
		return nil
	}
	found := map[types.NamespacedName]struct{}{}
	for i := range c.spec.ParentRefs {
		if name, ok := c.service(&c.spec.ParentRefs[i]); ok {
			found[name] = struct{}{}
		}
	}
	for i := range c.status.Parents {
		if c.status.Parents[i].ControllerName == RouteController {
			found[c.named(&c.status.Parents[i].ParentRef)] = struct{}{}
		}
	}
	requests := make([]reconcile.Request, 0, len(found))
	for name := range found {
		requests = append(requests, reconcile.Request{NamespacedName: name})
	}
	return requests
}

// concern is what routes of both kinds have in common.
type concern struct {
	object client.Object
	kind   string
	spec   *gatewayv1.CommonRouteSpec
	status *gatewayv1.RouteStatus
}

// about returns nil for what is no route.
func about(object client.Object) *concern {
	switch route := object.(type) {
	case *gatewayv1.HTTPRoute:
		return &concern{route, servicepolicy.KindHTTPRoute, &route.Spec.CommonRouteSpec, &route.Status.RouteStatus}
	case *gatewayv1.GRPCRoute:
		return &concern{route, servicepolicy.KindGRPCRoute, &route.Spec.CommonRouteSpec, &route.Status.RouteStatus}
	}
	return nil
}

func (c *concern) concerns(service types.NamespacedName) bool {
	return slices.ContainsFunc(c.spec.ParentRefs, func(ref gatewayv1.ParentReference) bool {
		name, ok := c.service(&ref)
		return ok && name == service
	}) || slices.ContainsFunc(c.status.Parents, func(parent gatewayv1.RouteParentStatus) bool {
		return parent.ControllerName == RouteController && c.named(&parent.ParentRef) == service
	})
}

// service returns the service that a parent is: a ServiceImport, or a Service, which counts when the route has ServiceImports
// as backends.
func (c *concern) service(ref *gatewayv1.ParentReference) (name types.NamespacedName, ok bool) {
	if ref.Group == nil || ref.Kind == nil {
		return name, false // a Gateway
	}
	imported := *ref.Group == api.MCSGroup && *ref.Kind == "ServiceImport"
	return c.named(ref), imported || *ref.Group == "" && *ref.Kind == "Service"
}

func (c *concern) named(ref *gatewayv1.ParentReference) types.NamespacedName {
	name := types.NamespacedName{Namespace: c.object.GetNamespace(), Name: string(ref.Name)}
	if ref.Namespace != nil {
		name.Namespace = string(*ref.Namespace)
	}
	return name
}
