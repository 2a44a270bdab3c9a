package clusterset

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Service is one global service as of one Snapshot. It and everything that it points to is immutable; a service that did not
// change is the same pointer in the next Snapshot.
type Service struct {
	seal seal

	Key
	// Properties are what the exports agree on; nil when no export is valid, and then there is no ServiceImport.
	Properties *Properties
	// Conflicts are the properties in which exports differ, in the order of the table at agreement.
	Conflicts []Conflict
	// Policy is the service's policy in normal form, or nil.
	Policy *Policy
	// Sources are the clusters with an export, sorted by cluster; those whose export is not valid are among them.
	Sources []Source
	// Imports are the clusters with a derived Service, sorted by cluster.
	Imports []Import

	ports [][]int16 // see agreement
}

// Source is what one exporting cluster contributes.
type Source struct {
	Cluster string
	// Created is the creation time of its ServiceExport.
	Created time.Time
	// Properties are those of its Service; nil while there is none.
	Properties *Properties
	// Endpoints are nil until they have been read once.
	Endpoints *Endpoints
}

// Import is what one importing cluster allocated for a service.
type Import struct {
	Cluster string
	// ClusterIPs are those of the derived Service, in its order.
	ClusterIPs []netip.Addr
	// GatewayPorts are where the cluster's gateways take traffic for the service's ports, at Gateway.Inside.
	GatewayPorts []GatewayPort
}

// GatewayPort is where the gateways of a cluster take traffic for one port of a service.
type GatewayPort struct {
	// Name is that of the service's port.
	Name     string
	Protocol corev1.Protocol // empty means TCP
	Port     uint16
}

// normal returns a copy for a cluster, with each port once: of several numbers for one port the least counts.
func (i *Import) normal(cluster string) Import {
	var ports []GatewayPort
	for _, port := range i.GatewayPorts {
		if port.Protocol = or(port.Protocol, corev1.ProtocolTCP); port.Port != 0 {
			ports = append(ports, port)
		}
	}
	slices.SortFunc(ports, func(a, b GatewayPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	ports = slices.CompactFunc(ports, func(a, b GatewayPort) bool { return a.Name == b.Name && a.Protocol == b.Protocol })
	return Import{Cluster: Intern(cluster).String(), ClusterIPs: clone(i.ClusterIPs), GatewayPorts: exact(ports)}
}

func (i *Import) equal(other *Import) bool {
	return i.Cluster == other.Cluster && slices.Equal(i.ClusterIPs, other.ClusterIPs) && slices.Equal(i.GatewayPorts, other.GatewayPorts)
}

// Exported tells whether there is a valid export, and thus a service for consumers.
func (s *Service) Exported() bool { return s.Properties != nil }

// ClusterSetIPs returns the addresses of the service in a cluster that imports it.
func (s *Service) ClusterSetIPs(cluster string) []netip.Addr {
	if i := s.imported(cluster); i != nil {
		return i.ClusterIPs
	}
	return nil
}

// GatewayPort returns where the gateways of a cluster take the traffic of one of the service's ports; 0 means nowhere.
func (s *Service) GatewayPort(cluster string, port Port) uint16 {
	i := s.imported(cluster)
	if i == nil {
		return 0
	}
	at := slices.IndexFunc(i.GatewayPorts, func(p GatewayPort) bool { return p.Name == port.Name && p.Protocol == port.Protocol })
	if at < 0 {
		return 0
	}
	return i.GatewayPorts[at].Port
}

// imported returns the import of a cluster, or nil.
func (s *Service) imported(cluster string) *Import {
	at, found := slices.BinarySearchFunc(s.Imports, cluster, func(i Import, id string) int { return cmp.Compare(i.Cluster, id) })
	if !found {
		return nil
	}
	return &s.Imports[at]
}

// Exporters returns the clusters whose export is valid, sorted: status.clusters of a ServiceImport.
func (s *Service) Exporters() []string {
	var clusters []string
	for i := range s.Sources {
		if s.Sources[i].Properties.valid() {
			clusters = append(clusters, s.Sources[i].Cluster)
		}
	}
	return clusters
}

// Port returns the index of a port of the union by its name.
func (s *Service) Port(name string) (int, bool) {
	if s.Properties == nil {
		return 0, false
	}
	at := slices.IndexFunc(s.Properties.Ports, func(p Port) bool { return p.Name == name })
	return at, at >= 0
}

// ExposedPort returns the port of the cluster's own Service that stands behind a port of the union. Its name is the one that
// the cluster's endpoints use.
func (s *Service) ExposedPort(cluster string, port int) (Port, bool) {
	i, found := s.source(cluster)
	if !found {
		return Port{}, false
	}
	return s.exposed(i, port)
}

// exposed is ExposedPort by index of the source.
func (s *Service) exposed(source, port int) (Port, bool) {
	if source >= len(s.ports) || port < 0 || port >= len(s.ports[source]) {
		return Port{}, false
	}
	own, ports := s.ports[source][port], s.Sources[source].Properties.Ports
	if own < 0 || int(own) >= len(ports) {
		return Port{}, false
	}
	return ports[own], true
}

// source returns the index of an exporting cluster.
func (s *Service) source(cluster string) (int, bool) {
	return slices.BinarySearchFunc(s.Sources, cluster, func(source Source, id string) int { return cmp.Compare(source.Cluster, id) })
}

// equal compares content. The properties are equal when the sources' are, and cost nothing to compare where shared.
func (s *Service) equal(other *Service) bool {
	return s.Policy.equal(other.Policy) &&
		slices.EqualFunc(s.Imports, other.Imports, func(a, b Import) bool { return a.equal(&b) }) &&
		slices.EqualFunc(s.Sources, other.Sources, func(a, b Source) bool {
			return a.Cluster == b.Cluster && a.Created.Equal(b.Created) && a.Properties.equal(b.Properties) && a.Endpoints.equal(b.Endpoints)
		})
}
