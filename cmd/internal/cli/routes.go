package cli

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// routes are those of the Gateway API in the host cluster.
type routes struct {
	http []gatewayv1.HTTPRoute
	grpc []gatewayv1.GRPCRoute
}

// readRoutes reads the routes of all namespaces. A host cluster that does not serve a kind has none of it.
func (h *host) readRoutes(ctx context.Context) (routes, []error) {
	http, grpc := &gatewayv1.HTTPRouteList{}, &gatewayv1.GRPCRouteList{}
	var flaws []error
	for _, list := range []struct {
		kind string
		into client.ObjectList
	}{{servicepolicy.KindHTTPRoute, http}, {servicepolicy.KindGRPCRoute, grpc}} {
		if err := h.client.List(ctx, list.into); err != nil && !apimeta.IsNoMatchError(err) {
			flaws = append(flaws, fmt.Errorf("%ss are left out: %w", list.kind, h.explain("listing them", err)))
		}
	}
	return routes{http.Items, grpc.Items}, flaws
}

// services are those that routes name as parents.
func (r routes) services() map[clusterset.Key]bool {
	found := map[clusterset.Key]bool{}
	add := func(namespace string, refs []gatewayv1.ParentReference) {
		for i := range refs {
			key := clusterset.Key{Namespace: namespace, Name: string(refs[i].Name)}
			if refs[i].Namespace != nil {
				key.Namespace = string(*refs[i].Namespace)
			}
			found[key] = true
		}
	}
	for i := range r.http {
		add(r.http[i].Namespace, r.http[i].Spec.ParentRefs)
	}
	for i := range r.grpc {
		add(r.grpc[i].Namespace, r.grpc[i].Spec.ParentRefs)
	}
	return found
}

// origin is who says a rule.
type origin struct {
	Kind string `json:"kind"`
	Name string `json:"name"` // in the namespace of the service
}

// routeSource is a route by itself.
type routeSource struct {
	origin
	created metav1.Time
	rules   []servicepolicy.Route
}

// sources returns the routes that hold for a service, each by itself, in the order that settles ties: the oldest first.
func (r routes) sources(key clusterset.Key) []routeSource {
	var sources []routeSource
	holds := map[origin]bool{}
	for _, status := range servicepolicy.RouteStatuses(key, r.http, r.grpc) {
		if apimeta.IsStatusConditionTrue(status.Conditions, string(gatewayv1.RouteConditionAccepted)) && status.Namespace == key.Namespace {
			holds[origin{status.Kind, status.Name}] = true
		}
	}
	add := func(from origin, meta *metav1.ObjectMeta, alone routes) {
		if meta.Namespace == key.Namespace && holds[from] {
			sources = append(sources, routeSource{from, meta.CreationTimestamp, rulesOf(servicepolicy.WithRoutes(clusterset.Policy{}, key, alone.http, alone.grpc))})
		}
	}
	for i := range r.http {
		add(origin{servicepolicy.KindHTTPRoute, r.http[i].Name}, &r.http[i].ObjectMeta, routes{http: r.http[i : i+1]})
	}
	for i := range r.grpc {
		add(origin{servicepolicy.KindGRPCRoute, r.grpc[i].Name}, &r.grpc[i].ObjectMeta, routes{grpc: r.grpc[i : i+1]})
	}
	slices.SortStableFunc(sources, func(a, b routeSource) int {
		return cmp.Or(a.created.Compare(b.created.Time), cmp.Compare(a.Name, b.Name))
	})
	return sources
}

func rulesOf(policy clusterset.Policy) []servicepolicy.Route {
	if l7, ok := policy.L7.(*servicepolicy.L7); ok && l7 != nil {
		return l7.Routes
	}
	return nil
}

// claim tells whether a rule of the merged order comes from the route, and takes its matches off it: of two routes that say
// the same, each has its own. Merging may have torn a rule apart, never changed what it does.
func (s *routeSource) claim(rule servicepolicy.Route) bool {
	for i := range s.rules {
		own := &s.rules[i]
		left, all := without(own.Matches, rule.Matches)
		body := *own
		body.Matches = rule.Matches
		if all && reflect.DeepEqual(body, rule) {
			own.Matches = left
			return true
		}
	}
	return false
}

// without returns what is left when some are taken from matches, and whether all of them were there.
func without(matches, some []servicepolicy.Match) (left []servicepolicy.Match, all bool) {
	left = slices.Clone(matches)
	for _, match := range some {
		at := slices.IndexFunc(left, func(m servicepolicy.Match) bool { return reflect.DeepEqual(m, match) })
		if at < 0 {
			return nil, false
		}
		left = slices.Delete(left, at, at+1)
	}
	return left, true
}

// origins tells of each rule of a service who says it. The first ones are the policy's own.
func (r routes) origins(key clusterset.Key, rules []servicepolicy.Route) []origin {
	sources := r.sources(key)
	all := make([]origin, len(rules))
	own := len(rules) - len(rulesOf(servicepolicy.WithRoutes(clusterset.Policy{}, key, r.http, r.grpc)))
	for i := range rules {
		all[i] = origin{"ServicePolicy", key.Name}
		if i < own {
			continue
		}
		for j := range sources {
			if sources[j].claim(rules[i]) {
				all[i] = sources[j].origin
				break
			}
		}
	}
	return all
}
