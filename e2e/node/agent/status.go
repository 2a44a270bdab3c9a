package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
)

// report hands a pod's status to the pod controller, which writes it. The controller drops what it believes to be no
// news; a number where nobody looks makes each report news.
func (a *Agent) report(pod *corev1.Pod) {
	pod = pod.DeepCopy()
	a.mu.Lock()
	a.nonce++
	pod.ResourceVersion = strconv.FormatUint(a.nonce, 10)
	notify := a.notify
	a.mu.Unlock()
	notify(pod)
}

// Observe is told what the API server says about a pod. If it is not what was reported, because the node controller or
// somebody else wrote over it, it is reported again.
func (a *Agent) Observe(pod *corev1.Pod) {
	w := a.worker(pod.UID)
	if w == nil {
		return
	}
	object := w.published()
	if !equality.Semantic.DeepEqual(foreign(object.Status.Conditions), foreign(pod.Status.Conditions)) {
		conditions := pod.Status.Conditions
		w.post(func() { w.conditions(conditions) }) // they may open a readiness gate
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return // which is final
	}
	if !equality.Semantic.DeepEqual(own(object.Status), own(pod.Status)) {
		a.report(object)
	}
}

// ownConditions are those that a kubelet sets.
var ownConditions = []corev1.PodConditionType{
	corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
}

func isForeign(c corev1.PodCondition) bool { return !slices.Contains(ownConditions, c.Type) }

func foreign(conditions []corev1.PodCondition) []corev1.PodCondition {
	var kept []corev1.PodCondition
	for _, c := range conditions {
		if isForeign(c) {
			kept = append(kept, c)
		}
	}
	return kept
}

// own is the part of a status that a kubelet decides about, in an order of its own.
func own(s corev1.PodStatus) corev1.PodStatus {
	s.Conditions = slices.DeleteFunc(slices.Clone(s.Conditions), isForeign)
	slices.SortFunc(s.Conditions, func(a, b corev1.PodCondition) int {
		return slices.Index(ownConditions, a.Type) - slices.Index(ownConditions, b.Type)
	})
	return s
}

// mergeConditions keeps the own conditions of the first list and takes the others from the second one.
func mergeConditions(reported, seen []corev1.PodCondition) []corev1.PodCondition {
	return append(slices.DeleteFunc(slices.Clone(reported), isForeign), foreign(seen)...)
}

// statusWriter is the client that the pod controller writes statuses through. The controller would replace the whole
// object by what the agent once saw, and so bring back labels and finalizers that others have changed meanwhile; this
// one writes the difference of the statuses, as a kubelet does. And the controller would delete objects of pods whose
// processes are still ending.
type statusWriter struct {
	corev1client.PodsGetter

	agent *Agent
}

// PodClient returns the client for the pod controller.
func (a *Agent) PodClient() corev1client.PodsGetter {
	return statusWriter{PodsGetter: a.client.CoreV1(), agent: a}
}

// Pods is the client for a namespace.
func (s statusWriter) Pods(namespace string) corev1client.PodInterface {
	return podStatusWriter{PodInterface: s.PodsGetter.Pods(namespace), agent: s.agent, pods: s.agent.pods.Pods(namespace)}
}

type podStatusWriter struct {
	corev1client.PodInterface

	agent *Agent
	pods  corev1listers.PodNamespaceLister
}

// Delete deletes the object of a pod that does not run here. One that does is told to end; its worker deletes the
// object when nothing of it is left.
func (s podStatusWriter) Delete(ctx context.Context, name string, o metav1.DeleteOptions) error {
	pod, err := s.pods.Get(name)
	if err != nil || s.agent.worker(pod.UID) == nil {
		return s.PodInterface.Delete(ctx, name, o)
	}
	return s.agent.DeletePod(ctx, pod)
}

// UpdateStatus writes the status of the pod, and only that.
func (s podStatusWriter) UpdateStatus(ctx context.Context, pod *corev1.Pod, _ metav1.UpdateOptions) (*corev1.Pod, error) {
	current, err := s.pods.Get(pod.Name)
	if err != nil {
		return nil, err
	}
	if current.UID != pod.UID {
		return current, nil // the status is about a pod that is gone
	}
	patch, err := statusPatch(current, pod)
	if err != nil || patch == nil {
		return current, err
	}
	return s.Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
}

// statusPatch is the difference between the statuses of two versions of a pod; nil if there is none. Applied to a pod
// with another UID it is a conflict.
func statusPatch(current, wanted *corev1.Pod) ([]byte, error) {
	before := corev1.Pod{Status: current.Status}
	after := corev1.Pod{Status: wanted.Status}
	after.Status.Conditions = mergeConditions(wanted.Status.Conditions, current.Status.Conditions)
	if equality.Semantic.DeepEqual(own(before.Status), own(after.Status)) {
		return nil, nil
	}
	after.UID = wanted.UID
	old, err := json.Marshal(before)
	if err != nil {
		return nil, fmt.Errorf("encoding a status: %w", err)
	}
	updated, err := json.Marshal(after)
	if err != nil {
		return nil, fmt.Errorf("encoding a status: %w", err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(old, updated, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("comparing statuses: %w", err)
	}
	return patch, nil
}

// deleteObject deletes a Pod object whose processes have ended.
func (a *Agent) deleteObject(ctx context.Context, pod *corev1.Pod) error {
	err := a.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // it is gone, or another one has its name
		return nil
	}
	return fmt.Errorf("deleting pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// remove deletes the object of a pod that was told to end and has ended. If somebody keeps it with a finalizer, they
// want to know how it ended.
func (a *Agent) remove(ctx context.Context, pod *corev1.Pod) {
	pods := a.PodClient().Pods(pod.Namespace)
	var r retry
	for {
		var err error
		if len(pod.Finalizers) > 0 {
			_, err = pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		}
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			err = a.deleteObject(ctx, pod)
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		a.log.Warn("cannot delete a pod that has ended, will try again", "error", err)
		r.failed(time.Now())
		if !wait(ctx, time.Until(r.at)) {
			return
		}
	}
}
