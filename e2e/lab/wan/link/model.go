package link

import "time"

// The queue before the line holds what it sends in queueTime, and never less than queueBytes: about what routers have,
// and enough for a sender to find out the bandwidth.
const (
	queueTime  = 100 * time.Millisecond
	queueBytes = 10 * 1500
)

// Reason says why a packet is dropped.
type Reason uint8

// Reasons. Passed is not one: the packet arrives.
const (
	Passed Reason = iota
	Cut           // the link is cut
	Full          // the queue before the line is full
	Lost          // on the way, by chance
)

// String is the name of the reason.
func (r Reason) String() string {
	switch r {
	case Passed:
		return "passed"
	case Cut:
		return "cut"
	case Full:
		return "full"
	case Lost:
		return "lost"
	}
	return "unknown"
}

// Model is one direction of a link with what it remembers: how long its line is busy, and when its last packet is due.
// The zero value has no delay and no limit. Times are durations since any one moment; they must not go back.
type Model struct {
	settings Settings
	busy     time.Duration // the line is free from then on
	rest     int64         // and this many parts of a nanosecond later, of which there are as many as bits per second
	last     time.Duration // the latest due time so far
}

// Settings returns what the link is like.
func (m *Model) Settings() Settings { return m.settings }

// Set changes what the link is like, for packets offered from now on. It is as if they took another line: they do not
// queue behind the earlier ones and may overtake them. Setting what is there changes nothing.
func (m *Model) Set(s Settings) {
	if s != m.settings {
		*m = Model{settings: s}
	}
}

// Offer sends a packet of size bytes at the time now. random is any number out of all 64-bit ones, each equally likely.
// It returns when the packet is due at the other end, or why it is dropped. Packets are due in the order in which they
// were offered: jitter moves them closer together, as in a queue, but never past one another.
func (m *Model) Offer(now time.Duration, size int, random uint64) (time.Duration, Reason) {
	s := m.settings
	if s.Cut {
		return 0, Cut
	}
	sent, ok := m.serialise(now, size)
	if !ok {
		return 0, Full
	}
	if float64(random>>32) < s.Loss*(1<<32) {
		return 0, Lost
	}
	due := sent + s.Delay + jitter(s.Jitter, uint32(random)) //nolint:gosec // G115: its lower half, which Loss has not used
	m.last = max(m.last, due)
	return m.last, Passed
}

// serialise puts a packet on the line and returns when its last bit has been sent; false if the queue has no room.
func (m *Model) serialise(now time.Duration, size int) (time.Duration, bool) {
	rate := int64(m.settings.Bandwidth)
	if rate == 0 {
		return now, true
	}
	if m.busy <= now {
		m.busy, m.rest = now, 0
	} else if m.busy-now+span(size, rate) > max(queueTime, span(queueBytes, rate)) {
		return 0, false
	}
	parts := int64(size)*8*int64(time.Second) + m.rest
	m.busy += time.Duration(parts / rate)
	m.rest = parts % rate
	return m.busy, true
}

// span is how long size bytes take.
func span(size int, rate int64) time.Duration {
	return time.Duration(int64(size) * 8 * int64(time.Second) / rate)
}

// jitter spreads all values of random over -most to +most.
func jitter(most time.Duration, random uint32) time.Duration {
	const half = float64(1<<32-1) / 2
	return time.Duration(float64(most) * (float64(random) - half) / half)
}
