package connect

import (
	"maps"
	"slices"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
)

// Stats is what became of the connections to one port of a service.
type Stats struct {
	// Races is how many times a second way was tried because the first had not answered.
	Races uint64
	// Refused are connections for which no way was found, or that were turned away for another reason, by reason: what
	// clients see as errors.
	Refused map[string]uint64
	// Peers are the clusters to which connections went or were tried, sorted.
	Peers []PeerStats
	// Ejected are the ways that are left out at the moment.
	Ejected []route.Ejected
}

// PeerStats is what became of the connections to one cluster.
type PeerStats struct {
	Cluster string
	Open    int64
	// Connections were acknowledged. Outcomes is how they ended, by relay.Outcome.
	Connections uint64
	Outcomes    [relay.Outcomes]uint64
	// Up and Down are bytes to the cluster and from it.
	Up, Down uint64
	// Lost are races that it lost, Won those that it entered second and won.
	Lost, Won uint64
	// Ejections is how many times a way was left out.
	Ejections uint64
	// Errors are attempts that failed, by reason.
	Errors map[string]uint64
	// Latency is of the time until a connection was acknowledged.
	Latency Latency
}

// Broken is how many connections the other side has reset.
func (p *PeerStats) Broken() uint64 { return p.Outcomes[relay.ServerReset] }

// stats is called with the Finder's mu held.
func (p *Peer) stats(cluster string) PeerStats {
	stats := PeerStats{
		Cluster: cluster, Open: p.Open.Load(), Connections: p.connections.Load(), Up: p.Up.Load(), Down: p.Down.Load(),
		Lost: p.lost.Load(), Won: p.won.Load(), Ejections: p.ejections.Load(), Errors: maps.Clone(p.errors), Latency: p.latency.read(),
	}
	for o := range stats.Outcomes {
		stats.Outcomes[o] = p.Outcomes[o].Load()
	}
	return stats
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
