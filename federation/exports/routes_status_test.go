package exports_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/hansa-dev/hansa/federation/exports"
)

// stranger is another controller of routes.
const stranger gatewayv1.GatewayController = "example.com/gateway"

// longAgo is when what stands was written.
var longAgo = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

// to is a parentRef or backendRef: "web" is a ServiceImport, "Service/web" a Service, "Gateway/web" a Gateway, "other/web" a
// ServiceImport in another namespace.
func to(what string) gatewayv1.ParentReference {
	kind, name, ok := strings.Cut(what, "/")
	ref := gatewayv1.ParentReference{Name: gatewayv1.ObjectName(name)}
	switch {
	case !ok:
		ref = gatewayv1.ParentReference{
			Group: new(gatewayv1.Group("multicluster.x-k8s.io")), Kind: new(gatewayv1.Kind("ServiceImport")), Name: gatewayv1.ObjectName(what),
		}
	case kind == "Service":
		ref.Group, ref.Kind = new(gatewayv1.Group("")), new(gatewayv1.Kind("Service"))
	case kind != "Gateway":
		ref = to(name)
		ref.Namespace = new(gatewayv1.Namespace(kind))
	}
	return ref
}

func refs(what ...string) []gatewayv1.ParentReference {
	all := make([]gatewayv1.ParentReference, 0, len(what))
	for _, one := range what {
		all = append(all, to(one))
	}
	return all
}

func backend(what string) gatewayv1.BackendRef {
	ref := to(what)
	return gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{
		Group: ref.Group, Kind: ref.Kind, Name: ref.Name, Namespace: ref.Namespace, Port: new(gatewayv1.PortNumber(80)),
	}}
}

func httpRoute(name string, parents ...string) *gatewayv1.HTTPRoute {
	r := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 3}}
	r.Spec.ParentRefs = refs(parents...)
	r.Spec.Rules = []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: backend("v2")}}}}
	return r
}

func grpcRoute(name string, parents ...string) *gatewayv1.GRPCRoute {
	r := &gatewayv1.GRPCRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 5}}
	r.Spec.ParentRefs = refs(parents...)
	r.Spec.Rules = []gatewayv1.GRPCRouteRule{{BackendRefs: []gatewayv1.GRPCBackendRef{{BackendRef: backend("v2")}}}}
	return r
}

// stood is an entry of a status as it stood before.
func stood(by gatewayv1.GatewayController, parent, condition string, status metav1.ConditionStatus) gatewayv1.RouteParentStatus {
	return gatewayv1.RouteParentStatus{ParentRef: to(parent), ControllerName: by, Conditions: []metav1.Condition{{
		Type: condition, Status: status, Reason: "Stood", ObservedGeneration: 1, LastTransitionTime: metav1.NewTime(longAgo),
	}}}
}

