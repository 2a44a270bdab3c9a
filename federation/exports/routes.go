package exports

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
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

// How often it is looked whether the host cluster serves routes of the Gateway API by now, and how long it may take to read
// them for the first time.
const (
	routesPeriod  = 10 * time.Second
	routesTimeout = 10 * time.Second
)

// routeWatcher has controllers watch routes as soon as the host cluster serves them.
type routeWatcher struct {
	kinds []routeKind
	log   logr.Logger
	// served tells whether the host cluster serves a kind; read returns when all of its objects have been read; watch has
	// controllers look at what changes from then on.
	served func(kind string) bool
	read   func(context.Context, client.Object) error
	watch  func(client.Object) error

	refused map[string]bool // kinds that could not be read, and are tried again
}

// routeKind is a kind of routes. watched is set when it has been read, so that nobody waits for routes.
type routeKind struct {
	name    string
	watched *atomic.Bool
	object  client.Object
}

// newRouteWatcher returns one for controllers: one that reads routes, on every replica, and one that writes their statuses, on
// the leader.
func (c *Controllers) newRouteWatcher(mgr manager.Manager, policies, statuses controller.Controller) *routeWatcher {
	return &routeWatcher{
		kinds: c.routeKinds(), log: c.Log, refused: map[string]bool{},
		served: func(kind string) bool {
			_, err := mgr.GetRESTMapper().RESTMapping(schema.GroupKind{Group: gatewayv1.GroupName, Kind: kind}, gatewayv1.GroupVersion.Version)
			return err == nil
		},
		read: func(ctx context.Context, object client.Object) error {
			_, err := mgr.GetCache().GetInformer(ctx, object)
			return err
		},
		watch: func(object client.Object) error {
			routes, spec := handler.EnqueueRequestsFromMapFunc(concerned), predicate.GenerationChangedPredicate{}
			return errors.Join(
				policies.Watch(source.Kind(mgr.GetCache(), object, routes, spec)), // statuses say nothing of use to clients
				statuses.Watch(source.Kind(mgr.GetCache(), object, routes)),
			)
		},
	}
}

func (c *Controllers) routeKinds() []routeKind {
	return []routeKind{
		{servicepolicy.KindHTTPRoute, &c.http, &gatewayv1.HTTPRoute{}},
		{servicepolicy.KindGRPCRoute, &c.grpc, &gatewayv1.GRPCRoute{}},
	}
}

// NeedLeaderElection says that it runs on every replica.
func (*routeWatcher) NeedLeaderElection() bool { return false }

// Start looks for the routes until both kinds are watched.
func (r *routeWatcher) Start(ctx context.Context) error {
	tick := time.NewTicker(routesPeriod)
	defer tick.Stop()
	for {
		if r.look(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look begins to watch what is served and not watched yet, and tells whether that is all. Both kinds have been read before
// either is acted on: a GRPCRoute that is read later would change what became of HTTPRoutes.
func (r *routeWatcher) look(ctx context.Context) (all bool) {
	all = true
	var found []routeKind
	for _, kind := range r.kinds {
		switch {
		case kind.watched.Load():
		case r.served(kind.name) && r.readable(ctx, kind):
			found = append(found, kind)
		default:
			all = false
		}
	}
	for _, kind := range found {
		kind.watched.Store(true)
	}
	for _, kind := range found {
		if err := r.watch(kind.object); err != nil {
			r.log.Error(fmt.Errorf("watching %ss: %w", kind.name, err), "Routes of this kind are not followed; restart the hub to try again")
		}
	}
	return all
}

// readable tells whether a kind can be read. Who may not read it once may later.
func (r *routeWatcher) readable(ctx context.Context, kind routeKind) bool {
	ctx, cancel := context.WithTimeout(ctx, routesTimeout)
	defer cancel()
	err := r.read(ctx, kind.object)
	if err != nil && !r.refused[kind.name] && !errors.Is(ctx.Err(), context.Canceled) {
		r.refused[kind.name] = true
		r.log.Error(fmt.Errorf("reading %ss: %w", kind.name, err), "Routes of this kind are not followed until the hub may read them: allow it to get, list and watch them in the host cluster")
	}
	return err == nil
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
