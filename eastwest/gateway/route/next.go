package route

import (
	"net/netip"
	"slices"
)

// Way is one way to a service: a pod, or a gateway of a cluster.
type Way struct {
	Cluster string
	// Addr is that of a pod, or of the tunnels of a gateway.
	Addr netip.AddrPort
	// Tunnel says that Addr is a gateway's.
	Tunnel bool
}

// String returns the cluster and the address.
func (w Way) String() string {
	if w.Tunnel {
		return w.Cluster + " through " + w.Addr.String()
	}
	return w.Cluster + " at " + w.Addr.String()
}

// Look tells what is known of a way.
type Look interface {
	// Usable is false for ways that are left out for now.
	Usable(Way) bool
	// Open is how many connections a way has.
	Open(Way) int64
}

// Random returns a number below n, which is at least 1.
type Random func(n uint64) uint64

// Next chooses the next way for a connection that was tried on some already, or returns false when all were tried. It
// chooses by
//
//  1. ways that are usable, before those that are left out: when nothing else is there, those are better than none;
//  2. clusters that were not tried through a gateway, or at two pods of theirs: what stopped those may stop the others;
//  3. priority;
//  4. the weights of clusters in a priority, and of the two ways that chance names, the one with fewer connections for its
//     share.
func Next(priorities [][]Candidate, tried []Way, look Look, random Random) (Way, bool) {
	return next(priorities, tried, chooser{look: look, random: random})
}

// Same chooses as Next does, but what 4. says is not left to chance: of what is left by then, the client has one way.
func Same(priorities [][]Candidate, tried []Way, look Look, client Affinity) (Way, bool) {
	return next(priorities, tried, chooser{look: look, affinity: client})
}

func next(priorities [][]Candidate, tried []Way, c chooser) (Way, bool) {
	spent := map[string]int(nil)
	if len(tried) > 0 {
		spent = make(map[string]int, len(tried))
		for _, w := range tried {
			spent[w.Cluster]++
			if w.Tunnel {
				spent[w.Cluster]++
			}
		}
	}
	untried := func(w Way) bool { return !slices.Contains(tried, w) }
	for _, fits := range []func(Way) bool{
		func(w Way) bool { return untried(w) && spent[w.Cluster] < 2 && c.look.Usable(w) },
		func(w Way) bool { return untried(w) && c.look.Usable(w) },
		untried,
	} {
		c.fits = fits
		for _, candidates := range priorities {
			if w, ok := c.choose(candidates); ok {
				return w, true
			}
		}
	}
	return Way{}, false
}

// chooser chooses among the candidates of a priority.
type chooser struct {
	fits     func(Way) bool
	look     Look
	random   Random
	affinity Affinity // zero: random decides
}

// drawn is a way, and how much it is meant to carry in relation to others.
type drawn struct {
	way   Way
	share float64
}

// choose returns the way that has the client, or the better of two draws.
func (c *chooser) choose(candidates []Candidate) (Way, bool) {
	if c.affinity != 0 {
		return c.prefer(candidates)
	}
	first, ok := c.draw(candidates)
	if !ok {
		return Way{}, false
	}
	second, _ := c.draw(candidates)
	if second.way != first.way && c.load(second) < c.load(first) {
		return second.way, true
	}
	return first.way, true
}

// load is how busy a way is.
func (c *chooser) load(d drawn) float64 { return float64(c.look.Open(d.way)) / d.share }

// draw lets chance name a cluster, by weight, and one of its ways that fit; a cluster that has none is as if it were not
// there.
func (c *chooser) draw(candidates []Candidate) (drawn, bool) {
	total := uint64(0)
	for i := range candidates {
		total += uint64(max(candidates[i].Weight, 1))
	}
	var out []int
	for total > 0 {
		at := named(candidates, out, c.random(total))
		if d, ok := c.within(&candidates[at]); ok {
			return d, true
		}
		out = append(out, at)
		total -= uint64(max(candidates[at].Weight, 1))
	}
	return drawn{}, false
}

// named returns the candidate into whose weight a number falls, when some are left out.
func named(candidates []Candidate, out []int, number uint64) int {
	for i := range candidates {
		if slices.Contains(out, i) {
			continue
		}
		weight := uint64(max(candidates[i].Weight, 1))
		if number < weight {
			return i
		}
		number -= weight
	}
	return len(candidates) - 1 // not reached: the number is below the sum
}

// within lets chance name a way of a cluster, or takes the next one that fits.
func (c *chooser) within(candidate *Candidate) (drawn, bool) {
	addrs, tunnel := candidate.Pods, false
	if len(addrs) == 0 {
		addrs, tunnel = candidate.Gateways, true
	}
	n := uint64(len(addrs))
	if n == 0 {
		return drawn{}, false
	}
	start := c.random(n)
	for i := range n {
		w := Way{Cluster: candidate.Cluster, Addr: addrs[(start+i)%n], Tunnel: tunnel}
		if c.fits(w) {
			return drawn{w, float64(max(candidate.Weight, 1)) / float64(n)}, true
		}
	}
	return drawn{}, false
}
