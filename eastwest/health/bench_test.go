package health_test

import (
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/health"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// BenchmarkStep draws conclusions for a hundred clusters with three gateways each that all see each other.
func BenchmarkStep(b *testing.B) {
	const clusters, nodes = 100, 3
	now := time.Unix(0, 0)
	m := health.New(health.Options{}, now)
	at := func(cluster, node int) health.Gateway {
		addr := netip.AddrFrom4([4]byte{10, byte(cluster), 0, byte(node)})
		return health.Gateway{Cluster: "c" + strconv.Itoa(cluster), Addr: netip.AddrPortFrom(addr, 15445)}
	}
	sights := map[health.Gateway]clusterset.Health{}
	for cluster := range clusters {
		for node := range nodes {
			sights[at(cluster, node)] = clusterset.Up
		}
	}
	for g := range sights {
		id := health.Agent{Cluster: g.Cluster, Node: g.Addr.String()}
		m.Hello(id, g.Addr, now)
		m.Report(id, health.Report{Sights: sights}, now)
	}
	for b.Loop() {
		m.Step(now)
	}
}
