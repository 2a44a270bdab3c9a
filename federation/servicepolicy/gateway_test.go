package servicepolicy_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

var web = clusterset.Key{Namespace: "shop", Name: "web"}

const webImport = `{group: multicluster.x-k8s.io, kind: ServiceImport, name: web}`

func httpRoute(t *testing.T, name, age, spec string) gatewayv1.HTTPRoute {
	t.Helper()
	return parse[gatewayv1.HTTPRoute](t, fmt.Sprintf("metadata: {namespace: shop, name: %s, generation: 3, creationTimestamp: %q}\nspec: %s", name, age, spec))
}

func grpcRoute(t *testing.T, name, age, spec string) gatewayv1.GRPCRoute {
	t.Helper()
	return parse[gatewayv1.GRPCRoute](t, fmt.Sprintf("metadata: {namespace: shop, name: %s, generation: 3, creationTimestamp: %q}\nspec: %s", name, age, spec))
}

const (
	monday  = "2026-01-05T00:00:00Z"
	tuesday = "2026-01-06T00:00:00Z"
)

// to is a backend that is a ServiceImport.
func to(name string) string {
	return "{group: multicluster.x-k8s.io, kind: ServiceImport, name: " + name + "}"
}

// show writes routes as lines: MATCHES -> DESTINATIONS.
func show(policy clusterset.Policy) []string {
	l7, _ := policy.L7.(*servicepolicy.L7)
	if l7 == nil {
		return nil
	}
	var lines []string
	for _, r := range l7.Routes {
		var matches, destinations []string
		for _, m := range r.Matches {
			parts := []string{strings.TrimLeft(m.Method+" "+showString(m.Path), " ")}
			for _, h := range m.Headers {
				parts = append(parts, h.Name+"="+showString(h.Value))
			}
			matches = append(matches, strings.Join(parts, " "))
		}
		for _, d := range r.Destinations {
			s := "web"
			switch {
			case reflect.DeepEqual(d.Subset, servicepolicy.Nobody()):
				s = "nobody"
			case d.Name != "":
				s = d.Namespace + "/" + d.Name
			}
			if d.Port != 0 {
				s += fmt.Sprintf(":%d", d.Port)
			}
			destinations = append(destinations, fmt.Sprintf("%s*%d", s, d.Weight))
		}
		lines = append(lines, strings.Join(matches, ", ")+" -> "+strings.Join(destinations, " "))
	}
	return lines
}

func showString(m servicepolicy.StringMatch) string {
	switch {
	case m.Exact != "":
		return m.Exact
	case m.Prefix != "":
		return m.Prefix + "*"
	case m.Regex != "":
		return "~" + m.Regex
	}
	return "*"
}

