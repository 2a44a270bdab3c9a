package servicepolicy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Kinds of path matches, the more precise the greater. The API leaves open where regular expressions stand.
const (
	byPrefix = iota
	byRegex
	byExact
)

func httpImports(r *gatewayv1.HTTPRoute) bool {
	return slices.ContainsFunc(r.Spec.Rules, func(rule gatewayv1.HTTPRouteRule) bool {
		return slices.ContainsFunc(rule.BackendRefs, func(ref gatewayv1.HTTPBackendRef) bool { return isImport(&ref.BackendObjectReference) })
	})
}

func isImport(ref *gatewayv1.BackendObjectReference) bool {
	return value(ref.Group, "") == mcsGroup && value(ref.Kind, "Service") == serviceImport
}

func httpRules(key clusterset.Key, r *gatewayv1.HTTPRoute) []rule {
	rules := make([]rule, len(r.Spec.Rules))
	for i := range r.Spec.Rules {
		httpRule(&rules[i], key, r.Namespace, &r.Spec.Rules[i])
	}
	return rules
}

func httpRule(to *rule, key clusterset.Key, namespace string, from *gatewayv1.HTTPRouteRule) {
	matches := from.Matches
	if len(matches) == 0 {
		matches = []gatewayv1.HTTPRouteMatch{{}}
	}
	for i := range matches {
		m, problem := httpMatch(&matches[i])
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
	httpTimes(to, from)
}

// httpMatch translates a match. A problem says why it cannot.
func httpMatch(m *gatewayv1.HTTPRouteMatch) (ranked, string) {
	if len(m.QueryParams) > 0 {
		return ranked{}, "queryParams are not supported: match by path or header"
	}
	paths, kind, length, problem := httpPath(m.Path)
	headers := make([]header, 0, len(m.Headers))
	for _, h := range m.Headers {
		headers = append(headers, header{string(h.Name), h.Type != nil && *h.Type == gatewayv1.HeaderMatchRegularExpression, h.Value})
	}
	match := Match{}
	match.Headers, problem = headerMatches(headers, problem)
	if m.Method != nil {
		match.Method = string(*m.Method)
	}
	r := ranked{rank: [4]int{kind, length, min(len(match.Method), 1), len(match.Headers)}}
	for _, path := range paths {
		match.Path = path
		r.matches = append(r.matches, match)
	}
	return r, problem
}

// httpPath returns the comparisons that a path match takes, its kind and its number of characters.
func httpPath(m *gatewayv1.HTTPPathMatch) (paths []StringMatch, kind, length int, problem string) {
	matchType, path := gatewayv1.PathMatchPathPrefix, "/"
	if m != nil && m.Type != nil {
		matchType = *m.Type
	}
	if m != nil && m.Value != nil && *m.Value != "" {
		path = *m.Value
	}
	switch matchType {
	case gatewayv1.PathMatchExact:
		return []StringMatch{{Exact: path}}, byExact, len(path), ""
	case gatewayv1.PathMatchRegularExpression:
		return []StringMatch{{Regex: path}}, byRegex, len(path), invalidRegex(path)
	case gatewayv1.PathMatchPathPrefix:
		path = strings.TrimRight(path, "/") // a prefix ends where an element of the path does
		if path == "" {
			return []StringMatch{{Prefix: "/"}}, byPrefix, 1, ""
		}
		return []StringMatch{{Exact: path}, {Prefix: path + "/"}}, byPrefix, len(path), ""
	}
	return nil, 0, 0, fmt.Sprintf("the path type %q is not known: write Exact, PathPrefix or RegularExpression", matchType)
}

// header is a header match of either kind of route.
type header struct {
	name  string
	regex bool
	value string
}

// headerMatches translates header matches; of several with the same name the first counts, as the API says. It passes
// problem on unless it is empty.
func headerMatches(headers []header, problem string) ([]HeaderMatch, string) {
	var out []HeaderMatch
	for _, h := range headers {
		name := strings.ToLower(h.name)
		if slices.ContainsFunc(out, func(m HeaderMatch) bool { return m.Name == name }) {
			continue
		}
		match := HeaderMatch{Name: name, Value: StringMatch{Exact: h.value}}
		if h.regex {
			match.Value = StringMatch{Regex: h.value}
			if problem == "" {
				problem = invalidRegex(h.value)
			}
		}
		if h.value == "" && problem == "" {
			problem = fmt.Sprintf("the value of header %s is empty: write one, or the type RegularExpression with .* for any", name)
		}
		out = append(out, match)
	}
	return out, problem
}

func invalidRegex(expression string) string {
	if _, err := regexp.Compile(expression); err != nil {
		return fmt.Sprintf("%q is no regular expression in RE2 syntax: %v", expression, err)
	}
	return ""
}

// httpTimes translates timeouts and retries.
func httpTimes(to *rule, from *gatewayv1.HTTPRouteRule) {
	times := from.Timeouts
	if times == nil {
		times = &gatewayv1.HTTPRouteTimeouts{}
	}
	request, problem := timeOf("timeouts.request", times.Request)
	if problem != "" {
		to.drop(problem)
	}
	backend, problem := timeOf("timeouts.backendRequest", times.BackendRequest)
	if problem != "" {
		to.drop(problem)
	}
	to.route.Timeout = request
	if retry := httpRetry(to, from.Retry); retry != nil {
		retry.PerTry = backend
		to.route.Retries = retry
		return
	}
	if backend > 0 && (request == 0 || backend < request) { // one attempt is the whole request
		to.route.Timeout = backend
	}
}

// httpRetry translates retries. Envoy's reasons stand for sets of codes, and only those sets can be asked for.
func httpRetry(to *rule, from *gatewayv1.HTTPRouteRetry) *Retries {
	if from == nil || from.Attempts != nil && *from.Attempts < 1 {
		return nil
	}
	retries := &Retries{Attempts: 1, On: slices.Clone(defaultRetryOn)}
	if from.Attempts != nil {
		retries.Attempts = uint32(min(*from.Attempts, maxAttempts)) //nolint:gosec // between 1 and maxAttempts
	}
	codes := map[gatewayv1.HTTPRouteRetryStatusCode]bool{}
	for _, code := range from.Codes {
		codes[code] = true
	}
	if codes[502] && codes[503] && codes[504] {
		retries.On = append(retries.On, "gateway-error")
		delete(codes, 502)
		delete(codes, 503)
		delete(codes, 504)
	}
	if codes[409] {
		retries.On = append(retries.On, "retriable-4xx")
		delete(codes, 409)
	}
	slices.Sort(retries.On)
	if len(codes) > 0 {
		to.drop("retry.codes can be 502, 503 and 504 together, 409, or nothing")
	}
	var problem string
	if retries.Backoff, problem = timeOf("retry.backoff", from.Backoff); problem != "" {
		to.drop(problem)
	}
	return retries
}

// maxAttempts is the bound that a ServicePolicy has too.
const maxAttempts = 10
