package ads_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

const benchServices = 10_000

// BenchmarkChange publishes one change among 10,000 assignments of 27 endpoints and waits until all subscribers have it.
// Every subscriber has a connection of its own on loopback. Between two changes everybody is left alone.
func BenchmarkChange(b *testing.B) {
	for _, subscribers := range []int{1, 100} {
		for _, names := range []int{10, 1000} {
			for _, protocol := range []string{"sotw", "delta"} {
				b.Run(fmt.Sprintf("%s/names=%d/clients=%d", protocol, names, subscribers), func(b *testing.B) {
					measureChange(b, newBench(b, protocol, subscribers, names))
				})
			}
		}
	}
}

func measureChange(b *testing.B, bench *bench) {
	b.Helper()
	took := make([]time.Duration, 0, b.N)
	var spent time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		<-time.After(2 * ads.DefaultLimits().MaxRest)
		b.StartTimer()
		begin, before := time.Now(), cpu(b)
		bench.change(b, "s00007", i)
		bench.wait(b, 1)
		took = append(took, time.Since(begin))
		spent += cpu(b) - before
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(spent.Microseconds())/float64(len(took)), "cpu-µs/op")
}

// BenchmarkBurst publishes 500 changes as fast as it can and waits until all subscribers have the last of each.
func BenchmarkBurst(b *testing.B) {
	const changes = 500
	for _, protocol := range []string{"sotw", "delta"} {
		b.Run(protocol+"/100", func(b *testing.B) {
			bench := newBench(b, protocol, 100, 1000)
			before := cpu(b)
			for i := 0; b.Loop(); i++ {
				for n := range changes {
					bench.change(b, fmt.Sprintf("s%05d", n), i)
				}
				bench.wait(b, changes)
			}
			b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

type bench struct {
	source  *static
	encoder ads.Encoder
	seen    chan int // resources that a subscriber got
	clients int
	number  uint64
}

func newBench(b *testing.B, protocol string, subscribers, subscribed int) *bench {
	b.Helper()
	bench := &bench{source: &static{updates: make(chan ads.Update)}, seen: make(chan int, 1<<16), clients: subscribers}
	bench.source.first.Sequence = 1
	names := make([]string, 0, subscribed)
	for i := range benchServices {
		name := fmt.Sprintf("s%05d", i)
		bench.source.first.Changed = append(bench.source.first.Changed, bench.encode(b, name, 0))
		if i < subscribed {
			names = append(names, name)
		}
	}
	server := ads.New(ads.Config{Source: bench.source, Log: logr.Discard()})
	listener := listen(b)
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(server.Close)
	for range subscribers {
		conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		client := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
		if protocol == "sotw" {
			go bench.whole(b.Context(), client, names)
		} else {
			go bench.delta(b.Context(), client, names)
		}
	}
	bench.wait(b, len(names))
	return bench
}

func (b *bench) encode(tb testing.TB, name string, round int) ads.Resource {
	tb.Helper()
	assignment := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	for locality := range 3 {
		endpoints := &endpointv3.LocalityLbEndpoints{Priority: uint32(locality), Locality: &corev3.Locality{
			Region: fmt.Sprintf("region-%d", locality), SubZone: fmt.Sprintf("m%d", locality),
		}}
		for n := range 9 {
			endpoints.LbEndpoints = append(endpoints.LbEndpoints, &endpointv3.LbEndpoint{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
					Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
						Address:       fmt.Sprintf("10.%d.%d.%d", locality, n, round%200),
						PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(round)},
					}},
				}}},
			})
		}
		assignment.Endpoints = append(assignment.Endpoints, endpoints)
	}
	r, err := b.encoder.Encode(name, assignment)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func (b *bench) change(tb testing.TB, name string, round int) {
	tb.Helper()
	b.number++
	b.source.updates <- ads.Update{Sequence: b.number, Changed: []ads.Resource{b.encode(tb, name, 1+int(b.number)+round)}}
}

// wait waits until every subscriber got so many resources. Content that was replaced before it was sent is never sent,
// so a benchmark changes a name only once between two calls.
func (b *bench) wait(tb testing.TB, each int) {
	tb.Helper()
	deadline := time.After(time.Minute)
	for missing := each * b.clients; missing > 0; {
		select {
		case n := <-b.seen:
			missing -= n
		case <-deadline:
			tb.Fatalf("%d resources did not arrive", missing)
		}
	}
}

func (b *bench) whole(ctx context.Context, client discoveryv3.AggregatedDiscoveryServiceClient, names []string) {
	stream, err := client.StreamAggregatedResources(ctx)
	request := &discoveryv3.DiscoveryRequest{TypeUrl: EDS, ResourceNames: names}
	for err == nil {
		if err = stream.Send(request); err != nil {
			return
		}
		var response *discoveryv3.DiscoveryResponse
		if response, err = stream.Recv(); err == nil {
			b.seen <- len(response.GetResources())
			request.ResponseNonce, request.VersionInfo = response.GetNonce(), response.GetVersionInfo()
		}
	}
}

func (b *bench) delta(ctx context.Context, client discoveryv3.AggregatedDiscoveryServiceClient, names []string) {
	stream, err := client.DeltaAggregatedResources(ctx)
	request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: EDS, ResourceNamesSubscribe: names}
	for err == nil {
		if err = stream.Send(request); err != nil {
			return
		}
		var response *discoveryv3.DeltaDiscoveryResponse
		if response, err = stream.Recv(); err == nil {
			b.seen <- len(response.GetResources())
			request = &discoveryv3.DeltaDiscoveryRequest{TypeUrl: EDS, ResponseNonce: response.GetNonce()}
		}
	}
}

// cpu returns the processor time of this process, clients included.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
