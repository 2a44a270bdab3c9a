package enrolment

import (
	"net"
	"time"
)

// Limiter is a limiter, for tests.
type Limiter struct{ *limiter }

// NewLimiter returns one.
func NewLimiter(burst int, interval time.Duration, now func() time.Time) Limiter {
	return Limiter{newLimiter(burst, interval, now)}
}

// Allow tells whether a caller may go on.
func (l Limiter) Allow(caller string) bool { return l.allow(caller) }

// Buckets is how many callers are told apart.
func (l Limiter) Buckets() int { return len(l.buckets) }

// MaxBuckets is the most there may be.
const MaxBuckets = maxBuckets

// SourceOf returns which caller an address counts as.
func SourceOf(address net.Addr) string { return sourceOf(address) }

// NewLimited returns a listener with limits.
func NewLimited(listener net.Listener, all, each int) net.Listener {
	return newLimited(listener, all, each)
}

// MaxRequest is the most that a request may have.
const MaxRequest = maxRequest
