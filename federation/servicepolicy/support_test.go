package servicepolicy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

func TestSupport(t *testing.T) {
	cases := []struct {
		reason, spec string
		want         []string // FIELD: CLIENTS, and a note's beginning behind |
	}{
		{"nothing is set", `{}`, nil},
		{
			"who gets which endpoints is the hub's decision", `{failover: [{by: Any}], consumers: {clusters: []}, clusterWeights: [{cluster: a, weight: 1}], minHealthyPercent: 0}`,
			[]string{
				"failover: DNS Gateway GRPC Envoy", "clusterWeights: DNS Gateway GRPC Envoy | DNS leaves clusters of weight 0 out",
				"minHealthyPercent: Gateway GRPC Envoy", "consumers: DNS Gateway GRPC Envoy",
			},
		},
		{"a gateway carries plain pods", `{path: Gateway, firstFlight: true}`, []string{"path: Gateway | gRPC and Envoy reach", "firstFlight: Gateway"}},
		{"kube-proxy knows no order", `path: Direct`, []string{"path: Gateway | kube-proxy shares connections out evenly"}},
		{
			"who brings TLS comes through a gateway unseen", `{consumers: {clusters: [a]}, passthrough: {sources: [10.0.0.0/8], proxyProtocol: true}}`,
			[]string{
				"consumers: DNS Gateway GRPC Envoy | gateways do not see who",
				"passthrough: DNS GRPC Envoy | gateways enforce it", "passthrough.sources: DNS GRPC Envoy", "passthrough.proxyProtocol: DNS GRPC Envoy",
			},
		},
		{"open to everybody", `passthrough: {}`, []string{"passthrough: DNS GRPC Envoy | gateways enforce it"}},
		{"only who looks names up keeps answers", `dns: {ttlSeconds: 60}`, []string{"dns.ttlSeconds: DNS"}},
		{"nothing is said of DNS", `dns: {}`, nil},
		{"grpc-go has round_robin, least_request and ring_hash", `loadBalancing: {algorithm: LeastRequest}`, []string{"loadBalancing.algorithm: GRPC Envoy"}},
		{"grpc-go refuses a cluster with RANDOM", `loadBalancing: {algorithm: Random}`, []string{"loadBalancing.algorithm: Envoy | gRPC has no Random"}},
		{"hashing", `loadBalancing: {algorithm: RingHash, hashHeader: x-user}`, []string{"loadBalancing.algorithm: GRPC Envoy", "loadBalancing.hashHeader: GRPC Envoy"}},
		{"grpc-go skips binary headers", `loadBalancing: {algorithm: RingHash, hashHeader: X-Bin}`, []string{"loadBalancing.algorithm: GRPC Envoy", "loadBalancing.hashHeader: Envoy | gRPC does not hash"}},
		{
			"grpc-go reads max_requests only", `circuitBreaker: {maxConnections: 1, maxRequests: 1, maxPendingRequests: 1, maxRetries: 1}`,
			[]string{
				"circuitBreaker.maxConnections: Envoy | gRPC holds one", "circuitBreaker.maxRequests: GRPC Envoy",
				"circuitBreaker.maxPendingRequests: Envoy | gRPC bounds", "circuitBreaker.maxRetries: Envoy | gRPC bounds",
			},
		},
		{
			"grpc-go has success rates and failure percentages", `outlierDetection: {consecutive5xx: 1, interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 1}`,
			[]string{
				"outlierDetection.consecutive5xx: GRPC Envoy | gRPC counts no failures in a row", "outlierDetection.interval: GRPC Envoy",
				"outlierDetection.baseEjectionTime: GRPC Envoy", "outlierDetection.maxEjectionPercent: GRPC Envoy",
			},
		},
		{"the defaults are something that is set", `outlierDetection: {}`, []string{"outlierDetection: GRPC Envoy | gRPC counts"}},
		{"max_stream_duration is all that grpc-go has of timeouts", `timeouts: {request: 1s, idle: 1s, connect: 1s}`, []string{"timeouts.request: GRPC Envoy", "timeouts.idle: Envoy | gRPC takes", "timeouts.connect: Envoy | gRPC takes"}},
		{"retries with the defaults", `retries: {attempts: 1, backoff: 1s}`, []string{"retries: GRPC Envoy | to gRPC, which tries again by status code, unavailable stands for connect-failure, refused-stream"}},
		{"retries that gRPC knows", `retries: {attempts: 1, retryOn: [unavailable, internal]}`, []string{"retries: GRPC Envoy"}},
		{"retries that gRPC knows in part", `retries: {attempts: 1, retryOn: [unavailable, retriable-4xx, 5xx]}`, []string{"retries: GRPC Envoy | to gRPC, which tries again by status code, unavailable stands for 5xx; gRPC does not know retriable-4xx"}},
		{"retries that gRPC does not know", `retries: {attempts: 1, retryOn: [retriable-4xx], perTry: 1s}`, []string{"retries: Envoy | gRPC does not know retriable-4xx", "retries.perTry: Envoy | gRPC bounds the request"}},
		{"routes", `routes: [{destinations: [{}], timeout: 1s}, {destinations: [{}], timeout: 1s, mirror: {clusters: [a]}, retries: {attempts: 1, retryOn: [internal]}}]`, []string{"routes: GRPC Envoy", "routes.timeout: GRPC Envoy", "routes.retries: GRPC Envoy", "routes.mirror: Envoy | gRPC sends no copies"}},
		{"matches that gRPC never sees", `routes: [{matches: [{method: GET}, {headers: [{name: a-bin}]}], destinations: [{}]}]`, []string{"routes: GRPC Envoy | all requests of gRPC have the method POST, so matches with another one do not concern it; gRPC does not compare"}},
		{"a POST is what gRPC sends", `routes: [{matches: [{method: POST}], destinations: [{}]}]`, []string{"routes: GRPC Envoy"}},
		{"copies", `mirror: {clusters: [a]}`, []string{"mirror: Envoy | gRPC sends no copies"}},
		{"faults", `fault: {delay: {percent: 1, duration: 1s}, abort: {percent: 1, grpcStatus: 14}}`, []string{"fault.delay: GRPC Envoy", "fault.abort: GRPC Envoy"}},
		{"an error of HTTP", `fault: {abort: {percent: 1, httpStatus: 503}}`, []string{"fault.abort: GRPC Envoy | gRPC answers with the status code"}},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			spec := parse[v1alpha1.ServicePolicySpec](t, tc.spec)
			var got []string
			for i, field := range servicepolicy.Support(&spec) {
				line := field.Field + ": " + strings.Join(field.Clients, " ")
				if field.Note != "" {
					line += " | " + field.Note
				}
				if i < len(tc.want) && strings.Contains(tc.want[i], " | ") && strings.HasPrefix(line, tc.want[i]) {
					line = tc.want[i]
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if servicepolicy.Support(nil) != nil {
		t.Error("no spec has no fields")
	}
}
