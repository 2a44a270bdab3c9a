package xds_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

func TestWhatAClientIsTakenFor(t *testing.T) {
	source := xds.NewSource(xds.Options{Snapshots: shop(t), Log: testr.New(t), Identify: func(*peer.Peer) (xds.Identity, error) {
		return xds.Identity{Cluster: "m1", Name: "me"}, nil
	}})
	agent := &structpb.Struct{Fields: map[string]*structpb.Value{"hansa.dev/kind": structpb.NewStringValue("agent")}}
	cluster := &structpb.Struct{Fields: map[string]*structpb.Value{"CLUSTER_ID": structpb.NewStringValue("m2")}}
	for _, test := range []struct {
		reason string
		node   *corev3.Node
		view   string
	}{
		{"gRPC in Go says gRPC Go", &corev3.Node{UserAgentName: "gRPC Go"}, "grpc/m1/"},
		{"gRPC in Java and C++ say it their way", &corev3.Node{UserAgentName: "grpc-java"}, "grpc/m1/"},
		{"an agent says so, whatever its library says", &corev3.Node{UserAgentName: "gRPC Go", Metadata: agent}, "agent/m1/"},
		{"Envoy is a proxy", &corev3.Node{UserAgentName: "envoy"}, "proxy/m1/"},
		{"who says nothing is a proxy", nil, "proxy/m1/"},
		{"the zone is the node's own word", &corev3.Node{Locality: &corev3.Locality{Zone: "a"}}, "proxy/m1/a"},
		{"the cluster is not", &corev3.Node{Cluster: "m2", Metadata: cluster}, "proxy/m1/"},
		{"a zone that is none makes no view", &corev3.Node{Locality: &corev3.Locality{Zone: "a/b"}}, "proxy/m1/"},
	} {
		t.Run(test.reason, func(t *testing.T) {
			got, err := source.Admit(t.Context(), ads.Client{Node: test.node})
			if err != nil || got.View != test.view || got.Identity != "me" {
				t.Errorf("got %+v, %v; want view %s", got, err, test.view)
			}
		})
	}
}

// TestZonesAreBounded keeps a client from making views without end.
func TestZonesAreBounded(t *testing.T) {
	source := xds.NewSource(xds.Options{Snapshots: shop(t), Log: testr.New(t), Identify: func(*peer.Peer) (xds.Identity, error) {
		return xds.Identity{Cluster: "m1"}, nil
	}})
	views := map[string]bool{}
	for i := range 1000 {
		got, err := source.Admit(t.Context(), ads.Client{Node: &corev3.Node{Locality: &corev3.Locality{Zone: fmt.Sprintf("z%d", i)}}})
		if err != nil {
			t.Fatal(err)
		}
		views[got.View] = true
	}
	if len(views) != 65 || !views["proxy/m1/"] {
		t.Errorf("%d views; want 64 with zones and one without", len(views))
	}
}

// TestZonesComeFree holds that only views use up zones, not clients that left before they had one.
func TestZonesComeFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := xds.NewSource(xds.Options{Snapshots: shop(t), Log: testr.New(t), Identify: func(*peer.Peer) (xds.Identity, error) {
			return xds.Identity{Cluster: "m1"}, nil
		}})
		admit := func(zone string) string {
			got, err := source.Admit(t.Context(), ads.Client{Node: &corev3.Node{Locality: &corev3.Locality{Zone: zone}}})
			if err != nil {
				t.Fatal(err)
			}
			return got.View
		}
		for i := range 64 {
			admit(fmt.Sprintf("z%d", i))
		}
		end, endNext := source.Filling("proxy/m1/z0"), source.Filling("proxy/m1/z0") // a view begins before the one before it ended
		if view := admit("new"); view != "proxy/m1/" {
			t.Errorf("a zone too many has the view %s", view)
		}
		<-time.After(2 * time.Minute)
		for i := range 63 {
			if zone := fmt.Sprintf("new%d", i); admit(zone) != "proxy/m1/"+zone {
				t.Fatalf("zone %s is not free, though nobody uses the old ones", zone)
			}
		}
		if view := admit("more"); view != "proxy/m1/" {
			t.Errorf("beside the view that is filled, 64 zones have views: %s", view)
		}
		end()
		if view := admit("more"); view != "proxy/m1/" {
			t.Errorf("the zone of a view is taken for free: %s", view)
		}
		endNext()
		if view := admit("more"); view != "proxy/m1/more" {
			t.Errorf("after a view ended its zone is not free: %s", view)
		}
	})
}

func TestAClientWithoutIdentityIsRefused(t *testing.T) {
	source := xds.NewSource(xds.Options{Snapshots: shop(t), Log: testr.New(t), Identify: func(*peer.Peer) (xds.Identity, error) {
		return xds.Identity{}, errors.New("no certificate")
	}})
	if _, err := source.Admit(t.Context(), ads.Client{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("got %v; want Unauthenticated", err)
	}
}

func TestAClientThatGoesDoesNotWaitForASnapshot(t *testing.T) {
	source := xds.NewSource(xds.Options{Snapshots: newTable(t), Log: testr.New(t), Identify: func(*peer.Peer) (xds.Identity, error) {
		return xds.Identity{Cluster: "m1"}, nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.Admit(ctx, ads.Client{}); status.Code(err) != codes.Canceled {
		t.Errorf("got %v; want Canceled", err)
	}
}

// TestASlowClientHoldsUpNobody has one client that reads nothing while others follow 300 changes, and skips to the last
// one when it reads again.
func TestASlowClientHoldsUpNobody(t *testing.T) {
	w := shop(t)
	h := serve(t, w, "m1", ads.Limits{})
	slow, err := discoveryv3.NewAggregatedDiscoveryServiceClient(h.dial()).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	node := &corev3.Node{Id: "slow", UserAgentName: "gRPC"}
	if err := slow.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: EDS, ResourceNamesSubscribe: []string{webCluster}}); err != nil {
		t.Fatal(err)
	}
	quick := h.Delta(grpcClient)
	quick.Request(EDS, webCluster)
	last := ""
	for i := range 300 {
		addr := fmt.Sprintf("10.1.%d.%d:80", i/200, i%200)
		w.Serve(web, "m1", addr)
		w.Publish()
		last = webCluster + " 0: m1/*1 " + addr + " | 1: m2/a*1 10.2.0.1:8080"
		quick.Next(EDS).Equals(last)
	}
	for responses := 1; ; responses++ {
		res, err := slow.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if err := slow.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: EDS, ResponseNonce: res.GetNonce()}); err != nil {
			t.Fatal(err)
		}
		m, err := res.GetResources()[0].GetResource().UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		if webCluster+" "+brief(m) == last {
			t.Logf("the slow client got %d responses", responses)
			if responses > 250 {
				t.Errorf("the slow client got %d responses for 300 changes", responses)
			}
			return
		}
	}
}

func TestMetrics(t *testing.T) {
	w := shop(t)
	h := serve(t, w, "m1", ads.Limits{})
	registry := prometheus.NewRegistry()
	for _, c := range h.source.Collectors() {
		registry.MustRegister(c)
	}
	h.Delta(grpcClient).Request(CDS).Names(webCluster)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			got[family.GetName()+"/"+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	// Two listeners, a route, a cluster, an assignment.
	if got["hansa_xds_view_resources/grpc/m1/"] != 5 || got["hansa_xds_translate_seconds/grpc"] != 1 {
		t.Errorf("got %v", got)
	}
}