func TestHTTPRoutes(t *testing.T) {
	head := "{parentRefs: [" + webImport + "], rules: "
	cases := []struct {
		reason string
		routes []gatewayv1.HTTPRoute
		want   []string
	}{
		{
			"a canary by header and by weight",
			[]gatewayv1.HTTPRoute{httpRoute(t, "canary", monday, head+`[{matches: [{headers: [{name: X-Canary, value: "yes"}]}], backendRefs: [`+to("next")+`]}, {backendRefs: [`+
				`{group: multicluster.x-k8s.io, kind: ServiceImport, name: web, weight: 90}, {group: multicluster.x-k8s.io, kind: ServiceImport, name: next, port: 81, weight: 10}, {group: multicluster.x-k8s.io, kind: ServiceImport, name: old, weight: 0}]}]}`)},
			[]string{"/* x-canary=yes -> shop/next*1", "/* -> web*90 shop/next:81*10"},
		},
		{
			"exact, then the longest prefix, then the method, then the headers",
			[]gatewayv1.HTTPRoute{httpRoute(t, "order", monday, head+`[{matches: [{path: {value: /a}}, {path: {value: /a/long}}, {path: {type: RegularExpression, value: "/a.*"}}, {path: {type: Exact, value: /a}}], backendRefs: [`+to("one")+`]},`+
				`{matches: [{path: {value: /a}, headers: [{name: h, value: "1"}, {name: i, value: "2", type: RegularExpression}]}, {path: {value: /a}, method: GET}], backendRefs: [`+to("two")+`]}]}`)},
			[]string{
				"/a, ~/a.*, /a/long, /a/long/* -> shop/one*1",
				"GET /a, GET /a/*, /a h=1 i=~2, /a/* h=1 i=~2 -> shop/two*1",
				"/a, /a/* -> shop/one*1",
			},
		},
		{
			"the oldest route, then the first by name, then the first rule",
			[]gatewayv1.HTTPRoute{
				httpRoute(t, "b", monday, head+`[{backendRefs: [`+to("third")+`]}, {backendRefs: [`+to("fourth")+`]}]}`),
				httpRoute(t, "z", "2026-01-01T00:00:00Z", head+`[{backendRefs: [`+to("first")+`]}]}`),
				httpRoute(t, "a", monday, head+`[{backendRefs: [`+to("second")+`]}]}`),
			},
			[]string{"/* -> shop/first*1", "/* -> shop/second*1", "/* -> shop/third*1", "/* -> shop/fourth*1"},
		},
		{
			"a prefix ends where an element ends",
			[]gatewayv1.HTTPRoute{httpRoute(t, "prefix", monday, head+`[{matches: [{path: {type: PathPrefix, value: /a/}}], backendRefs: [`+to("web")+`]}]}`)},
			[]string{"/a, /a/* -> web*1"},
		},
		{
			"of headers with equal names the first counts",
			[]gatewayv1.HTTPRoute{httpRoute(t, "headers", monday, head+`[{matches: [{headers: [{name: H, value: "1"}, {name: h, value: "2"}]}], backendRefs: [`+to("web")+`]}]}`)},
			[]string{"/* h=1 -> web*1"},
		},
		{
			"a share that cannot be resolved fails, and so does a rule without backends",
			[]gatewayv1.HTTPRoute{httpRoute(t, "fails", monday, head+`[{matches: [{path: {value: /a}}], backendRefs: [{name: web, port: 80, weight: 3}, `+to("web")+`, {group: multicluster.x-k8s.io, kind: ServiceImport, name: web, namespace: other}]}, {}, {backendRefs: [{name: web, port: 80}]}]}`)},
			[]string{"/a, /a/* -> nobody*3 web*1 nobody*1", "/* -> web*0", "/* -> web*0"},
		},
		{
			"the Service of the name is meant for all clusters when a backend is a ServiceImport",
			[]gatewayv1.HTTPRoute{httpRoute(t, "service", monday, `{parentRefs: [{group: "", kind: Service, name: web}], rules: [{backendRefs: [`+to("next")+`]}]}`)},
			[]string{"/* -> shop/next*1"},
		},
		{
			"routes of one cluster, of gateways and of other services are not ours",
			[]gatewayv1.HTTPRoute{
				httpRoute(t, "local", monday, `{parentRefs: [{group: "", kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 80}]}]}`),
				httpRoute(t, "gateway", monday, `{parentRefs: [{name: web}], rules: [{backendRefs: [`+to("web")+`]}]}`),
				httpRoute(t, "other", monday, `{parentRefs: [`+to("other")+`], rules: [{backendRefs: [`+to("web")+`]}]}`),
			},
			nil,
		},
		{
			"dropped rules leave the others",
			[]gatewayv1.HTTPRoute{httpRoute(t, "partly", monday, head+`[{matches: [{queryParams: [{name: a, value: b}]}], backendRefs: [`+to("one")+`]}, {backendRefs: [`+to("two")+`]}]}`)},
			[]string{"/* -> shop/two*1"},
		},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			got := servicepolicy.WithRoutes(clusterset.Policy{}, web, tc.routes, nil)
			if diff := cmp.Diff(tc.want, show(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			checkRoutes(t, got)
			slices.Reverse(tc.routes)
			if again := servicepolicy.WithRoutes(clusterset.Policy{}, web, tc.routes, nil); !reflect.DeepEqual(got, again) {
				t.Errorf("the order of the arguments matters:\n%s", cmp.Diff(got, again))
			}
		})
	}
}

