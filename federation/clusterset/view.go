package clusterset

import "net/netip"

// Consumer is where somebody stands who uses services.
type Consumer struct {
	Cluster string
	// Zone is that of the node; empty means the zone of the cluster, if it has one only.
	Zone string
	// Region counts where that of the cluster is not known: for consumers outside of all clusters, whose Cluster is empty.
	Region string
	// Gateway says that it is a gateway of the cluster itself: it uses gateways of other clusters, never its own.
	Gateway bool
}

// View is what a consumer may use of a service. It does not depend on the time, only on the service, the facts about its
// source clusters and those about the consumer's cluster.
type View struct {
	// Reason is empty, or why there is nothing to use for this consumer: NoSuchService, NotExported, NotAllowed.
	Reason Reason
	// Ports has an assignment for each port of the service, in the service's order.
	Ports []Assignment
	// Hosts is the assignment without regard to ports, with port 0 in all addresses of pods: for DNS, and for services
	// without ports. It has the addresses of all IP families.
	Hosts Assignment
}

// Assignment is the ordered list of endpoints of one port. It holds that priorities are contiguous from 0 and not empty, no
// address occurs twice, and all weights are at least 1.
type Assignment struct {
	Port       Port
	Priorities []Priority
}

// Priority is a set of localities that share the traffic while nothing before it can take it. They are sorted by cluster,
// then zone.
type Priority struct{ Localities []Locality }

// Locality is the endpoints of one cluster in one zone, or the gateways by which clusters on other networks are reached.
type Locality struct {
	Cluster, Region, Zone string
	// Gateway says that the addresses are gateways of the cluster: they take TLS for the server name of the service, or
	// tunnels if the consumer is a gateway.
	Gateway bool
	// Outbound says that the addresses are gateways of the consumer's own cluster, at the port that is the service's: they
	// carry on whatever they are sent, and choose between the clusters themselves. Cluster, Region and Zone are those of the
	// first cluster that is reached so.
	Outbound bool
	// Weight is the share of the priority's traffic in relation to its other localities: the number of ready endpoints, those
	// behind gateways included, unless the policy weighs clusters. The sum over a priority fits 32 bits, as EDS demands.
	Weight uint32
	// Targets are sorted by address.
	Targets []Target
}

// Target is one address to send to.
type Target struct {
	Addr netip.AddrPort
	// Weight is the share of the locality's traffic in relation to its other targets: 1 for pods; for gateways the ready
	// endpoints behind them, divided evenly.
	Weight uint32
	// Hostname is that of the pod, if it has one.
	Hostname Name
}

// View returns what a consumer may use of a service. It never fails: who may use nothing gets a View with a reason.
func (s *Snapshot) View(key Key, from Consumer) View {
	service := s.Service(key)
	if reason := visible(service, from); reason != Used {
		return View{Reason: reason}
	}
	view := View{Ports: make([]Assignment, len(service.Properties.Ports))}
	for i := range view.Ports {
		view.Ports[i] = s.assign(service, from, i)
	}
	view.Hosts = s.assign(service, from, hosts)
	return view
}

// ViewPort returns the assignment of one port of a service, by its index in the service's ports. There is nothing in it
// where View has a reason or no such port.
func (s *Snapshot) ViewPort(key Key, from Consumer, port int) Assignment {
	service := s.Service(key)
	if visible(service, from) != Used || port < 0 || port >= len(service.Properties.Ports) {
		return Assignment{}
	}
	return s.assign(service, from, port)
}

// ViewHosts returns View.Hosts alone.
func (s *Snapshot) ViewHosts(key Key, from Consumer) Assignment {
	service := s.Service(key)
	if visible(service, from) != Used {
		return Assignment{}
	}
	return s.assign(service, from, hosts)
}

func visible(service *Service, from Consumer) Reason {
	switch {
	case service == nil:
		return NoSuchService
	case !service.Exported():
		return NotExported
	case !service.Policy.admits(from.Cluster):
		return NotAllowed
	}
	return Used
}

// assign lists the endpoints of one port.
func (s *Snapshot) assign(service *Service, from Consumer, port int) Assignment {
	ranking := newRanking(s, service, from, port)
	ranking.collect(nil)
	ranking.settle()
	assignment := Assignment{Priorities: ranking.priorities}
	if port != hosts {
		assignment.Port = service.Properties.Ports[port]
	}
	return assignment
}
