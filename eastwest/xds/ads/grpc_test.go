package ads_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/go-logr/logr/testr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/xds"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

const service = "web.shop.svc.clusterset.local:80"

// backend serves gRPC health checks on loopback.
func backend(t *testing.T) (string, *grpc.Server) {
	t.Helper()
	listener := listen(t)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String(), server
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return listener
}

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// priorities makes an assignment in which the nth address has priority n.
func priorities(t *testing.T, addresses ...string) *endpointv3.ClusterLoadAssignment {
	t.Helper()
	assignment := &endpointv3.ClusterLoadAssignment{ClusterName: service}
	for i, address := range addresses {
		tcp, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		endpoint := &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{
				Address: tcp.IP.String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(tcp.Port)},
			},
		}}}
		assignment.Endpoints = append(assignment.Endpoints, &endpointv3.LocalityLbEndpoints{
			Locality: &corev3.Locality{Region: "r-" + address}, Priority: uint32(i),
			LoadBalancingWeight: wrapperspb.UInt32(1),
			LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: endpoint},
				LoadBalancingWeight: wrapperspb.UInt32(1),
			}},
		})
	}
	return assignment
}

// shapes are the resources that a gRPC client wants for one service, its endpoints apart.
func shapes(t *testing.T) (*listenerv3.Listener, *routev3.RouteConfiguration, *clusterv3.Cluster) {
	t.Helper()
	source := &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
	listener := &listenerv3.Listener{Name: service, ApiListener: &listenerv3.ApiListener{ApiListener: packed(t,
		&hcmv3.HttpConnectionManager{
			RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: source, RouteConfigName: service}},
			HttpFilters: []*hcmv3.HttpFilter{{
				Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(t, &routerv3.Router{})},
			}},
		})}}
	route := &routev3.RouteConfiguration{Name: service, VirtualHosts: []*routev3.VirtualHost{{
		Name: service, Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: service},
			}},
		}},
	}}}
	cluster := &clusterv3.Cluster{
		Name: service, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: source, ServiceName: service},
		LbPolicy:         clusterv3.Cluster_ROUND_ROBIN,
	}
	return listener, route, cluster
}

// static fills its views with what it is given, one update after another.
type static struct {
	first   ads.Update
	updates chan ads.Update
}

func (*static) Admit(context.Context, ads.Client) (ads.Admission, error) {
	return ads.Admission{View: "all"}, nil
}

func (s *static) Fill(ctx context.Context, v *ads.View) error {
	v.Apply(s.first)
	for {
		select {
		case u := <-s.updates:
			v.Apply(u)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TestGRPCClientFollowsADemotion has the xDS client of grpc-go call a service whose first priority is taken away, brought
// back, and killed after it was taken away again. No call fails.
func TestGRPCClientFollowsADemotion(t *testing.T) {
	near, nearServer := backend(t)
	far, _ := backend(t)
	var encoder ads.Encoder
	encode := func(m proto.Message) ads.Resource {
		r, err := encoder.Encode(service, m)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	listener, route, cluster := shapes(t)
	consistent(t, listener, route, cluster, priorities(t, near, far))
	both, farOnly := encode(priorities(t, near, far)), encode(priorities(t, far))
	source := &static{
		first:   ads.Update{Sequence: 1, Changed: []ads.Resource{encode(listener), encode(route), encode(cluster), both}},
		updates: make(chan ads.Update),
	}
	server := ads.New(ads.Config{Source: source, Log: testr.New(t)})
	control := listen(t)
	go func() { _ = server.Serve(control) }()
	t.Cleanup(server.Close)

	caller := call(t, control.Addr().String())
	caller.reaches(near)
	source.updates <- ads.Update{Sequence: 2, Changed: []ads.Resource{farOnly}}
	t.Logf("demotion took %v", caller.reaches(far))
	source.updates <- ads.Update{Sequence: 3, Changed: []ads.Resource{both}}
	t.Logf("return took %v", caller.reaches(near))
	source.updates <- ads.Update{Sequence: 4, Changed: []ads.Resource{farOnly}}
	caller.reaches(far)
	nearServer.Stop()
	for range 100 {
		caller.one()
	}
	if caller.err != nil {
		t.Errorf("a call failed: %v", caller.err)
	}
	for _, state := range server.Clients() {
		for _, k := range state.Kinds {
			if k.LastNACK != nil {
				t.Errorf("%s: %s", k.Type, k.LastNACK.Message)
			}
		}
	}
}

// consistent has the resources checked by the protos' validators, and by go-control-plane as far as it goes: it looks for
// routes in filter chains only, which the listeners of gRPC clients do not have.
func consistent(t *testing.T, l *listenerv3.Listener, r *routev3.RouteConfiguration, c *clusterv3.Cluster, e *endpointv3.ClusterLoadAssignment) {
	t.Helper()
	for _, m := range []interface{ ValidateAll() error }{l, r, c, e} {
		if err := m.ValidateAll(); err != nil {
			t.Fatal(err)
		}
	}
	snapshot, err := cache.NewSnapshot("1", map[string][]types.Resource{CDS: {c}, EDS: {e}})
	if err == nil {
		err = snapshot.Consistent()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// caller calls a service as fast as it is answered.
type caller struct {
	t     *testing.T
	check healthpb.HealthClient
	err   error // of the first call that failed
}

func call(t *testing.T, control string) *caller {
	t.Helper()
	resolver, err := xds.NewXDSResolverWithConfigForTesting(fmt.Appendf(nil, `{
		"xds_servers": [{"server_uri": %q, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
		"node": {"id": "m1/caller"}}`, control))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///"+service, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(resolver))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return &caller{t: t, check: healthpb.NewHealthClient(conn)}
}

// one makes a call and returns who answered.
func (c *caller) one() string {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var p peer.Peer
	_, err := c.check.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Peer(&p))
	if err != nil {
		c.err = err
		return ""
	}
	return p.Addr.String()
}

// reaches calls until the address answers, and returns how long that took.
func (c *caller) reaches(address string) time.Duration {
	c.t.Helper()
	begin := time.Now()
	for c.one() != address {
		if c.err != nil {
			c.t.Fatalf("a call failed: %v", c.err)
		}
		if time.Since(begin) > patience {
			c.t.Fatalf("%s is not reached", address)
		}
	}
	return time.Since(begin)
}
