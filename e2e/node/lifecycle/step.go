package lifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// startErrorPause is how long the error of a command that could not be started is shown before anything else happens.
	startErrorPause = time.Second
	// restartPause is how long the end of a container is shown before it is started again, even if that would be at once:
	// whoever routes traffic is to see that it was away.
	restartPause = 250 * time.Millisecond
)

// Step is what is to be done about a pod now.
type Step struct {
	Start   []int     // containers to start, as indices of Pod.Containers
	Stop    []int     // sidecars that have served their purpose
	Wake    time.Time // when to ask again, even if nothing happens; zero: never
	Delayed []int     // containers whose restart is being delayed
}

// Next decides what to do about a pod.
//
//	the pod is terminating, failed or finished   nothing is started
//	an init container has not succeeded          nothing after it is started; it is started again, if the policy allows
//	a sidecar has not started                    nothing after it is started
//	a container has never run                    it is started
//	a container has ended                        it is started again after a delay, if the policy allows
//	only sidecars are left running               they are stopped
func (p *Pod) Next(now time.Time) Step {
	var s Step
	if p.IP == "" || p.Terminating || p.Failure != nil {
		return s
	}
	if p.mainsOver() {
		for i := range p.Containers {
			if p.Containers[i].Kind == Sidecar && p.Containers[i].Running != nil {
				s.Stop = append(s.Stop, i)
			}
		}
		return s
	}
	s.Wake = p.deadline()
	for i := range p.Containers {
		c := &p.Containers[i]
		if c.Running == nil && p.wanted(c) {
			s.consider(i, c, now)
		}
		if c.blocks() {
			return s
		}
	}
	return s
}

// consider starts a container that does not run, or says when it may be.
func (s *Step) consider(i int, c *Container, now time.Time) {
	at := c.RetryAt
	if c.Exited != nil {
		at = latest(at, c.Backoff.Until(c.Exited.Finished), c.Exited.shownUntil())
		if at.After(now) && c.Backoff.Until(c.Exited.Finished).After(now) {
			s.Delayed = append(s.Delayed, i)
		}
	}
	if !at.After(now) {
		s.Start = append(s.Start, i)
		return
	}
	if c.Exited != nil && c.Exited.shownUntil().After(now) { // what is shown changes then
		at = c.Exited.shownUntil()
	}
	s.Wake = earliest(s.Wake, at)
}

// shownUntil is until when the end of an instance is shown as such.
func (e *Exited) shownUntil() time.Time {
	if e.Reason == ReasonStartError {
		return e.Finished.Add(startErrorPause)
	}
	return e.Finished.Add(restartPause)
}

// blocks tells whether the containers after this one have to wait.
func (c *Container) blocks() bool {
	switch c.Kind {
	case Init:
		return c.Exited == nil || c.Exited.Code != 0
	case Sidecar:
		return c.Running == nil && c.Exited == nil && c.Last == nil || c.Running != nil && !c.Passed
	default:
		return false
	}
}

// wanted tells whether a container that does not run is to be started, now or later.
func (p *Pod) wanted(c *Container) bool {
	if c.Exited == nil || c.Kind == Sidecar {
		return true
	}
	switch policy := p.policy(c); {
	case c.Kind == Init: // its success is final
		return c.Exited.Code != 0 && policy != corev1.RestartPolicyNever
	case policy == corev1.RestartPolicyAlways:
		return true
	default:
		return c.Exited.Code != 0 && policy == corev1.RestartPolicyOnFailure
	}
}

func (p *Pod) policy(c *Container) corev1.RestartPolicy {
	if c.Spec.RestartPolicy != nil && c.Kind == Main {
		return corev1.RestartPolicy(*c.Spec.RestartPolicy)
	}
	return p.Object.Spec.RestartPolicy
}

// mainsOver tells whether no container but sidecars will run any more: all have ended for good, or an init container
// has failed for good.
func (p *Pod) mainsOver() bool {
	over := true
	for i := range p.Containers {
		c := &p.Containers[i]
		if c.Kind == Sidecar {
			continue
		}
		final := c.Exited != nil && !p.wanted(c)
		if c.Kind == Init && final && c.Exited.Code != 0 {
			return true
		}
		over = over && final
	}
	return over
}

// Finished tells whether the pod's containers have ended and will not be started again.
func (p *Pod) Finished() bool {
	return !p.Alive() && (p.Terminating || p.Failure != nil || p.mainsOver())
}

// Expired tells whether the pod has been active for longer than it may.
func (p *Pod) Expired(now time.Time) bool {
	deadline := p.deadline()
	return !deadline.IsZero() && !now.Before(deadline)
}

func (p *Pod) deadline() time.Time {
	seconds := p.Object.Spec.ActiveDeadlineSeconds
	if seconds == nil {
		return time.Time{}
	}
	return p.Accepted.Add(time.Duration(*seconds) * time.Second)
}

func latest(times ...time.Time) time.Time {
	var most time.Time
	for _, t := range times {
		if t.After(most) {
			most = t
		}
	}
	return most
}

// earliest ignores zero times.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
