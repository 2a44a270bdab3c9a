package config_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

const (
	infos    = "clusterinfos.hansa.dev"
	policies = "servicepolicies.hansa.dev"
	revoked  = "revocations.hansa.dev"
)

// TestServicesValidation sets one field of a good ClusterInfo or ServicePolicy at a time, as YAML: the error must
// contain want; an empty want means that the object is valid.
func TestServicesValidation(t *testing.T) {
	base := map[string]string{
		infos:    `{apiVersion: hansa.dev/v1alpha1, kind: ClusterInfo, metadata: {name: m1}, spec: {}}`,
		policies: `{apiVersion: hansa.dev/v1alpha1, kind: ServicePolicy, metadata: {name: web}, spec: {}}`,
		revoked:  `{apiVersion: hansa.dev/v1alpha1, kind: Revocation, metadata: {name: m1}, spec: {before: "2026-01-02T03:04:05Z"}}`,
	}
	type row struct{ reason, path, value, want string }
	cases := map[string][]row{
		infos: {
			{"nothing said", "spec", `{}`, ""},
			{"all said", "spec", `{network: vpc-1.eu, clusterID: eu-1, region: eu, zone: eu-a, state: Draining, dataPlane: Up, gateways: [{address: 203.0.113.1, port: 443}, {address: "2001:db8::1"}]}`, ""},
			{"a network's name is plain", "spec.network", `VPC 1`, "write a name of lower-case letters"},
			{"an id is a DNS label", "spec.clusterID", `eu.west`, "write a DNS label"},
			{"an id ends in a letter or digit", "spec.clusterID", `eu-`, "write a DNS label"},
			{"an id fits a label", "spec.clusterID", strings.Repeat("a", 64), "may not be more than 63"},
			{"a gateway is an address", "spec.gateways", `[{address: gw.example.com}]`, "write an IPv4 or IPv6 address"},
			{"an address with a prefix is a network", "spec.gateways", `[{address: 10.0.0.1/24}]`, "write an IPv4 or IPv6 address"},
			{"nobody is anybody", "spec.gateways", `[{address: 0.0.0.0}]`, "write the address at which other clusters reach the gateway"},
			{"nobody is anybody in IPv6", "spec.gateways", `[{address: "::"}]`, "write the address at which other clusters reach the gateway"},
			{"a group is no gateway", "spec.gateways", `[{address: 224.0.0.251}]`, "write the address at which other clusters reach the gateway"},
			{"a group of this link is no gateway", "spec.gateways", `[{address: "ff02::1"}]`, "write the address at which other clusters reach the gateway"},
			{"a group in IPv6 is no gateway", "spec.gateways", `[{address: "ff0e::1"}]`, "write the address at which other clusters reach the gateway"},
			{"everybody is no gateway", "spec.gateways", `[{address: 255.255.255.255}]`, "write the address at which other clusters reach the gateway"},
			{"private addresses are reached over a tunnel", "spec.gateways", `[{address: 10.0.0.1}, {address: "fd00::1"}]`, ""},
			{"a region with a slash", "spec.region", `a b/c`, "write a region as the label"},
			{"a region that ends in a dash", "spec.region", `eu-`, "write a region as the label"},
			{"a region in capitals", "spec.region", `EU_West.1`, ""},
			{"a zone with a space", "spec.zone", `eu a`, "write a zone as the label"},
			{"a zone too long for a label", "spec.zone", strings.Repeat("a", 64), "may not be more than 63"},
			{"no zone", "spec.zone", `""`, ""},
			{"a port is at least 1", "spec.gateways", `[{address: 10.0.0.1, port: 0}]`, "greater than or equal to 1"},
			{"tunnels behind a load balancer", "spec.gateways", `[{address: 203.0.113.1, port: 443, tunnelPort: 8443}]`, ""},
			{"a port of tunnels is at least 1", "spec.gateways", `[{address: 10.0.0.1, tunnelPort: 0}]`, "greater than or equal to 1"},
			{"gateways as the leader notes them", "status", `{exports: 0, endpoints: 0, dataPlane: Up, dataPlaneSource: Agent, gateways: [{inside: 10.0.0.1, node: n1, source: Agent}, {address: 203.0.113.1, port: 15443, tunnelPort: 15445, source: Spec, health: Down}]}`, ""},
			{"unknown state", "spec.state", `Sleeping`, `supported values: "", "Active", "Cordoned", "Draining"`},
			{"unknown health", "spec.dataPlane", `Poorly`, `supported values: "", "Up", "Down"`},
		},
		policies: {
			{"nothing said", "spec", `{}`, ""},
			{"the policy has its service's name", "metadata.name", `web.shop`, "must be the name of the service"},

			{"an order", "spec.failover", `[{by: Zone}, {by: Cluster, names: [m1, m2]}, {by: Any}]`, ""},
			{"unknown scope", "spec.failover", `[{by: Continent}]`, `supported values: "Zone", "Region", "Cluster", "Any"`},
			{"Any takes all", "spec.failover", `[{by: Any, names: [m1]}]`, "Any takes no names"},
			{"nothing is left after Any", "spec.failover", `[{by: Any}, {by: Zone}]`, "as the last tier"},
			{"Any twice", "spec.failover", `[{by: Any}, {by: Any}]`, "as the last tier"},
			{"the same zones twice", "spec.failover", `[{by: Zone, names: [a]}, {by: Zone, names: [a]}, {by: Any}]`, "two tiers select the same, so the later one can never act: remove it, or name other zones"},
			{"names have no order", "spec.failover", `[{by: Cluster, names: [m1, m2]}, {by: Region}, {by: Cluster, names: [m2, m1]}]`, "two tiers select the same"},
			{"one's own, with names and without", "spec.failover", `[{by: Zone}, {by: Zone, names: []}]`, "two tiers select the same"},
			{"the same names of other things", "spec.failover", `[{by: Zone}, {by: Region}, {by: Cluster}, {by: Zone, names: [a]}, {by: Region, names: [a]}, {by: Cluster, names: [a]}]`, ""},
			{"more names later", "spec.failover", `[{by: Cluster, names: [m1]}, {by: Cluster, names: [m1, m2]}]`, ""},
			{"a name twice", "spec.failover", `[{by: Cluster, names: [m1, m1]}]`, "Duplicate value"},
			{"an empty name", "spec.failover", `[{by: Cluster, names: [""]}]`, "at least 1"},
			{"a zone with a space", "spec.failover", `[{by: Zone, names: ["a b/c"]}]`, "write a zone or a region as the labels of nodes say it"},
			{"a region in capitals", "spec.failover", `[{by: Region, names: [EU_West.1]}]`, ""},

			{"weights", "spec.clusterWeights", `[{cluster: m1, weight: 0}, {cluster: m2, weight: 10000}]`, ""},
			{"a cluster twice", "spec.clusterWeights", `[{cluster: m1, weight: 1}, {cluster: m1, weight: 2}]`, "Duplicate value"},
			{"too heavy", "spec.clusterWeights", `[{cluster: m1, weight: 10001}]`, "less than or equal to 10000"},
			{"less than nothing", "spec.clusterWeights", `[{cluster: m1, weight: -1}]`, "greater than or equal to 0"},
			{"not an id", "spec.clusterWeights", `[{cluster: M1, weight: 1}]`, "write the id of a cluster"},
			{"share above all", "spec.minHealthyPercent", `101`, "less than or equal to 100"},
			{"nobody may use it", "spec.consumers", `{clusters: []}`, ""},
			{"consumers without a list", "spec.consumers", `{}`, "Required value"},
			{"consumers by id", "spec.consumers", `{clusters: ["*"]}`, "write the id of a cluster"},

			{"answers for five minutes", "spec.dns", `{ttlSeconds: 300}`, ""},
			{"answers for a day", "spec.dns", `{ttlSeconds: 86400}`, ""},
			{"the default", "spec.dns", `{}`, ""},
			{"answers that may not be kept", "spec.dns", `{ttlSeconds: 0}`, "write a number of seconds from 1 to 86400"},
			{"answers for longer than a day", "spec.dns", `{ttlSeconds: 86401}`, "write a number of seconds from 1 to 86400"},
			{"seconds with a unit", "spec.dns", `{ttlSeconds: 5s}`, "must be of type integer"},

			{"through gateways", "spec.path", `Gateway`, ""},
			{"without a hop", "spec.path", `Direct`, ""},
			{"another path", "spec.path", `Sidecar`, "write Gateway, which is the default, or Direct"},
			{"open to all TLS", "spec.passthrough", `{}`, ""},
			{"open to some", "spec.passthrough", `{sources: [203.0.113.0/24, "2001:db8::/32", 10.0.0.1/32], proxyProtocol: true}`, ""},
			{"an address is no range", "spec.passthrough", `{sources: [10.0.0.1]}`, "write a range of addresses, such as 203.0.113.0/24"},
			{"a name is no range", "spec.passthrough", `{sources: [office.example.com]}`, "write a range of addresses"},
			{"a range begins at its beginning", "spec.passthrough", `{sources: [10.1.2.3/8]}`, "write a range by its first address"},
			{"a range twice", "spec.passthrough", `{sources: [10.0.0.0/8, 10.0.0.0/8]}`, "Duplicate value"},
			{"early data", "spec.firstFlight", `true`, ""},

			{"hash by a header", "spec.loadBalancing", `{algorithm: RingHash, hashHeader: x-user}`, ""},
			{"only a ring is hashed", "spec.loadBalancing", `{algorithm: LeastRequest, hashHeader: x-user}`, "write algorithm: RingHash"},
			{"the default is no ring", "spec.loadBalancing", `{hashHeader: x-user}`, "write algorithm: RingHash"},
			{"not a header", "spec.loadBalancing", `{algorithm: RingHash, hashHeader: "x user"}`, "write the name of a header"},
			{"unknown algorithm", "spec.loadBalancing", `{algorithm: Maglev}`, `supported values: "", "RoundRobin"`},

			{"no connections at all", "spec.circuitBreaker", `{maxConnections: 0}`, "greater than or equal to 1"},
			{"outliers", "spec.outlierDetection", `{consecutive5xx: 3, interval: 5s, baseEjectionTime: 1m, maxEjectionPercent: 50}`, ""},
			{"an interval of nothing", "spec.outlierDetection", `{interval: 0s}`, "write a duration longer than zero"},
			{"no share may be out", "spec.outlierDetection", `{maxEjectionPercent: 0}`, "greater than or equal to 1"},
			{"timeouts", "spec.timeouts", `{request: 1.5s, idle: 1h, connect: 250ms}`, ""},
			{"a timeout without a unit", "spec.timeouts", `{request: "5"}`, "write a duration longer than zero"},
			{"a timeout in the past", "spec.timeouts", `{connect: -1s}`, "write a duration longer than zero"},
			{"a timeout of a day", "spec.timeouts", `{request: 24h, idle: 1440m, connect: 1h}`, ""},
			{"parts of all kinds", "spec.timeouts", `{request: 1h2m3.5s4ms5us6ns, idle: 0.5h, connect: 1.s}`, ""},
			{"a timeout of 228 years", "spec.timeouts", `{request: 2000000h}`, "of at most 24h"},
			{"a timeout that no duration holds", "spec.timeouts", `{idle: 99999999999999999999h}`, "of at most 24h"},
			{"a bit more than a day", "spec.timeouts", `{idle: 24h1ns}`, "of at most 24h"},
			{"a long wait for a connection", "spec.timeouts", `{connect: 61m}`, "of at most 1h"},
			{"checks once a day", "spec.outlierDetection", `{interval: 24h}`, "of at most 1h"},
			{"out for two days", "spec.outlierDetection", `{baseEjectionTime: 48h}`, "of at most 24h"},
			{"an attempt of years", "spec.retries", `{attempts: 1, perTry: 2000000h}`, "of at most 24h"},
			{"attempts hours apart", "spec.retries", `{attempts: 1, backoff: 2h, maxBackoff: 3h}`, "of at most 1h"},
			{"a route's timeout of years", "spec.routes", `[{destinations: [{}], timeout: 2000000h}]`, "of at most 24h"},
			{"a route's attempts hours apart", "spec.routes", `[{destinations: [{}], retries: {attempts: 1, maxBackoff: 2h}}]`, "of at most 1h"},
			{"held back for a day", "spec.fault", `{delay: {percent: 10, duration: 24h}}`, "of at most 1h"},

			{"retries", "spec.retries", `{attempts: 2, retryOn: [unavailable, 5xx], perTry: 1s, backoff: 10ms, maxBackoff: 1s}`, ""},
			{"no attempts are no retries", "spec.retries", `{attempts: 0}`, "greater than or equal to 1"},
			{"too many attempts", "spec.retries", `{attempts: 11}`, "less than or equal to 10"},
			{"a reason that clients do not know", "spec.retries", `{attempts: 1, retryOn: [bad-weather]}`, "supported values"},
			{"a bound below the base", "spec.retries", `{attempts: 1, backoff: 1s, maxBackoff: 10ms}`, "maxBackoff must be at least backoff"},
			{"a bound below the default base", "spec.retries", `{attempts: 1, maxBackoff: 10ms}`, "maxBackoff must be at least backoff"},

			{"a canary", "spec.routes", `[{matches: [{path: {prefix: /}, headers: [{name: X-Canary, value: {exact: "1"}}, {name: x-user}]}], destinations: [{clusters: [m2], weight: 1}, {service: {name: web-next}}]}]`, ""},
			{"a route goes somewhere", "spec.routes", `[{destinations: []}]`, "at least 1"},
			{"somewhere with a weight", "spec.routes", `[{destinations: [{clusters: [m1], weight: 0}]}]`, "a weight above 0"},
			{"a path starts with a slash", "spec.routes", `[{matches: [{path: {exact: shop}}], destinations: [{}]}]`, "write a path that starts with /"},
			{"one comparison", "spec.routes", `[{matches: [{path: {exact: /a, prefix: /a}}], destinations: [{}]}]`, "exactly one of exact, prefix and regex"},
			{"at least one comparison", "spec.routes", `[{matches: [{path: {}}], destinations: [{}]}]`, "exactly one of exact, prefix and regex"},
			{"an expression", "spec.routes", `[{matches: [{path: {regex: "/v[0-9]+/.*"}}], destinations: [{}]}]`, ""},
			{"a broken expression", "spec.routes", `[{matches: [{path: {regex: "/v[0-9"}}], destinations: [{}]}]`, "write a regular expression in RE2 syntax"},
			{"a pseudo header", "spec.routes", `[{matches: [{headers: [{name: ":path"}]}], destinations: [{}]}]`, "path and method have fields of their own"},
			{"a header twice", "spec.routes", `[{matches: [{headers: [{name: a}, {name: a}]}], destinations: [{}]}]`, "Duplicate value"},
			{"unknown method", "spec.routes", `[{matches: [{method: get}], destinations: [{}]}]`, "supported values"},
			{"a service in lower case", "spec.routes", `[{destinations: [{service: {name: Web}}]}]`, "write the name of a service"},
			{"a timeout of its own", "spec.routes", `[{destinations: [{}], timeout: never}]`, "write a duration longer than zero"},

			{"a mirror", "spec.mirror", `{service: {name: shadow, namespace: test, port: 80}, percent: 5}`, ""},
			{"a mirror of itself", "spec.mirror", `{percent: 5}`, "say where copies go"},
			{"late answers", "spec.fault", `{delay: {percent: 10, duration: 2s}}`, ""},
			{"not late at all", "spec.fault", `{delay: {percent: 10, duration: 0s}}`, "write a duration longer than zero"},
			{"an error", "spec.fault", `{abort: {percent: 1, httpStatus: 503}}`, ""},
			{"two errors", "spec.fault", `{abort: {percent: 1, httpStatus: 503, grpcStatus: 14}}`, "exactly one of httpStatus and grpcStatus"},
			{"no error", "spec.fault", `{abort: {percent: 1}}`, "exactly one of httpStatus and grpcStatus"},
			{"OK is no error", "spec.fault", `{abort: {percent: 1, grpcStatus: 0}}`, "greater than or equal to 1"},
		},
		revoked: {
			{"a moment", "spec", `{before: "2026-11-22T00:00:00Z", reason: the node was stolen}`, ""},
			{"no moment", "spec", `{reason: gone}`, "Required value"},
			{"no time", "spec.before", `yesterday`, "must be of type date-time"},
			{"an id is a DNS label", "metadata.name", `eu.west`, "metadata.name must be the id of the cluster"},
			{"too much to say", "spec.reason", strings.Repeat("a", 1025), "may not be more than 1024"},
		},
	}
	for definition, rows := range cases {
		schema := newSchema(t, definition)
		for _, row := range rows {
			t.Run(definition+"/"+row.path+"/"+row.reason, func(t *testing.T) {
				obj := decode(t, base[definition])
				set(obj, row.path, decode(t, "v: "+row.value)["v"])
				expect(t, schema.validate(t.Context(), obj, nil).ToAggregate(), row.want)
			})
		}
	}
}

