package gateway

import (
	"net/netip"
	"slices"
	"sync"
)

// limits counts connections, in all and by source.
type limits struct {
	total, perSource int
	ranges           []netip.Prefix

	mu      sync.Mutex
	open    int
	sources map[netip.Addr]int
	empty   chan struct{} // closed when the last one leaves; nil: nobody waits
}

// admit counts a connection, or says why it must not be.
func (l *limits) admit(source netip.Addr) Refusal {
	if len(l.ranges) > 0 && !slices.ContainsFunc(l.ranges, func(p netip.Prefix) bool { return p.Contains(source) }) {
		return SourceRange
	}
	who := group(source)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.total:
		return TooMany
	case l.sources[who] >= l.perSource:
		return TooManyOfSource
	}
	l.open++
	l.sources[who]++
	return 0
}

// leave ends a connection that was admitted.
func (l *limits) leave(source netip.Addr) {
	who := group(source)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.sources[who]--; l.sources[who] == 0 {
		delete(l.sources, who)
	}
	if l.open == 0 && l.empty != nil {
		close(l.empty)
		l.empty = nil
	}
}

// drained returns a channel that is closed when nobody is there any more. It is for when nobody is admitted any more, and
// for one caller.
func (l *limits) drained() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	empty := make(chan struct{})
	if l.open == 0 {
		close(empty)
	} else {
		l.empty = empty
	}
	return empty
}

// count returns how many are there.
func (l *limits) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// group returns the part of an address that counts as one source.
func group(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return addr
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr
	}
	return prefix.Addr()
}
