package servicepolicy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	mcsGroup      = "multicluster.x-k8s.io"
	serviceImport = "ServiceImport"

	// ReasonConflicted is the reason of an HTTPRoute that is not accepted because a GRPCRoute holds for the same service.
	ReasonConflicted = "Conflicted"
)

// The kinds of routes.
const (
	KindHTTPRoute = "HTTPRoute"
	KindGRPCRoute = "GRPCRoute"
)

// RouteStatus says what became of a route for one of its parents.
type RouteStatus struct {
	Kind            string // KindHTTPRoute or KindGRPCRoute
	Namespace, Name string
	Parent          gatewayv1.ParentReference
	// Conditions are Accepted, ResolvedRefs and, when rules were dropped, PartiallyInvalid, without times.
	Conditions []metav1.Condition
}

// WithRoutes returns the policy with the routes of the Gateway API that hold for the service key, behind the routes that
// it has. The package comment says which do and what of them is honoured; RouteStatuses says it for each. The order of
// the arguments makes no difference. p.L7 is a *L7 or nil, and is not modified.
func WithRoutes(p clusterset.Policy, key clusterset.Key, http []gatewayv1.HTTPRoute, grpc []gatewayv1.GRPCRoute) clusterset.Policy {
	routes := merge(accepted(attachments(key, http, grpc)))
	if len(routes) == 0 {
		return p
	}
	var l7 L7
	if old, ok := p.L7.(*L7); ok && old != nil {
		l7 = *old
	}
	l7.Routes = slices.Concat(l7.Routes, routes)
	p.L7 = &l7
	return p
}

