package route

import (
	"encoding/binary"
	"math"
	"net/netip"
)

// Affinity stands for a client whose connections go the same way as long as that is usable, as a Service with session
// affinity ClientIP wants it. Zero: chance decides. Nothing is remembered: who stands for what follows from hashes alone
// (rendezvous hashing, Thaler and Ravishankar 1996), so all gateways of a cluster choose the same way, a new process too, and
// when a way is left out only its own clients move, and move back.
type Affinity uint64

// ByAddress returns what stands for the client at an address.
func ByAddress(client netip.Addr) Affinity {
	as16 := client.As16()
	return hash(as16[:]).orOne()
}

// ByName returns what stands for clients of which only a name is known.
func ByName(client string) Affinity { return hash([]byte(client)).orOne() }

// orOne keeps zero free.
func (a Affinity) orOne() Affinity { return max(a, 1) }

// hash is FNV-1a with what SplitMix64 does at its end, since FNV's last octets reach the upper bits badly.
func hash(b []byte) Affinity {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return Affinity(mix(h))
}

func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// with returns the number of a client and something that it may choose.
func (a Affinity) with(other Affinity) uint64 {
	return mix(uint64(a) + 0x9e3779b97f4a7c15*uint64(other))
}

// cost is how far a cluster is from a client: the lowest has it. Clusters get clients by their weights: the least of
// exponentially distributed numbers is the first's in the share of its rate.
func (a Affinity) cost(c *Candidate) float64 {
	number := (float64(a.with(ByName(c.Cluster))>>11) + 0.5) / (1 << 53) // above 0, below 1
	return -math.Log(number) / float64(max(c.Weight, 1))
}

// prefer returns the way that has the client: of the nearest cluster with ways that fit, the nearest way.
func (c *chooser) prefer(candidates []Candidate) (Way, bool) {
	best, least, ok := Way{}, 0.0, false
	for i := range candidates {
		cost := c.affinity.cost(&candidates[i])
		if ok && cost >= least {
			continue
		}
		if w, fits := c.nearest(&candidates[i]); fits {
			best, least, ok = w, cost, true
		}
	}
	return best, ok
}

// nearest returns the way of a cluster that has the client, of those that fit.
func (c *chooser) nearest(candidate *Candidate) (Way, bool) {
	addrs, tunnel := candidate.Pods, false
	if len(addrs) == 0 {
		addrs, tunnel = candidate.Gateways, true
	}
	best, most, ok := Way{}, uint64(0), false
	for _, addr := range addrs {
		w := Way{Cluster: candidate.Cluster, Addr: addr, Tunnel: tunnel}
		if number := c.affinity.with(byAddrPort(addr)); (!ok || number > most) && c.fits(w) {
			best, most, ok = w, number, true
		}
	}
	return best, ok
}

// byAddrPort stands for a way.
func byAddrPort(addr netip.AddrPort) Affinity {
	as16 := addr.Addr().As16()
	return hash(binary.BigEndian.AppendUint16(as16[:], addr.Port()))
}