func TestGRPCRoutes(t *testing.T) {
	head := "{parentRefs: [" + webImport + "], rules: "
	cases := []struct{ reason, rules string }{
		{"/pkg.Shop/Buy -> shop/a*1", `[{matches: [{method: {service: pkg.Shop, method: Buy}}], backendRefs: [` + to("a") + `]}]}`},
		{"/pkg.Shop/* -> shop/a*1", `[{matches: [{method: {service: pkg.Shop}}], backendRefs: [` + to("a") + `]}]}`},
		{`~/[^/]+/Buy -> shop/a*1`, `[{matches: [{method: {method: Buy}}], backendRefs: [` + to("a") + `]}]}`},
		{`~/(?:pkg[.].*)/[^/]+ -> shop/a*1`, `[{matches: [{method: {type: RegularExpression, service: "pkg[.].*"}}], backendRefs: [` + to("a") + `]}]}`},
		{"* -> shop/a*1", `[{backendRefs: [` + to("a") + `]}]}`},
		{"* user=1 -> shop/a*1; * -> web*1", `[{backendRefs: [` + to("web") + `]}, {matches: [{headers: [{name: User, value: "1"}]}], backendRefs: [` + to("a") + `]}]}`},
		{"/pkg.Shop/Buy -> shop/b*1; /pkg.Shop/* -> shop/a*1; ~/[^/]+/Buy -> shop/c*1", `[{matches: [{method: {service: pkg.Shop}}], backendRefs: [` + to("a") + `]}, {matches: [{method: {service: pkg.Shop, method: Buy}}], backendRefs: [` + to("b") + `]}, {matches: [{method: {method: Buy}}], backendRefs: [` + to("c") + `]}]}`},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			got := show(servicepolicy.WithRoutes(clusterset.Policy{}, web, nil, []gatewayv1.GRPCRoute{grpcRoute(t, "r", monday, head+tc.rules)}))
			if diff := cmp.Diff(strings.Split(tc.reason, "; "), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRoutesBehindPolicy keeps what a policy has, and does not modify it: it may be published already.
func TestRoutesBehindPolicy(t *testing.T) {
	own := &servicepolicy.L7{Timeout: time.Second, Routes: []servicepolicy.Route{{Destinations: []servicepolicy.Destination{{Weight: 7}}}}}
	route := httpRoute(t, "r", monday, "{parentRefs: ["+webImport+"], rules: [{timeouts: {request: 2s}, backendRefs: ["+to("next")+"]}]}")
	got := servicepolicy.WithRoutes(clusterset.Policy{MinHealthyPercent: 50, L7: own}, web, []gatewayv1.HTTPRoute{route}, nil)
	if diff := cmp.Diff([]string{" -> web*7", "/* -> shop/next*1"}, show(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.MinHealthyPercent != 50 || got.L7.(*servicepolicy.L7).Timeout != time.Second || len(own.Routes) != 1 {
		t.Errorf("the policy was lost or modified: %+v, %+v", got, own)
	}
}

func TestTimesAndMirrors(t *testing.T) {
	mirror := func(rest string) string {
		return `filters: [{type: RequestMirror, requestMirror: {backendRef: ` + to("shadow") + rest + `}}], `
	}
	shadow := servicepolicy.Subset{Namespace: "shop", Name: "shadow"}
	safe := []string{"connect-failure", "refused-stream", "unavailable"}
	cases := []struct {
		reason, rule string
		want         servicepolicy.Route
	}{
		{"none", ``, servicepolicy.Route{}},
		{"the request as a whole", `timeouts: {request: 2s, backendRequest: 2s}, `, servicepolicy.Route{Timeout: 2 * time.Second}},
		{"one attempt is the request", `timeouts: {backendRequest: 1s}, `, servicepolicy.Route{Timeout: time.Second}},
		{"one attempt is shorter", `timeouts: {request: 2s, backendRequest: 1s}, `, servicepolicy.Route{Timeout: time.Second}},
		{"attempts", `timeouts: {request: 2s, backendRequest: 1s}, retry: {attempts: 3, backoff: 100ms}, `, servicepolicy.Route{Timeout: 2 * time.Second, Retries: &servicepolicy.Retries{Attempts: 3, On: safe, PerTry: time.Second, Backoff: 100 * time.Millisecond}}},
		{"codes that Envoy has a name for", `retry: {codes: [503, 502, 504, 409]}, `, servicepolicy.Route{Retries: &servicepolicy.Retries{Attempts: 1, On: []string{"connect-failure", "gateway-error", "refused-stream", "retriable-4xx", "unavailable"}}}},
		{"as many attempts as a policy may ask for", `retry: {attempts: 1000}, `, servicepolicy.Route{Retries: &servicepolicy.Retries{Attempts: 10, On: safe}}},
		{"no attempts", `retry: {attempts: 0}, `, servicepolicy.Route{}},
		{"all is copied", mirror(""), servicepolicy.Route{Mirror: &servicepolicy.Mirror{Subset: shadow, Percent: 100}}},
		{"a percentage", mirror(", percent: 5"), servicepolicy.Route{Mirror: &servicepolicy.Mirror{Subset: shadow, Percent: 5}}},
		{"a fraction", mirror(", fraction: {numerator: 1, denominator: 1000}"), servicepolicy.Route{Mirror: &servicepolicy.Mirror{Subset: shadow, Percent: 0.1}}},
		{"a fraction of a hundred", mirror(", fraction: {numerator: 7}"), servicepolicy.Route{Mirror: &servicepolicy.Mirror{Subset: shadow, Percent: 7}}},
		{"none is copied", mirror(", percent: 0"), servicepolicy.Route{}},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			spec := "{parentRefs: [" + webImport + "], rules: [{" + tc.rule + "backendRefs: [" + to("web") + "]}]}"
			tc.want.Matches = []servicepolicy.Match{{Path: servicepolicy.StringMatch{Prefix: "/"}}}
			tc.want.Destinations = []servicepolicy.Destination{{Weight: 1}}
			got := servicepolicy.WithRoutes(clusterset.Policy{}, web, []gatewayv1.HTTPRoute{httpRoute(t, "r", monday, spec)}, nil)
			if diff := cmp.Diff(&servicepolicy.L7{Routes: []servicepolicy.Route{tc.want}}, got.L7); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRouteStatuses(t *testing.T) {
	one := func(rule string) string { return "{parentRefs: [" + webImport + "], rules: [{" + rule + "}]}" }
	backend := "backendRefs: [" + to("web") + "]"
	cases := []struct {
		reason, spec string
		want         []string // TYPE=STATUS REASON, and a part of the message behind |
	}{
		{"all is well", one(backend), []string{"Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs"}},
		{"no word about other people's parents", `{parentRefs: [{name: gw}], rules: [{` + backend + `}]}`, nil},
		{"a local backend", one(`backendRefs: [{name: web, port: 80}]`), []string{"Accepted=True Accepted", "ResolvedRefs=False InvalidKind | export the service"}},
		{"a backend elsewhere", one(`backendRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, name: x, namespace: other}]`), []string{"Accepted=True Accepted", "ResolvedRefs=False RefNotPermitted | backend other/x is in another namespace"}},
		{"a local mirror", one(backend + `, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: x, port: 80}}}]`), []string{"Accepted=True Accepted", "ResolvedRefs=False InvalidKind | backend Service \"x\""}},
		{"a port of the parent", `{parentRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, name: web, port: 80}], rules: [{` + backend + `}]}`, []string{"Accepted=False UnsupportedValue | remove port and sectionName", "ResolvedRefs=True ResolvedRefs"}},
		{"another filter", one(backend + `, filters: [{type: URLRewrite}]`), []string{"Accepted=False UnsupportedValue | Dropped Rule 0: the filter URLRewrite is not supported", "ResolvedRefs=True ResolvedRefs"}},
		{"a filter of a backend", one(`backendRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, name: web, filters: [{type: RequestMirror}]}]`), []string{"Accepted=False UnsupportedValue | move RequestMirror to the rule", "ResolvedRefs=True ResolvedRefs"}},
		{"two mirrors", one(backend + `, filters: [{type: RequestMirror, requestMirror: {backendRef: ` + to("a") + `}}, {type: RequestMirror, requestMirror: {backendRef: ` + to("b") + `}}]`), []string{"Accepted=False UnsupportedValue | keep one RequestMirror", "ResolvedRefs=True ResolvedRefs"}},
		{"sessions", one(backend + `, sessionPersistence: {}`), []string{"Accepted=False UnsupportedValue | use loadBalancing RingHash", "ResolvedRefs=True ResolvedRefs"}},
		{"codes that clients cannot tell apart", one(backend + `, retry: {codes: [500]}`), []string{"Accepted=False UnsupportedValue | retry.codes can be", "ResolvedRefs=True ResolvedRefs"}},
		{"a broken expression", one(backend + `, matches: [{path: {type: RegularExpression, value: "("}}]`), []string{"Accepted=False UnsupportedValue | RE2 syntax", "ResolvedRefs=True ResolvedRefs"}},
		{"a broken time", one(backend + `, timeouts: {request: soon}`), []string{"Accepted=False UnsupportedValue | timeouts.request is \"soon\"", "ResolvedRefs=True ResolvedRefs"}},
		{"a header that may be empty", one(backend + `, matches: [{headers: [{name: h, value: ""}]}]`), []string{"Accepted=False UnsupportedValue | with .* for any", "ResolvedRefs=True ResolvedRefs"}},
		{
			"one rule of two", "{parentRefs: [" + webImport + "], rules: [{" + backend + "}, {" + backend + ", filters: [{type: CORS}]}]}",
			[]string{"Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs", "PartiallyInvalid=True UnsupportedValue | Dropped Rule 1: the filter CORS"},
		},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			statuses := servicepolicy.RouteStatuses(web, []gatewayv1.HTTPRoute{httpRoute(t, "r", monday, tc.spec)}, nil)
			var got []string
			for _, s := range statuses {
				got = append(got, showConditions(s, tc.want)...)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// showConditions writes the conditions as lines, with of the message only the part that is wanted.
func showConditions(s servicepolicy.RouteStatus, want []string) []string {
	var lines []string
	for i, c := range s.Conditions {
		line := fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason)
		if c.Message != "" {
			part := c.Message
			if i < len(want) {
				if _, wanted, ok := strings.Cut(want[i], " | "); ok && strings.Contains(c.Message, wanted) {
					part = wanted
				}
			}
			line += " | " + part
		}
		if c.ObservedGeneration != 3 {
			line += " of another generation"
		}
		lines = append(lines, line)
	}
	return lines
}

// TestOtherNamespace is a consumer route of the Gateway API.
func TestOtherNamespace(t *testing.T) {
	route := httpRoute(t, "r", monday, "{parentRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, name: web, namespace: shop}], rules: [{backendRefs: ["+to("web")+"]}]}")
	route.Namespace = "client"
	routes := []gatewayv1.HTTPRoute{route}
	if got := servicepolicy.WithRoutes(clusterset.Policy{}, web, routes, nil); got.L7 != nil {
		t.Errorf("it holds: %v", show(got))
	}
	statuses := servicepolicy.RouteStatuses(web, routes, nil)
	if len(statuses) != 1 || statuses[0].Conditions[0].Status != "False" || !strings.Contains(statuses[0].Conditions[0].Message, "write it in namespace shop") {
		t.Errorf("got %+v", statuses)
	}
}

// TestKindsConflict attaches both kinds of routes, the HTTPRoute being older.
func TestKindsConflict(t *testing.T) {
	spec := "{parentRefs: [" + webImport + "], rules: [{backendRefs: [" + to("next") + "]}]}"
	http, grpc := []gatewayv1.HTTPRoute{httpRoute(t, "r", monday, spec)}, []gatewayv1.GRPCRoute{grpcRoute(t, "r", tuesday, spec)}
	if diff := cmp.Diff([]string{"* -> shop/next*1"}, show(servicepolicy.WithRoutes(clusterset.Policy{}, web, http, grpc))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var got []string
	for _, s := range servicepolicy.RouteStatuses(web, http, grpc) {
		got = append(got, fmt.Sprintf("%s %s/%s %s %s", s.Kind, s.Namespace, s.Name, s.Conditions[0].Status, s.Conditions[0].Reason))
	}
	if diff := cmp.Diff([]string{"GRPCRoute shop/r True Accepted", "HTTPRoute shop/r False Conflicted"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzWithRoutes(f *testing.F) {
	f.Add([]byte(`[{"spec":{"parentRefs":[{"group":"multicluster.x-k8s.io","kind":"ServiceImport","name":"web"}],"rules":[{"matches":[{"path":{"value":"/a"}}],"backendRefs":[{"group":"multicluster.x-k8s.io","kind":"ServiceImport","name":"web","weight":-1}],"retry":{"attempts":-1},"timeouts":{"request":"x"},"filters":[{"type":"RequestMirror"}]}]}}]`),
		[]byte(`[{"spec":{"parentRefs":[{"group":"multicluster.x-k8s.io","kind":"ServiceImport","name":"web"}],"rules":[{"matches":[{"method":{"type":"RegularExpression","service":"("}},{"headers":[{"name":"a"}]}],"filters":[{"type":"RequestMirror","requestMirror":{"fraction":{"denominator":0}}}]}]}}]`))
	f.Fuzz(func(t *testing.T, httpJSON, grpcJSON []byte) {
		var http []gatewayv1.HTTPRoute
		var grpc []gatewayv1.GRPCRoute
		if json.Unmarshal(httpJSON, &http) != nil || json.Unmarshal(grpcJSON, &grpc) != nil {
			return
		}
		for i := range http { // names are unique in a cluster
			http[i].Namespace, http[i].Name = "shop", fmt.Sprintf("h%d", i)
		}
		for i := range grpc {
			grpc[i].Namespace, grpc[i].Name = "shop", fmt.Sprintf("g%d", i)
		}
		got := servicepolicy.WithRoutes(clusterset.Policy{}, web, http, grpc)
		checkRoutes(t, got)
		statuses := servicepolicy.RouteStatuses(web, http, grpc)
		slices.Reverse(http)
		slices.Reverse(grpc)
		if again := servicepolicy.WithRoutes(clusterset.Policy{}, web, http, grpc); !reflect.DeepEqual(got, again) {
			t.Errorf("the order of the arguments matters:\n%s", cmp.Diff(got, again))
		}
		if again := servicepolicy.RouteStatuses(web, http, grpc); !reflect.DeepEqual(statuses, again) {
			t.Errorf("the order of the arguments matters:\n%s", cmp.Diff(statuses, again))
		}
	})
}
