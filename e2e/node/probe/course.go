package probe

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A container that is not well yet is asked more often than its probe says, for most are well within moments of their
// start.
const (
	eagerFirst = 10 * time.Millisecond
	eagerGrow  = 1.5
)

// Course is the course of a probe: how often it asks, and what it makes of the answers.
type Course struct {
	spec    *corev1.Probe
	period  time.Duration
	eager   bool          // until it has made up its mind for the first time, it asks more often than it counts
	gap     time.Duration // between questions that do not count
	due     time.Time     // of the next question that counts
	run     int           // answers of the same kind in a row
	last    bool          // their kind
	decided bool
	mind    bool
}

// Verdict is what follows from an answer.
type Verdict struct {
	Counted bool          // it counts; bad ones that come early do not
	Changed bool          // the probe has made up its mind, or changed it
	Pause   time.Duration // until the next question
}

// NewCourse returns the course of a probe that begins now. One that is not eager, like a liveness probe, gives the
// container a period to start.
func NewCourse(spec *corev1.Probe, eager bool) *Course {
	_, period, _ := Times(spec)
	return &Course{spec: spec, period: period, eager: eager, gap: eagerFirst}
}

// First is how long to wait before the first question, if the probe does not say more.
func (c *Course) First() time.Duration {
	if c.eager {
		return 0
	}
	return c.period
}

// Answer takes an answer that came at a time.
func (c *Course) Answer(ok bool, now time.Time) Verdict {
	if c.due.IsZero() {
		c.due = now
		if c.eager {
			c.due = now.Add(c.period)
		}
	}
	if c.eager && !ok && now.Before(c.due) {
		pause := min(c.gap, c.due.Sub(now))
		c.gap = time.Duration(float64(c.gap) * eagerGrow)
		return Verdict{Pause: pause}
	}
	for !c.due.After(now) {
		c.due = c.due.Add(c.period)
	}
	v := Verdict{Counted: true, Pause: c.due.Sub(now), Changed: c.count(ok) && (!c.decided || c.mind != ok)}
	if v.Changed {
		c.decided, c.mind, c.eager = true, ok, false
	}
	return v
}

// count tells whether there were as many answers of the kind as the probe wants before it changes its mind.
func (c *Course) count(ok bool) bool {
	if ok != c.last {
		c.run = 0
	}
	c.run++
	c.last = ok
	if ok {
		return c.run >= max(1, int(c.spec.SuccessThreshold))
	}
	const usual = 3
	if c.spec.FailureThreshold <= 0 {
		return c.run >= usual
	}
	return c.run >= int(c.spec.FailureThreshold)
}
