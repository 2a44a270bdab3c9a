package clusterset_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// model is what a builder was told, as plain maps, and the rules of views written down once more, without any regard to
// cost: one list of everything, filtered and sorted again and again.
type model struct {
	clusters  map[string]clusterset.Cluster
	exports   map[place]clusterset.Export
	endpoints map[place]clusterset.Endpoints
	imports   map[place]clusterset.Import
	policies  map[clusterset.Key]clusterset.Policy
	revoked   []clusterset.Revocation
}

// place is a service in a cluster.
type place struct {
	cluster string
	key     clusterset.Key
}

func newModel() *model {
	return &model{
		clusters:  map[string]clusterset.Cluster{},
		exports:   map[place]clusterset.Export{},
		endpoints: map[place]clusterset.Endpoints{},
		imports:   map[place]clusterset.Import{},
		policies:  map[clusterset.Key]clusterset.Policy{},
	}
}

// remove forgets a cluster.
func (m *model) remove(cluster string) {
	delete(m.clusters, cluster)
	maps.DeleteFunc(m.exports, func(p place, _ clusterset.Export) bool { return p.cluster == cluster })
	maps.DeleteFunc(m.endpoints, func(p place, _ clusterset.Endpoints) bool { return p.cluster == cluster })
	maps.DeleteFunc(m.imports, func(p place, _ clusterset.Import) bool { return p.cluster == cluster })
}

// rebuild tells a new builder what is, in the order that maps happen to have.
func (m *model) rebuild() *clusterset.Snapshot {
	b := clusterset.NewBuilder(0)
	for p, endpoints := range m.endpoints {
		b.SetEndpoints(p.cluster, p.key, endpoints)
	}
	for k, policy := range m.policies {
		b.SetPolicy(k, policy)
	}
	for p, e := range m.exports {
		b.SetExport(p.cluster, p.key, e)
	}
	for p, i := range m.imports {
		b.SetImport(p.cluster, p.key, i)
	}
	for _, cluster := range m.clusters {
		b.SetCluster(cluster)
	}
	b.SetRevocations(m.revoked)
	return b.Publish()
}

// exporters returns the clusters with a valid export, oldest first.
func (m *model) exporters(k clusterset.Key) []string {
	var ids []string
	for p, e := range m.exports {
		if p.key == k && e.Properties != nil && e.Properties.Type != corev1.ServiceTypeExternalName {
			ids = append(ids, p.cluster)
		}
	}
	age := func(id string) int64 {
		if created := m.exports[place{id, k}].Created; !created.IsZero() {
			return created.Unix()
		}
		return math.MaxInt64
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Or(cmp.Compare(age(a), age(b)), cmp.Compare(a, b)) })
	return ids
}

func protocol(p corev1.Protocol) corev1.Protocol { return cmp.Or(p, corev1.ProtocolTCP) }

// ports is the union of ports by the rules of KEP-1645.
func (m *model) ports(k clusterset.Key) []port {
	var all []port
	for _, id := range m.exporters(k) {
		for _, p := range m.exports[place{id, k}].Properties.Ports {
			p.Protocol = protocol(p.Protocol)
			free := true
			for _, have := range all {
				if have.Name == p.Name || have.Protocol == p.Protocol && have.Port == p.Port {
					free = false
				}
			}
			if free {
				all = append(all, p)
			}
		}
	}
	return all
}

// pod is a row of the model's list.
type pod struct {
	cluster, zone string
	addr          netip.AddrPort
	ready, going  bool
	own, direct   bool
	lost          bool // does not take traffic
	rank          int  // of the cluster's class
	step          int
	by            []netip.AddrPort // gateways, if not direct
	outbound      bool             // those of the consumer's cluster
}

