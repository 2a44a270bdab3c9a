package cluster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/cluster"
)

var (
	answers  = cluster.Outcome{Answered: true, OK: true, Detail: "ok"}
	unwell   = cluster.Outcome{Answered: true, Detail: "500"}
	silent   = cluster.Outcome{Detail: "connection refused"}
	epoch    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	patience = cluster.Pace{Period: time.Second, Timeout: time.Second, FailureThreshold: 3, SuccessThreshold: 2}
)

func TestHealthAfter(t *testing.T) {
	tests := map[string]struct {
		reason   string
		outcomes []cluster.Outcome
		ready    corev1.ConditionStatus
		offline  corev1.ConditionStatus
		code     string
	}{
		"FirstAnswer": {
			reason:   "a member of which nothing is known takes its first outcome at once",
			outcomes: []cluster.Outcome{answers},
			ready:    corev1.ConditionTrue, offline: corev1.ConditionFalse, code: cluster.ReasonReady,
		},
		"FirstSilence": {
			reason:   "silence at first means offline at once: nothing can be done with it anyway",
			outcomes: []cluster.Outcome{silent},
			ready:    corev1.ConditionFalse, offline: corev1.ConditionTrue, code: cluster.ReasonNotReachable,
		},
		"OneLostProbe": {
			reason:   "one lost probe never flips a member, however long it was well before (KubeFed's counter did)",
			outcomes: []cluster.Outcome{answers, answers, answers, answers, silent},
			ready:    corev1.ConditionTrue, offline: corev1.ConditionFalse, code: cluster.ReasonReady,
		},
		"LostNowAndThen": {
			reason:   "failures count only in a row",
			outcomes: []cluster.Outcome{answers, silent, silent, answers, silent, silent},
			ready:    corev1.ConditionTrue, offline: corev1.ConditionFalse, code: cluster.ReasonReady,
		},
		"Dead": {
			reason:   "the threshold of failures in a row makes it offline, and Ready is False beside it",
			outcomes: []cluster.Outcome{answers, silent, silent, silent},
			ready:    corev1.ConditionFalse, offline: corev1.ConditionTrue, code: cluster.ReasonNotReachable,
		},
		"Unwell": {
			reason:   "an API server that answers without being ready is not ready, but not offline",
			outcomes: []cluster.Outcome{answers, unwell, unwell, unwell},
			ready:    corev1.ConditionFalse, offline: corev1.ConditionFalse, code: cluster.ReasonNotReady,
		},
		"OneGoodProbe": {
			reason:   "with a success threshold of two, one good probe does not bring it back",
			outcomes: []cluster.Outcome{silent, answers},
			ready:    corev1.ConditionFalse, offline: corev1.ConditionTrue, code: cluster.ReasonNotReachable,
		},
		"Back": {
			reason:   "the threshold of successes in a row brings it back",
			outcomes: []cluster.Outcome{silent, answers, answers},
			ready:    corev1.ConditionTrue, offline: corev1.ConditionFalse, code: cluster.ReasonReady,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var h cluster.Health
			for i, o := range tt.outcomes {
				h = h.After(o, patience, epoch.Add(time.Duration(i)*time.Second))
			}
			got := []string{string(h.Ready), string(h.Offline), h.Reason}
			want := []string{string(tt.ready), string(tt.offline), tt.code}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: -want +got:\n%s", tt.reason, diff)
			}
		})
	}
}

func TestPaceFor(t *testing.T) {
	stored := &corev1b1.ClusterHealthCheckConfig{
		Period:           &metav1.Duration{Duration: 10 * time.Second},
		Timeout:          &metav1.Duration{Duration: 3 * time.Second},
		FailureThreshold: new(int64(3)),
		SuccessThreshold: new(int64(1)),
	}
	chosen := stored.DeepCopy()
	chosen.Period.Duration = 30 * time.Second
	chosen.FailureThreshold = new(int64(5))
	tests := map[string]struct {
		reason string
		check  *corev1b1.ClusterHealthCheckConfig
		want   cluster.Pace
	}{
		"Absent":   {"no config means Hansa's own pace", nil, cluster.DefaultPace},
		"Defaults": {"the defaults that KubeFed stores in every config were not chosen by anybody", stored, cluster.DefaultPace},
		"Chosen": {
			"what somebody changed is honoured", chosen,
			cluster.Pace{Period: 30 * time.Second, Timeout: cluster.DefaultPace.Timeout, FailureThreshold: 5, SuccessThreshold: 1},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, cluster.PaceFor(tt.check)); diff != "" {
				t.Errorf("%s: -want +got:\n%s", tt.reason, diff)
			}
		})
	}
}

func TestStatusFor(t *testing.T) {
	well := cluster.Health{}.After(answers, patience, epoch)
	down := cluster.Health{}.After(silent, patience, epoch.Add(time.Hour))
	topology := cluster.Topology{Version: "v1.36.3", Region: "eu", Zones: []string{"eu-a", "eu-b"}}

	first := cluster.StatusFor(corev1b1.KubeFedClusterStatus{}, well, topology, epoch)
	if got := conditions(first); got != "Ready=True/ClusterReady Offline=False/ClusterReachable" {
		t.Errorf("a ready member shows both conditions: got %s", got)
	}
	if first.KubernetesVersion != "v1.36.3" || first.Region == nil || *first.Region != "eu" || len(first.Zones) != 2 {
		t.Errorf("version, region and zones are filled: got %+v", first)
	}

	again := cluster.StatusFor(first, well.After(answers, patience, epoch.Add(5*time.Second)), topology, epoch.Add(5*time.Second))
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("a probe that says the same changes nothing: -want +got:\n%s", diff)
	}

	later := cluster.StatusFor(first, well.After(answers, patience, epoch.Add(2*time.Minute)), topology, epoch.Add(2*time.Minute))
	if !later.Conditions[0].LastProbeTime.Equal(new(metav1.NewTime(epoch.Add(2 * time.Minute)))) {
		t.Errorf("a probe time older than a minute is refreshed: got %v", later.Conditions[0].LastProbeTime)
	}
	if !later.Conditions[0].LastTransitionTime.Equal(first.Conditions[0].LastTransitionTime) {
		t.Errorf("the transition time moves with the status only: got %v", later.Conditions[0].LastTransitionTime)
	}

	lost := cluster.StatusFor(first, down, cluster.Topology{}, epoch.Add(time.Hour))
	if got := conditions(lost); got != "Ready=False/ClusterNotReachable Offline=True/ClusterNotReachable" {
		t.Errorf("a dead member shows Ready=False beside Offline=True: got %s", got)
	}
	if lost.KubernetesVersion != "v1.36.3" || lost.Region == nil {
		t.Errorf("what was known of a dead member stays: got %+v", lost)
	}
}

func conditions(s corev1b1.KubeFedClusterStatus) string {
	words := make([]string, 0, len(s.Conditions))
	for _, c := range s.Conditions {
		words = append(words, string(c.Type)+"="+string(c.Status)+"/"+*c.Reason)
	}
	return strings.Join(words, " ")
}
