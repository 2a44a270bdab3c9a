package lifecycle_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/e2e/node/lifecycle"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

// made is a pod with containers by names: "init:NAME", "side:NAME", or NAME.
func made(policy corev1.RestartPolicy, names ...string) *lifecycle.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u"}, Spec: corev1.PodSpec{RestartPolicy: policy}}
	for _, name := range names {
		switch kind, rest, prefixed := strings.Cut(name, ":"); {
		case !prefixed:
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name})
		case kind == "side":
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: rest, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)})
		default:
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: rest})
		}
	}
	p := lifecycle.NewPod(pod, "192.0.2.1", start)
	p.IP = "192.0.2.9"
	return p
}

func run(p *lifecycle.Pod, name string, seconds float64) {
	p.Containers[p.Index(name)].Start(lifecycle.Running{ID: "lab://" + name, Started: at(seconds)})
}

func end(p *lifecycle.Pod, name string, code int, seconds float64) {
	reason := lifecycle.ExitReason(code)
	if code == 128 {
		reason = lifecycle.ReasonStartError
	}
	p.Containers[p.Index(name)].End(lifecycle.Exited{Code: code, Reason: reason, Message: "m", Finished: at(seconds)})
}

func pod(policy corev1.RestartPolicy, names []string, events ...func(*lifecycle.Pod)) *lifecycle.Pod {
	p := made(policy, names...)
	for _, event := range events {
		event(p)
	}
	return p
}

func runs(name string, seconds float64) func(*lifecycle.Pod) {
	return func(p *lifecycle.Pod) { run(p, name, seconds) }
}

func ends(name string, code int, seconds float64) func(*lifecycle.Pod) {
	return func(p *lifecycle.Pod) { end(p, name, code, seconds) }
}

const (
	always    = corev1.RestartPolicyAlways
	never     = corev1.RestartPolicyNever
	onFailure = corev1.RestartPolicyOnFailure
)

