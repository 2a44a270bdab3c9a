package clusterset

import (
	"cmp"
	"net/netip"
	"slices"
)

// ranking finds the order of the endpoints of one port for one consumer, in two steps: collect judges every endpoint, and
// settle orders those that may be used.
//
// A tier is a step of the failover order within a class of clusters. Only the first class in which anything is ready is
// used. In it a priority is a run of tiers up to the first one that is healthy enough to carry the traffic alone; tiers
// with nothing ready do not appear.
type ranking struct {
	snapshot *Snapshot
	service  *Service
	own      *Cluster // the consumer's
	zone     Name     // the consumer's
	gateway  bool     // the consumer is one
	port     int
	order    []Tier
	outbound []netip.AddrPort // where the consumer's cluster has gateways for the port

	standings  []standing // per source
	candidates []candidate
	seen       map[netip.AddrPort]struct{}
	tiers      []tierCount // class by class
	chosen     class

	priorities []Priority
}

// tierCount tells how many endpoints a tier has that should serve, and how many do.
type tierCount struct{ ready, total uint64 }

// candidate is a ready endpoint that the consumer reaches, or all of one cluster behind its gateways.
type candidate struct {
	source   int
	tier     int
	priority int
	count    uint32 // ready endpoints: 1, or those behind the gateways
	zone     Name
	hostname Name
	addr     netip.AddrPort
}

// note is told of every endpoint: its source, its address with the target port, why it is no candidate (or Used), and its
// tier (-1 for none).
type note func(source int, endpoint *Endpoint, addr netip.AddrPort, reason Reason, tier int)

func newRanking(snapshot *Snapshot, service *Service, from Consumer, port int) *ranking {
	if snapshot.clusters != nil {
		snapshot.clusters.seal.verify(&snapshot.clusters.list)
	}
	own := snapshot.facts(from.Cluster)
	if own.Region == "" && from.Region != "" {
		outside := *own
		outside.Region = from.Region
		own = &outside
	}
	order := service.Policy.order()
	r := &ranking{
		snapshot: snapshot, service: service, port: port, order: order,
		own: own, zone: Intern(or(from.Zone, own.Zone)), gateway: from.Gateway,
		tiers: make([]tierCount, int(classes)*len(order)),
	}
	r.outbound = r.ownGateways()
	return r
}

// collect judges all endpoints. The consumer's own cluster comes first, then the others by name: where addresses are the
// same, that is who keeps them.
func (r *ranking) collect(tell note) {
	r.stand()
	if own, found := r.service.source(r.own.ID); found {
		r.collectSource(own, tell)
		for i := range r.service.Sources {
			if i != own {
				r.collectSource(i, tell)
			}
		}
		return
	}
	for i := range r.service.Sources {
		r.collectSource(i, tell)
	}
}

// stand finds the standings, and makes room for what they let in.
func (r *ranking) stand() {
	r.standings = make([]standing, len(r.service.Sources))
	size := 0
	for i := range r.service.Sources {
		r.standings[i] = r.standing(i)
		st, endpoints := &r.standings[i], r.service.Sources[i].Endpoints
		switch {
		case st.barred != Used || st.broken != Used || endpoints == nil:
		case st.direct:
			for g := range endpoints.Groups {
				size += len(endpoints.Groups[g].Endpoints)
			}
		default:
			size += max(1, len(st.gateways))
		}
	}
	r.candidates = make([]candidate, 0, size)
	r.seen = make(map[netip.AddrPort]struct{}, size)
}

func (r *ranking) collectSource(i int, tell note) {
	st := &r.standings[i]
	endpoints := r.service.Sources[i].Endpoints
	if endpoints == nil || st.barred != Used && tell == nil {
		return
	}
	behind := candidate{source: i, zone: Intern(st.facts.Zone)}
	lastZone, lastStep := behind.zone, r.step(st.facts, behind.zone)
	for g := range endpoints.Groups {
		group := &endpoints.Groups[g]
		port, served := r.target(st, group)
		for e := range group.Endpoints {
			endpoint := &group.Endpoints[e]
			zone := behind.zone
			if st.direct && endpoint.Zone != (Name{}) {
				zone = endpoint.Zone
			}
			if zone != lastZone {
				lastZone, lastStep = zone, r.step(st.facts, zone)
			}
			addr := netip.AddrPortFrom(endpoint.Addr, port)
			reason, tier := r.judge(st, endpoint, addr, served, lastStep)
			if tell != nil {
				tell(i, endpoint, addr, reason, tier)
			}
			switch {
			case reason != Used:
			case st.direct:
				r.candidates = append(r.candidates, candidate{
					source: i, tier: tier, count: 1, zone: zone, hostname: endpoint.Hostname, addr: addr,
				})
			default:
				behind.tier = tier
				behind.count++
			}
		}
	}
	if behind.count > 0 {
		r.candidates = append(r.candidates, behind)
	}
}

