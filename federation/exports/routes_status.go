package exports

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// RouteController is the controllerName of what the hub says in the status of routes.
const RouteController gatewayv1.GatewayController = "hansa.dev/clusterset"

// maxParents is how many entries the API allows in the status of a route.
const maxParents = 32

// writeRoutes says in every route that names a service as a parent, or did, what became of it.
func (c *Controllers) writeRoutes(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	http, grpc, err := c.routes(ctx, request.NamespacedName)
	if err != nil {
		return reconcile.Result{}, err
	}
	wanted := servicepolicy.RouteStatuses(request.NamespacedName, http, grpc)
	var result reconcile.Result
	write := func(route client.Object) error {
		err := c.writeRoute(ctx, about(route), request.NamespacedName, wanted)
		if apierrors.IsConflict(err) { // somebody else wrote; what they wrote is here soon
			result.RequeueAfter = statusPace
			return nil
		}
		return err
	}
	for i := range http {
		if err := write(&http[i]); err != nil {
			return result, err
		}
	}
	for i := range grpc {
		if err := write(&grpc[i]); err != nil {
			return result, err
		}
	}
	return result, nil
}

// writeRoute writes the status of one route, if it changes. The list of parents is written whole, so it must not have changed
// since it was read.
func (c *Controllers) writeRoute(ctx context.Context, route *concern, service types.NamespacedName, wanted []servicepolicy.RouteStatus) error {
	parents := route.parents(service, wanted, metav1.Now())
	if equality.Semantic.DeepEqual(parents, route.status.Parents) {
		return nil
	}
	base, ok := route.object.DeepCopyObject().(client.Object)
	if !ok {
		return nil // a route is an object
	}
	route.status.Parents = parents
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := c.Client.Status().Patch(ctx, route.object, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("writing the status of %s %s: %w", route.kind, client.ObjectKeyFromObject(route.object), err)
	}
	return nil
}

// parents returns the status that a route should have: the entries of other controllers and about other services as they are,
// those about the service as wanted. An entry whose parentRef the route has no more goes.
func (c *concern) parents(service types.NamespacedName, wanted []servicepolicy.RouteStatus, now metav1.Time) []gatewayv1.RouteParentStatus {
	wanted = slices.DeleteFunc(slices.Clone(wanted), func(s servicepolicy.RouteStatus) bool {
		return s.Kind != c.kind || s.Namespace != c.object.GetNamespace() || s.Name != c.object.GetName()
	})
	parents := make([]gatewayv1.RouteParentStatus, 0, len(c.status.Parents)+len(wanted)) // never null: the API requires a list
	for i := range c.status.Parents {
		stands := &c.status.Parents[i]
		if stands.ControllerName != RouteController || c.named(&stands.ParentRef) != service && c.refers(&stands.ParentRef) {
			parents = append(parents, *stands)
			continue
		}
		j := slices.IndexFunc(wanted, func(s servicepolicy.RouteStatus) bool { return equality.Semantic.DeepEqual(s.Parent, stands.ParentRef) })
		if j >= 0 {
			parents = append(parents, entry(&wanted[j], stands.Conditions, now))
			wanted = slices.Delete(wanted, j, j+1)
		}
	}
	for i := range wanted {
		if len(parents) < maxParents {
			parents = append(parents, entry(&wanted[i], nil, now))
		}
	}
	return parents
}

func (c *concern) refers(parent *gatewayv1.ParentReference) bool {
	return slices.ContainsFunc(c.spec.ParentRefs, func(ref gatewayv1.ParentReference) bool { return equality.Semantic.DeepEqual(ref, *parent) })
}

// entry is the status for one parent. A condition that stands keeps the time of its last transition.
func entry(s *servicepolicy.RouteStatus, stand []metav1.Condition, now metav1.Time) gatewayv1.RouteParentStatus {
	conditions := slices.Clone(s.Conditions)
	for i := range conditions {
		conditions[i].LastTransitionTime = now
		if old := meta.FindStatusCondition(stand, conditions[i].Type); old != nil && old.Status == conditions[i].Status {
			conditions[i].LastTransitionTime = old.LastTransitionTime
		}
	}
	return gatewayv1.RouteParentStatus{ParentRef: s.Parent, ControllerName: RouteController, Conditions: conditions}
}
