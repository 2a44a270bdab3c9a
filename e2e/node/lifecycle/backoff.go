package lifecycle

import "time"

// The times of Kubernetes' kubelet.
const (
	firstDelay = 10 * time.Second
	maxDelay   = 5 * time.Minute
	resetAfter = 2 * maxDelay
)

// Backoff says when a container that keeps ending is started again: at once the first time, then after a delay that
// doubles with each restart, and at once again after it has run for long enough.
type Backoff struct {
	Delay   time.Duration // 0 before the first restart
	Updated time.Time     // when it was last restarted
}

// Until is when a container that ended at a time may be started again.
func (b Backoff) Until(ended time.Time) time.Time {
	if b.forgotten(ended) {
		return ended
	}
	return ended.Add(b.Delay)
}

// Next is the back-off after a restart, now, of a container that ended at a time.
func (b Backoff) Next(ended, now time.Time) Backoff {
	if b.forgotten(ended) {
		return Backoff{Delay: firstDelay, Updated: now}
	}
	return Backoff{Delay: min(2*b.Delay, maxDelay), Updated: now}
}

func (b Backoff) forgotten(ended time.Time) bool {
	return b.Delay == 0 || ended.Sub(b.Updated) > resetAfter
}
