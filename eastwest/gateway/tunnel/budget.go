package tunnel

import (
	"sync/atomic"
	"time"
)

const (
	// firstWindow is what yamux lets a stream send before it was ever told more.
	firstWindow = 256 << 10
	// yamuxWindow is what yamux believes that it grants. It says so when half is used, so it is twice what is granted at most;
	// the link says so earlier, and less. Nothing is allocated for it.
	yamuxWindow = 32 << 20
	// MaxWindow is how much of a stream may be on its way, in octets, when it is quick and far.
	MaxWindow = yamuxWindow / 2
)

// perTunnel is which part of the budget one tunnel may have.
const perTunnel = 4

// budget is how much windows may have together, beyond what each stream has anyway.
type budget struct {
	limit int64
	of    *budget // a larger one, of which it is a part; nil: there is none
	used  atomic.Int64
}

// take gets n octets, or nothing.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) <= b.limit && (b.of == nil || b.of.take(n)) {
		return true
	}
	b.used.Add(-n)
	return false
}

func (b *budget) give(n int64) {
	b.used.Add(-n)
	if b.of != nil {
		b.of.give(n)
	}
}

// window is how much of a stream may arrive before it was read. It is guarded by its stream.
type window struct {
	size     int64 // how much may be on its way or unread
	received int64
	consumed int64
	granted  int64 // how much may ever be received
	last     time.Time
}

func newWindow(now time.Time) window {
	return window{size: firstWindow, granted: firstWindow, last: now}
}

// arrive counts what arrives. It returns false when the other side was not allowed to send that much.
func (w *window) arrive(n int64) bool {
	w.received += n
	return w.received <= w.granted
}

// consume counts what was read, and returns how much more the other side should be told that it may send; 0: nothing yet.
// A window that is used up in half a round trip doubles, as long as the budget lasts; one that lasts for very long gets
// smaller again.
func (w *window) consume(n int64, now time.Time, rtt time.Duration, b *budget) uint32 {
	w.consumed += n
	if w.consumed+w.size-w.granted < w.size/4 {
		return 0
	}
	switch took := now.Sub(w.last); {
	case took < rtt/2 && w.size < MaxWindow && b.take(w.size):
		w.size *= 2
	case took > 16*rtt+time.Second && w.size > firstWindow:
		w.size /= 2
		b.give(w.size)
	}
	w.last = now
	more := w.consumed + w.size - w.granted
	if more <= 0 {
		return 0
	}
	w.granted += more
	return uint32(more) //nolint:gosec // at most MaxWindow
}

// release gives back what the window had.
func (w *window) release(b *budget) {
	b.give(w.size - firstWindow)
	w.size = firstWindow
}