func TestNext(t *testing.T) {
	for _, test := range []struct {
		reason string
		pod    *lifecycle.Pod
		now    float64
		start  []int
		stop   []int
		wake   float64 // 0: never
	}{
		{reason: "all containers of a new pod start together", pod: pod(always, []string{"a", "b"}), start: []int{0, 1}},
		{
			reason: "without a network nothing starts",
			pod:    pod(always, []string{"a"}, func(p *lifecycle.Pod) { p.IP = "" }),
		},
		{
			reason: "a pod that is ending starts nothing",
			pod:    pod(always, []string{"a"}, func(p *lifecycle.Pod) { p.Terminating = true }),
		},
		{
			reason: "nor does one that has failed",
			pod:    pod(always, []string{"a"}, func(p *lifecycle.Pod) { p.Failure = &lifecycle.Failure{Reason: "DeadlineExceeded"} }),
		},
		{reason: "init containers come first, and one after the other", pod: pod(always, []string{"init:i", "init:j", "a"}), start: []int{0}},
		{
			reason: "the next one starts when the one before has succeeded",
			pod:    pod(always, []string{"init:i", "init:j", "a"}, runs("i", 0), ends("i", 0, 1)), now: 1, start: []int{1},
		},
		{
			reason: "the others start when all have",
			pod:    pod(always, []string{"init:i", "a", "b"}, runs("i", 0), ends("i", 0, 1)), now: 1, start: []int{1, 2},
		},
		{
			reason: "an init container that has failed is tried again",
			pod:    pod(always, []string{"init:i", "a"}, runs("i", 0), ends("i", 1, 1)), now: 2, start: []int{0},
		},
		{
			reason: "but not if the pod is never to be restarted",
			pod:    pod(never, []string{"init:i", "a"}, runs("i", 0), ends("i", 1, 1)), now: 2,
		},
		{
			reason: "a sidecar that runs lets the others start",
			pod:    pod(always, []string{"side:s", "a"}, runs("s", 0)), start: []int{1},
		},
		{
			reason: "one that still has to pass its startup probe does not",
			pod: pod(always, []string{"side:s", "a"}, runs("s", 0), func(p *lifecycle.Pod) {
				p.Containers[0].Passed = false
			}),
		},
		{
			reason: "a sidecar is restarted whatever the pod's policy is",
			pod:    pod(never, []string{"side:s", "a"}, runs("s", 0), runs("a", 0), ends("s", 0, 1)), now: 2, start: []int{0},
		},
		{
			reason: "sidecars are stopped when the others are done",
			pod:    pod(never, []string{"side:s", "a"}, runs("s", 0), runs("a", 0), ends("a", 0, 1)), now: 2, stop: []int{0},
		},
		{
			reason: "that a container has ended is shown for a moment before it is restarted",
			pod:    pod(always, []string{"a"}, runs("a", 0), ends("a", 0, 10)), now: 10, wake: 10.25,
		},
		{reason: "the first restart comes then", pod: pod(always, []string{"a"}, runs("a", 0), ends("a", 0, 10)), now: 10.25, start: []int{0}},
		{
			reason: "the second restart has to wait for ten seconds",
			pod:    pod(always, []string{"a"}, runs("a", 0), ends("a", 0, 1), runs("a", 2), ends("a", 0, 3)), now: 4, wake: 13,
		},
		{
			reason: "success is final if only failures are to be restarted",
			pod:    pod(onFailure, []string{"a"}, runs("a", 0), ends("a", 0, 1)), now: 2,
		},
		{
			reason: "failure is not",
			pod:    pod(onFailure, []string{"a"}, runs("a", 0), ends("a", 1, 1)), now: 2, start: []int{0},
		},
		{reason: "nothing is restarted in a pod that never is", pod: pod(never, []string{"a"}, runs("a", 0), ends("a", 1, 1)), now: 2},
		{
			reason: "a container may have a policy of its own",
			pod: pod(never, []string{"a"}, func(p *lifecycle.Pod) {
				p.Containers[0].Spec.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
			}, runs("a", 0), ends("a", 1, 1)), now: 2, start: []int{0},
		},
		{
			reason: "a command that cannot be started is shown as such for a second",
			pod:    pod(always, []string{"a"}, ends("a", 128, 1)), now: 1.5, wake: 2,
		},
		{
			reason: "what is shown of it changes then, though it is started later",
			pod:    pod(always, []string{"a"}, ends("a", 128, 1), ends("a", 128, 2)), now: 2.5, wake: 3,
		},
		{
			reason: "a wrong configuration is looked at again at the time set",
			pod: pod(always, []string{"a", "b"}, runs("b", 0), func(p *lifecycle.Pod) {
				p.Containers[0].Postpone(lifecycle.Waiting{Reason: lifecycle.ReasonConfigError}, at(7))
			}), now: 5, wake: 7,
		},
		{
			reason: "the end of a pod's time is waited for",
			pod: pod(always, []string{"a"}, runs("a", 0), func(p *lifecycle.Pod) {
				p.Object.Spec.ActiveDeadlineSeconds = new(int64(60))
			}), now: 5, wake: 60,
		},
	} {
		step := test.pod.Next(at(test.now))
		var wake time.Time
		if test.wake != 0 {
			wake = at(test.wake)
		}
		if !cmp.Equal(step.Start, test.start) || !cmp.Equal(step.Stop, test.stop) || !step.Wake.Equal(wake) {
			t.Errorf("%s: start %v, stop %v, wake %s; want %v, %v, %s", test.reason, step.Start, step.Stop, step.Wake, test.start, test.stop, wake)
		}
	}
}

// brief is a status in a few words: phase, then each container with its state, then conditions that hold.
func brief(s corev1.PodStatus) string {
	out := []string{string(s.Phase)}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for _, c := range list {
			state := "running"
			if w := c.State.Waiting; w != nil {
				state = w.Reason
			}
			if e := c.State.Terminated; e != nil {
				state = e.Reason
			}
			if c.LastTerminationState.Terminated != nil {
				state += "<" + c.LastTerminationState.Terminated.Reason
			}
			if c.Ready {
				state += "+"
			}
			if c.RestartCount > 0 {
				state += strings.Repeat("'", int(c.RestartCount))
			}
			out = append(out, c.Name+"="+state)
		}
	}
	for _, c := range s.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == corev1.PodReady || c.Type == corev1.PodInitialized || c.Type == corev1.ContainersReady) {
			out = append(out, string(c.Type))
		}
	}
	return strings.Join(out, " ")
}

