package cluster

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
	"sigs.k8s.io/kubefed/pkg/apis/core/v1beta1/defaults"
)

// Reasons of the conditions of a KubeFedCluster, as KubeFed names them.
const (
	ReasonReady        = "ClusterReady"
	ReasonNotReady     = "ClusterNotReady"
	ReasonNotReachable = "ClusterNotReachable"
	ReasonReachable    = "ClusterReachable"
	ReasonMalformed    = "ClusterConfigMalformed"
)

// Pace says how often a member is probed and how many answers in a row change its health.
type Pace struct {
	Period           time.Duration
	Timeout          time.Duration
	FailureThreshold int64
	SuccessThreshold int64
}

// DefaultPace is Hansa's own: three failures one second apart make a member not ready, one success makes it ready.
var DefaultPace = Pace{Period: time.Second, Timeout: 3 * time.Second, FailureThreshold: 3, SuccessThreshold: 1}

// PaceFor reads the pace from a KubeFedConfig. KubeFed stores its defaults (10s, 3, 1, 3s) in every config, so those
// values mean that nobody chose: Hansa's own stay. A value that somebody changed is honoured.
func PaceFor(check *corev1b1.ClusterHealthCheckConfig) Pace {
	pace := DefaultPace
	if check == nil {
		return pace
	}
	if p := check.Period; p != nil && p.Duration > 0 && p.Duration != defaults.DefaultClusterHealthCheckPeriod {
		pace.Period = p.Duration
	}
	if t := check.Timeout; t != nil && t.Duration > 0 && t.Duration != defaults.DefaultClusterHealthCheckTimeout {
		pace.Timeout = t.Duration
	}
	if n := check.FailureThreshold; n != nil && *n > 0 {
		pace.FailureThreshold = *n
	}
	if n := check.SuccessThreshold; n != nil && *n > 0 {
		pace.SuccessThreshold = *n
	}
	return pace
}

// Outcome is what one probe of a member's API server found.
type Outcome struct {
	// Answered means that the API server spoke HTTP to us; OK, that it called itself ready.
	Answered, OK bool
	// Detail says what it answered or why it did not, for a person.
	Detail string
}

// Health is what is known of a member's control plane. It says nothing of the data plane: an API server that does not
// answer takes no endpoint out of service. The zero value is "not probed yet".
type Health struct {
	Ready   corev1.ConditionStatus // True, False, or Unknown before the first verdict
	Offline corev1.ConditionStatus // True when not even an HTTP answer came
	Reason  string
	Message string
	Probed  time.Time // of the last probe

	failures, successes int64
}

// After returns the health after one more probe at the given time. Consecutive failures are counted: the verdict
// changes only when the threshold of the pace is met, so that one lost probe never flips a member. A member of which
// nothing is known yet takes its first outcome at once.
func (h Health) After(o Outcome, pace Pace, now time.Time) Health {
	before := h
	h.Probed = now
	if o.OK {
		h.successes, h.failures = h.successes+1, 0
	} else {
		h.failures, h.successes = h.failures+1, 0
	}
	known := h.Ready == corev1.ConditionTrue || h.Ready == corev1.ConditionFalse
	switch {
	case o.OK && known && h.Ready == corev1.ConditionFalse && h.successes < pace.SuccessThreshold:
	case o.OK:
		h.Ready, h.Offline = corev1.ConditionTrue, corev1.ConditionFalse
		h.Reason, h.Message = ReasonReady, "the API server is ready: "+o.Detail
	case known && h.Ready == corev1.ConditionTrue && h.failures < pace.FailureThreshold:
	case o.Answered:
		h.Ready, h.Offline = corev1.ConditionFalse, corev1.ConditionFalse
		h.Reason, h.Message = ReasonNotReady, "the API server answers but is not ready: "+o.Detail
	default:
		h.Ready, h.Offline = corev1.ConditionFalse, corev1.ConditionTrue
		h.Reason, h.Message = ReasonNotReachable, "the API server does not answer: "+o.Detail
	}
	if h.sameVerdict(before) {
		h.Message = before.Message // details such as local ports vary; the first of them stands for the verdict
	}
	return h
}

// malformed is the health of a member whose registration cannot be used.
func malformed(err error, now time.Time) Health {
	return Health{
		Ready:   corev1.ConditionUnknown,
		Offline: corev1.ConditionUnknown,
		Reason:  ReasonMalformed,
		Message: fmt.Sprintf("%v; correct the KubeFedCluster or its Secret, or join the cluster again", err),
		Probed:  now,
	}
}

// unprobed is the health of a member before its first probe has ended.
func unprobed() Health {
	return Health{Ready: corev1.ConditionUnknown, Offline: corev1.ConditionUnknown, Reason: ReasonNotReady, Message: "the first probe is under way"}
}

// sameVerdict reports whether two healths lead to the same conditions.
func (h Health) sameVerdict(o Health) bool {
	return h.Ready == o.Ready && h.Offline == o.Offline && h.Reason == o.Reason
}