// TestClusterIDStays updates a ClusterInfo whose cluster has the id in has.
func TestClusterIDStays(t *testing.T) {
	schema := newSchema(t, infos)
	cases := []struct{ reason, has, before, after, want string }{
		{"an id may be set later", "", `{}`, `{clusterID: eu-1}`, ""},
		{"a member has an id that nobody wrote", "m1", `{}`, `{clusterID: eu-1}`, ""},
		{"other fields may change", "eu-1", `{clusterID: eu-1}`, `{clusterID: eu-1, state: Cordoned}`, ""},
		{"another id", "eu-1", `{clusterID: eu-1}`, `{clusterID: eu-2}`, "delete this ClusterInfo and create it with the new id"},
		{"no id any more", "eu-1", `{clusterID: eu-1}`, `{}`, "clusterID cannot change"},
		{"an id that another cluster has is given up", "", `{clusterID: eu-1}`, `{clusterID: eu-2}`, ""},
		{"and so by one that kept the id before", "m1", `{clusterID: eu-1}`, `{clusterID: eu-2}`, ""},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			head := "{apiVersion: hansa.dev/v1alpha1, kind: ClusterInfo, metadata: {name: m1}, "
			if tc.has != "" {
				head += "status: {clusterID: " + tc.has + ", exports: 0, endpoints: 0}, "
			}
			old, obj := decode(t, head+"spec: "+tc.before+"}"), decode(t, head+"spec: "+tc.after+"}")
			expect(t, schema.validate(t.Context(), obj, old).ToAggregate(), tc.want)
		})
	}
}

