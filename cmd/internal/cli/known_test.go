package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
)

// A member that the hub leaves out, since another one has its id, is left out here too, whatever was recorded of it before;
// and of two records of one member the newer one counts, in any order.
func TestTableSaysWhatTheHubSays(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	of := func(name string) clusterset.Known {
		return clusterset.Known{Exports: map[clusterset.Key]clusterset.Export{
			{Namespace: "shop", Name: name}: {Created: now, Properties: &clusterset.Properties{}},
		}}
	}
	r := recorded{
		members: []corev1b1.KubeFedCluster{{ObjectMeta: metav1.ObjectMeta{Name: "m1"}}, {ObjectMeta: metav1.ObjectMeta{Name: "m2"}}},
		infos: []v1alpha1.ClusterInfo{
			{ObjectMeta: metav1.ObjectMeta{Name: "m1"}, Status: v1alpha1.ClusterInfoStatus{ClusterID: "berlin"}},
			{ObjectMeta: metav1.ObjectMeta{Name: "m2"}, Status: v1alpha1.ClusterInfoStatus{Conditions: []metav1.Condition{
				{Type: exports.ConditionAccepted, Status: metav1.ConditionFalse, Reason: "NoClusterID"},
			}}},
		},
		records: []exports.Record{
			{Member: "m1", ID: "berlin", Time: now, Known: of("new")},
			{Member: "m1", ID: "old", Time: now.Add(-time.Hour), Known: of("old")},
			{Member: "m2", ID: "berlin", Time: now, Known: of("stranger")},
		},
	}
	table := r.table(now)
	var names []string
	for _, service := range table.snapshot.Services() {
		names = append(names, service.Name)
	}
	if diff := cmp.Diff([]string{"new"}, names); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"m1": "berlin"}, table.clusters); diff != "" {
		t.Errorf("clusters (-want +got):\n%s", diff)
	}
}
