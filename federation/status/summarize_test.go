package status_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/hansa-dev/hansa/federation/status"
)

type object = map[string]any

var (
	before = time.Date(2025, 3, 1, 10, 0, 0, 0, time.UTC)
	now    = time.Date(2025, 3, 1, 12, 0, 1, 5000, time.FixedZone("CET", 3600))
)

const (
	beforeText = "2025-03-01T10:00:00Z"
	nowText    = "2025-03-01T11:00:01Z"
)

// stored is a status as the hub finds it: two clusters, all well.
func stored() object {
	return object{
		"observedGeneration": int64(2),
		"conditions":         []any{object{"type": "Propagation", "status": "True", "lastUpdateTime": beforeText, "lastTransitionTime": beforeText}},
		"clusters":           []any{object{"name": "m1"}, object{"name": "m2"}},
	}
}

func TestSummarize(t *testing.T) {
	well := []status.Cluster{{Name: "m2"}, {Name: "m1"}}
	tests := map[string]struct {
		reason string
		old    object
		in     status.Input
		want   object
		same   bool
	}{
		"first": {
			reason: "the first status of an object; clusters are sorted, OK and Success are no fields",
			in:     status.Input{Generation: 2, Clusters: well},
			want: object{
				"observedGeneration": int64(2),
				"conditions":         []any{object{"type": "Propagation", "status": "True", "lastUpdateTime": nowText, "lastTransitionTime": nowText}},
				"clusters":           []any{object{"name": "m1"}, object{"name": "m2"}},
			},
		},
		"nothing at all": {
			reason: "an object placed nowhere is propagated; empty fields are left out",
			want: object{
				"conditions": []any{object{"type": "Propagation", "status": "True", "lastUpdateTime": nowText, "lastTransitionTime": nowText}},
			},
		},
		"unchanged": {
			reason: "nothing to write", old: stored(), in: status.Input{Generation: 2, Clusters: well}, same: true,
		},
		"generation": {
			reason: "a new generation without consequences moves no time",
			old:    stored(), in: status.Input{Generation: 3, Clusters: well},
			want: object{"observedGeneration": int64(3), "conditions": stored()["conditions"], "clusters": stored()["clusters"]},
		},
		"written": {
			reason: "a write to a member moves the update time only",
			old:    stored(), in: status.Input{Generation: 2, Clusters: well, Changed: true},
			want: object{
				"observedGeneration": int64(2), "clusters": stored()["clusters"],
				"conditions": []any{object{"type": "Propagation", "status": "True", "lastUpdateTime": nowText, "lastTransitionTime": beforeText}},
			},
		},
		"trouble": {
			reason: "a code turns the condition to CheckClusters and is stored with its message",
			old:    stored(), in: status.Input{Generation: 2, Clusters: []status.Cluster{{Name: "m1"}, {Name: "m2", Code: status.ClusterNotReady, Message: "look"}}},
			want: object{
				"observedGeneration": int64(2),
				"conditions":         []any{object{"type": "Propagation", "status": "False", "reason": "CheckClusters", "lastUpdateTime": nowText, "lastTransitionTime": nowText}},
				"clusters":           []any{object{"name": "m1"}, object{"name": "m2", "status": "ClusterNotReady", "message": "look"}},
			},
		},
		"pending": {
			reason: "a cluster that has not answered keeps the condition from being True",
			old:    stored(), in: status.Input{Generation: 2, Clusters: well, Pending: true},
			want: object{
				"observedGeneration": int64(2), "clusters": stored()["clusters"],
				"conditions": []any{object{"type": "Propagation", "status": "False", "reason": "CheckClusters", "lastUpdateTime": nowText, "lastTransitionTime": nowText}},
			},
		},
		"reason given": {
			reason: "an explicit reason wins over the clusters; the list is left out when empty",
			old:    stored(), in: status.Input{Generation: 2, Reason: status.ComputePlacementFailed},
			want: object{
				"observedGeneration": int64(2),
				"conditions":         []any{object{"type": "Propagation", "status": "False", "reason": "ComputePlacementFailed", "lastUpdateTime": nowText, "lastTransitionTime": nowText}},
			},
		},
		"reason changed": {
			reason: "another reason with the same status is a transition, as in KubeFed",
			old:    object{"conditions": []any{object{"type": "Propagation", "status": "False", "reason": "CheckClusters", "lastTransitionTime": beforeText, "lastUpdateTime": beforeText}}},
			in:     status.Input{Reason: status.NamespaceNotFederated},
			want:   object{"conditions": []any{object{"type": "Propagation", "status": "False", "reason": "NamespaceNotFederated", "lastTransitionTime": nowText, "lastUpdateTime": nowText}}},
		},
		"recovered": {
			reason: "the reason is removed on success",
			old:    object{"conditions": []any{object{"type": "Propagation", "status": "False", "reason": "CheckClusters", "lastTransitionTime": beforeText, "lastUpdateTime": beforeText}}},
			want:   object{"conditions": []any{object{"type": "Propagation", "status": "True", "lastTransitionTime": nowText, "lastUpdateTime": nowText}}},
		},
		"cluster gone": {
			reason: "a shorter list is a change",
			old:    stored(), in: status.Input{Generation: 2, Clusters: well[:1]},
			want: object{
				"observedGeneration": int64(2), "clusters": []any{object{"name": "m2"}},
				"conditions": []any{object{"type": "Propagation", "status": "True", "lastUpdateTime": nowText, "lastTransitionTime": beforeText}},
			},
		},
		"remote": {
			reason: "the remote status is stored when it is collected",
			in:     status.Input{CollectRemote: true, Clusters: []status.Cluster{{Name: "m1", Remote: object{"replicas": int64(1)}}, {Name: "m2"}}},
			want: object{
				"conditions": []any{object{"type": "Propagation", "status": "True", "lastUpdateTime": nowText, "lastTransitionTime": nowText}},
				"clusters":   []any{object{"name": "m1", "remoteStatus": object{"replicas": int64(1)}}, object{"name": "m2"}},
			},
		},
		"remote not collected": {
			reason: "the remote status is left out otherwise",
			old:    stored(), in: status.Input{Generation: 2, Clusters: []status.Cluster{{Name: "m1", Remote: object{"replicas": int64(1)}}, {Name: "m2"}}},
			same: true,
		},
		"foreign fields": {
			reason: "what others wrote is kept",
			old: object{
				"extra":      "kept",
				"conditions": []any{object{"type": "Mine", "status": "True"}, object{"type": "Propagation", "status": "False", "note": "kept"}},
			},
			want: object{
				"extra":      "kept",
				"conditions": []any{object{"type": "Mine", "status": "True"}, object{"type": "Propagation", "status": "True", "note": "kept", "lastUpdateTime": nowText, "lastTransitionTime": nowText}},
			},
		},
		"wrong shapes": {
			reason: "a status that cannot be read is written anew",
			old:    object{"conditions": "x", "clusters": 1.5, "observedGeneration": "y"},
			in:     status.Input{Clusters: well},
			want: object{
				"conditions": []any{object{"type": "Propagation", "status": "True", "lastUpdateTime": nowText, "lastTransitionTime": nowText}},
				"clusters":   stored()["clusters"],
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.in.Now = now
			untouched := runtime.DeepCopyJSON(tt.old)
			got, changed := status.Summarize(tt.old, tt.in)
			if changed == tt.same {
				t.Errorf("%s: changed = %v", tt.reason, changed)
			}
			want := tt.want
			if tt.same {
				want = tt.old
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
			if diff := cmp.Diff(untouched, tt.old); diff != "" {
				t.Errorf("%s: old was changed (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

// TestSummarizeProperties: the same input twice changes nothing the second time, the order of clusters does not
// matter, and a True condition means that every cluster is well.
func TestSummarizeProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	codes := []status.Code{status.OK, status.OK, status.UpdateFailed, status.WaitingForRemoval}
	var old object
	for range 5000 {
		in := status.Input{
			Generation: int64(rng.IntN(3)), Pending: rng.IntN(4) == 0, Changed: rng.IntN(2) == 0, CollectRemote: rng.IntN(2) == 0,
			Reason: []status.Reason{status.Success, status.Success, status.NamespaceNotFederated}[rng.IntN(3)],
			Now:    before.Add(time.Duration(rng.IntN(1000)) * time.Second),
		}
		for i := range rng.IntN(4) {
			in.Clusters = append(in.Clusters, status.Cluster{Name: fmt.Sprintf("m%d", i), Code: codes[rng.IntN(len(codes))], Remote: object{"n": int64(rng.IntN(2))}})
		}
		first, _ := status.Summarize(old, in)
		again := in
		again.Changed = false
		again.Now = in.Now.Add(time.Hour)
		if second, changed := status.Summarize(first, again); changed {
			t.Fatalf("%v became %v without a reason", first, second)
		}
		if second, changed := status.Summarize(first, in); changed {
			t.Fatalf("%v became %v at the same second", first, second)
		}
		rng.Shuffle(len(in.Clusters), func(i, j int) { in.Clusters[i], in.Clusters[j] = in.Clusters[j], in.Clusters[i] })
		if shuffled, _ := status.Summarize(old, in); !cmp.Equal(first, shuffled) {
			t.Fatalf("the order of clusters shows: %v, %v", first, shuffled)
		}
		checkTruth(t, in, first)
		old = first
	}
}

func checkTruth(t *testing.T, in status.Input, got object) {
	t.Helper()
	well := in.Reason == status.Success && !in.Pending
	for _, cluster := range in.Clusters {
		well = well && cluster.Code == status.OK
	}
	condition := got["conditions"].([]any)[0].(object)
	if (condition["status"] == "True") != well || (condition["reason"] == nil) != well {
		t.Fatalf("condition %v of %+v", condition, in)
	}
}

func TestRecoverable(t *testing.T) {
	tests := map[status.Code]bool{
		status.OK: false, status.WaitingForRemoval: false, status.ClusterNotReady: false, status.ApplyOverridesFailed: false,
		status.AlreadyExists: false, status.ManagedLabelFalse: false, status.CachedRetrievalFailed: false,
		status.ComputeResourceFailed: false, status.FieldRetentionFailed: false, status.VersionRetrievalFailed: false,
		status.CreationFailed: true, status.UpdateFailed: true, status.DeletionFailed: true, status.LabelRemovalFailed: true,
		status.CreationTimedOut: true, status.UpdateTimedOut: true, status.DeletionTimedOut: true, status.LabelRemovalTimedOut: true,
		status.RetrievalFailed: true, status.ClientRetrievalFailed: true,
	}
	for code, want := range tests {
		if got := code.Recoverable(); got != want {
			t.Errorf("%q: %v", code, got)
		}
	}
}

func BenchmarkSummarize(b *testing.B) {
	old := stored()
	in := status.Input{Generation: 2, Clusters: []status.Cluster{{Name: "m1"}, {Name: "m2"}}, Now: now}
	for b.Loop() {
		status.Summarize(old, in)
	}
}
