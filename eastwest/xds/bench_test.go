package xds_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/eastwest/xds/translate"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// The size of the benchmarks: 27,000 endpoints.
const (
	benchServices  = 1000
	benchClusters  = 3
	benchEndpoints = 9
	benchClients   = 100
)

func benchKey(service int) clusterset.Key {
	return clusterset.Key{Namespace: fmt.Sprintf("ns-%d", service%50), Name: fmt.Sprintf("svc-%d", service)}
}

// benchTable is full; a revision changes the last address.
func benchTable(b *testing.B) *table {
	b.Helper()
	w := newTable(b, "m1", "m2", "m3")
	for service := range benchServices {
		w.Export(benchKey(service), []string{"m1", "m2", "m3"})
		for cluster := range benchClusters {
			benchChange(w, service, cluster, 0)
			w.SetImport(fmt.Sprintf("m%d", cluster+1), benchKey(service), clusterset.Import{ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(96 + cluster), byte(service / 250), byte(service % 250)})}})
		}
	}
	w.Publish()
	return w
}

func benchChange(w *table, service, cluster, revision int) {
	group := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: 8080}}}
	for i := range benchEndpoints {
		addr := netip.AddrFrom4([4]byte{byte(11 + cluster), byte(service / 250), byte(service % 250), byte(i)})
		if i == benchEndpoints-1 {
			addr = netip.AddrFrom4([4]byte{byte(111 + cluster), byte(service), byte(revision >> 8), byte(revision)})
		}
		group.Endpoints = append(group.Endpoints, clusterset.Endpoint{
			Addr: addr, Zone: clusterset.Intern([]string{"a", "b", "c"}[i%3]), Conditions: clusterset.Ready | clusterset.Serving,
		})
	}
	w.SetEndpoints(fmt.Sprintf("m%d", cluster+1), benchKey(service), clusterset.Endpoints{Groups: []clusterset.Group{group}})
}

// BenchmarkTranslate is what one change of endpoints costs one view.
func BenchmarkTranslate(b *testing.B) {
	for _, flavour := range []translate.Flavour{translate.GRPC, translate.Proxy, translate.Agent} {
		b.Run(string(flavour), func(b *testing.B) {
			w := benchTable(b)
			f := xds.NewFollower(xds.NewSource(xds.Options{Snapshots: w, Log: logr.Discard()}),
				translate.Client{Flavour: flavour, From: clusterset.Consumer{Cluster: "m1", Zone: "a"}})
			begin := time.Now()
			f.Step(w.snapshot())
			first := time.Since(begin)
			revision := 0
			for b.Loop() {
				b.StopTimer()
				revision++
				benchChange(w, revision%benchServices, 0, revision)
				w.Publish()
				b.StartTimer()
				f.Step(w.snapshot())
			}
			b.ReportMetric(float64(first.Milliseconds()), "first-ms")
		})
	}
}

// BenchmarkAgents is what one change of endpoints costs the views of the agents of so many clusters, together.
func BenchmarkAgents(b *testing.B) {
	for _, clusters := range []int{1, 50} {
		b.Run(strconv.Itoa(clusters), func(b *testing.B) {
			w := benchTable(b)
			source := xds.NewSource(xds.Options{Snapshots: w, Log: logr.Discard()})
			followers := make([]*xds.Follower, clusters)
			for i := range followers {
				followers[i] = xds.NewFollower(source, translate.Client{Flavour: translate.Agent, From: clusterset.Consumer{Cluster: fmt.Sprintf("m%d", i+1)}})
				followers[i].Step(w.snapshot())
			}
			revision := 0
			for b.Loop() {
				b.StopTimer()
				revision++
				benchChange(w, revision%benchServices, 0, revision)
				w.Publish()
				b.StartTimer()
				for _, f := range followers {
					f.Step(w.snapshot())
				}
			}
		})
	}
}

// fleet is clients that ask for everything, and tell when they have a change.
type fleet struct {
	got chan string // cluster names of assignments
}

