package dns

import (
	"context"
	"net/netip"
	"time"

	"github.com/hansa-dev/hansa/dns/listen"
)

// Slow answers a message on the long way, whatever it is.
func (r *Responder) Slow(dst, message []byte, from listen.Source) []byte {
	return r.slow(context.Background(), dst, message, from, false)
}

// Plain tells whether a message is answered on the short way.
func (r *Responder) Plain(message []byte, from listen.Source) bool {
	var q query
	if q.parse(message) != plain {
		return false
	}
	_, ok := r.hot(nil, &q, &from, false, r.now())
	return ok
}

var Lower = lower

// Views returns the number of trees that are kept.
func (r *Responder) Views() int { return r.views.kept() }

// Limit returns what tells whether a response to an address is sent whole at a time.
func Limit(o RateLimit, start time.Time) func(netip.Addr, time.Time) bool {
	l := newLimiter(o, start)
	return func(peer netip.Addr, now time.Time) bool { return l.take(peer, now) == send }
}