func TestStatus(t *testing.T) {
	for _, test := range []struct {
		reason string
		pod    *lifecycle.Pod
		now    float64
		want   string
	}{
		{reason: "nothing has happened", pod: pod(always, []string{"a"}), want: "Pending a=ContainerCreating Initialized"},
		{
			reason: "an init container holds up the others",
			pod:    pod(always, []string{"init:i", "a"}, runs("i", 0)), want: "Pending i=running a=PodInitializing",
		},
		{
			reason: "it is ready for having succeeded",
			pod:    pod(always, []string{"init:i", "a"}, runs("i", 0), ends("i", 0, 1), runs("a", 1)),
			want:   "Running i=Completed+ a=running+ Initialized Ready ContainersReady",
		},
		{
			reason: "a pod is not running before all containers have run",
			pod:    pod(always, []string{"a", "b"}, runs("a", 0)), want: "Pending a=running+ b=ContainerCreating Initialized",
		},
		{
			reason: "a container without a readiness probe is ready when it runs",
			pod:    pod(always, []string{"a"}, runs("a", 0)), want: "Running a=running+ Initialized Ready ContainersReady",
		},
		{
			reason: "with one it is not ready before the probe says so",
			pod: pod(always, []string{"a"}, func(p *lifecycle.Pod) {
				p.Containers[0].Spec.ReadinessProbe = &corev1.Probe{}
			}, runs("a", 0)), want: "Running a=running Initialized",
		},
		{
			reason: "an idle container is not asked",
			pod: pod(always, []string{"a"}, func(p *lifecycle.Pod) {
				p.Containers[0].Spec.ReadinessProbe = &corev1.Probe{}
				p.Containers[0].Idle = true
			}, runs("a", 0)), want: "Running a=running+ Initialized Ready ContainersReady",
		},
		{
			reason: "the end of a container is shown as such for a moment, and the pod is not ready",
			pod:    pod(always, []string{"a"}, runs("a", 0), ends("a", 137, 1)), now: 1, want: "Running a=Error Initialized",
		},
		{
			reason: "after a restart it is told how the one before ended",
			pod:    pod(always, []string{"a"}, runs("a", 0), ends("a", 137, 1), runs("a", 2)), now: 2,
			want: "Running a=running<Error+' Initialized Ready ContainersReady",
		},
		{
			reason: "a container that keeps ending waits",
			pod:    pod(always, []string{"a"}, runs("a", 0), ends("a", 1, 1), runs("a", 2), ends("a", 1, 3)), now: 5,
			want: "Running a=CrashLoopBackOff<Error' Initialized",
		},
		{
			reason: "so does one that keeps succeeding",
			pod:    pod(always, []string{"a"}, runs("a", 0), ends("a", 0, 1), runs("a", 2), ends("a", 0, 3)), now: 5,
			want: "Running a=CrashLoopBackOff<Completed' Initialized",
		},
		{
			reason: "a command that is missing is shown as an error first",
			pod:    pod(always, []string{"a"}, ends("a", 128, 1)), now: 1.5, want: "Running a=RunContainerError<StartError Initialized",
		},
		{
			reason: "and then as a back-off",
			pod:    pod(always, []string{"a"}, ends("a", 128, 1), ends("a", 128, 2)), now: 5, want: "Running a=CrashLoopBackOff<StartError' Initialized",
		},
		{
			reason: "a wrong configuration is told",
			pod: pod(always, []string{"a"}, func(p *lifecycle.Pod) {
				p.Containers[0].Postpone(lifecycle.Waiting{Reason: lifecycle.ReasonConfigError}, at(7))
			}), want: "Pending a=CreateContainerConfigError Initialized",
		},
		{
			reason: "a pod whose containers have succeeded has",
			pod:    pod(never, []string{"a", "b"}, runs("a", 0), runs("b", 0), ends("a", 0, 1), ends("b", 0, 1)), now: 1,
			want: "Succeeded a=Completed b=Completed Initialized",
		},
		{
			reason: "one failure makes a failure of the pod",
			pod:    pod(never, []string{"a", "b"}, runs("a", 0), runs("b", 0), ends("a", 0, 1), ends("b", 2, 1)), now: 1,
			want: "Failed a=Completed b=Error Initialized",
		},
		{
			reason: "while one runs the pod does",
			pod:    pod(never, []string{"a", "b"}, runs("a", 0), runs("b", 0), ends("a", 1, 1)), now: 1,
			want: "Running a=Error b=running+ Initialized",
		},
		{
			reason: "an init container that has failed for good fails the pod",
			pod:    pod(never, []string{"init:i", "a"}, runs("i", 0), ends("i", 1, 1)), now: 1, want: "Failed i=Error a=PodInitializing",
		},
		{
			reason: "a sidecar that is still there keeps a pod running, and how it ends does not matter",
			pod:    pod(never, []string{"side:s", "a"}, runs("s", 0), runs("a", 0), ends("a", 0, 1)), now: 1,
			want: "Running s=running+ a=Completed Initialized",
		},
		{
			reason: "the sidecar has gone",
			pod:    pod(never, []string{"side:s", "a"}, runs("s", 0), runs("a", 0), ends("a", 0, 1), ends("s", 143, 2)), now: 2,
			want: "Succeeded s=Error a=Completed Initialized",
		},
		{
			reason: "a pod that was told to end and has ended is finished, even if it is always to be restarted",
			pod:    pod(always, []string{"a"}, runs("a", 0), func(p *lifecycle.Pod) { p.Terminating = true }, ends("a", 143, 1)), now: 1,
			want: "Failed a=Error Initialized",
		},
		{
			reason: "while it is ending it is still ready, if it is",
			pod:    pod(always, []string{"a"}, runs("a", 0), func(p *lifecycle.Pod) { p.Terminating = true }), now: 1,
			want: "Running a=running+ Initialized Ready ContainersReady",
		},
		{
			reason: "a pod that has failed as a whole has, whatever its containers do",
			pod: pod(always, []string{"a"}, runs("a", 0), func(p *lifecycle.Pod) {
				p.Failure = &lifecycle.Failure{Reason: "DeadlineExceeded"}
			}), want: "Failed a=running+ Initialized",
		},
	} {
		if got := brief(test.pod.Status(corev1.PodStatus{}, at(test.now))); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.reason, got, test.want)
		}
	}
}

