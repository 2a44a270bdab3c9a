package clusterset

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
)

// Policy says how a service is to be used. The zero value is what holds without one.
type Policy struct {
	// Failover is the order in which endpoints are used. Empty means: the consumer's zone, its region, the rest. An endpoint
	// that no tier covers is not used.
	Failover []Tier
	// Weights divide the traffic of one priority between clusters, however many endpoints each has; a cluster that is not
	// listed has weight 1, and one with weight 0 is not used. Without any, every ready endpoint counts the same.
	Weights []ClusterWeight
	// MinHealthyPercent is the share of a tier's endpoints that must be ready for the tier to carry the traffic alone. Below
	// it the next tier shares its priority. 0 means that a tier is left only when nothing in it is ready; more than 100
	// counts as 100.
	MinHealthyPercent uint32
	// Consumers are the clusters that may use the service; nil means all.
	Consumers *Consumers
	// TTL is for how many seconds answers about the service's names may be kept; 0 means what the server has for all.
	TTL uint32
	// Path is how pods of a cluster with a gateway reach the service.
	Path Path
	// Passthrough opens the service to TLS of clients elsewhere, which gateways pass on unseen; nil means that it is closed.
	Passthrough *Passthrough
	// FirstFlight lets gateways send a client's first bytes before the far side has a connection: it saves a round trip, and
	// such a connection is never tried on two ways at once.
	FirstFlight bool
	// L7 is what only clients that understand requests act on. It is carried and compared, never read, and must not be
	// modified once given.
	L7 any
}

// Tier is one step of a failover order.
type Tier struct {
	By Scope
	// Names are the zones, regions or clusters meant, depending on By. Empty means the consumer's own.
	Names []string
}

// Path is how pods of a cluster with a gateway of its own reach a service.
type Path string

const (
	// ByGateway sends everything through the cluster's own gateway: what fails is noticed there, at once.
	ByGateway Path = ""
	// Direct lets kube-proxy send to pods that it reaches without a gateway.
	Direct Path = "Direct"
)

// Passthrough says who reaches a service through gateways with TLS of its own. A gateway sees neither who a client is nor
// what it says; the service has to check both.
type Passthrough struct {
	// Sources are the addresses from which clients come. Empty means everywhere.
	Sources []netip.Prefix
	// ProxyProtocol has the service's pods told where a client comes from, in a header of the PROXY protocol, version 2.
	ProxyProtocol bool
}

// Scope is what a tier selects endpoints by.
type Scope string

const (
	// ByCluster selects by the source cluster.
	ByCluster Scope = "Cluster"
	// ByZone selects by the endpoint's zone; one's own zone is that of one's own region.
	ByZone Scope = "Zone"
	// ByRegion selects by the source cluster's region.
	ByRegion Scope = "Region"
	// Any selects everything that is left.
	Any Scope = "Any"
)

// ClusterWeight is the weight of one cluster.
type ClusterWeight struct {
	Cluster string
	// Weight above MaxWeight counts as MaxWeight.
	Weight uint32
}

// MaxWeight is the greatest weight of a cluster.
const MaxWeight = 10000

// Consumers lists clusters that may use a service. An empty list lets nobody.
type Consumers struct{ Clusters []string }

// defaultOrder is the failover order without a policy.
var defaultOrder = []Tier{{By: ByZone}, {By: ByRegion}, {By: Any}}

// order returns the failover order.
func (p *Policy) order() []Tier {
	if p == nil || len(p.Failover) == 0 {
		return defaultOrder
	}
	return p.Failover
}

// weighted tells whether clusters have weights of their own.
func (p *Policy) weighted() bool { return p != nil && len(p.Weights) > 0 }

// weight returns the weight of a cluster; the weights are sorted.
func (p *Policy) weight(cluster string) uint32 {
	if p == nil {
		return 1
	}
	at, found := slices.BinarySearchFunc(p.Weights, cluster, func(w ClusterWeight, id string) int { return cmp.Compare(w.Cluster, id) })
	if !found {
		return 1
	}
	return p.Weights[at].Weight
}

// threshold returns the minimum healthy share in percent.
func (p *Policy) threshold() uint64 {
	if p == nil {
		return 0
	}
	return uint64(p.MinHealthyPercent)
}

// admits tells whether consumers in a cluster may use the service.
func (p *Policy) admits(cluster string) bool {
	return p == nil || p.Consumers == nil || slices.Contains(p.Consumers.Clusters, cluster)
}

// normal returns a copy that is sorted where the order says nothing, with values in their bounds.
func (p *Policy) normal() *Policy {
	normal := *p
	normal.Failover = clone(p.Failover)
	for i := range normal.Failover {
		normal.Failover[i].Names = sorted(normal.Failover[i].Names)
	}
	normal.Weights = clone(p.Weights)
	for i := range normal.Weights {
		normal.Weights[i].Weight = min(normal.Weights[i].Weight, MaxWeight)
	}
	slices.SortFunc(normal.Weights, func(a, b ClusterWeight) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Weight, b.Weight))
	})
	normal.Weights = slices.CompactFunc(normal.Weights, func(a, b ClusterWeight) bool { return a.Cluster == b.Cluster })
	normal.MinHealthyPercent = min(p.MinHealthyPercent, 100)
	if p.Consumers != nil {
		normal.Consumers = &Consumers{Clusters: sorted(p.Consumers.Clusters)}
	}
	if p.Path != Direct {
		normal.Path = ByGateway
	}
	normal.Passthrough = p.Passthrough.normal()
	return &normal
}

// normal returns a copy with the sources sorted and written in one way. One that is no range stays: it admits nobody, and
// without it the list might say everybody.
func (p *Passthrough) normal() *Passthrough {
	if p == nil {
		return nil
	}
	normal := &Passthrough{Sources: clone(p.Sources), ProxyProtocol: p.ProxyProtocol}
	for i, source := range normal.Sources {
		if addr := source.Addr(); addr.Is4In6() && source.Bits() >= 96 {
			source = netip.PrefixFrom(addr.Unmap(), source.Bits()-96)
		}
		normal.Sources[i] = source.Masked()
	}
	slices.SortFunc(normal.Sources, netip.Prefix.Compare)
	normal.Sources = slices.Compact(normal.Sources)
	return normal
}

// opens tells whether gateways pass TLS of clients on to the service.
func (p *Policy) opens() bool { return p != nil && p.Passthrough != nil }

func sorted(names []string) []string {
	names = clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// equal compares all fields. Policies are few and change rarely.
func (p *Policy) equal(other *Policy) bool { return reflect.DeepEqual(p, other) }
