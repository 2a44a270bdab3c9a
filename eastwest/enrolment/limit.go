package enrolment

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxBuckets is how many callers are told apart at a time. When there are more, those are forgotten who have their whole burst
// again, and while there are none, new ones are refused: memory is bounded whoever calls.
const maxBuckets = 4096

// limiter lets each caller do something so many times at once, and then once per interval.
type limiter struct {
	burst    int
	interval time.Duration
	now      func() time.Time

	mu      sync.Mutex
	buckets map[string]time.Time // when the caller will have its whole burst again
}

func newLimiter(burst int, interval time.Duration, now func() time.Time) *limiter {
	return &limiter{burst: burst, interval: interval, now: now, buckets: map[string]time.Time{}}
}

// allow tells whether a caller may go on, and counts it.
func (l *limiter) allow(caller string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	full, known := l.buckets[caller]
	if !known && len(l.buckets) >= maxBuckets && !l.forget(now) {
		return false
	}
	if full.Before(now) {
		full = now
	}
	full = full.Add(l.interval)
	if full.Sub(now) > time.Duration(l.burst)*l.interval {
		return false
	}
	l.buckets[caller] = full
	return true
}

// forget drops those who have their whole burst again, and tells whether there was one.
func (l *limiter) forget(now time.Time) bool {
	before := len(l.buckets)
	for caller, full := range l.buckets {
		if !full.After(now) {
			delete(l.buckets, caller)
		}
	}
	return len(l.buckets) < before
}

// crowd lets so many in at a time by what they want.
type crowd struct {
	each int

	mu     sync.Mutex
	inside map[string]int
}

func newCrowd(each int) *crowd { return &crowd{each: each, inside: map[string]int{}} }

// enter lets somebody in, or not. Who was let in has to leave.
func (c *crowd) enter(wants string) (leave func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside[wants] >= c.each {
		return nil, false
	}
	c.inside[wants]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.inside[wants]--; c.inside[wants] == 0 {
			delete(c.inside, wants)
		}
	}, true
}

// prefix6 is what one subscriber has of IPv6, so that nobody is many by using many addresses (RFC 6177).
const prefix6 = 64

// sourceOf returns which caller an address counts as.
func sourceOf(address net.Addr) string {
	if address == nil {
		return ""
	}
	at, err := netip.ParseAddrPort(address.String())
	if err != nil {
		return address.String()
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if prefix, err := ip.Prefix(prefix6); err == nil {
			return prefix.String()
		}
	}
	return ip.String()
}

// limited is a listener with a limit to how many connections there are at a time, in all and by source.
type limited struct {
	net.Listener

	all, each int

	mu     sync.Mutex
	open   int
	source map[string]int
}

func newLimited(listener net.Listener, all, each int) *limited {
	return &limited{Listener: listener, all: all, each: each, source: map[string]int{}}
}

// Accept returns the next connection that there is room for. The others are closed at once.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOf(conn.RemoteAddr())
		if l.enter(source) {
			return &counted{Conn: conn, leave: sync.OnceFunc(func() { l.leave(source) })}, nil
		}
		_ = conn.Close() // nobody is told: there is no room for them
	}
}

func (l *limited) enter(source string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.all || l.source[source] >= l.each {
		return false
	}
	l.open++
	l.source[source]++
	return true
}

func (l *limited) leave(source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.source[source]--; l.source[source] == 0 {
		delete(l.source, source)
	}
}

// counted is a connection that gives its place back.
type counted struct {
	net.Conn

	leave func()
}

// Close closes the connection.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
