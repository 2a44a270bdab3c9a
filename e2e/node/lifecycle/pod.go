// Package lifecycle is what becomes of a pod: which of its containers are to be started or stopped now, and what its
// status says. It decides and does nothing else: it has no clock and starts no processes. The rules are those of
// Kubernetes' kubelet.
package lifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Reasons for which a container waits or has ended.
const (
	ReasonCreating     = "ContainerCreating"
	ReasonInitializing = "PodInitializing"
	ReasonConfigError  = "CreateContainerConfigError"
	ReasonRunError     = "RunContainerError"
	ReasonCrashLoop    = "CrashLoopBackOff"
	ReasonStartError   = "StartError"
	ReasonCompleted    = "Completed"
	ReasonError        = "Error"
	ReasonUnknown      = "ContainerStatusUnknown"
)

// Kind is the part that a container plays in its pod.
type Kind int

// Kinds of containers.
const (
	Main    Kind = iota
	Init         // runs to its end before those after it start
	Sidecar      // an init container that keeps running
)

// Pod is a pod on this node, as far as it has come.
type Pod struct {
	Object      *corev1.Pod
	HostIP      string
	IP          string      // "" until its network is there
	Accepted    time.Time   // when the node saw it
	Containers  []Container // init containers and sidecars in order, then the others
	Terminating bool        // it has been told to end
	Failure     *Failure    // the pod as a whole has failed
}

// Failure is why a pod as a whole has failed, like DeadlineExceeded.
type Failure struct{ Reason, Message string }

// Container is one container. It runs if Running is set, has ended if Exited is, and waits otherwise.
type Container struct {
	Spec     *corev1.Container
	Kind     Kind
	Restarts int
	Waiting  Waiting // why it waits, if the default will not do
	Running  *Running
	Exited   *Exited
	Last     *Exited // how the instance before this one ended
	Passed   bool    // its startup probe has succeeded, or there is none
	Ready    bool    // its readiness probe has succeeded, or there is none
	Idle     bool    // it does nothing, for its image is unknown
	Backoff  Backoff
	RetryAt  time.Time // not to be started before, after its configuration was found to be wrong
}

// Waiting is why a container does not run yet.
type Waiting struct{ Reason, Message string }

// Running is an instance of a container.
type Running struct {
	ID      string
	Started time.Time
}

// Exited is how an instance of a container ended.
type Exited struct {
	ID                string
	Code, Signal      int
	Reason, Message   string
	Started, Finished time.Time
}

// ExitReason is the reason that goes with an exit code.
func ExitReason(code int) string {
	if code == 0 {
		return ReasonCompleted
	}
	return ReasonError
}

// NewPod returns a pod whose containers have not run. A pod that has run before, under an agent that ended, goes on
// counting restarts where its status says.
func NewPod(object *corev1.Pod, hostIP string, now time.Time) *Pod {
	p := &Pod{Object: object, HostIP: hostIP, Accepted: now}
	if started := object.Status.StartTime; started != nil {
		p.Accepted = started.Time
	}
	for i := range object.Spec.InitContainers {
		c := &object.Spec.InitContainers[i]
		kind := Init
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			kind = Sidecar
		}
		p.Containers = append(p.Containers, recall(Container{Spec: c, Kind: kind}, object.Status.InitContainerStatuses, now))
	}
	for i := range object.Spec.Containers {
		p.Containers = append(p.Containers, recall(Container{Spec: &object.Spec.Containers[i], Kind: Main}, object.Status.ContainerStatuses, now))
	}
	return p
}

// recall takes over what a status tells about instances of a container that are gone.
func recall(c Container, statuses []corev1.ContainerStatus, now time.Time) Container {
	for _, s := range statuses {
		if s.Name != c.Spec.Name {
			continue
		}
		c.Restarts = int(s.RestartCount)
		if c.Kind == Init { // what it did, it did for a network and processes that are gone
			if s.State.Waiting == nil {
				c.Restarts++
			}
			return c
		}
		switch ended, running := s.State.Terminated, s.State.Running; {
		case ended != nil:
			c.Exited = &Exited{
				ID: s.ContainerID, Code: int(ended.ExitCode), Signal: int(ended.Signal), Reason: ended.Reason, Message: ended.Message,
				Started: ended.StartedAt.Time, Finished: ended.FinishedAt.Time,
			}
		case running != nil:
			c.Exited = &Exited{
				ID: s.ContainerID, Code: 137, Reason: ReasonUnknown, Message: "The node ended while the container was running",
				Started: running.StartedAt.Time, Finished: now,
			}
		}
	}
	return c
}

// Index finds a container by its name, or returns -1.
func (p *Pod) Index(name string) int {
	for i := range p.Containers {
		if p.Containers[i].Spec.Name == name {
			return i
		}
	}
	return -1
}

// Alive tells whether any container runs.
func (p *Pod) Alive() bool {
	for i := range p.Containers {
		if p.Containers[i].Running != nil {
			return true
		}
	}
	return false
}

// Start records that a container runs.
func (c *Container) Start(r Running) {
	c.again(r.Started)
	c.Running = &r
	c.Passed = c.Spec.StartupProbe == nil || c.Idle
	c.Ready = c.Passed && (c.Spec.ReadinessProbe == nil || c.Idle)
}

// End records that a container, or the attempt to start it, has ended.
func (c *Container) End(e Exited) {
	if c.Running == nil { // it never ran
		c.again(e.Finished)
	}
	c.Exited, c.Running = &e, nil
	c.Passed, c.Ready = false, false
}

// Postpone records that a container cannot be started yet.
func (c *Container) Postpone(w Waiting, until time.Time) { c.Waiting, c.RetryAt = w, until }

// again counts a restart if there was an instance before.
func (c *Container) again(now time.Time) {
	c.Waiting, c.RetryAt = Waiting{}, time.Time{}
	if c.Exited == nil {
		return
	}
	c.Backoff = c.Backoff.Next(c.Exited.Finished, now)
	c.Restarts++
	c.Last, c.Exited = c.Exited, nil
}

// Adopt takes over a changed Pod object, and returns the containers whose image is another now.
func (p *Pod) Adopt(object *corev1.Pod) []int {
	p.Object = object
	var changed []int
	for _, list := range [][]corev1.Container{object.Spec.InitContainers, object.Spec.Containers} {
		for k := range list {
			i := p.Index(list[k].Name)
			if i < 0 {
				continue
			}
			if p.Containers[i].Spec.Image != list[k].Image {
				changed = append(changed, i)
			}
			p.Containers[i].Spec = &list[k]
		}
	}
	return changed
}
