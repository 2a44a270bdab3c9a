package servicepolicy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// shopAsExported is a snapshot with shop/web of m1 (region eu) and m2 (us), shop/next of m2, and m3, which exports nothing.
func shopAsExported() *clusterset.Snapshot {
	b := clusterset.NewBuilder(1)
	for id, region := range map[string]string{"m1": "eu", "m2": "us", "m3": "eu"} {
		b.SetCluster(clusterset.Cluster{ID: id, Region: region})
	}
	properties := &clusterset.Properties{Ports: []clusterset.Port{{Name: "http", Port: 80}, {Name: "admin", Port: 81}}}
	web, next := clusterset.Key{Namespace: "shop", Name: "web"}, clusterset.Key{Namespace: "shop", Name: "next"}
	b.SetExport("m1", web, clusterset.Export{Properties: properties})
	b.SetExport("m2", web, clusterset.Export{Properties: properties})
	b.SetExport("m2", next, clusterset.Export{Properties: properties})
	b.SetExport("m3", clusterset.Key{Namespace: "shop", Name: "broken"}, clusterset.Export{}) // without its Service
	return b.Publish()
}

func TestFlaws(t *testing.T) {
	cases := []struct {
		reason, service, spec string
		want                  []string // REASON: a part of the message
	}{
		{"nothing is asked", "web", `{}`, nil},
		{"nobody exports it", "gone", `{}`, []string{"NotExported: no cluster exports shop/gone"}},
		{"an export that is not valid is none", "broken", `{}`, []string{"NotExported: no cluster exports shop/broken"}},
		{
			"misspelt clusters", "web", `{consumers: {clusters: [m1, mm]}, routes: [{destinations: [{clusters: [m4]}]}], mirror: {clusters: [m5]}}`,
			[]string{"UnknownCluster: m4, m5, mm; members by their ids are: m1, m2, m3"},
		},
		{"consumers need not export", "web", `{consumers: {clusters: [m3]}}`, nil},

		{"one cluster is left", "web", `{clusterWeights: [{cluster: m1, weight: 0}]}`, nil},
		{"all are out", "web", `{clusterWeights: [{cluster: m1, weight: 0}, {cluster: m2, weight: 0}]}`, []string{"NothingUsable: every cluster that exports shop/web (m1, m2)"}},
		{
			"weight for one that does not export leaves nothing", "web", `{clusterWeights: [{cluster: m1, weight: 0}, {cluster: m2, weight: 0}, {cluster: m3, weight: 9}]}`,
			[]string{"NothingUsable: give one of them a weight above 0", "RefersToNothing: clusterWeights[2] names cluster m3, which does not export shop/web"},
		},
		{
			"an order of others", "web", `{failover: [{by: Cluster, names: [m3]}]}`,
			[]string{"NothingUsable: no tier of failover covers", "RefersToNothing: failover[0] names cluster m3, which does not export shop/web"},
		},
		{
			"the only cluster of the order has no weight", "web", `{failover: [{by: Cluster, names: [m1]}], clusterWeights: [{cluster: m1, weight: 0}]}`,
			[]string{"NothingUsable: has a weight (m2)"},
		},
		{"Any covers all", "web", `{failover: [{by: Cluster, names: [m3]}, {by: Any}]}`, []string{"RefersToNothing: failover[0]"}},
		{"one's own cluster is that of some consumer", "web", `{failover: [{by: Cluster}]}`, nil},
		{"zones come and go with pods", "web", `{failover: [{by: Zone, names: [moon-1]}]}`, nil},
		{"a region with an exporter", "web", `{failover: [{by: Region, names: [eu]}]}`, nil},
		{
			"a region without one", "next", `{failover: [{by: Region, names: [us]}, {by: Region, names: [eu]}]}`,
			[]string{"RefersToNothing: failover[1] names region eu, where no cluster that exports shop/next stands"},
		},
		{
			"a tier of what earlier ones took never acts", "web", `{failover: [{by: Zone, names: [a, b]}, {by: Zone, names: [c]}, {by: Zone, names: [c, a]}, {by: Zone}]}`,
			[]string{"RefersToNothing: failover[2] selects only what earlier tiers by: Zone select, so it never acts: remove it"},
		},
		{"one's own twice, from before it was refused", "web", `{failover: [{by: Zone}, {by: Region}, {by: Zone}]}`, []string{"RefersToNothing: failover[2] selects only"}},
		{"a tier that widens an earlier one", "web", `{failover: [{by: Cluster, names: [m1]}, {by: Cluster, names: [m1, m2]}, {by: Zone, names: [m1]}]}`, nil},

		{"another service", "web", `{routes: [{destinations: [{service: {name: next, port: 81}}, {clusters: [m1]}]}]}`, nil},
		{
			"a service that nobody exports", "web", `{routes: [{destinations: [{}]}, {destinations: [{}, {service: {name: later, namespace: lab}}], mirror: {service: {name: shadow}}}]}`,
			[]string{"RefersToNothing: routes[1].destinations[1] sends requests to lab/later, which no cluster exports", "RefersToNothing: routes[1].mirror sends requests to shop/shadow"},
		},
		{"no request goes where the weight is 0", "web", `{routes: [{destinations: [{}, {service: {name: later}, weight: 0}]}]}`, nil},
		{"a cluster that does not export the service", "web", `{routes: [{destinations: [{clusters: [m1, m3]}]}]}`, []string{"RefersToNothing: routes[0].destinations[0] names cluster m3, which does not export shop/web"}},
		{"a cluster that does not export the other service", "web", `{mirror: {clusters: [m1], service: {name: next}}}`, []string{"RefersToNothing: mirror names cluster m1, which does not export shop/next"}},
		{"a port that it has not", "web", `{routes: [{destinations: [{service: {name: next, port: 8080}}]}]}`, []string{"RefersToNothing: names port 8080, which shop/next does not have; its ports are: 80, 81"}},
		{"what is told once is told once", "gone", `{routes: [{destinations: [{}, {service: {name: gone}}]}], clusterWeights: [{cluster: m1, weight: 0}]}`, []string{"NotExported: shop/gone"}},
	}
	snapshot := shopAsExported()
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			spec := parse[v1alpha1.ServicePolicySpec](t, tc.spec)
			flaws := servicepolicy.Flaws(&spec, clusterset.Key{Namespace: "shop", Name: tc.service}, snapshot)
			for i, flaw := range flaws {
				if i >= len(tc.want) {
					t.Errorf("unexpected: %+v", flaw)
					continue
				}
				reason, part, _ := strings.Cut(tc.want[i], ": ")
				if flaw.Reason != reason || !strings.Contains(flaw.Message, part) {
					t.Errorf("flaw %d is %+v, want %q", i, flaw, tc.want[i])
				}
			}
			if len(flaws) < len(tc.want) {
				t.Errorf("missing: %q", tc.want[len(flaws):])
			}
		})
	}
}

func TestReferences(t *testing.T) {
	spec := parse[v1alpha1.ServicePolicySpec](t, `{mirror: {service: {name: shadow}}, routes: [{destinations: [{}, {service: {name: next, namespace: lab}}, {service: {name: shadow, namespace: shop}}]}]}`)
	want := []clusterset.Key{{Namespace: "lab", Name: "next"}, {Namespace: "shop", Name: "shadow"}}
	if diff := cmp.Diff(want, servicepolicy.References(&spec, "shop")); diff != "" {
		t.Errorf("the services that it names (-want +got):\n%s", diff)
	}
}
