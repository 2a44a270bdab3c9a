package clusterset

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Endpoints are those of one service in one cluster: its EndpointSlices together.
type Endpoints struct {
	Groups []Group
}

// Group is a set of endpoints with the same target ports, as an EndpointSlice is.
type Group struct {
	Ports     []TargetPort
	Endpoints []Endpoint
}

// TargetPort is where the pods of a group take the traffic of a service port.
type TargetPort struct {
	// Name is that of the service port in the same cluster.
	Name     Name
	Protocol corev1.Protocol // empty means TCP
	Port     uint16
}

// Endpoint is one address of one pod: 56 bytes.
type Endpoint struct {
	Addr netip.Addr
	// Node, Zone and Hostname are empty when not known; Hostname is that of a pod of a headless service.
	Node, Zone, Hostname Name
	Conditions           Conditions
}

// Conditions are those of an EndpointSlice's endpoint.
type Conditions uint8

// The conditions of an endpoint, as discovery.k8s.io/v1 defines them.
const (
	Ready Conditions = 1 << iota
	Serving
	Terminating
)

// Has tells whether all the given conditions hold.
func (c Conditions) Has(conditions Conditions) bool { return c&conditions == conditions }

// rank orders conditions from bad to good.
func (c Conditions) rank() int {
	rank := 0
	if c.Has(Ready) {
		rank += 4
	}
	if c.Has(Serving) {
		rank += 2
	}
	if !c.Has(Terminating) {
		rank++
	}
	return rank
}

// normal returns a compact copy: one group per set of ports, everything sorted, each address once per group. A pod that is
// in two slices for a moment counts in the better of its states, as with kube-proxy. Addresses that are none are left out.
// When the lists are given away, those that are normal already are not copied.
func (e *Endpoints) normal(given bool) *Endpoints {
	normal := &Endpoints{}
	parts := map[int][][]Endpoint{} // of groups that are put together, by the first of them in e
	first := make([]int, 0, len(e.Groups))
	for i, group := range e.Groups {
		ports := normalPorts(group.Ports)
		at, found := slices.BinarySearchFunc(normal.Groups, ports, func(g Group, ports []TargetPort) int {
			return slices.CompareFunc(g.Ports, ports, comparePorts)
		})
		if found {
			parts[first[at]] = append(parts[first[at]], group.Endpoints)
			continue
		}
		normal.Groups = slices.Insert(normal.Groups, at, Group{Ports: ports, Endpoints: group.Endpoints})
		first = slices.Insert(first, at, i)
	}
	for at := range normal.Groups {
		group := &normal.Groups[at]
		// What is given may be shared, and is not modified: a list of several groups is a new one.
		if more := parts[first[at]]; len(more) > 0 || !given || !tidy(group.Endpoints) {
			group.Endpoints = Tidy(slices.Concat(append([][]Endpoint{group.Endpoints}, more...)...))
		}
	}
	normal.Groups = exact(slices.DeleteFunc(normal.Groups, func(g Group) bool { return len(g.Endpoints) == 0 }))
	return normal
}

// Tidy puts a list of endpoints in order, as snapshots hold it and TakeEndpoints takes it without a copy. It modifies the
// list and returns it without spare capacity.
func Tidy(endpoints []Endpoint) []Endpoint {
	for i := range endpoints {
		endpoints[i].Addr = endpoints[i].Addr.WithZone("").Unmap()
	}
	endpoints = slices.DeleteFunc(endpoints, func(e Endpoint) bool { return !e.Addr.IsValid() })
	slices.SortFunc(endpoints, compareEndpoints)
	return exact(slices.CompactFunc(endpoints, func(a, b Endpoint) bool { return a.Addr == b.Addr }))
}

// tidy tells whether Tidy would change nothing.
func tidy(endpoints []Endpoint) bool {
	for i := range endpoints {
		addr := endpoints[i].Addr
		if !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" || i > 0 && endpoints[i-1].Addr.Compare(addr) >= 0 {
			return false
		}
	}
	return true
}

// exact returns s without spare capacity, since it is going to be kept; an empty slice becomes nil.
func exact[T any](s []T) []T {
	switch len(s) {
	case 0:
		return nil
	case cap(s):
		return s
	}
	return append(make([]T, 0, len(s)), s...)
}

func normalPorts(ports []TargetPort) []TargetPort {
	normal := clone(ports)
	for i := range normal {
		normal[i].Protocol = or(normal[i].Protocol, corev1.ProtocolTCP)
	}
	slices.SortFunc(normal, comparePorts)
	return slices.Compact(normal)
}

func comparePorts(a, b TargetPort) int {
	return cmp.Or(a.Name.Compare(b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

// compareEndpoints orders by address, and the same address from good to bad.
func compareEndpoints(a, b Endpoint) int {
	if order := a.Addr.Compare(b.Addr); order != 0 {
		return order
	}
	return cmp.Or(cmp.Compare(b.Conditions.rank(), a.Conditions.rank()), cmp.Compare(a.Conditions, b.Conditions),
		a.Node.Compare(b.Node), a.Zone.Compare(b.Zone), a.Hostname.Compare(b.Hostname))
}

func (e *Endpoints) equal(other *Endpoints) bool {
	if e == nil || other == nil || e == other {
		return e == other
	}
	return slices.EqualFunc(e.Groups, other.Groups, func(a, b Group) bool {
		return slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Endpoints, b.Endpoints)
	})
}

// sharePorts makes e use the other's lists of ports where they are equal: they are, in nearly all clusters.
func (e *Endpoints) sharePorts(other *Endpoints) {
	if e == nil || other == nil {
		return
	}
	for i := range min(len(e.Groups), len(other.Groups)) {
		if slices.Equal(e.Groups[i].Ports, other.Groups[i].Ports) {
			e.Groups[i].Ports = other.Groups[i].Ports
		}
	}
}

// target returns the port at which pods of the group take the traffic of a port of their cluster's service.
func (g *Group) target(port Port, name Name) (uint16, bool) {
	for i := range g.Ports {
		if g.Ports[i].Name == name && g.Ports[i].Protocol == port.Protocol && g.Ports[i].Port != 0 {
			return g.Ports[i].Port, true
		}
	}
	return 0, false
}

// has tells whether there is an address of the family.
func (e *Endpoints) has(ipv6 bool) bool {
	for i := range e.Groups {
		for j := range e.Groups[i].Endpoints {
			if e.Groups[i].Endpoints[j].Addr.Is6() == ipv6 {
				return true
			}
		}
	}
	return false
}
