package tunnel

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// refusal says why a connection becomes no tunnel: one of these, or an identity.Reason.
type refusal string

const (
	none             refusal = ""
	tooMany          refusal = "too_many_handshakes"
	tooManyOfSource  refusal = "too_many_handshakes_of_source"
	tooManyOfCluster refusal = "too_many_tunnels_of_cluster"
	tooSlow          refusal = "too_slow"
	broken           refusal = "broken_off" // by the other side, in the handshake
	leaving          refusal = "draining"
)

// newRefusals returns counters for all there can be.
func newRefusals() map[refusal]*atomic.Uint64 {
	all := []refusal{tooMany, tooManyOfSource, tooManyOfCluster, tooSlow, broken, leaving}
	for _, r := range identity.Reasons() {
		all = append(all, refusal(r))
	}
	counters := map[refusal]*atomic.Uint64{}
	for _, r := range all {
		counters[r] = &atomic.Uint64{}
	}
	return counters
}

// refused counts and logs a connection that is turned away.
func (s *Server) refused(why refusal, who net.Addr, err error) {
	s.refusals[why].Add(1)
	if log := s.options.Log.V(1); log.Enabled() {
		keys := []any{"from", who.String(), "reason", string(why)}
		if err != nil {
			keys = append(keys, "detail", err.Error())
		}
		log.Info("tunnel refused", keys...)
	}
}

// entrance bounds how many have connected and not yet proved who they are. When there are too many, the oldest has to go:
// who means well needs milliseconds.
type entrance struct {
	total, perSource int

	mu      sync.Mutex
	inside  []*guest // the oldest first
	sources map[netip.Addr]int
	closed  bool
}

type guest struct {
	conn   net.Conn
	source netip.Addr
}

func newEntrance(total, perSource int) entrance {
	return entrance{total: total, perSource: perSource, sources: map[netip.Addr]int{}}
}

// admit lets a connection in, or says why not. leave is to be called when the handshake is over; it tells whether the
// connection was pushed out before.
func (e *entrance) admit(conn net.Conn) (leave func() bool, why refusal) {
	g := &guest{conn, sourceOf(conn)}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return nil, leaving
	case e.sources[g.source] >= e.perSource:
		return nil, tooManyOfSource
	case len(e.inside) >= e.total:
		oldest := e.inside[0]
		e.forget(oldest)
		_ = hangUp(oldest.conn, false)
	}
	e.inside = append(e.inside, g)
	e.sources[g.source]++
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return !e.forget(g)
	}, none
}

// forget returns false when somebody is not inside any more. It is called under mu.
func (e *entrance) forget(g *guest) bool {
	i := slices.Index(e.inside, g)
	if i < 0 {
		return false
	}
	e.inside = slices.Delete(e.inside, i, i+1)
	if e.sources[g.source]--; e.sources[g.source] == 0 {
		delete(e.sources, g.source)
	}
	return true
}

// close sends everybody away.
func (e *entrance) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for _, g := range slices.Clone(e.inside) {
		e.forget(g)
		_ = hangUp(g.conn, false)
	}
}

// sourceOf returns what counts as one source: an IPv4 address, or the /64 of an IPv6 address.
func sourceOf(conn net.Conn) netip.Addr {
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{} // no TCP: one source
	}
	addr := at.Addr().Unmap()
	if addr.Is4() {
		return addr
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr
	}
	return prefix.Addr()
}
