package route

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Wanted is what somebody in another cluster asks for.
type Wanted struct {
	Service  clusterset.Key
	Port     uint16          // of the service
	Protocol corev1.Protocol // empty means TCP
	Hostname string          // of one pod of a headless service; empty: any pod
}

// Pods returns the ready pods of a cluster that serve what is wanted, sorted, without repetitions, of one family: the first
// of the service's that has any, since a pod with an address of each is one pod. Whether operators want the cluster used is
// not asked: who sends a connection there has.
//
// The reason is empty, or why there are none: NoSuchService, NotExported (by this cluster), PortNotExposed (by this
// cluster), NotReady.
func Pods(service *clusterset.Service, cluster string, wanted Wanted) ([]netip.AddrPort, clusterset.Reason) {
	if service == nil {
		return nil, clusterset.NoSuchService
	}
	if !slices.Contains(service.Exporters(), cluster) {
		return nil, clusterset.NotExported
	}
	port, exposed := exposed(service, cluster, wanted)
	if !exposed {
		return nil, clusterset.PortNotExposed
	}
	at := slices.IndexFunc(service.Sources, func(s clusterset.Source) bool { return s.Cluster == cluster })
	source := &service.Sources[at]
	var v4, v6 []netip.AddrPort
	for addr := range ready(source.Endpoints, port, wanted.Hostname) {
		if addr.Addr().Is6() {
			v6 = append(v6, addr)
		} else {
			v4 = append(v4, addr)
		}
	}
	first, second := v4, v6
	if f := source.Properties.IPFamilies; len(f) > 0 && f[0] == corev1.IPv6Protocol {
		first, second = v6, v4
	}
	if len(first) == 0 {
		first = second
	}
	if len(first) == 0 {
		return nil, clusterset.NotReady
	}
	slices.SortFunc(first, netip.AddrPort.Compare)
	return slices.Compact(first), clusterset.Used
}

// exposed returns the port of the cluster's own Service that is wanted.
func exposed(service *clusterset.Service, cluster string, wanted Wanted) (clusterset.Port, bool) {
	for i, p := range service.Properties.Ports {
		if p.Port != int32(wanted.Port) || !sameProtocol(p.Protocol, wanted.Protocol) {
			continue
		}
		if own, ok := service.ExposedPort(cluster, i); ok {
			return own, true
		}
	}
	return clusterset.Port{}, false
}

// ready yields the addresses of ready endpoints for a port.
func ready(endpoints *clusterset.Endpoints, port clusterset.Port, hostname string) iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		if endpoints == nil {
			return
		}
		for _, group := range endpoints.Groups {
			target := targetPort(group, port)
			if target == 0 {
				continue
			}
			for _, e := range group.Endpoints {
				fits := hostname == "" || e.Hostname.String() == hostname
				if !fits || !e.Conditions.Has(clusterset.Ready) || e.Conditions.Has(clusterset.Terminating) {
					continue
				}
				if !yield(netip.AddrPortFrom(e.Addr, target)) {
					return
				}
			}
		}
	}
}

// targetPort returns where the pods of a group take the traffic of a port of their Service; 0: they do not.
func targetPort(group clusterset.Group, port clusterset.Port) uint16 {
	at := slices.IndexFunc(group.Ports, func(p clusterset.TargetPort) bool {
		return p.Name.String() == port.Name && sameProtocol(p.Protocol, port.Protocol)
	})
	if at < 0 {
		return 0
	}
	return group.Ports[at].Port
}

// Number returns the number of a port of a service by its name and protocol; 0: there is none.
func Number(service *clusterset.Service, name string, protocol corev1.Protocol) uint16 {
	if service == nil || service.Properties == nil {
		return 0
	}
	for _, p := range service.Properties.Ports {
		if p.Name == name && cmp.Or(p.Protocol, corev1.ProtocolTCP) == cmp.Or(protocol, corev1.ProtocolTCP) {
			return uint16(p.Port) //nolint:gosec // G115: ports have 16 bits
		}
	}
	return 0
}
