package feed

import (
	"math/rand/v2"
	"time"
)

// steady is how long a stream has to last for a hub to count as one that works.
const steady = 5 * time.Second

// hubs says which hub to try next, and when.
type hubs struct {
	list   func() []string
	timing Timing
	at     int
	failed int // in a row
}

func newHubs(list func() []string, timing Timing) *hubs {
	return &hubs{list: list, timing: timing, at: rand.Int()} //nolint:gosec // G404: clients spread over the hubs
}

// next returns the hub to try, or nothing if none is known.
func (h *hubs) next() (string, bool) {
	list := h.list()
	if len(list) == 0 {
		return "", false
	}
	return list[h.at%len(list)], true
}

// left notes how long a stream lasted, and turns to the next hub.
func (h *hubs) left(after time.Duration) {
	h.at = (h.at + 1) & (1<<62 - 1)
	if after >= steady {
		h.failed = 0
	}
	h.failed++
}

// pause is how long to wait now. Each of the hubs is tried once without much of a pause; it is never none, so that a hub
// that restarts does not meet all its clients at the other one at once.
func (h *hubs) pause() time.Duration {
	rounds := h.failed - max(len(h.list()), 1)
	if rounds < 0 {
		return jitter(h.timing.Backoff)
	}
	return jitter(min(h.timing.Backoff<<min(rounds+1, 16), h.timing.MaxBackoff))
}

// jitter returns something from half of d to d.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) //nolint:gosec // G404: it only has to differ between clients
}
