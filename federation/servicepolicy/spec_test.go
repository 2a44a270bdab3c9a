package servicepolicy_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

func parse[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
		t.Fatalf("the test's own YAML: %v\n%s", err, text)
	}
	return v
}

// prefixes compares ranges by what they are.
var prefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func TestFromSpec(t *testing.T) {
	type l7 = servicepolicy.L7
	type subset = servicepolicy.Subset
	cases := []struct {
		reason, spec string
		want         clusterset.Policy
	}{
		{"nothing asks for nothing", `{}`, clusterset.Policy{}},
		{
			"an order is kept as it is written", `failover: [{by: Cluster, names: [b, a]}, {by: Zone}, {by: Any}]`,
			clusterset.Policy{Failover: []clusterset.Tier{{By: clusterset.ByCluster, Names: []string{"a", "b"}}, {By: clusterset.ByZone}, {By: clusterset.Any}}},
		},
		{
			"weights have a range, whoever wrote them", `clusterWeights: [{cluster: b, weight: 20000}, {cluster: a, weight: -1}]`,
			clusterset.Policy{Weights: []clusterset.ClusterWeight{{Cluster: "a"}, {Cluster: "b", Weight: clusterset.MaxWeight}}},
		},
		{"a share of more than all is all", `minHealthyPercent: 200`, clusterset.Policy{MinHealthyPercent: 100}},
		{"all clusters", `consumers: null`, clusterset.Policy{}},
		{"no cluster", `consumers: {clusters: []}`, clusterset.Policy{Consumers: &clusterset.Consumers{}}},
		{"some clusters", `consumers: {clusters: [b, a, b]}`, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"a", "b"}}}},

		{"answers are kept as long as it says", `dns: {ttlSeconds: 300}`, clusterset.Policy{TTL: 300}},
		{"answers are kept for a day at most, whoever wrote it", `dns: {ttlSeconds: 100000}`, clusterset.Policy{TTL: 86400}},
		{"less than nothing is nothing", `dns: {ttlSeconds: -1}`, clusterset.Policy{}},
		{"the server's own time", `dns: {}`, clusterset.Policy{}},

		{"the default path is nothing", `{path: Gateway, firstFlight: false}`, clusterset.Policy{}},
		{"pods are reached without a hop", `{path: Direct, firstFlight: true}`, clusterset.Policy{Path: clusterset.Direct, FirstFlight: true}},
		{"open to everybody", `passthrough: {}`, clusterset.Policy{Passthrough: &clusterset.Passthrough{}}},
		{
			"sources have one order, and are ranges, whoever wrote them", `passthrough: {proxyProtocol: true, sources: [10.9.9.9/8, 10.0.0.0/8, 172.16.0.0/12]}`,
			clusterset.Policy{Passthrough: &clusterset.Passthrough{ProxyProtocol: true, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12")}}},
		},
		{
			"what is no range lets nobody in, and certainly not everybody", `passthrough: {sources: [nonsense]}`,
			clusterset.Policy{Passthrough: &clusterset.Passthrough{Sources: []netip.Prefix{{}}}},
		},

		{"the default algorithm is nothing", `loadBalancing: {algorithm: RoundRobin}`, clusterset.Policy{}},
		{"another algorithm", `loadBalancing: {algorithm: Random}`, clusterset.Policy{L7: &l7{LoadBalancer: servicepolicy.Random}}},
		{"headers have one case", `loadBalancing: {algorithm: RingHash, hashHeader: X-User}`, clusterset.Policy{L7: &l7{LoadBalancer: servicepolicy.RingHash, HashHeader: "x-user"}}},
		{"a header needs a ring", `loadBalancing: {algorithm: LeastRequest, hashHeader: x}`, clusterset.Policy{L7: &l7{LoadBalancer: servicepolicy.LeastRequest}}},

		{"a breaker without bounds", `circuitBreaker: {}`, clusterset.Policy{}},
		{"a breaker", `circuitBreaker: {maxConnections: 1, maxRequests: 2, maxPendingRequests: 3, maxRetries: 4}`, clusterset.Policy{L7: &l7{Breaker: &servicepolicy.Breaker{MaxConnections: 1, MaxRequests: 2, MaxPending: 3, MaxRetries: 4}}}},
		{"outlier detection with the defaults is still wanted", `outlierDetection: {}`, clusterset.Policy{L7: &l7{Outliers: &servicepolicy.Outliers{}}}},
		{"outlier detection", `outlierDetection: {consecutive5xx: 3, interval: 1s, baseEjectionTime: 2s, maxEjectionPercent: 50}`, clusterset.Policy{L7: &l7{Outliers: &servicepolicy.Outliers{Consecutive5xx: 3, Interval: time.Second, BaseEjection: 2 * time.Second, MaxPercent: 50}}}},
		{"timeouts", `timeouts: {request: 3s, idle: 2m, connect: 250ms}`, clusterset.Policy{L7: &l7{Timeout: 3 * time.Second, Idle: 2 * time.Minute, Connect: 250 * time.Millisecond}}},
		{"time does not run backwards", `timeouts: {request: -3s}`, clusterset.Policy{}},
		{"retries of what is safe", `retries: {attempts: 2}`, clusterset.Policy{L7: &l7{Retries: &servicepolicy.Retries{Attempts: 2, On: []string{"connect-failure", "refused-stream", "unavailable"}}}}},
		{"retries", `retries: {attempts: 1, retryOn: [unavailable, 5xx], perTry: 1s, backoff: 2ms, maxBackoff: 3ms}`, clusterset.Policy{L7: &l7{Retries: &servicepolicy.Retries{Attempts: 1, On: []string{"5xx", "unavailable"}, PerTry: time.Second, Backoff: 2 * time.Millisecond, MaxBackoff: 3 * time.Millisecond}}}},
		{"no attempts", `retries: {attempts: 0}`, clusterset.Policy{}},

		{
			"a canary by header, then by weight",
			`routes:
- matches: [{headers: [{name: X-Canary}]}]
  destinations: [{service: {name: next}}]
- timeout: 1s
  destinations: [{weight: 9}, {service: {name: next, namespace: lab, port: 81}, clusters: [b, a]}, {clusters: [c], weight: 0}]`,
			clusterset.Policy{L7: &l7{Routes: []servicepolicy.Route{
				{
					Matches:      []servicepolicy.Match{{Headers: []servicepolicy.HeaderMatch{{Name: "x-canary"}}}},
					Destinations: []servicepolicy.Destination{{Subset: subset{Namespace: "shop", Name: "next"}, Weight: 1}},
				},
				{
					Timeout: time.Second,
					Destinations: []servicepolicy.Destination{
						{Weight: 9},
						{Subset: subset{Clusters: []string{"a", "b"}, Namespace: "lab", Name: "next", Port: 81}, Weight: 1},
					},
				},
			}}},
		},
		{
			"each comparison", `routes: [{matches: [{path: {exact: /a}, method: GET}, {path: {prefix: /b}}, {path: {regex: /c.*}, headers: [{name: h, value: {regex: "1+"}}]}], destinations: [{}]}]`,
			clusterset.Policy{L7: &l7{Routes: []servicepolicy.Route{{
				Matches: []servicepolicy.Match{
					{Path: servicepolicy.StringMatch{Exact: "/a"}, Method: "GET"},
					{Path: servicepolicy.StringMatch{Prefix: "/b"}},
					{Path: servicepolicy.StringMatch{Regex: "/c.*"}, Headers: []servicepolicy.HeaderMatch{{Name: "h", Value: servicepolicy.StringMatch{Regex: "1+"}}}},
				},
				Destinations: []servicepolicy.Destination{{Weight: 1}},
			}}}},
		},
		{
			"a route without any weight leads nowhere, rather than everywhere", `routes: [{destinations: [{weight: 0}]}]`,
			clusterset.Policy{L7: &l7{Routes: []servicepolicy.Route{{Destinations: []servicepolicy.Destination{{}}}}}},
		},
		{"all is copied by default", `mirror: {service: {name: shadow}}`, clusterset.Policy{L7: &l7{Mirror: &servicepolicy.Mirror{Subset: subset{Namespace: "shop", Name: "shadow"}, Percent: 100}}}},
		{"nothing is copied", `mirror: {service: {name: shadow}, percent: 0}`, clusterset.Policy{}},
		{"late", `fault: {delay: {percent: 10, duration: 1s}}`, clusterset.Policy{L7: &l7{Fault: &servicepolicy.Fault{DelayPercent: 10, Delay: time.Second}}}},
		{"an error of HTTP", `fault: {abort: {percent: 10, httpStatus: 503}}`, clusterset.Policy{L7: &l7{Fault: &servicepolicy.Fault{AbortPercent: 10, AbortHTTP: 503}}}},
		{"an error of gRPC", `fault: {abort: {percent: 10, grpcStatus: 14}}`, clusterset.Policy{L7: &l7{Fault: &servicepolicy.Fault{AbortPercent: 10, AbortGRPC: 14}}}},
		{"a fault for nobody", `fault: {abort: {percent: 0, httpStatus: 503}, delay: {percent: 0, duration: 1s}}`, clusterset.Policy{}},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			spec := parse[v1alpha1.ServicePolicySpec](t, tc.spec)
			got := servicepolicy.FromSpec(&spec, "shop")
			if diff := cmp.Diff(tc.want, got, prefixes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again := servicepolicy.FromSpec(spec.DeepCopy(), "shop"); !reflect.DeepEqual(got, again) {
				t.Error("the same spec gave two policies")
			}
		})
	}
	if got := servicepolicy.FromSpec(nil, "shop"); !reflect.DeepEqual(got, clusterset.Policy{}) {
		t.Errorf("no spec gave %+v", got)
	}
}