// target returns the port of a group's pods, and whether they serve the port at all.
func (r *ranking) target(st *standing, group *Group) (uint16, bool) {
	if r.port == hosts {
		return 0, true
	}
	return group.target(st.port, st.name)
}

// judge decides about one endpoint, counts it in its tier, and claims its address.
func (r *ranking) judge(st *standing, endpoint *Endpoint, addr netip.AddrPort, served bool, step int) (Reason, int) {
	switch {
	case st.barred != Used:
		return st.barred, -1
	case !served:
		return NoTargetPort, -1
	case r.port != hosts && endpoint.Addr.Is6() != st.ipv6:
		return OtherFamily, -1
	case step < 0:
		return NotInOrder, -1
	}
	ready := endpoint.Conditions.Has(Ready)
	if !ready && endpoint.Conditions.Has(Terminating) {
		return IsTerminating, -1 // it is on its way out, not missing
	}
	// Whatever is lost, by failure or because operators took it out, is lost to the first class's tier.
	tier := int(st.class)*len(r.order) + step
	health := &r.tiers[step]
	health.total++
	if !ready {
		return NotReady, -1
	}
	if st.broken != Used {
		return st.broken, -1
	}
	if st.direct {
		if _, taken := r.seen[addr]; taken {
			health.total--
			return DuplicateAddress, -1
		}
		r.seen[addr] = struct{}{}
	}
	r.tiers[tier].ready++
	return Used, tier
}

// step returns the first step of the failover order that covers a zone of a cluster, or -1.
func (r *ranking) step(cluster *Cluster, zone Name) int {
	return slices.IndexFunc(r.order, func(tier Tier) bool { return r.covers(tier, cluster, zone) })
}

func (r *ranking) covers(tier Tier, cluster *Cluster, zone Name) bool {
	own := len(tier.Names) == 0
	switch tier.By {
	case ByCluster:
		return own && cluster.ID == r.own.ID || slices.Contains(tier.Names, cluster.ID)
	case ByRegion:
		return own && r.inRegion(cluster) || slices.Contains(tier.Names, cluster.Region)
	case ByZone:
		return own && r.inRegion(cluster) && zone == r.zone && zone != (Name{}) || slices.Contains(tier.Names, zone.String())
	case Any:
		return true
	}
	return false
}

// inRegion tells whether a cluster is in the consumer's region: its own is, even if nobody said which.
func (r *ranking) inRegion(cluster *Cluster) bool {
	return cluster.ID == r.own.ID || cluster.Region != "" && cluster.Region == r.own.Region
}

// settle makes the priorities from the candidates.
func (r *ranking) settle() {
	priorityOf := r.prioritize()
	used := r.candidates[:0]
	for _, c := range r.candidates {
		if c.priority = priorityOf[c.tier]; c.priority >= 0 {
			used = append(used, c)
		}
	}
	slices.SortFunc(used, compareCandidates)
	for len(used) > 0 {
		first := used[0]
		var run []candidate
		run, used = cut(used, func(c *candidate) bool { return c.priority == first.priority })
		if localities := r.localities(run); len(localities) > 0 {
			r.priorities = append(r.priorities, Priority{Localities: localities})
		}
	}
}

// compareCandidates orders by priority, cluster, zone and address. It looks at what costs only when it has to.
func compareCandidates(a, b candidate) int {
	switch {
	case a.priority != b.priority:
		return cmp.Compare(a.priority, b.priority)
	case a.source != b.source:
		return cmp.Compare(a.source, b.source)
	case a.zone != b.zone:
		return a.zone.Compare(b.zone)
	}
	return a.addr.Compare(b.addr)
}

// prioritize chooses the class and returns the priority of each tier, -1 for tiers that are not used.
func (r *ranking) prioritize() []int {
	priorityOf := slices.Repeat([]int{-1}, len(r.tiers))
	steps := len(r.order)
	for r.chosen = active; r.chosen < classes; r.chosen++ {
		if slices.ContainsFunc(r.tiers[int(r.chosen)*steps:][:steps], func(t tierCount) bool { return t.ready > 0 }) {
			break
		}
	}
	if r.chosen == classes {
		return priorityOf
	}
	next := 0
	for step := range steps {
		tier := int(r.chosen)*steps + step
		if r.tiers[tier].ready == 0 {
			continue
		}
		priorityOf[tier] = next
		// Clusters that serve although they should not are all there is: what is missing in their tiers says nothing.
		if r.chosen != active || r.tiers[tier].ready*100 >= r.service.Policy.threshold()*r.tiers[tier].total {
			next++
		}
	}
	return priorityOf
}

// cut splits s after the leading elements for which in holds.
func cut(s []candidate, in func(*candidate) bool) (leading, rest []candidate) {
	at := 0
	for at < len(s) && in(&s[at]) {
		at++
	}
	return s[:at], s[at:]
}
