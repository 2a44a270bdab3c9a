package outbound

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
)

// ServiceStats is what became of the connections to one port of a service, since the gateway serves it.
type ServiceStats struct {
	connect.Stats

	Port Port
	// Addr is where it is served. Problem is why it is not.
	Addr    netip.AddrPort
	Problem string
	// Open is how many connections, or clients of UDP, there are.
	Open int64
}

// Stats returns what became of all connections, sorted by service and port.
func (g *Gateway) Stats() []ServiceStats {
	g.mu.RLock()
	defer g.mu.RUnlock()
	stats := make([]ServiceStats, 0, len(g.listeners)+len(g.broken))
	for p, l := range g.listeners {
		stats = append(stats, ServiceStats{Port: p, Stats: l.service.Stats(), Addr: l.addr, Open: l.service.count.Load()})
	}
	for p, w := range g.broken {
		stats = append(stats, ServiceStats{Port: p, Addr: netip.AddrPortFrom(g.options.Address, w.port), Problem: w.why.Error()})
	}
	slices.SortFunc(stats, func(a, b ServiceStats) int {
		return cmp.Or(compareKeys(a.Port.Key, b.Port.Key), cmp.Compare(a.Port.Name, b.Port.Name), cmp.Compare(a.Port.Protocol, b.Port.Protocol))
	})
	return stats
}