// TestServicesWrittenByGo validates what the zero values of the Go types look like on the wire: a controller that fills
// in only what it knows must not be refused.
func TestServicesWrittenByGo(t *testing.T) {
	info := &v1alpha1.ClusterInfo{}
	info.APIVersion, info.Kind, info.Name = "hansa.dev/v1alpha1", "ClusterInfo", "m1"
	policy := &v1alpha1.ServicePolicy{}
	policy.APIVersion, policy.Kind, policy.Name = "hansa.dev/v1alpha1", "ServicePolicy", "web"
	policy.Status.HonouredBy = []v1alpha1.FieldSupport{{Field: "mirror", Clients: []string{v1alpha1.ClientEnvoy}}}
	revocation := &v1alpha1.Revocation{Spec: v1alpha1.RevocationSpec{Before: metav1.Now()}}
	revocation.APIVersion, revocation.Kind, revocation.Name = "hansa.dev/v1alpha1", "Revocation", "m1"
	info.Status.Gateways = []v1alpha1.KnownGateway{{}}
	for definition, obj := range map[string]any{infos: info, policies: policy, revoked: revocation} {
		data, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, newSchema(t, definition).validate(t.Context(), decode(t, string(data)), nil).ToAggregate(), "")
	}
}

// TestServiceSamples validates the samples for services, and that they say nothing that the types do not know.
func TestServiceSamples(t *testing.T) {
	names, err := filepath.Glob("samples/services/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	definitions := map[string]string{"ClusterInfo": infos, "ServicePolicy": policies}
	types := map[string]func() any{
		"ClusterInfo":   func() any { return &v1alpha1.ClusterInfo{} },
		"ServicePolicy": func() any { return &v1alpha1.ServicePolicy{} },
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for doc := range strings.SplitSeq(string(data), "\n---\n") {
			obj := decode(t, doc)
			kind, _ := obj["kind"].(string)
			if types[kind] == nil {
				t.Fatalf("%s: unexpected kind %q", name, kind)
			}
			if err := yaml.UnmarshalStrict([]byte(doc), types[kind]()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			expect(t, newSchema(t, definitions[kind]).validate(t.Context(), obj, nil).ToAggregate(), "")
		}
	}
}

// TestEveryFieldIsExplained looks for fields about which kubectl explain would have nothing to say.
func TestEveryFieldIsExplained(t *testing.T) {
	for _, definition := range []string{infos, policies, revoked} {
		plural, group, _ := strings.Cut(definition, ".")
		data, err := os.ReadFile("crd/" + group + "_" + plural + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &crd); err != nil {
			t.Fatal(err)
		}
		for _, version := range crd.Spec.Versions {
			unexplained(t, definition, version.Schema.OpenAPIV3Schema)
		}
	}
}

func unexplained(t *testing.T, path string, schema *apiextv1.JSONSchemaProps) {
	t.Helper()
	for name, property := range schema.Properties {
		at := path + "." + name
		if property.Description == "" && at != infos+".metadata" && at != policies+".metadata" && at != revoked+".metadata" { // the API server explains that
			t.Errorf("%s has no description", at)
		}
		unexplained(t, at, &property)
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		unexplained(t, path+"[]", schema.Items.Schema)
	}
}
