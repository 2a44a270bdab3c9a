package clusterset

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Cluster is what is known of a member as a place where services run. What a field does not say is unknown, and what is
// unknown is never a reason to leave endpoints out.
type Cluster struct {
	// ID names the cluster in the clusterset: a DNS label.
	ID string
	// Network names the network of its pods. Pods of two clusters reach each other when both name the same one. Empty means
	// that the cluster has a network of its own: to assume a common one could send traffic to the wrong pod, where ranges overlap.
	Network string
	// Region and Zone are those of topology.kubernetes.io; Zone is empty when the nodes are in several.
	Region, Zone string
	// Gateways are where its services are reached from other networks.
	Gateways []Gateway
	// State is what its operators want of it.
	State State
	// ControlPlane tells whether the API server answers. It decides how old the knowledge is, never where traffic goes.
	ControlPlane Health
	// DataPlane tells whether traffic arrives. It decides where traffic goes, and nothing else.
	DataPlane Health
	// LastKnown is when the hub was last in step with the cluster; zero while it is.
	LastKnown time.Time
}

// Gateway is one gateway of a cluster: where others reach its services, and where its own pods reach those of others.
type Gateway struct {
	// Addr is the address at which other clusters reach it.
	Addr netip.Addr
	// Port is where it takes TLS of clients and passes it on by server name; 0 means that it does not. Where Tunnel is not 0
	// it does so for services whose policy opens them.
	Port uint16
	// Tunnel is where it takes tunnels of other clusters' gateways; 0 means that it does not.
	Tunnel uint16
	// Inside is the address at which pods of its own cluster reach it; zero means that they do not.
	Inside netip.Addr
	// Node is where it runs in its own cluster; empty when that is not known.
	Node string
	// Health is that of Addr as others see it. Down takes it out; with all gateways down, nothing of the cluster is reached
	// from other networks. What the cluster's own pods use is said at InsideGateways.
	Health Health
}

// Health is one signal about a cluster. There are two, and they are never mixed.
type Health string

const (
	// Unknown is treated as before the knowledge was lost: nothing is added and nothing is taken out.
	Unknown Health = ""
	// Up means that it was seen to work.
	Up Health = "Up"
	// Down means that it was seen not to work.
	Down Health = "Down"
)

// State is what operators want of a cluster.
type State string

const (
	// Active clusters serve everybody.
	Active State = ""
	// Cordoned clusters serve their own consumers; others come only while no active cluster serves.
	Cordoned State = "Cordoned"
	// Draining clusters serve only while no other cluster does, not even their own consumers: a drain empties a cluster, it
	// does not take a service down.
	Draining State = "Draining"
)

// InStep tells whether what is known of the cluster is what it has now. Where it is not, that something is not known to be
// there is no reason to take it away.
func (c *Cluster) InStep() bool { return c.ControlPlane == Up && c.LastKnown.IsZero() }

// Age returns how old what is known of the cluster is: zero while the hub is in step with it.
func (c *Cluster) Age(now time.Time) time.Duration {
	if c.LastKnown.IsZero() || now.Before(c.LastKnown) {
		return 0
	}
	return now.Sub(c.LastKnown)
}

// reaches tells whether pods of c reach pods of the other cluster at their own addresses.
func (c *Cluster) reaches(other *Cluster) bool {
	return c.ID == other.ID || c.Network != "" && c.Network == other.Network
}

// InsideGateways returns the gateways that pods of the cluster itself use. Health is what others see from outside, so it only
// decides between gateways: those that are down are left out while another one is not.
func (c *Cluster) InsideGateways() []Gateway {
	var best, all []Gateway
	for _, gateway := range c.Gateways {
		if !gateway.Inside.IsValid() {
			continue
		}
		all = append(all, gateway)
		if gateway.Health != Down {
			best = append(best, gateway)
		}
	}
	if len(best) == 0 {
		return all
	}
	return best
}

func (c *Cluster) equal(other *Cluster) bool {
	return c.ID == other.ID && c.Network == other.Network && c.Region == other.Region && c.Zone == other.Zone &&
		slices.Equal(c.Gateways, other.Gateways) && c.State == other.State && c.ControlPlane == other.ControlPlane &&
		c.DataPlane == other.DataPlane && c.LastKnown.Equal(other.LastKnown)
}

// sameWay tells whether views see no difference between two states of a cluster.
func (c *Cluster) sameWay(other *Cluster) bool {
	was := *c
	was.ControlPlane, was.LastKnown = other.ControlPlane, other.LastKnown
	return was.equal(other)
}

// normal returns a copy with the gateways sorted, each once: those at which nobody reaches anything are left out, and of
// two with the same addresses and ports the one that is up stays.
func (c *Cluster) normal() *Cluster {
	normal := *c
	normal.LastKnown = instant(c.LastKnown)
	var gateways []Gateway
	for _, gateway := range c.Gateways {
		gateway.Addr, gateway.Inside = gateway.Addr.Unmap(), gateway.Inside.Unmap()
		if !gateway.Addr.IsValid() {
			gateway.Port, gateway.Tunnel = 0, 0
		}
		if gateway.Port != 0 || gateway.Tunnel != 0 || gateway.Inside.IsValid() {
			gateways = append(gateways, gateway)
		}
	}
	slices.SortFunc(gateways, func(a, b Gateway) int {
		return cmp.Or(a.compare(b), cmp.Compare(b.Health.rank(), a.Health.rank()), cmp.Compare(a.Health, b.Health), cmp.Compare(a.Node, b.Node))
	})
	normal.Gateways = slices.CompactFunc(gateways, func(a, b Gateway) bool { return a.compare(b) == 0 })
	return &normal
}

// compare orders by where a gateway is reached.
func (g Gateway) compare(other Gateway) int {
	return cmp.Or(g.Addr.Compare(other.Addr), cmp.Compare(g.Port, other.Port), cmp.Compare(g.Tunnel, other.Tunnel), g.Inside.Compare(other.Inside))
}

// rank orders the values of health from bad to good.
func (h Health) rank() int {
	switch h {
	case Up:
		return 2
	case Down:
		return 0
	default:
		return 1
	}
}
