package exports

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

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