// shown writes the entries of a status as lines.
func shown(parents []gatewayv1.RouteParentStatus) []string {
	var lines []string
	for _, p := range parents {
		words := []string{string(p.ControllerName), string(p.ParentRef.Name) + ":"}
		for _, c := range p.Conditions {
			words = append(words, fmt.Sprintf("%s=%s/%s@%d", c.Type, c.Status, c.Reason, c.ObservedGeneration))
			if c.LastTransitionTime.Time.Equal(longAgo) {
				words = append(words, "old")
			}
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return lines
}

// routeHost is a host cluster with routes in memory.
type routeHost struct {
	client.Client

	controllers *exports.Controllers
	writes      int
	conflicts   int // how many writes are refused
}

func newRouteHost(t *testing.T, routes ...client.Object) *routeHost {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := gatewayv1.Install(scheme); err != nil {
		t.Fatal(err)
	}
	h := &routeHost{}
	h.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(routes...).
		WithStatusSubresource(&gatewayv1.HTTPRoute{}, &gatewayv1.GRPCRoute{}).
		WithInterceptorFuncs(interceptor.Funcs{SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, options ...client.SubResourcePatchOption) error {
			h.writes++
			if h.conflicts > 0 {
				h.conflicts--
				return apierrors.NewConflict(schema.GroupResource{Resource: "httproutes"}, o.GetName(), nil)
			}
			return c.SubResource(sub).Patch(ctx, o, p, options...)
		}}).Build()
	h.controllers = &exports.Controllers{Client: h.Client, Namespace: "hub", Log: logr.Discard()}
	h.controllers.ServeRoutes()
	return h
}

// write does what the leader does for a service, and returns whether it wants to look again.
func (h *routeHost) write(t *testing.T, service string) bool {
	t.Helper()
	result, err := h.controllers.WriteRoutes(t.Context(), types.NamespacedName{Namespace: "shop", Name: service})
	if err != nil {
		t.Fatal(err)
	}
	return result.RequeueAfter > 0
}

func (h *routeHost) http(t *testing.T, name string) *gatewayv1.HTTPRoute {
	t.Helper()
	r := &gatewayv1.HTTPRoute{}
	if err := h.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: name}, r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRouteStatus(t *testing.T) {
	t.Parallel()
	const fine = " Accepted=True/Accepted@3 ResolvedRefs=True/ResolvedRefs@3"
	theirs := stood(stranger, "Gateway/edge", "Accepted", metav1.ConditionTrue)
	for name, c := range map[string]struct {
		parents []string // of the HTTPRoute
		stands  []gatewayv1.RouteParentStatus
		change  func(*gatewayv1.HTTPRoute)
		want    []string // its status after a look at shop/web
	}{
		"a new parent": {
			parents: []string{"web"},
			want:    []string{"hansa.dev/clusterset web:" + fine},
		},
		"parents that are no business of ours": {
			parents: []string{"Gateway/web", "Service/other"},
			want:    nil,
		},
		"a Service, since a backend is imported": {
			parents: []string{"Service/web"},
			want:    []string{"hansa.dev/clusterset web:" + fine},
		},
		"entries of others stay, also about the same parent": {
			parents: []string{"Gateway/edge", "web"},
			stands:  []gatewayv1.RouteParentStatus{theirs, stood(stranger, "web", "Odd", metav1.ConditionFalse)},
			want: []string{
				"example.com/gateway edge: Accepted=True/Stood@1 old", "example.com/gateway web: Odd=False/Stood@1 old",
				"hansa.dev/clusterset web:" + fine,
			},
		},
		"what stays keeps its place and its time": {
			parents: []string{"Gateway/edge", "web"},
			stands:  []gatewayv1.RouteParentStatus{stood(exports.RouteController, "web", "Accepted", metav1.ConditionTrue), theirs},
			want: []string{
				"hansa.dev/clusterset web: Accepted=True/Accepted@3 old ResolvedRefs=True/ResolvedRefs@3",
				"example.com/gateway edge: Accepted=True/Stood@1 old",
			},
		},
		"what changes has a new time": {
			parents: []string{"web"},
			stands:  []gatewayv1.RouteParentStatus{stood(exports.RouteController, "web", "Accepted", metav1.ConditionFalse)},
			want:    []string{"hansa.dev/clusterset web:" + fine},
		},
		"a condition that is not said any more goes": {
			parents: []string{"web"},
			stands:  []gatewayv1.RouteParentStatus{stood(exports.RouteController, "web", "PartiallyInvalid", metav1.ConditionTrue)},
			want:    []string{"hansa.dev/clusterset web:" + fine},
		},
		"the parent has gone": {
			parents: []string{"Gateway/edge"},
			stands:  []gatewayv1.RouteParentStatus{theirs, stood(exports.RouteController, "web", "Accepted", metav1.ConditionTrue)},
			want:    []string{"example.com/gateway edge: Accepted=True/Stood@1 old"},
		},
		"it was the only one": {
			parents: []string{"Gateway/edge"},
			stands:  []gatewayv1.RouteParentStatus{stood(exports.RouteController, "web", "Accepted", metav1.ConditionTrue)},
			want:    nil,
		},
		"the parent is the same service, written otherwise": {
			parents: []string{"shop/web"},
			stands:  []gatewayv1.RouteParentStatus{stood(exports.RouteController, "web", "Accepted", metav1.ConditionTrue)},
			want:    []string{"hansa.dev/clusterset web:" + fine},
		},
		"an entry about another service waits for a look at that one": {
			parents: []string{"web", "second"},
			stands:  []gatewayv1.RouteParentStatus{stood(exports.RouteController, "second", "Accepted", metav1.ConditionFalse)},
			want:    []string{"hansa.dev/clusterset second: Accepted=False/Stood@1 old", "hansa.dev/clusterset web:" + fine},
		},
		"an entry about another service that has gone": {
			parents: []string{"web"},
			stands:  []gatewayv1.RouteParentStatus{stood(exports.RouteController, "second", "Accepted", metav1.ConditionFalse)},
			want:    []string{"hansa.dev/clusterset web:" + fine},
		},
		"a rule is dropped": {
			parents: []string{"web"},
			change: func(r *gatewayv1.HTTPRoute) {
				r.Spec.Rules = append(r.Spec.Rules, gatewayv1.HTTPRouteRule{Filters: []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterURLRewrite}}})
			},
			want: []string{"hansa.dev/clusterset web:" + fine + " PartiallyInvalid=True/UnsupportedValue@3"},
		},
		"a backend that not all clusters know": {
			parents: []string{"web"},
			change:  func(r *gatewayv1.HTTPRoute) { r.Spec.Rules[0].BackendRefs[0].BackendRef = backend("Service/v2") },
			want:    []string{"hansa.dev/clusterset web: Accepted=True/Accepted@3 ResolvedRefs=False/InvalidKind@3"},
		},
		"the status is full of others": {
			parents: []string{"web"},
			stands:  slices.Repeat([]gatewayv1.RouteParentStatus{theirs}, 32),
			want:    slices.Repeat([]string{"example.com/gateway edge: Accepted=True/Stood@1 old"}, 32),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			route := httpRoute("r", c.parents...)
			route.Status.Parents = c.stands
			if c.change != nil {
				c.change(route)
			}
			h := newRouteHost(t, route)
			h.write(t, "web")
			if diff := cmp.Diff(c.want, shown(h.http(t, "r").Status.Parents)); diff != "" {
				t.Errorf("the status is not as wanted (-want +got):\n%s", diff)
			}
			writes := h.writes
			if h.write(t, "web"); h.writes != writes {
				t.Error("a second look writes again")
			}
		})
	}
}

