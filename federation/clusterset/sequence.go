package clusterset

import "time"

// Step is what the numbers of a hub's snapshots are multiples of: they are times in nanoseconds since 1970, in steps of 2²² (4.2
// ms). So they rise over restarts as well, they are exact where a number has 53 bits (metrics, JSON), and whoever needs
// shorter ones divides: the serial numbers of DNS zones are multiples of it, modulo 2³² (RFC 1982).
const Step = 1 << 22

// NextSequence returns the number of a snapshot that follows the one with the given number: the time, or a step more if
// that is later. Who publishes more than 238 snapshots per second for long gets ahead of the clock, and a restart then goes back.
// With the zero time the clock does not count.
func NextSequence(sequence uint64, now time.Time) uint64 {
	next := sequence + Step
	if !now.IsZero() {
		next = max(next, uint64(max(now.UnixNano(), 0)))
	}
	return next &^ (Step - 1)
}