// pods lists the endpoints that could serve a port.
func (m *model) pods(k clusterset.Key, from clusterset.Consumer, p *port) []pod {
	var all []pod
	for _, id := range m.exporters(k) {
		if m.weight(k, id) == 0 {
			continue
		}
		source, own := m.cluster(id), m.cluster(from.Cluster)
		base := pod{cluster: id, own: id == from.Cluster}
		base.direct = base.own || source.Network != "" && source.Network == own.Network
		switch {
		case source.State == clusterset.Draining:
			base.rank = 2
		case source.State == clusterset.Cordoned && !base.own:
			base.rank = 1
		}
		if !base.direct {
			by, outbound, exists := m.way(k, from, p, id)
			if !exists {
				continue
			}
			base.by, base.outbound = by, outbound
		}
		base.lost = !base.own && source.DataPlane == clusterset.Down || !base.direct && len(base.by) == 0
		all = append(all, m.podsOf(k, from, p, base)...)
	}
	return all
}

func (m *model) podsOf(k clusterset.Key, from clusterset.Consumer, p *port, base pod) []pod {
	best := map[string]clusterset.Endpoint{} // by target ports and address: the better of several
	targets := map[string]uint16{}
	goodness := func(e clusterset.Endpoint) int {
		g := 0
		for i, has := range []bool{!e.Conditions.Has(clusterset.Terminating), e.Conditions.Has(clusterset.Serving), e.Conditions.Has(clusterset.Ready)} {
			if has {
				g += 1 << i
			}
		}
		return g
	}
	var ipv4, ipv6 bool
	for _, group := range m.endpoints[place{base.cluster, k}].Groups {
		for _, e := range group.Endpoints {
			ipv4, ipv6 = ipv4 || e.Addr.Is4(), ipv6 || e.Addr.Is6()
			target, served := m.target(k, base.cluster, p, group)
			if !served {
				continue
			}
			id := fmt.Sprint(names(group.Ports), e.Addr)
			if old, there := best[id]; !there || goodness(e) > goodness(old) {
				best[id] = e
			}
			targets[id] = target
		}
	}
	six := !ipv4
	for _, family := range slices.Backward(m.exports[place{m.exporters(k)[0], k}].Properties.IPFamilies) {
		if family == corev1.IPv4Protocol && ipv4 || family == corev1.IPv6Protocol && ipv6 {
			six = family == corev1.IPv6Protocol
		}
	}
	var all []pod
	for id, e := range best {
		row := base
		row.addr = netip.AddrPortFrom(e.Addr, targets[id])
		row.ready, row.going = e.Conditions.Has(clusterset.Ready), e.Conditions.Has(clusterset.Terminating)
		row.zone = m.cluster(base.cluster).Zone
		if row.direct && e.Zone.String() != "" {
			row.zone = e.Zone.String()
		}
		row.step = m.step(k, from, row)
		if (p == nil || e.Addr.Is6() == six) && row.step >= 0 {
			all = append(all, row)
		}
	}
	return all
}

