package exports

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// RouteHost says what a host cluster serves of the Gateway API.
type RouteHost struct {
	Served func(kind string) bool
	Read   func(context.Context, client.Object) error
	Watch  func(client.Object) error
}

// FollowRoutes has Controllers watch routes as soon as the host cluster serves them. It returns once both kinds are watched.
func (c *Controllers) FollowRoutes(ctx context.Context, host RouteHost) error {
	r := &routeWatcher{
		kinds: c.routeKinds(), log: c.Log, refused: map[string]bool{},
		served: host.Served, read: host.Read, watch: host.Watch,
	}
	return r.Start(ctx)
}

// ReadsRoutes tells which kinds of routes Controllers read.
func (c *Controllers) ReadsRoutes() (http, grpc bool) { return c.http.Load(), c.grpc.Load() }

// ServeRoutes tells Controllers that the host cluster serves routes of the Gateway API.
func (c *Controllers) ServeRoutes() {
	c.http.Store(true)
	c.grpc.Store(true)
}

// WriteRoutes does what the leader does when routes change that concern a service.
func (c *Controllers) WriteRoutes(ctx context.Context, service types.NamespacedName) (reconcile.Result, error) {
	return c.writeRoutes(ctx, reconcile.Request{NamespacedName: service})
}

// Concerned returns the services that a route concerns.
func Concerned(route client.Object) []reconcile.Request {
	return concerned(context.Background(), route)
}
