package servicepolicy

import (
	"regexp"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

func grpcImports(r *gatewayv1.GRPCRoute) bool {
	return slices.ContainsFunc(r.Spec.Rules, func(rule gatewayv1.GRPCRouteRule) bool {
		return slices.ContainsFunc(rule.BackendRefs, func(ref gatewayv1.GRPCBackendRef) bool { return isImport(&ref.BackendObjectReference) })
	})
}

func grpcRules(key clusterset.Key, r *gatewayv1.GRPCRoute) []rule {
	rules := make([]rule, len(r.Spec.Rules))
	for i := range r.Spec.Rules {
		grpcRule(&rules[i], key, r.Namespace, &r.Spec.Rules[i])
	}
	return rules
}

func grpcRule(to *rule, key clusterset.Key, namespace string, from *gatewayv1.GRPCRouteRule) {
	matches := from.Matches
	if len(matches) == 0 {
		matches = []gatewayv1.GRPCRouteMatch{{}}
	}
	for i := range matches {
		m, problem := grpcMatch(&matches[i])
		if problem != "" {
			to.drop(problem)
		}
		to.matches = append(to.matches, m)
	}
	b := backends{key, namespace, to}
	for i := range from.BackendRefs {
		b.add(&from.BackendRefs[i].BackendRef, len(from.BackendRefs[i].Filters))
	}
	b.end()
	for i := range from.Filters {
		b.filter(string(from.Filters[i].Type), from.Filters[i].RequestMirror)
	}
	to.sticky(from.SessionPersistence)
}

// grpcMatch translates a match. A problem says why it cannot.
func grpcMatch(m *gatewayv1.GRPCRouteMatch) (ranked, string) {
	match, r, problem := Match{}, ranked{}, ""
	if m.Method != nil {
		match.Path, r.rank, problem = grpcPath(m.Method)
	}
	headers := make([]header, 0, len(m.Headers))
	for _, h := range m.Headers {
		headers = append(headers, header{string(h.Name), h.Type != nil && *h.Type == gatewayv1.GRPCHeaderMatchRegularExpression, h.Value})
	}
	match.Headers, problem = headerMatches(headers, problem)
	r.rank[3] = len(match.Headers)
	r.matches = []Match{match}
	return r, problem
}

// grpcPath returns the comparison of a path /SERVICE/METHOD, and its rank: the kind, and the characters of the service
// and of the method.
func grpcPath(m *gatewayv1.GRPCMethodMatch) (path StringMatch, rank [4]int, problem string) {
	var service, method string
	if m.Service != nil {
		service = *m.Service
	}
	if m.Method != nil {
		method = *m.Method
	}
	if m.Type != nil && *m.Type == gatewayv1.GRPCMethodMatchRegularExpression {
		path.Regex = "/" + part(service) + "/" + part(method)
		if problem = invalidRegex(service); problem == "" {
			problem = invalidRegex(method)
		}
		return path, [4]int{byRegex, len(service), len(method)}, problem
	}
	switch {
	case service != "" && method != "":
		path.Exact = "/" + service + "/" + method
	case service != "":
		path.Prefix = "/" + service + "/"
	case method != "":
		path.Regex = "/[^/]+/" + regexp.QuoteMeta(method)
	default:
		return path, rank, ""
	}
	return path, [4]int{byExact, len(service), len(method)}, ""
}

// part returns a regular expression for one part of the path.
func part(expression string) string {
	if expression == "" {
		return "[^/]+"
	}
	return "(?:" + expression + ")"
}