// A GRPCRoute wins against an HTTPRoute for as long as it is there, and the HTTPRoute says so.
func TestRouteStatusOfTwoKinds(t *testing.T) {
	t.Parallel()
	h := newRouteHost(t, httpRoute("r", "web"), httpRoute("bystander", "second"), grpcRoute("g", "web"))
	h.write(t, "web")
	grpc := &gatewayv1.GRPCRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "g"}}
	if err := h.Get(t.Context(), client.ObjectKeyFromObject(grpc), grpc); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		got, want []string
	}{
		"the GRPCRoute":           {shown(grpc.Status.Parents), []string{"hansa.dev/clusterset web: Accepted=True/Accepted@5 ResolvedRefs=True/ResolvedRefs@5"}},
		"the HTTPRoute":           {shown(h.http(t, "r").Status.Parents), []string{"hansa.dev/clusterset web: Accepted=False/Conflicted@3 ResolvedRefs=True/ResolvedRefs@3"}},
		"one for another service": {shown(h.http(t, "bystander").Status.Parents), nil},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("the status of %s is not as wanted (-want +got):\n%s", what, diff)
		}
	}
	if err := h.Delete(t.Context(), grpc); err != nil {
		t.Fatal(err)
	}
	h.write(t, "web")
	if got := shown(h.http(t, "r").Status.Parents); !slices.Equal(got, []string{"hansa.dev/clusterset web: Accepted=True/Accepted@3 ResolvedRefs=True/ResolvedRefs@3"}) {
		t.Errorf("without the GRPCRoute the status of the HTTPRoute is %s", got)
	}
}