func benchFleet(b *testing.B, w *table, clients int, delta bool) *fleet {
	b.Helper()
	server := ads.New(ads.Config{Kinds: xds.Kinds(), Source: xds.NewSource(xds.Options{
		Snapshots: w, Log: logr.Discard(),
		Identify: func(*peer.Peer) (xds.Identity, error) { return xds.Identity{Cluster: "m1", Name: "bench"}, nil },
	})})
	listener := listen(b)
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(server.Close)
	f := &fleet{got: make(chan string, 1<<16)}
	names := make([]string, benchServices)
	for i := range names {
		names[i] = translate.ClusterName(benchKey(i), 80, "")
	}
	var ready sync.WaitGroup
	for i := range clients {
		ready.Add(1)
		conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		node := &corev3.Node{Id: strconv.Itoa(i), UserAgentName: "gRPC bench"}
		client := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
		if delta {
			go f.delta(b.Context(), client, node, names, ready.Done)
		} else {
			go f.whole(b.Context(), client, node, names, ready.Done)
		}
	}
	ready.Wait()
	return f
}

func (f *fleet) delta(ctx context.Context, client discoveryv3.AggregatedDiscoveryServiceClient, node *corev3.Node, names []string, ready func()) {
	stream, err := client.DeltaAggregatedResources(ctx)
	if err != nil {
		return
	}
	_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: EDS, ResourceNamesSubscribe: names})
	for count := 0; ; {
		res, err := stream.Recv()
		if err != nil {
			return
		}
		_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: EDS, ResponseNonce: res.GetNonce()})
		for _, r := range res.GetResources() {
			if count++; count > benchServices {
				f.got <- r.GetName() + r.GetVersion()
			}
		}
		if ready != nil && count >= benchServices {
			ready()
			ready = nil
		}
	}
}

func (f *fleet) whole(ctx context.Context, client discoveryv3.AggregatedDiscoveryServiceClient, node *corev3.Node, names []string, ready func()) {
	stream, err := client.StreamAggregatedResources(ctx)
	if err != nil {
		return
	}
	_ = stream.Send(&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: EDS, ResourceNames: names})
	for count := 0; ; {
		res, err := stream.Recv()
		if err != nil {
			return
		}
		_ = stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: EDS, ResourceNames: names, ResponseNonce: res.GetNonce(), VersionInfo: res.GetVersionInfo()})
		for range res.GetResources() {
			if count++; count > benchServices {
				f.got <- ""
			}
		}
		if ready != nil && count >= benchServices {
			ready()
			ready = nil
		}
	}
}

// BenchmarkChange is the time from the publication of one change until the last client has it. CPU is that of the server
// and of all clients together.
func BenchmarkChange(b *testing.B) {
	for _, protocol := range []string{"delta", "sotw"} {
		for _, clients := range []int{1, benchClients} {
			b.Run(fmt.Sprintf("%s/clients=%d", protocol, clients), func(b *testing.B) {
				w := benchTable(b)
				f := benchFleet(b, w, clients, protocol == "delta")
				var times []time.Duration
				revision := 0
				for b.Loop() {
					b.StopTimer()
					settle := time.NewTimer(20 * time.Millisecond) // changes that come alone
					<-settle.C
					revision++
					benchChange(w, revision%benchServices, 0, revision)
					b.StartTimer()
					begin := time.Now()
					w.Publish()
					for range clients {
						<-f.got
					}
					times = append(times, time.Since(begin))
				}
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-us")
				b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-us")
			})
		}
	}
}

// BenchmarkBurst is 500 changes of 500 services at once, until all clients have all of them.
func BenchmarkBurst(b *testing.B) {
	const burst = 500
	w := benchTable(b)
	f := benchFleet(b, w, benchClients, true)
	revision := 0
	var cpu time.Duration
	for b.Loop() {
		revision++
		before := processTime(b)
		for service := range burst {
			benchChange(w, service, 0, revision)
			w.Publish()
		}
		for range burst * benchClients {
			<-f.got
		}
		cpu += processTime(b) - before
	}
	b.ReportMetric(float64(cpu.Milliseconds())/float64(b.N), "cpu-ms/op")
}

func processTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
