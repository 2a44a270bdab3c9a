package exports_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
)

func TestInfoStatus(t *testing.T) {
	now := metav1.Now()
	for name, c := range map[string]struct {
		state    exports.ClusterState
		accepted metav1.ConditionStatus
		inStep   metav1.ConditionStatus
		says     string
	}{
		"all well":    {exports.ClusterState{ID: "c1", ControlPlane: clusterset.Up}, metav1.ConditionTrue, metav1.ConditionTrue, "watched"},
		"left out":    {exports.ClusterState{Flaw: "the id is taken"}, metav1.ConditionFalse, metav1.ConditionTrue, "taken"},
		"away":        {exports.ClusterState{ID: "c1", ControlPlane: clusterset.Down, LastKnown: now.Time}, metav1.ConditionTrue, metav1.ConditionFalse, "not ready"},
		"one refused": {exports.ClusterState{ID: "c1", LastKnown: now.Time, Watches: []exports.WatchState{{Kind: "Service", State: exports.StateForbidden, Message: "no"}}}, metav1.ConditionTrue, metav1.ConditionFalse, "Service: Forbidden (no)"},
		"beginning":   {exports.ClusterState{ID: "c1", LastKnown: now.Time}, metav1.ConditionTrue, metav1.ConditionFalse, "first lists"},
	} {
		info := &v1alpha1.ClusterInfo{}
		status := exports.InfoStatus(info, &c.state, now)
		accepted, inStep := meta.FindStatusCondition(status.Conditions, "Accepted"), meta.FindStatusCondition(status.Conditions, "InStep")
		if accepted.Status != c.accepted || inStep.Status != c.inStep || !strings.Contains(accepted.Message+inStep.Message, c.says) {
			t.Errorf("%s: the conditions are %+v", name, status.Conditions)
		}
		info.Status = status
		if again := exports.InfoStatus(info, &c.state, metav1.NewTime(now.Add(time.Hour))); again.Conditions[0] != status.Conditions[0] || again.Conditions[1] != status.Conditions[1] {
			t.Errorf("%s: times move although nothing changed", name)
		}
	}
}

func TestPolicyStatus(t *testing.T) {
	policy := &v1alpha1.ServicePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 3}}
	policy.Spec.LoadBalancing = &v1alpha1.LoadBalancing{Algorithm: "LeastRequest"}
	b := clusterset.NewBuilder(1)
	status := exports.PolicyStatus(policy, b.Current(), metav1.Now())
	if c := meta.FindStatusCondition(status.Conditions, "Resolved"); c == nil || c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "shop/web") {
		t.Errorf("without an export the conditions are %+v", status.Conditions)
	}
	if status.ObservedGeneration != 3 || len(status.HonouredBy) == 0 {
		t.Errorf("the status is %+v", status)
	}
	b.SetCluster(clusterset.Cluster{ID: "c1"})
	b.SetExport("c1", web, clusterset.Export{Properties: &clusterset.Properties{}})
	if status = exports.PolicyStatus(policy, b.Publish(), metav1.Now()); !meta.IsStatusConditionTrue(status.Conditions, "Resolved") {
		t.Errorf("with an export the conditions are %+v", status.Conditions)
	}
	policy.Spec.Consumers = &v1alpha1.Consumers{Clusters: []string{"c1", "nope"}}
	policy.Spec.Failover = []v1alpha1.FailoverTier{{By: "Cluster", Names: []string{"never"}}, {By: "Region", Names: []string{"eu"}}}
	status = exports.PolicyStatus(policy, b.Publish(), metav1.Now())
	c := meta.FindStatusCondition(status.Conditions, "Resolved")
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason != "UnknownCluster" || !strings.Contains(c.Message, "never, nope; members by their ids are: c1") {
		t.Errorf("with a misspelt cluster the conditions are %+v", status.Conditions)
	}
}

// TestPolicyStatusNamesParts tells what in a policy refers to nothing, and keeps the API's bounds whatever that is.
func TestPolicyStatusNamesParts(t *testing.T) {
	b := clusterset.NewBuilder(1)
	b.SetCluster(clusterset.Cluster{ID: "c1"})
	b.SetExport("c1", web, clusterset.Export{Properties: &clusterset.Properties{}})
	policy := &v1alpha1.ServicePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	policy.Spec.ClusterWeights = []v1alpha1.ClusterWeight{{Cluster: "c1"}}
	for i := range 16 {
		next := v1alpha1.RouteDestination{Subset: v1alpha1.Subset{Service: &v1alpha1.ServiceReference{Name: fmt.Sprintf("next-%d", i)}}}
		policy.Spec.Routes = append(policy.Spec.Routes, v1alpha1.Route{Destinations: []v1alpha1.RouteDestination{next}})
	}
	status := exports.PolicyStatus(policy, b.Publish(), metav1.Now())
	c := meta.FindStatusCondition(status.Conditions, "Resolved")
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason != "NothingUsable" {
		t.Fatalf("the condition is %+v", c)
	}
	for _, part := range []string{"a weight above 0", "routes[0].destinations[0] sends requests to shop/next-0", " …"} {
		if !strings.Contains(c.Message, part) {
			t.Errorf("the message does not say %q: %s", part, c.Message)
		}
	}
	if len(c.Message) > 1024 {
		t.Errorf("the message has %d bytes", len(c.Message))
	}
}

// TestTouched says which policies are looked at again.
func TestTouched(t *testing.T) {
	named := func(name string) clusterset.Key { return clusterset.Key{Namespace: "shop", Name: name} }
	policy := v1alpha1.ServicePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	policy.Spec.Mirror = &v1alpha1.Mirror{Subset: v1alpha1.Subset{Service: &v1alpha1.ServiceReference{Name: "shadow"}}}
	for _, c := range []struct {
		reason  string
		changes clusterset.Changes
		want    int
	}{
		{"nothing changed", clusterset.Changes{}, 0},
		{"its service", clusterset.Changes{Services: []clusterset.Key{web}}, 1},
		{"a service that it names", clusterset.Changes{Services: []clusterset.Key{named("shadow")}}, 1},
		{"another service", clusterset.Changes{Services: []clusterset.Key{named("db")}}, 0},
		{"a cluster came, which it may name", clusterset.Changes{Clusters: []string{"c2"}}, 1},
	} {
		if got := exports.Touched([]v1alpha1.ServicePolicy{policy}, c.changes); len(got) != c.want {
			t.Errorf("%s: %v", c.reason, got)
		}
	}
}
