package clusterset

import (
	"net/netip"
	"slices"
)

// localities puts the candidates of one priority, sorted, into localities with weights.
func (r *ranking) localities(run []candidate) []Locality {
	localities := make([]Locality, 0, places(run))
	for len(run) > 0 {
		source := run[0].source
		var own []candidate
		own, run = cut(run, func(c *candidate) bool { return c.source == source })
		ready := uint64(0)
		for _, c := range own {
			ready += uint64(c.count)
		}
		if !r.standings[source].direct {
			localities = r.addGateways(localities, own[0], r.weigh(source, ready, ready))
			continue
		}
		for len(own) > 0 {
			zone := own[0].zone
			var pods []candidate
			pods, own = cut(own, func(c *candidate) bool { return c.zone == zone })
			localities = append(localities, r.podLocality(pods, r.weigh(source, uint64(len(pods)), ready)))
		}
	}
	return localities
}

// places counts the pairs of cluster and zone.
func places(run []candidate) int {
	n := 0
	for i := range run {
		if i == 0 || run[i].source != run[i-1].source || run[i].zone != run[i-1].zone {
			n++
		}
	}
	return n
}

// weigh returns the weight of some of a cluster's ready endpoints in a priority: their number, or their part of the weight
// that the policy gives the cluster.
func (r *ranking) weigh(source int, some, all uint64) uint32 {
	if !r.service.Policy.weighted() {
		return uint32(min(some, maxLocality))
	}
	weight := uint64(r.service.Policy.weight(r.service.Sources[source].Cluster)) * r.precision()
	return uint32(max(1, weight*some/all)) //nolint:gosec // at most MaxWeight times the precision
}

// maxLocality bounds the weight of a locality, far above what a cluster can have, so that sums fit 32 bits.
const maxLocality = 1 << 20

// precision is what a cluster's weight is multiplied with before zones divide it: as much as lets the sum fit 32 bits.
func (r *ranking) precision() uint64 {
	if len(r.service.Sources) <= 400 {
		return 1000
	}
	return 1
}

func (r *ranking) podLocality(pods []candidate, weight uint32) Locality {
	facts := r.standings[pods[0].source].facts
	locality := Locality{Cluster: facts.ID, Region: facts.Region, Zone: pods[0].zone.String(), Weight: weight, Targets: make([]Target, len(pods))}
	for i, pod := range pods {
		locality.Targets[i] = Target{Addr: pod.addr, Weight: 1, Hostname: pod.hostname}
	}
	return locality
}

// addGateways adds the gateways by which a cluster is reached. Addresses that are there already are not repeated. When that leaves none, the
// cluster shares the gateways of one before it, whose weight grows if it is in the same priority.
func (r *ranking) addGateways(localities []Locality, behind candidate, weight uint32) []Locality {
	st := &r.standings[behind.source]
	var addrs []netip.AddrPort
	for _, addr := range st.gateways {
		if _, taken := r.seen[addr]; !taken {
			r.seen[addr] = struct{}{}
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 {
		if at := slices.IndexFunc(localities, st.shares); at >= 0 {
			localities[at].Weight += weight
			spread(localities[at].Targets, behind.count)
		}
		return localities
	}
	targets := make([]Target, len(addrs))
	for i, addr := range addrs {
		targets[i].Addr = addr
	}
	spread(targets, behind.count)
	return append(localities, Locality{
		Cluster: st.facts.ID, Region: st.facts.Region, Zone: st.facts.Zone, Gateway: !st.outbound, Outbound: st.outbound, Weight: weight, Targets: targets,
	})
}

// shares tells whether a locality has a gateway by which the cluster is reached.
func (st *standing) shares(locality Locality) bool {
	return (locality.Gateway || locality.Outbound) && slices.ContainsFunc(locality.Targets, func(t Target) bool {
		return slices.Contains(st.gateways, t.Addr)
	})
}

// spread divides ready endpoints over gateways, the first ones taking the remainder; each has weight 1 at least.
func spread(targets []Target, ready uint32) {
	n := uint32(len(targets)) //nolint:gosec // the gateways of a cluster
	for i := range targets {
		share := ready / n
		if uint32(i) < ready%n {
			share++
		}
		targets[i].Weight += share
		targets[i].Weight = max(targets[i].Weight, 1)
	}
}
