package clusterset

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// hosts stands for all ports of a service at once.
const hosts = -1

// class orders source clusters by what their operators want: while one of a class serves, those after it do not.
type class int

const (
	active class = iota
	cordoned
	draining
	classes
)

// standing is what holds for all endpoints of one source cluster, seen from one consumer.
type standing struct {
	facts *Cluster
	// barred is why none of the endpoints is for this consumer, now or later.
	barred Reason
	// broken is why none of them takes traffic at the moment. They count as unhealthy.
	broken Reason
	class  class
	// direct means at the pods' own addresses, otherwise through the gateways.
	direct bool
	// gateways are where it is reached otherwise: its own, or those of the consumer's cluster if outbound says so.
	gateways []netip.AddrPort
	outbound bool
	// port and name are the cluster's own port and its interned name.
	port Port
	name Name
	// ipv6 is the family that is used; it does not count for hosts.
	ipv6 bool
}

// standing returns how source i stands for the consumer.
func (r *ranking) standing(i int) standing {
	source := &r.service.Sources[i]
	st := standing{facts: r.snapshot.facts(source.Cluster)}
	own := st.facts.ID == r.own.ID
	st.direct = r.own.reaches(st.facts)
	st.class = classOf(st.facts.State, own)
	if st.barred = r.bar(i, &st); st.barred != Used {
		return st
	}
	st.name = Intern(st.port.Name)
	st.ipv6 = r.family(source.Endpoints)
	switch {
	case own: // whether traffic arrives from outside says nothing about traffic inside
	case st.facts.DataPlane == Down:
		st.broken = DataPlaneDown
	case !st.direct && len(st.gateways) == 0:
		st.broken = GatewaysDown
	}
	return st
}

// bar finds the reason, if any, for which nothing of source i is used, and fills in port and gateways.
func (r *ranking) bar(i int, st *standing) Reason {
	source := &r.service.Sources[i]
	switch {
	case !source.Properties.valid():
		return NotExported
	case r.service.Policy.weight(source.Cluster) == 0:
		return ZeroWeight
	}
	if r.port != hosts {
		port, exposed := r.service.exposed(i, r.port)
		if !exposed {
			return PortNotExposed
		}
		st.port = port
	}
	if st.direct {
		return Used
	}
	return r.enter(st)
}

// enter finds the way into a cluster on another network, or why there is none. Ways that only a failure closes are ways.
func (r *ranking) enter(st *standing) Reason {
	down := false
	if r.gateway || len(r.outbound) > 0 {
		st.gateways, down = st.facts.tunnels()
	}
	switch {
	case r.gateway && len(st.gateways) == 0 && !down:
		return NoGateway
	case r.gateway:
		return Used
	case len(st.gateways) > 0:
		st.gateways, st.outbound = r.outbound, true
		return Used
	}
	return r.enterByName(st, down)
}

// enterByName finds the gateways that take TLS by server name; down says that another way is closed because it is down.
func (r *ranking) enterByName(st *standing, down bool) Reason {
	refusal := NoGateway
	for _, gateway := range st.facts.Gateways {
		switch {
		case gateway.Port == 0:
		case gateway.Tunnel != 0 && !r.service.Policy.opens():
			refusal = NotOpened
		case gateway.Health == Down:
			down = true
		default:
			st.gateways = append(st.gateways, netip.AddrPortFrom(gateway.Addr, gateway.Port))
		}
	}
	if len(st.gateways) == 0 && !down {
		return refusal
	}
	st.gateways = inOrder(st.gateways)
	return Used
}

// tunnels returns where gateways of other clusters get into the cluster, and whether a way is closed because it is down.
func (c *Cluster) tunnels() (addrs []netip.AddrPort, closed bool) {
	for _, gateway := range c.Gateways {
		switch {
		case gateway.Tunnel == 0:
		case gateway.Health == Down:
			closed = true
		default:
			addrs = append(addrs, netip.AddrPortFrom(gateway.Addr, gateway.Tunnel))
		}
	}
	return inOrder(addrs), closed
}

// inOrder sorts addresses, each once, in place.
func inOrder(addrs []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	return slices.Compact(addrs)
}

// ownGateways returns where gateways of the consumer's cluster take the traffic of a port of the service.
func (r *ranking) ownGateways() []netip.AddrPort {
	if r.gateway || r.port == hosts {
		return nil
	}
	port := r.service.GatewayPort(r.own.ID, r.service.Properties.Ports[r.port])
	if port == 0 {
		return nil
	}
	var addrs []netip.AddrPort
	for _, gateway := range r.own.InsideGateways() {
		addrs = append(addrs, netip.AddrPortFrom(gateway.Inside, port))
	}
	return inOrder(addrs)
}

func classOf(state State, own bool) class {
	switch {
	case state == Draining:
		return draining
	case state == Cordoned && !own:
		return cordoned
	}
	return active
}

// family returns whether IPv6 is the family to use: the first of the service's in which the cluster has endpoints, else the
// one in which it has any. A pod with addresses of both counts once.
func (r *ranking) family(endpoints *Endpoints) bool {
	if endpoints == nil {
		return false
	}
	for _, family := range r.service.Properties.IPFamilies {
		if ipv6 := family == corev1.IPv6Protocol; endpoints.has(ipv6) {
			return ipv6
		}
	}
	return !endpoints.has(false)
}
