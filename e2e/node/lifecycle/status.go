package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Status is what the pod's status is to say. Conditions of the status before that are others' to set are kept, and so
// are the times at which conditions changed.
func (p *Pod) Status(before corev1.PodStatus, now time.Time) corev1.PodStatus {
	s := corev1.PodStatus{
		Phase:                 p.phase(),
		QOSClass:              before.QOSClass,
		NominatedNodeName:     before.NominatedNodeName,
		ResourceClaimStatuses: before.ResourceClaimStatuses,
		ObservedGeneration:    p.Object.Generation,
		HostIP:                p.HostIP,
		HostIPs:               []corev1.HostIP{{IP: p.HostIP}},
		StartTime:             before.StartTime,
	}
	if s.StartTime == nil {
		s.StartTime = new(stamp(p.Accepted))
	}
	if p.IP != "" {
		s.PodIP, s.PodIPs = p.IP, []corev1.PodIP{{IP: p.IP}}
	}
	if p.Failure != nil {
		s.Reason, s.Message = p.Failure.Reason, p.Failure.Message
	}
	for i := range p.Containers {
		status := p.containerStatus(i, now)
		if p.Containers[i].Kind == Main {
			s.ContainerStatuses = append(s.ContainerStatuses, status)
		} else {
			s.InitContainerStatuses = append(s.InitContainerStatuses, status)
		}
	}
	s.Conditions = p.conditions(s.Phase, before.Conditions, now)
	return s
}

// phase follows the rules of the kubelet: a pod that has been told to end keeps the phase that it had, until nothing
// of it runs.
func (p *Pod) phase() corev1.PodPhase {
	if p.Failure != nil {
		return corev1.PodFailed
	}
	if p.Finished() {
		return p.finalPhase()
	}
	for i := range p.Containers {
		c := &p.Containers[i]
		if c.Kind == Init && c.blocks() {
			return corev1.PodPending
		}
	}
	for i := range p.Containers {
		c := &p.Containers[i]
		if c.Kind == Main && c.Running == nil && c.Exited == nil && c.Last == nil {
			return corev1.PodPending // it has never run
		}
	}
	return corev1.PodRunning
}

func (p *Pod) finalPhase() corev1.PodPhase {
	for i := range p.Containers {
		c := &p.Containers[i]
		if c.Kind != Sidecar && (c.Exited == nil || c.Exited.Code != 0) {
			return corev1.PodFailed
		}
	}
	return corev1.PodSucceeded
}

func (p *Pod) containerStatus(i int, now time.Time) corev1.ContainerStatus {
	c := &p.Containers[i]
	s := corev1.ContainerStatus{
		Name: c.Spec.Name, Image: c.Spec.Image, ImageID: "lab://" + c.Spec.Image,
		RestartCount: int32(c.Restarts), //nolint:gosec // G115: a count of restarts
		Ready:        c.Running != nil && c.Ready,
		Started:      new(c.Running != nil && c.Passed),
	}
	if c.Kind == Init {
		s.Ready = c.Exited != nil && c.Exited.Code == 0
	}
	if c.Last != nil {
		s.LastTerminationState.Terminated = c.Last.terminated()
		s.ContainerID = c.Last.ID
	}
	switch {
	case c.Running != nil:
		s.ContainerID = c.Running.ID
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: stamp(c.Running.Started)}
	case c.Exited != nil && (p.over() || !p.wanted(c)):
		s.ContainerID = c.Exited.ID
		s.State.Terminated = c.Exited.terminated()
	case c.Exited != nil:
		// It will be started again: what it waits for is its state, and how it ended is the state before.
		s.ContainerID = c.Exited.ID
		s.State = p.between(c, now)
		if s.State.Terminated == nil {
			s.LastTerminationState.Terminated = c.Exited.terminated()
		}
	default:
		s.State.Waiting = p.waiting(i)
	}
	return s
}

// over tells whether nothing of the pod will be started any more.
func (p *Pod) over() bool { return p.Terminating || p.Failure != nil || p.mainsOver() }

// between is the state of a container that has ended and will be started again.
func (p *Pod) between(c *Container, now time.Time) corev1.ContainerState {
	switch {
	case c.Waiting.Reason != "":
		return waitingState(c.Waiting)
	case now.Before(c.Exited.shownUntil()) && c.Exited.Reason == ReasonStartError:
		return waitingState(Waiting{ReasonRunError, c.Exited.Message})
	case now.Before(c.Exited.shownUntil()):
		return corev1.ContainerState{Terminated: c.Exited.terminated()}
	case c.Backoff.Until(c.Exited.Finished).After(c.Exited.Finished):
		return waitingState(Waiting{ReasonCrashLoop, fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			c.Backoff.Delay, c.Spec.Name, p.Object.Name, p.Object.Namespace, p.Object.UID)})
	default:
		return corev1.ContainerState{Terminated: c.Exited.terminated()}
	}
}

func waitingState(w Waiting) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}}
}

