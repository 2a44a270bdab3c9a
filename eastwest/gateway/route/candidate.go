package route

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Candidate is a cluster that may take connections, in one priority.
type Candidate struct {
	Cluster string
	// Pods are reached at their own addresses: those of the own cluster, and of clusters on the same network.
	Pods []netip.AddrPort
	// Gateways are those of the cluster that take tunnels, where its pods are not reached.
	Gateways []netip.AddrPort
	// Weight is the cluster's share of the priority's connections in relation to the others.
	Weight uint32
}

// ways yields every way to the cluster.
func (c *Candidate) ways() iter.Seq[Way] {
	return func(yield func(Way) bool) {
		for _, addr := range c.Pods {
			if !yield(Way{Cluster: c.Cluster, Addr: addr}) {
				return
			}
		}
		for _, addr := range c.Gateways {
			if !yield(Way{Cluster: c.Cluster, Addr: addr, Tunnel: true}) {
				return
			}
		}
	}
}

// For returns who may take the connections of a consumer for a port of a service, by priority: the first that can take
// them should. Both lists of a candidate are sorted by address, and candidates by cluster. The reason is empty, or why
// there is nothing to use; both may be empty, when nothing is ready.
func For(s *clusterset.Snapshot, from clusterset.Consumer, key clusterset.Key, port string, protocol corev1.Protocol) ([][]Candidate, clusterset.Reason) {
	service := s.Service(key)
	if reason := Admits(service, from.Cluster); reason != clusterset.Used {
		return nil, reason
	}
	index := slices.IndexFunc(service.Properties.Ports, func(p clusterset.Port) bool {
		return p.Name == port && sameProtocol(p.Protocol, protocol)
	})
	if index < 0 {
		return nil, clusterset.PortNotExposed
	}
	var priorities [][]Candidate
	for _, p := range s.ViewPort(key, from, index).Priorities {
		if candidates := gather(p.Localities); len(candidates) > 0 {
			priorities = append(priorities, candidates)
		}
	}
	return priorities, clusterset.Used
}

// Admits returns why a cluster may not use a service at all: NoSuchService (for nil), NotExported, NotAllowed, or Used when
// it may.
func Admits(service *clusterset.Service, cluster string) clusterset.Reason {
	switch {
	case service == nil:
		return clusterset.NoSuchService
	case !service.Exported():
		return clusterset.NotExported
	case service.Policy == nil || service.Policy.Consumers == nil:
		return clusterset.Used
	case !slices.Contains(service.Policy.Consumers.Clusters, cluster):
		return clusterset.NotAllowed
	}
	return clusterset.Used
}

// Sticky tells whether connections of a client to a service should go the same way.
func Sticky(service *clusterset.Service) bool {
	return service != nil && service.Properties != nil && service.Properties.SessionAffinity == corev1.ServiceAffinityClientIP
}

// gather puts the zones of each cluster together. The localities are sorted by cluster.
func gather(localities []clusterset.Locality) []Candidate {
	var candidates []Candidate
	for _, locality := range localities {
		if locality.Outbound || len(locality.Targets) == 0 {
			continue // a gateway is no way of its own
		}
		if n := len(candidates); n == 0 || candidates[n-1].Cluster != locality.Cluster {
			candidates = append(candidates, Candidate{Cluster: locality.Cluster})
		}
		c := &candidates[len(candidates)-1]
		c.Weight += locality.Weight
		for _, target := range locality.Targets {
			if locality.Gateway {
				c.Gateways = append(c.Gateways, target.Addr)
			} else {
				c.Pods = append(c.Pods, target.Addr)
			}
		}
	}
	for i := range candidates {
		slices.SortFunc(candidates[i].Pods, netip.AddrPort.Compare)
		slices.SortFunc(candidates[i].Gateways, netip.AddrPort.Compare)
	}
	return candidates
}

// sameProtocol compares protocols; empty means TCP.
func sameProtocol(a, b corev1.Protocol) bool {
	return cmp.Or(a, corev1.ProtocolTCP) == cmp.Or(b, corev1.ProtocolTCP)
}
