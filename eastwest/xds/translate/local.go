package translate

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// localPort is a port of a service that the clients' own cluster exports.
type localPort struct {
	port clusterset.Port // of the service
	own  clusterset.Port // of the cluster's Service
}

// exported returns the ports that the clients' cluster contributes to the service.
func (c Client) exported(service *clusterset.Service) []localPort {
	if c.source(service) == nil {
		return nil
	}
	var ports []localPort
	for i, port := range service.Properties.Ports {
		if own, exposed := service.ExposedPort(c.From.Cluster, i); exposed {
			ports = append(ports, localPort{port, own})
		}
	}
	return ports
}

// local returns the cluster's own ready endpoints of a port, whatever the policy says of its own clients: others chose it.
func (c Client) local(service *clusterset.Service, port localPort) []clusterset.Target {
	source := c.source(service)
	if source == nil || source.Endpoints == nil {
		return nil
	}
	ipv6 := family(service, source.Endpoints)
	var targets []clusterset.Target
	for _, group := range source.Endpoints.Groups {
		number, served := targetPort(group, port.own)
		if !served {
			continue
		}
		for _, e := range group.Endpoints {
			if e.Conditions.Has(clusterset.Ready) && e.Addr.Is6() == ipv6 {
				targets = append(targets, clusterset.Target{
					Addr: netip.AddrPortFrom(e.Addr, number), Weight: 1, Hostname: e.Hostname,
				})
			}
		}
	}
	slices.SortFunc(targets, func(a, b clusterset.Target) int { return a.Addr.Compare(b.Addr) })
	return slices.CompactFunc(targets, func(a, b clusterset.Target) bool { return a.Addr == b.Addr })
}

// targetPort returns where the pods of a group take the traffic of a port of their Service.
func targetPort(group clusterset.Group, port clusterset.Port) (uint16, bool) {
	for _, target := range group.Ports {
		if target.Port != 0 && target.Name.String() == port.Name && protocol(target.Protocol) == protocol(port.Protocol) {
			return target.Port, true
		}
	}
	return 0, false
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// family returns whether the endpoints are used by their IPv6 addresses: as the table does it for everybody else.
func family(service *clusterset.Service, endpoints *clusterset.Endpoints) bool {
	has := func(ipv6 bool) bool {
		return slices.ContainsFunc(endpoints.Groups, func(g clusterset.Group) bool {
			return slices.ContainsFunc(g.Endpoints, func(e clusterset.Endpoint) bool { return e.Addr.Is6() == ipv6 })
		})
	}
	for _, f := range service.Properties.IPFamilies {
		if ipv6 := f == corev1.IPv6Protocol; has(ipv6) {
			return ipv6
		}
	}
	return !has(false)
}