func (p *Pod) waiting(i int) *corev1.ContainerStateWaiting {
	c := &p.Containers[i]
	if c.Waiting.Reason != "" {
		return &corev1.ContainerStateWaiting{Reason: c.Waiting.Reason, Message: c.Waiting.Message}
	}
	for before := range i {
		if p.Containers[before].blocks() && p.Containers[before].Kind != Main {
			return &corev1.ContainerStateWaiting{Reason: ReasonInitializing}
		}
	}
	return &corev1.ContainerStateWaiting{Reason: ReasonCreating}
}

func (e *Exited) terminated() *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{
		ExitCode: int32(e.Code), Signal: int32(e.Signal), //nolint:gosec // G115: both are below 256
		Reason: e.Reason, Message: e.Message, ContainerID: e.ID,
		StartedAt: stamp(e.Started), FinishedAt: stamp(e.Finished),
	}
}

// stamp is a time as the API keeps it, in whole seconds; comparing statuses would find differences otherwise.
func stamp(t time.Time) metav1.Time { return metav1.NewTime(t).Rfc3339Copy() }

// verdict is the state of a condition.
type verdict struct {
	kind            corev1.PodConditionType
	holds           bool
	reason, message string
}

// ownConditions are set by a kubelet; PodScheduled is repeated, so that it is there for pods that no scheduler saw.
func (p *Pod) conditions(phase corev1.PodPhase, before []corev1.PodCondition, now time.Time) []corev1.PodCondition {
	var conditions []corev1.PodCondition
	verdicts := p.verdicts(phase, before)
	for _, v := range verdicts {
		conditions = append(conditions, v.condition(p.Object.Generation, before, now))
	}
	for _, c := range before {
		own := slices.ContainsFunc(verdicts, func(v verdict) bool { return v.kind == c.Type })
		if !own {
			conditions = append(conditions, c)
		}
	}
	return conditions
}

func (v verdict) condition(generation int64, before []corev1.PodCondition, now time.Time) corev1.PodCondition {
	c := corev1.PodCondition{
		Type: v.kind, Status: corev1.ConditionFalse, Reason: v.reason, Message: v.message,
		ObservedGeneration: generation, LastTransitionTime: stamp(now),
	}
	if v.holds {
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "", ""
		if v.reason == reasonPodCompleted {
			c.Reason = v.reason
		}
	}
	for _, old := range before {
		if old.Type == v.kind && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return c
}

// Reasons of conditions.
const (
	reasonPodCompleted  = "PodCompleted"
	reasonPodFailed     = "PodFailed"
	reasonNotReady      = "ContainersNotReady"
	reasonUninitialized = "ContainersNotInitialized"
	reasonGates         = "ReadinessGatesNotReady"
)

func (p *Pod) verdicts(phase corev1.PodPhase, before []corev1.PodCondition) []verdict {
	initialized := verdict{kind: corev1.PodInitialized, holds: true}
	if names := p.names(func(c *Container) bool { return c.Kind != Main && c.blocks() }); len(names) > 0 {
		initialized.holds, initialized.reason = false, reasonUninitialized
		initialized.message = "containers with incomplete status: [" + strings.Join(names, " ") + "]"
	}
	containers := verdict{kind: corev1.ContainersReady, holds: true}
	if names := p.names((*Container).unready); len(names) > 0 {
		containers.holds, containers.reason = false, reasonNotReady
		containers.message = "containers with unready status: [" + strings.Join(names, " ") + "]"
	}
	switch phase {
	case corev1.PodSucceeded:
		initialized = verdict{kind: corev1.PodInitialized, holds: true, reason: reasonPodCompleted}
		containers = verdict{kind: corev1.ContainersReady, reason: reasonPodCompleted}
	case corev1.PodFailed:
		containers = verdict{kind: corev1.ContainersReady, reason: reasonPodFailed}
	default:
	}
	ready := containers
	ready.kind = corev1.PodReady
	if ready.holds {
		ready = p.gated(ready, before)
	}
	return []verdict{
		{kind: corev1.PodReadyToStartContainers, holds: p.IP != "" && !p.Finished()},
		initialized,
		ready,
		containers,
		{kind: corev1.PodScheduled, holds: true},
	}
}

// gated takes the pod's readiness gates into account: conditions that others have to set.
func (p *Pod) gated(ready verdict, conditions []corev1.PodCondition) verdict {
	for _, gate := range p.Object.Spec.ReadinessGates {
		open := slices.ContainsFunc(conditions, func(c corev1.PodCondition) bool {
			return c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		})
		if !open {
			ready.holds, ready.reason = false, reasonGates
			ready.message = fmt.Sprintf("the status of pod readiness gate %q is not \"True\"", gate.ConditionType)
			return ready
		}
	}
	return ready
}

// unready tells whether a container keeps its pod from being ready.
func (c *Container) unready() bool {
	return c.Kind != Init && (c.Running == nil || !c.Ready)
}

func (p *Pod) names(f func(*Container) bool) []string {
	var names []string
	for i := range p.Containers {
		if f(&p.Containers[i]) {
			names = append(names, p.Containers[i].Spec.Name)
		}
	}
	return names
}