// RouteStatuses says what became of each route that names the service as a parent, sorted by kind, namespace, name and
// the order of the parents. Other routes and other parents are not in it.
func RouteStatuses(key clusterset.Key, http []gatewayv1.HTTPRoute, grpc []gatewayv1.GRPCRoute) []RouteStatus {
	var statuses []RouteStatus
	for _, a := range attachments(key, http, grpc) {
		for _, p := range a.parents {
			statuses = append(statuses, RouteStatus{
				Kind: a.kind, Namespace: a.meta.Namespace, Name: a.meta.Name, Parent: p.ref, Conditions: a.conditions(p),
			})
		}
	}
	slices.SortStableFunc(statuses, func(a, b RouteStatus) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return statuses
}

// attachment is a route with those of its parents that are the service.
type attachment struct {
	kind    string
	meta    *metav1.ObjectMeta
	parents []parent
	rules   []rule
}

// parent is a reference to the service. With a reason the route does not hold because of it.
type parent struct {
	ref             gatewayv1.ParentReference
	reason, message string
}

// rule is a rule of a route, translated.
type rule struct {
	matches []ranked
	route   Route // without matches
	// dropped says why the rule is left out; empty when it is not.
	dropped string
	// unresolved are its references that lead nowhere.
	unresolved []unresolved
}

type unresolved struct {
	reason  gatewayv1.RouteConditionReason
	message string
}

// ranked is one match of the API, which may take several of ours, with its rank: greater numbers go first.
type ranked struct {
	matches []Match
	rank    [4]int
}

// attachments returns the routes that name the service as a parent, the oldest first, then by namespace and name.
func attachments(key clusterset.Key, http []gatewayv1.HTTPRoute, grpc []gatewayv1.GRPCRoute) []attachment {
	var all []attachment
	for i := range grpc {
		r := &grpc[i]
		if parents := parentsOf(key, r.Namespace, r.Spec.ParentRefs, grpcImports(r)); len(parents) > 0 {
			all = append(all, attachment{KindGRPCRoute, &r.ObjectMeta, parents, grpcRules(key, r)})
		}
	}
	specific := len(accepted(all)) > 0
	for i := range http {
		r := &http[i]
		parents := parentsOf(key, r.Namespace, r.Spec.ParentRefs, httpImports(r))
		for j := range parents {
			if specific && parents[j].reason == "" {
				parents[j].reason = ReasonConflicted
				parents[j].message = "a GRPCRoute holds for " + key.String() + ", and the more specific kind wins: write all routes as one kind"
			}
		}
		if len(parents) > 0 {
			all = append(all, attachment{KindHTTPRoute, &r.ObjectMeta, parents, httpRules(key, r)})
		}
	}
	slices.SortStableFunc(all, func(a, b attachment) int {
		return cmp.Or(a.meta.CreationTimestamp.Compare(b.meta.CreationTimestamp.Time),
			cmp.Compare(a.meta.Namespace, b.meta.Namespace), cmp.Compare(a.meta.Name, b.meta.Name))
	})
	return all
}

// accepted returns the attachments that hold.
func accepted(all []attachment) []attachment {
	return slices.DeleteFunc(slices.Clone(all), func(a attachment) bool {
		return !slices.ContainsFunc(a.parents, func(p parent) bool { return p.reason == "" }) ||
			!slices.ContainsFunc(a.rules, func(r rule) bool { return r.dropped == "" })
	})
}

// parentsOf returns the references to the service among those of a route in namespace. imports tells whether the route
// has ServiceImports as backends.
func parentsOf(key clusterset.Key, namespace string, refs []gatewayv1.ParentReference, imports bool) []parent {
	var parents []parent
	for _, ref := range refs {
		group, kind := value(ref.Group, gatewayv1.GroupName), value(ref.Kind, "Gateway")
		ours := group == mcsGroup && kind == serviceImport || imports && group == "" && kind == "Service"
		if !ours || key != (clusterset.Key{Namespace: value(ref.Namespace, gatewayv1.Namespace(namespace)), Name: string(ref.Name)}) {
			continue
		}
		p := parent{ref: ref}
		switch {
		case namespace != key.Namespace:
			p.reason = string(gatewayv1.RouteReasonUnsupportedValue)
			p.message = "a route in another namespace would hold for clients of that namespace only, which cannot be told apart: write it in namespace " + key.Namespace
		case ref.Port != nil || ref.SectionName != nil:
			p.reason = string(gatewayv1.RouteReasonUnsupportedValue)
			p.message = "a route holds for all ports of a service: remove port and sectionName from the parentRef"
		}
		parents = append(parents, p)
	}
	return parents
}

// value returns what a pointer of the API points to, or its default, as a string.
func value[T ~string](v *T, otherwise T) string {
	if v == nil {
		return string(otherwise)
	}
	return string(*v)
}

// merge puts the matches of all rules in the order in which the Gateway API wants them tried. Attachments are sorted, so
// a stable sort settles what ties are left.
func merge(attachments []attachment) []Route {
	type entry struct {
		ranked
		from *rule
	}
	var entries []entry
	for i := range attachments {
		for j := range attachments[i].rules {
			from := &attachments[i].rules[j]
			if from.dropped != "" {
				continue
			}
			for _, m := range from.matches {
				entries = append(entries, entry{m, from})
			}
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return slices.Compare(b.rank[:], a.rank[:]) })
	var routes []Route
	for i, e := range entries {
		if i > 0 && entries[i-1].from == e.from { // any of them, so neighbours of one rule make one route
			last := &routes[len(routes)-1]
			last.Matches = slices.Concat(last.Matches, e.matches)
			continue
		}
		route := e.from.route
		route.Matches = e.matches
		routes = append(routes, route)
	}
	return routes
}

// conditions returns those of a route for one parent.
func (a *attachment) conditions(p parent) []metav1.Condition {
	var dropped []string
	var bad []unresolved
	for i, r := range a.rules {
		if r.dropped != "" {
			dropped = append(dropped, fmt.Sprintf("Dropped Rule %d: %s", i, r.dropped))
			continue
		}
		bad = append(bad, r.unresolved...)
	}
	all := len(dropped) > 0 && len(dropped) == len(a.rules)
	ok := func(kind gatewayv1.RouteConditionType, reason gatewayv1.RouteConditionReason) metav1.Condition {
		return metav1.Condition{Type: string(kind), Status: metav1.ConditionTrue, Reason: string(reason), ObservedGeneration: a.meta.Generation}
	}
	taken := ok(gatewayv1.RouteConditionAccepted, gatewayv1.RouteReasonAccepted)
	switch {
	case p.reason != "":
		taken.Status, taken.Reason, taken.Message = metav1.ConditionFalse, p.reason, p.message
	case all:
		taken.Status, taken.Reason, taken.Message = metav1.ConditionFalse, string(gatewayv1.RouteReasonUnsupportedValue), strings.Join(dropped, "; ")
	}
	resolved := ok(gatewayv1.RouteConditionResolvedRefs, gatewayv1.RouteReasonResolvedRefs)
	if len(bad) > 0 {
		messages := make([]string, 0, len(bad))
		for _, u := range bad {
			messages = append(messages, u.message)
		}
		resolved.Status, resolved.Reason = metav1.ConditionFalse, string(bad[0].reason)
		resolved.Message = strings.Join(slices.Compact(messages), "; ")
	}
	conditions := []metav1.Condition{taken, resolved}
	if p.reason == "" && len(dropped) > 0 && !all {
		partly := ok(gatewayv1.RouteConditionPartiallyInvalid, gatewayv1.RouteReasonUnsupportedValue)
		partly.Message = strings.Join(dropped, "; ")
		conditions = append(conditions, partly)
	}
	return conditions
}

// backends translates the references of one rule.
type backends struct {
	key       clusterset.Key
	namespace string // of the route
	rule      *rule
}

// subset returns what a reference means. What it cannot resolve is Nobody, and noted.
func (b backends) subset(ref *gatewayv1.BackendObjectReference) (Subset, bool) {
	group, kind := value(ref.Group, ""), value(ref.Kind, "Service")
	namespace := value(ref.Namespace, gatewayv1.Namespace(b.namespace))
	switch {
	case group != mcsGroup || kind != serviceImport:
		b.rule.unresolved = append(b.rule.unresolved, unresolved{
			gatewayv1.RouteReasonInvalidKind,
			fmt.Sprintf("backend %s %q is not known in all clusters: export the service, and write group: %s, kind: %s", kind, ref.Name, mcsGroup, serviceImport),
		})
		return Nobody(), false
	case namespace != b.namespace:
		b.rule.unresolved = append(b.rule.unresolved, unresolved{
			gatewayv1.RouteReasonRefNotPermitted,
			fmt.Sprintf("backend %s/%s is in another namespace, and grants are not read: use a backend in %s, or a ServicePolicy", namespace, ref.Name, b.namespace),
		})
		return Nobody(), false
	case ref.Port == nil && b.key == clusterset.Key{Namespace: namespace, Name: string(ref.Name)}:
		return Subset{}, true
	}
	subset := Subset{Namespace: namespace, Name: string(ref.Name)}
	if ref.Port != nil {
		subset.Port = max(*ref.Port, 0)
	}
	return subset, true
}

// add adds a backend to the destinations of the rule. One with filters of its own drops the rule.
func (b backends) add(ref *gatewayv1.BackendRef, filters int) {
	if filters > 0 {
		b.rule.drop("filters of a single backend are not supported: move RequestMirror to the rule")
	}
	weight := uint32(1)
	if ref.Weight != nil {
		weight = count(ref.Weight)
	}
	if subset, _ := b.subset(&ref.BackendObjectReference); weight > 0 {
		b.rule.route.Destinations = append(b.rule.route.Destinations, Destination{Subset: subset, Weight: weight})
	}
}

// end lets requests fail that have nowhere to go.
func (b backends) end() {
	if !slices.ContainsFunc(b.rule.route.Destinations, func(d Destination) bool { return !isNobody(d.Subset) }) {
		b.rule.route.Destinations = nowhere()
	}
}

// filter takes a filter of the rule, or drops the rule. The names of filters are the same in all kinds of routes.
func (b backends) filter(kind string, mirror *gatewayv1.HTTPRequestMirrorFilter) {
	if kind != string(gatewayv1.HTTPRouteFilterRequestMirror) {
		b.rule.drop(fmt.Sprintf("the filter %s is not supported: of filters only RequestMirror is", kind))
		return
	}
	b.mirror(mirror)
}

// sticky drops a rule that wants sessions.
func (r *rule) sticky(sessions *gatewayv1.SessionPersistence) {
	if sessions != nil {
		r.drop("sessionPersistence is not supported: use loadBalancing RingHash of a ServicePolicy")
	}
}

// mirror sets the mirror of the rule, or drops the rule when it has one already.
func (b backends) mirror(filter *gatewayv1.HTTPRequestMirrorFilter) {
	switch {
	case filter == nil:
		return
	case b.rule.route.Mirror != nil:
		b.rule.drop("a request is copied once: keep one RequestMirror")
		return
	}
	if subset, ok := b.subset(&filter.BackendRef); ok {
		if percent := percentOf(filter); percent > 0 {
			b.rule.route.Mirror = &Mirror{Subset: subset, Percent: percent}
		}
	}
}

// drop leaves the rule out; the first reason stands.
func (r *rule) drop(why string) {
	if r.dropped == "" {
		r.dropped = why
	}
}

func percentOf(filter *gatewayv1.HTTPRequestMirrorFilter) float64 {
	switch {
	case filter.Percent != nil:
		return min(max(float64(*filter.Percent), 0), 100)
	case filter.Fraction != nil:
		denominator := 100.0
		if d := filter.Fraction.Denominator; d != nil && *d > 0 {
			denominator = float64(*d)
		}
		return min(max(100*float64(filter.Fraction.Numerator)/denominator, 0), 100)
	}
	return 100
}

// timeOf returns a duration of the API; 0 when it is not set, and an error for the condition when it is none.
func timeOf(field string, d *gatewayv1.Duration) (time.Duration, string) {
	if d == nil {
		return 0, ""
	}
	parsed, err := time.ParseDuration(string(*d))
	if err != nil || parsed < 0 {
		return 0, fmt.Sprintf("%s is %q: write a duration such as 1m30s", field, *d)
	}
	return parsed, ""
}