func names(ports []clusterset.TargetPort) []string {
	var all []string
	for _, p := range ports {
		all = append(all, fmt.Sprint(p.Name, protocol(p.Protocol), p.Port))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (m *model) target(k clusterset.Key, cluster string, p *port, group clusterset.Group) (uint16, bool) {
	if p == nil {
		return 0, true
	}
	for _, own := range m.exports[place{cluster, k}].Properties.Ports {
		if protocol(own.Protocol) != p.Protocol || own.Port != p.Port {
			continue
		}
		least := uint16(0) // of several numbers for one name the least
		for _, target := range group.Ports {
			if target.Name.String() == own.Name && protocol(target.Protocol) == p.Protocol && target.Port != 0 && (least == 0 || target.Port < least) {
				least = target.Port
			}
		}
		return least, least != 0
	}
	return 0, false
}

func (m *model) cluster(id string) clusterset.Cluster {
	c := m.clusters[id]
	c.ID = id
	return c
}

// way returns how a consumer gets into a cluster on another network, and whether it would if nothing were down.
func (m *model) way(k clusterset.Key, from clusterset.Consumer, p *port, id string) (by []netip.AddrPort, outbound, exists bool) {
	tunnel := func(g clusterset.Gateway) uint16 { return g.Tunnel }
	tls := func(g clusterset.Gateway) uint16 {
		if g.Tunnel != 0 && m.policies[k].Passthrough == nil {
			return 0
		}
		return g.Port
	}
	tunnels, anyTunnel := m.gateways(id, tunnel)
	if from.Gateway {
		return tunnels, false, anyTunnel
	}
	own := m.outbound(k, from, p)
	if len(own) > 0 && len(tunnels) > 0 {
		return own, true, true
	}
	by, exists = m.gateways(id, tls)
	return by, false, exists || len(own) > 0 && anyTunnel
}

// gateways returns those of a cluster, at the port that is asked for, and whether there are any if none were down.
func (m *model) gateways(id string, at func(clusterset.Gateway) uint16) (all []netip.AddrPort, exists bool) {
	for _, g := range m.clusters[id].Gateways {
		if !g.Addr.IsValid() || at(g) == 0 {
			continue
		}
		exists = true
		if g.Health != clusterset.Down {
			all = append(all, netip.AddrPortFrom(g.Addr, at(g)))
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all), exists
}

// outbound returns the gateways of the consumer's cluster, at the port for a port of the service.
func (m *model) outbound(k clusterset.Key, from clusterset.Consumer, p *port) (all []netip.AddrPort) {
	least := uint16(0)
	for _, g := range m.imports[place{from.Cluster, k}].GatewayPorts {
		if p != nil && g.Name == p.Name && protocol(g.Protocol) == p.Protocol && g.Port != 0 && (least == 0 || g.Port < least) {
			least = g.Port
		}
	}
	for _, down := range []bool{false, true} { // those that are down if there are no others
		for _, g := range m.clusters[from.Cluster].Gateways {
			if least != 0 && g.Inside.IsValid() && down == (g.Health == clusterset.Down) {
				all = append(all, netip.AddrPortFrom(g.Inside, least))
			}
		}
		if len(all) > 0 {
			break
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

func (m *model) weight(k clusterset.Key, id string) uint32 {
	weight := uint32(1)
	found := false
	for _, w := range m.policies[k].Weights {
		if w.Cluster == id && (!found || w.Weight < weight) {
			weight, found = w.Weight, true
		}
	}
	return weight
}

func (m *model) step(k clusterset.Key, from clusterset.Consumer, row pod) int {
	source, own := m.cluster(row.cluster), m.cluster(from.Cluster)
	near := row.own || source.Region != "" && source.Region == own.Region
	zone := cmp.Or(from.Zone, own.Zone)
	order := m.policies[k].Failover
	if len(order) == 0 {
		order = []clusterset.Tier{{By: clusterset.ByZone}, {By: clusterset.ByRegion}, {By: clusterset.Any}}
	}
	for i, tier := range order {
		named := len(tier.Names) > 0
		switch tier.By {
		case clusterset.ByCluster:
			if named && slices.Contains(tier.Names, row.cluster) || !named && row.own {
				return i
			}
		case clusterset.ByRegion:
			if named && slices.Contains(tier.Names, source.Region) || !named && near {
				return i
			}
		case clusterset.ByZone:
			if named && slices.Contains(tier.Names, row.zone) || !named && near && row.zone != "" && row.zone == zone {
				return i
			}
		case clusterset.Any:
			return i
		}
	}
	return -1
}

// view renders the assignment of a port (nil: hosts) as render does.
func (m *model) view(k clusterset.Key, from clusterset.Consumer, p *port) string {
	if allowed := m.policies[k].Consumers; allowed != nil && !slices.Contains(allowed.Clusters, from.Cluster) {
		return ""
	}
	all := m.pods(k, from, p)
	slices.SortFunc(all, func(a, b pod) int {
		first := func(p pod) int {
			if p.own {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(a.cluster, b.cluster), a.addr.Compare(b.addr), cmp.Compare(a.zone, b.zone))
	})
	taken := map[netip.AddrPort]bool{}
	var serving []pod
	total := map[int]int{}
	for _, row := range all {
		usable := row.ready && !row.lost
		switch {
		case row.going && !row.ready:
			continue
		case usable && row.direct && taken[row.addr]:
			continue
		case usable:
			taken[row.addr] = taken[row.addr] || row.direct
			serving = append(serving, row)
		}
		total[row.step]++
	}
	return m.arrange(k, serving, total, taken)
}

// arrange puts what serves into priorities.
func (m *model) arrange(k clusterset.Key, serving []pod, total map[int]int, taken map[netip.AddrPort]bool) string {
	if len(serving) == 0 {
		return ""
	}
	rank := slices.MinFunc(serving, func(a, b pod) int { return cmp.Compare(a.rank, b.rank) }).rank
	serving = slices.DeleteFunc(serving, func(p pod) bool { return p.rank != rank })
	steps := map[int][]pod{}
	for _, row := range serving {
		steps[row.step] = append(steps[row.step], row)
	}
	var priorities [][]pod
	open := false
	for _, step := range slices.Sorted(maps.Keys(steps)) {
		if !open {
			priorities = append(priorities, nil)
		}
		last := len(priorities) - 1
		priorities[last] = append(priorities[last], steps[step]...)
		healthy := float64(len(steps[step])) / float64(total[step])
		open = rank == 0 && healthy*100 < float64(m.policies[k].MinHealthyPercent)-1e-9
	}
	var out []clusterset.Priority
	for _, rows := range priorities {
		if localities := m.localities(k, rows, taken); len(localities) > 0 {
			out = append(out, clusterset.Priority{Localities: localities})
		}
	}
	return render(clusterset.Assignment{Priorities: out})
}

func (m *model) localities(k clusterset.Key, rows []pod, taken map[netip.AddrPort]bool) []clusterset.Locality {
	byPlace := map[[2]string][]pod{}
	byCluster := map[string]int{}
	for _, row := range rows {
		byPlace[[2]string{row.cluster, row.zone}] = append(byPlace[[2]string{row.cluster, row.zone}], row)
		byCluster[row.cluster]++
	}
	var out []clusterset.Locality
	for _, at := range slices.SortedFunc(maps.Keys(byPlace), func(a, b [2]string) int { return strings.Compare(a[0]+"\x00"+a[1], b[0]+"\x00"+b[1]) }) {
		group := byPlace[at]
		weight := len(group)
		if len(m.policies[k].Weights) > 0 {
			weight = max(1, int(m.weight(k, at[0]))*1000*len(group)/byCluster[at[0]])
		}
		locality := clusterset.Locality{
			Cluster: at[0], Zone: at[1], Gateway: !group[0].direct && !group[0].outbound, Outbound: group[0].outbound, Weight: uint32(weight),
		}
		if group[0].direct {
			slices.SortFunc(group, func(a, b pod) int { return a.addr.Compare(b.addr) })
			for _, row := range group {
				locality.Targets = append(locality.Targets, clusterset.Target{Addr: row.addr, Weight: 1})
			}
			out = append(out, locality)
			continue
		}
		var free []netip.AddrPort
		for _, gateway := range group[0].by {
			if !taken[gateway] {
				taken[gateway] = true
				free = append(free, gateway)
			}
		}
		if len(free) == 0 {
			join(out, group[0].by, weight, len(group))
			continue
		}
		for i, addr := range free {
			share := len(group) / len(free)
			if i < len(group)%len(free) {
				share++
			}
			locality.Targets = append(locality.Targets, clusterset.Target{Addr: addr, Weight: uint32(max(share, 1))})
		}
		out = append(out, locality)
	}
	return out
}

// join adds the weight of a cluster to the first locality that has one of its gateways.
func join(out []clusterset.Locality, by []netip.AddrPort, weight, ready int) {
	for i := range out {
		for _, target := range out[i].Targets {
			if !out[i].Gateway && !out[i].Outbound || !slices.Contains(by, target.Addr) {
				continue
			}
			out[i].Weight += uint32(weight)
			n := len(out[i].Targets)
			for j := range out[i].Targets {
				share := ready / n
				if j < ready%n {
					share++
				}
				out[i].Targets[j].Weight += uint32(share)
			}
			return
		}
	}
}
