package outbound

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
)

// ServiceStats is what became of the connections to one port of a service, since the gateway serves it.
type ServiceStats struct {
	Port
	// Addr is where it is served. Problem is why it is not.
	Addr    netip.AddrPort
	Problem string
	// Open is how many connections, or clients of UDP, there are.
	Open int64
	// Races is how many times a second way was tried because the first had not answered.
	Races uint64
	// Refused are connections that were reset because no way was found, by reason: what clients see as errors.
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
	// Connections were acknowledged. Broken are those of them that the other side has reset.
	Connections, Broken uint64
	// Up and Down are bytes to the cluster and from it.
	Up, Down uint64
	// Lost are races that it lost, Won those that it entered second and won.
	Lost, Won uint64
	// Ejections is how many times a way was left out.
	Ejections uint64
	// Errors are attempts that failed, by reason.
	Errors map[string]uint64
	// Mean and P99 are of the time until a connection was acknowledged; P99 is rounded up to a bucket.
	Mean, P99 time.Duration
}

// Stats returns what became of all connections, by service and port.
func (g *Gateway) Stats() []ServiceStats {
	g.mu.RLock()
	defer g.mu.RUnlock()
	stats := make([]ServiceStats, 0, len(g.listeners)+len(g.broken))
	for _, l := range g.listeners {
		s := l.service.stats()
		s.Addr = l.addr
		stats = append(stats, s)
	}
	for p, w := range g.broken {
		stats = append(stats, ServiceStats{Port: p, Addr: netip.AddrPortFrom(g.options.Address, w.port), Problem: w.why.Error()})
	}
	slices.SortFunc(stats, func(a, b ServiceStats) int {
		return cmp.Or(compareKeys(a.Key, b.Key), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol))
	})
	return stats
}

func (s *service) stats() ServiceStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := ServiceStats{
		Port: s.port, Open: s.count.Load(), Races: s.races.Load(), Refused: maps.Clone(s.refused), Ejected: s.ejections.Out(),
	}
	for _, cluster := range slices.Sorted(maps.Keys(s.peers)) {
		p := s.peers[cluster]
		stats.Peers = append(stats.Peers, PeerStats{
			Cluster: cluster, Open: p.open.Load(),
			Connections: p.connections.Load(), Broken: p.outcomes[relay.ServerReset].Load(), Up: p.Up.Load(), Down: p.Down.Load(),
			Lost: p.lost.Load(), Won: p.won.Load(), Ejections: p.ejections.Load(), Errors: maps.Clone(p.errors),
			Mean: p.latency.mean(), P99: p.latency.quantile(0.99),
		})
	}
	return stats
}
