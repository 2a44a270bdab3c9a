package agent

import (
	"errors"
	"net/netip"
)

// addresses gives out those of a range, but the first and the last two: the network's, the bridge's and the broadcast
// address. An address that was given back is the last to be given out again, so that nobody who still believes in the
// pod that had it reaches another.
type addresses struct {
	pods netip.Prefix
	last netip.Addr
	used map[netip.Addr]bool
}

func newAddresses(pods netip.Prefix) *addresses {
	return &addresses{pods: pods, last: pods.Addr().Next(), used: map[netip.Addr]bool{}}
}

func (a *addresses) take() (netip.Addr, error) {
	gateway := a.pods.Addr().Next()
	addr := a.last
	for {
		addr = addr.Next()
		if !a.pods.Contains(addr.Next()) { // the broadcast address, or beyond
			addr = gateway.Next()
		}
		if !a.used[addr] {
			a.used[addr], a.last = true, addr
			return addr, nil
		}
		if addr == a.last {
			return netip.Addr{}, errors.New("all pod addresses of the node are taken")
		}
	}
}

func (a *addresses) free(addr netip.Addr) { delete(a.used, addr) }