// TestFromSpecSharesNothing changes every list of the spec afterwards: a published policy must not notice.
func TestFromSpecSharesNothing(t *testing.T) {
	spec := parse[v1alpha1.ServicePolicySpec](t, `{failover: [{by: Zone, names: [a]}], consumers: {clusters: [a]}, retries: {attempts: 1, retryOn: [5xx]}, routes: [{destinations: [{clusters: [a]}]}]}`)
	got := servicepolicy.FromSpec(&spec, "shop")
	want := servicepolicy.FromSpec(spec.DeepCopy(), "shop")
	spec.Failover[0].Names[0], spec.Consumers.Clusters[0], spec.Retries.On[0], spec.Routes[0].Destinations[0].Clusters[0] = "x", "x", "x", "x"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the policy shares memory with the spec (-want +got):\n%s", diff)
	}
}

func FuzzFromSpec(f *testing.F) {
	f.Add([]byte(`{"failover":[{"by":"Any"}],"routes":[{"matches":[{"path":{"regex":"("}}],"destinations":[{"weight":-1}]}],"mirror":{},"fault":{"abort":{}}}`))
	f.Add([]byte(`{"retries":{"attempts":-1},"timeouts":{"request":"-1s"},"loadBalancing":{"algorithm":"?"},"outlierDetection":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var spec v1alpha1.ServicePolicySpec
		if json.Unmarshal(data, &spec) != nil {
			return
		}
		before := spec.DeepCopy()
		policy := servicepolicy.FromSpec(&spec, "ns")
		if again := servicepolicy.FromSpec(before, "ns"); !reflect.DeepEqual(policy, again) {
			t.Error("equal specs gave different policies")
		}
		servicepolicy.Support(&spec)
		if !reflect.DeepEqual(&spec, before) {
			t.Error("the spec was modified")
		}
		checkRoutes(t, policy)
	})
}

// checkRoutes checks what those who read a policy may rely on.
func checkRoutes(t *testing.T, policy clusterset.Policy) {
	t.Helper()
	l7, ok := policy.L7.(*servicepolicy.L7)
	if policy.L7 != nil && (!ok || l7 == nil) {
		t.Fatalf("L7 is a %T", policy.L7)
	}
	if l7 == nil {
		return
	}
	for i, route := range l7.Routes {
		if len(route.Destinations) == 0 {
			t.Errorf("route %d leads nowhere", i)
		}
		for _, d := range route.Destinations {
			if d.Weight == 0 && len(route.Destinations) > 1 {
				t.Errorf("route %d has a destination without weight beside others", i)
			}
		}
	}
}