func TestStatusConditions(t *testing.T) {
	gated := made(always, "a")
	gated.Object.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "gate"}}
	run(gated, "a", 0)
	shut := gated.Status(corev1.PodStatus{}, at(1))
	if got, want := brief(shut), "Running a=running+ Initialized ContainersReady"; got != want {
		t.Errorf("a pod whose gate is shut: %s, want %s", got, want)
	}
	shut.Conditions = append(shut.Conditions, corev1.PodCondition{Type: "gate", Status: corev1.ConditionTrue})
	open := gated.Status(shut, at(2))
	if got, want := brief(open), "Running a=running+ Initialized Ready ContainersReady"; got != want {
		t.Errorf("a pod whose gate was opened: %s, want %s", got, want)
	}
	for _, c := range open.Conditions {
		want := at(1)
		if c.Type == corev1.PodReady {
			want = at(2)
		}
		if c.Type != "gate" && !c.LastTransitionTime.Time.Equal(want) {
			t.Errorf("condition %s changed at %s, want %s: only readiness did then", c.Type, c.LastTransitionTime, want)
		}
	}
	if again := gated.Status(open, at(3)); !cmp.Equal(open, again) {
		t.Errorf("nothing has happened, but the status has changed: %s", cmp.Diff(open, again))
	}
}

func TestNewPodAfterTheNodeWasGone(t *testing.T) {
	object := made(never, "init:i", "a", "b").Object
	object.Status = corev1.PodStatus{
		InitContainerStatuses: []corev1.ContainerStatus{{Name: "i", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}},
		ContainerStatuses: []corev1.ContainerStatus{
			{Name: "a", RestartCount: 2, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			{Name: "b", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}}},
		},
	}
	p := lifecycle.NewPod(object, "192.0.2.1", start)
	p.IP = "192.0.2.9"
	if got, want := brief(p.Status(object.Status, start)), "Pending i=ContainerCreating' a=ContainerStatusUnknown'' b=Completed"; got != want {
		t.Errorf("a pod that is never restarted: %s, want %s", got, want)
	}
	object.Spec.RestartPolicy = always
	p = lifecycle.NewPod(object, "192.0.2.1", start)
	p.IP = "192.0.2.9"
	run(p, "i", 1)
	end(p, "i", 0, 2)
	if got := p.Next(at(3)).Start; !cmp.Equal(got, []int{1, 2}) {
		t.Errorf("containers %v are started again, want all", got)
	}
	run(p, "a", 3)
	if got := p.Containers[1].Restarts; got != 3 {
		t.Errorf("after the node was gone there are %d restarts, want 3", got)
	}
}

func TestExpired(t *testing.T) {
	p := made(always, "a")
	if p.Expired(at(1e6)) {
		t.Error("a pod without a deadline expires")
	}
	p.Object.Spec.ActiveDeadlineSeconds = new(int64(10))
	if p.Expired(at(9)) || !p.Expired(at(10)) {
		t.Error("a pod with a deadline of ten seconds expires at another time")
	}
}

func TestAdopt(t *testing.T) {
	p := made(always, "init:i", "a", "b")
	changed := p.Object.DeepCopy()
	changed.Spec.Containers[1].Image = "other"
	if got := p.Adopt(changed); !cmp.Equal(got, []int{2}) || p.Containers[2].Spec.Image != "other" {
		t.Errorf("containers %v have changed, want that at 2", got)
	}
}
