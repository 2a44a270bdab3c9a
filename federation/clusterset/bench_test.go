package clusterset_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// size is a clusterset to measure: every service in every cluster, with nine endpoints in three zones each. Clusters are
// alone in their network and have two gateways, or share one network.
type size struct {
	clusters, services int
	flat               bool
}

func (s size) String() string {
	network := "gateways"
	if s.flat {
		network = "flat"
	}
	return fmt.Sprintf("%dx%d-%s", s.clusters, s.services, network)
}

var sizes = []size{{3, 1000, true}, {3, 1000, false}, {100, 1000, true}, {100, 1000, false}}

const perService = 9

func (s size) fill() *clusterset.Builder {
	b := clusterset.NewBuilder(0)
	for c := range s.clusters {
		cluster := clusterset.Cluster{ID: clusterID(c), Network: "flat", Region: fmt.Sprintf("region-%d", c%3)}
		if !s.flat {
			cluster.Network = cluster.ID
		}
		for g := range 2 {
			cluster.Gateways = append(cluster.Gateways, clusterset.Gateway{Addr: netip.AddrFrom4([4]byte{192, 0, byte(g), byte(c)}), Port: 15443})
		}
		b.SetCluster(cluster)
		for i := range s.services {
			b.SetExport(cluster.ID, key(i), export(c))
			b.SetEndpoints(cluster.ID, key(i), benchEndpoints(c, i, perService))
		}
	}
	b.Publish()
	return b
}

func clusterID(c int) string { return fmt.Sprintf("cluster-%d", c) }

// benchEndpoints returns the endpoints of a service in a cluster, of which the first ready are.
func benchEndpoints(cluster, service, ready int) clusterset.Endpoints {
	group := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Protocol: corev1.ProtocolTCP, Port: 8080}}}
	for i := range perService {
		e := clusterset.Endpoint{
			Addr: netip.AddrFrom4([4]byte{10, byte(cluster), byte(service), byte(service>>8<<4 + i)}),
			Node: clusterset.Intern(fmt.Sprintf("cluster-%d-node-%d", cluster, (service*7+i)%50)),
			Zone: clusterset.Intern(string(rune('a' + i%3))),
		}
		if i < ready {
			e.Conditions = clusterset.Ready | clusterset.Serving
		}
		group.Endpoints = append(group.Endpoints, e)
	}
	return clusterset.Endpoints{Groups: []clusterset.Group{group}}
}

// BenchmarkPublish is one change of the endpoints of one service in one cluster, from news to snapshot.
func BenchmarkPublish(b *testing.B) {
	for _, s := range append(sizes, size{1, 10000, true}) {
		b.Run(s.String(), func(b *testing.B) {
			builder := s.fill()
			news := [2]clusterset.Endpoints{benchEndpoints(0, 5, 8), benchEndpoints(0, 5, 9)}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				builder.SetEndpoints(clusterID(0), key(5), news[i%2])
				builder.Publish()
				i++
			}
		})
	}
}

// BenchmarkPublishExport is one change of an export, which has all exports of the service merged anew.
func BenchmarkPublishExport(b *testing.B) {
	for _, s := range sizes[1:3] {
		b.Run(s.String(), func(b *testing.B) {
			builder := s.fill()
			news := [2]clusterset.Export{export(0, label("a")), export(0)}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				builder.SetExport(clusterID(0), key(5), news[i%2])
				builder.Publish()
				i++
			}
		})
	}
}

// BenchmarkBurst is 500 changes published at once.
func BenchmarkBurst(b *testing.B) {
	builder := sizes[0].fill()
	ready := 0
	b.ReportAllocs()
	for b.Loop() {
		for i := range 500 {
			builder.SetEndpoints(clusterID(1), key(i), benchEndpoints(1, i, 1+ready%8))
		}
		builder.Publish()
		ready++
	}
}

// BenchmarkCluster is a change of the facts about one cluster.
func BenchmarkCluster(b *testing.B) {
	builder := sizes[2].fill()
	states := [2]clusterset.State{clusterset.Draining, clusterset.Active}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		builder.SetCluster(clusterset.Cluster{ID: clusterID(7), State: states[i%2]})
		builder.Publish()
		i++
	}
}

func BenchmarkLookup(b *testing.B) {
	snapshot := sizes[0].fill().Current()
	b.ReportAllocs()
	for b.Loop() {
		if snapshot.Service(key(5)) == nil {
			b.Fatal("the service is not there")
		}
	}
}

// BenchmarkSince finds the one service that changed among 10,000.
func BenchmarkSince(b *testing.B) {
	builder := size{1, 10000, true}.fill()
	old := builder.Current()
	builder.SetEndpoints(clusterID(0), key(5), benchEndpoints(0, 5, 8))
	snapshot := builder.Publish()
	b.ReportAllocs()
	for b.Loop() {
		if len(snapshot.Since(old).Services) != 1 {
			b.Fatal("not one change")
		}
	}
}

// BenchmarkView is the assignment of one port of one service for one consumer.
func BenchmarkView(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.String(), func(b *testing.B) {
			snapshot := s.fill().Current()
			from := clusterset.Consumer{Cluster: clusterID(1), Zone: "b"}
			b.ReportAllocs()
			for b.Loop() {
				if len(snapshot.ViewPort(key(5), from, 0).Priorities) == 0 {
					b.Fatal("nothing to use")
				}
			}
		})
	}
}

func BenchmarkExplain(b *testing.B) {
	snapshot := sizes[2].fill().Current()
	b.ReportAllocs()
	for b.Loop() {
		snapshot.Explain(key(5), clusterset.Consumer{Cluster: clusterID(1), Zone: "b"}, "http", epoch)
	}
}

// BenchmarkFill fills a table from nothing, and reports the memory that it keeps per endpoint, all included.
func BenchmarkFill(b *testing.B) {
	for _, s := range []size{sizes[0], sizes[2]} {
		b.Run(s.String(), func(b *testing.B) {
			for b.Loop() {
				before := live()
				builder := s.fill()
				b.ReportMetric(float64(live()-before)/float64(s.clusters*s.services*perService), "B/endpoint")
				runtime.KeepAlive(builder)
			}
		})
	}
}

// live returns the bytes of the heap that are in use.
func live() int64 {
	runtime.GC()
	runtime.GC() // interned strings go in a second pass
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
