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

// BenchmarkStepOfTheGone draws conclusions for a hundred clusters that have said as many names as they may, and are gone.
func BenchmarkStepOfTheGone(b *testing.B) {
	now := time.Unix(0, 0)
	m := crowd(now, 100, 2*health.MaxAgents)
	for b.Loop() {
		m.Step(now)
	}
}

// crowd returns a machine to which every cluster said hello by so many names, one after another, each with an address of
// its own; all are gone again.
func crowd(now time.Time, clusters, names int) *health.Machine {
	m := health.New(health.Options{}, now)
	for cluster := range clusters {
		for name := range names {
			id := health.Agent{Cluster: "c" + strconv.Itoa(cluster), Node: "n" + strconv.Itoa(name)}
			addr := netip.AddrFrom4([4]byte{10, byte(cluster), byte(name >> 8), byte(name)})
			m.Hello(id, netip.AddrPortFrom(addr, 15445), now)
			m.Gone(id, now)
			now = now.Add(time.Millisecond)
		}
	}
	return m
}
