package route

import "time"

// Budget bounds how many second ways are tried: a share of the connections and some per second, so that trouble is not
// multiplied. What is not used up is kept for a while, since trouble comes all at once. The zero value forbids everything.
type Budget struct {
	Share float64 // second ways per connection
	Floor float64 // and per second, besides
	Burst float64 // that may be kept

	tokens float64
	last   time.Time
}

// DefaultBudget allows one second way per five connections and 20 per second, and keeps up to 1000.
func DefaultBudget() Budget { return Budget{Share: 0.2, Floor: 20, Burst: 1000} }

// Connection notes a connection.
func (b *Budget) Connection(now time.Time) {
	b.fill(now)
	b.tokens = min(b.tokens+b.Share, b.Burst)
}

// Take tells whether a second way may be tried, and counts it.
func (b *Budget) Take(now time.Time) bool {
	b.fill(now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// fill adds what time has brought. It begins with what ten seconds bring.
func (b *Budget) fill(now time.Time) {
	if b.last.IsZero() {
		b.last = now
		b.tokens = min(10*b.Floor, b.Burst)
		return
	}
	if passed := now.Sub(b.last); passed > 0 {
		b.tokens = min(b.tokens+b.Floor*passed.Seconds(), b.Burst)
		b.last = now
	}
}
