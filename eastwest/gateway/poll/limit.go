package poll

import (
	"math"
	"time"
)

// Limit is a time limit that many things have: whoever started last ends last, so a list is enough.
type Limit struct {
	loop   *Loop
	ring   Timer // its next is the first to end
	length time.Duration
}

// Timer is one thing's time. It belongs to one limit at a time, and the zero value to none.
type Timer struct {
	next, previous *Timer
	end            time.Duration
	expired        Expirer
}

// Expirer is told that its time is over.
type Expirer interface{ Expire() }

// Limit returns a time limit of the loop. Limits are for ever: a loop has a handful of them.
func (l *Loop) Limit(duration time.Duration) *Limit {
	limit := &Limit{loop: l, length: duration}
	limit.ring.next, limit.ring.previous = &limit.ring, &limit.ring
	l.limits = append(l.limits, limit)
	return limit
}

// Start gives t the whole time from now on, whether it had some left or not. Then e expires, once.
func (l *Limit) Start(t *Timer, e Expirer) {
	t.Stop()
	t.end, t.expired = l.loop.now+l.length, e
	last := l.ring.previous
	t.previous, t.next = last, &l.ring
	last.next, l.ring.previous = t, t
}

// Stop takes the time away.
func (t *Timer) Stop() {
	if t.next == nil {
		return
	}
	t.previous.next, t.next.previous = t.next, t.previous
	t.next, t.previous, t.expired = nil, nil, nil
}

// first is when the next one ends.
func (l *Limit) first() time.Duration {
	if l.ring.next == &l.ring {
		return math.MaxInt64
	}
	return l.ring.next.end
}

func (l *Limit) expire() {
	for l.first() <= l.loop.now {
		t := l.ring.next
		e := t.expired
		t.Stop()
		e.Expire()
	}
}