// Somebody else's write in between is not undone: the leader looks again.
func TestRouteStatusConflict(t *testing.T) {
	t.Parallel()
	h := newRouteHost(t, httpRoute("r", "web"), httpRoute("s", "web"))
	h.conflicts = 1
	if !h.write(t, "web") {
		t.Error("a conflict is not tried again")
	}
	if h.writes != 2 {
		t.Errorf("%d of 2 routes were tried after a conflict", h.writes)
	}
	if h.write(t, "web") {
		t.Error("it is tried again although all is written")
	}
	for _, name := range []string{"r", "s"} {
		if got := h.http(t, name).Status.Parents; len(got) != 1 {
			t.Errorf("the status of %s is %s", name, shown(got))
		}
	}
}

// stale reads routes as they were once, as a cache may.
type stale struct {
	client.Client

	route gatewayv1.HTTPRoute
}

func (s *stale) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if routes, ok := list.(*gatewayv1.HTTPRouteList); ok {
		routes.Items = []gatewayv1.HTTPRoute{*s.route.DeepCopy()}
		return nil
	}
	return s.Client.List(ctx, list, options...)
}

// What is written from an old copy is refused by the API server, so that entries of others are not lost.
func TestRouteStatusFromOldCopy(t *testing.T) {
	t.Parallel()
	h := newRouteHost(t, httpRoute("r", "Gateway/edge", "web"))
	h.controllers.Client = &stale{h.Client, *h.http(t, "r")}
	now := h.http(t, "r")
	now.Status.Parents = []gatewayv1.RouteParentStatus{stood(stranger, "Gateway/edge", "Accepted", metav1.ConditionTrue)}
	if err := h.Status().Update(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if !h.write(t, "web") {
		t.Error("it is not tried again")
	}
	if got := shown(h.http(t, "r").Status.Parents); len(got) != 1 {
		t.Errorf("the status is %s", got)
	}
	h.controllers.Client = h.Client
	h.write(t, "web")
	if got := shown(h.http(t, "r").Status.Parents); len(got) != 2 {
		t.Errorf("with a new copy the status is %s", got)
	}
}

func TestConcerned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		route  client.Object
		status []gatewayv1.RouteParentStatus
		want   []string
	}{
		"each service once":                   {route: httpRoute("r", "web", "second", "web"), want: []string{"shop/second", "shop/web"}},
		"both kinds":                          {route: grpcRoute("r", "web"), want: []string{"shop/web"}},
		"another namespace":                   {route: httpRoute("r", "other/web"), want: []string{"other/web"}},
		"a Service may be meant":              {route: httpRoute("r", "Service/web"), want: []string{"shop/web"}},
		"a Gateway never is":                  {route: httpRoute("r", "Gateway/web")},
		"what we once said something about":   {route: httpRoute("r"), status: []gatewayv1.RouteParentStatus{stood(exports.RouteController, "web", "Accepted", metav1.ConditionTrue)}, want: []string{"shop/web"}},
		"what others said something about":    {route: httpRoute("r"), status: []gatewayv1.RouteParentStatus{stood(stranger, "web", "Accepted", metav1.ConditionTrue)}},
		"an object that is no route at all":   {route: &gatewayv1.Gateway{}},
		"a backend alone decides for nothing": {route: httpRoute("r", "Gateway/edge")},
	} {
		if r, ok := c.route.(*gatewayv1.HTTPRoute); ok {
			r.Status.Parents = c.status
		}
		var got []string
		for _, request := range exports.Concerned(c.route) {
			got = append(got, request.String())
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %s; want %s", name, got, c.want)
		}
	}
}
