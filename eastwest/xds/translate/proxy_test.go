package translate_test

import (
	"net/netip"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/xds/translate"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

var (
	key   = clusterset.Key{Namespace: "shop", Name: "web"}
	proxy = translate.Client{Flavour: translate.Proxy, From: clusterset.Consumer{Cluster: "m1"}}
)

const (
	host    = "web.shop.svc.clusterset.local"
	cluster = "outbound|80||" + host
)

// told returns what a proxy in m1 is told of a service in m1 with one port.
func told(t *testing.T, port clusterset.Port, l7 *servicepolicy.L7) map[string]proto.Message {
	t.Helper()
	b := clusterset.NewBuilder(0)
	b.SetCluster(clusterset.Cluster{ID: "m1"})
	b.SetExport("m1", key, clusterset.Export{Properties: &clusterset.Properties{Ports: []clusterset.Port{port}}})
	b.SetImport("m1", key, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}})
	if l7 != nil {
		b.SetPolicy(key, clusterset.Policy{L7: l7})
	}
	snapshot := b.Publish()
	messages, err := proxy.Fixed(snapshot.Service(key))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]proto.Message{}
	for _, m := range append(messages, proxy.Common(snapshot)...) {
		got[m.Name] = m.Proto
	}
	return got
}

func TestProtocolOfAListener(t *testing.T) {
	const tcp, http = "envoy.filters.network.tcp_proxy", "envoy.filters.network.http_connection_manager"
	for _, test := range []struct {
		reason string
		port   clusterset.Port
		filter string // empty: no listener
	}{
		{"without an appProtocol nobody knows: bytes", clusterset.Port{Port: 80}, tcp},
		{"the name of a port says nothing", clusterset.Port{Port: 80, Name: "http"}, tcp},
		{"HTTP", clusterset.Port{Port: 80, AppProtocol: "http"}, http},
		{"HTTP/2 in clear text, as Kubernetes names it", clusterset.Port{Port: 80, AppProtocol: "kubernetes.io/h2c"}, http},
		{"websockets begin as HTTP", clusterset.Port{Port: 80, AppProtocol: "kubernetes.io/ws"}, http},
		{"gRPC", clusterset.Port{Port: 80, AppProtocol: "grpc"}, http},
		{"IANA's names know no case", clusterset.Port{Port: 80, AppProtocol: "HTTP"}, http},
		{"encrypted: bytes", clusterset.Port{Port: 80, AppProtocol: "https"}, tcp},
		{"UDP is not proxied", clusterset.Port{Port: 80, Protocol: corev1.ProtocolUDP, AppProtocol: "http"}, ""},
	} {
		t.Run(test.reason, func(t *testing.T) {
			listener, _ := told(t, test.port, nil)["outbound|10.96.0.1:80"].(*listenerv3.Listener)
			got := ""
			if listener != nil {
				got = listener.GetFilterChains()[0].GetFilters()[0].GetName()
			}
			if got != test.filter {
				t.Errorf("got %q; want %q", got, test.filter)
			}
		})
	}
}

func TestRoutesOfAProxy(t *testing.T) {
	canary := servicepolicy.Subset{Clusters: []string{"m2"}}
	got := told(t, clusterset.Port{Port: 80, AppProtocol: "http"}, &servicepolicy.L7{
		Timeout: time.Second,
		Mirror:  &servicepolicy.Mirror{Subset: canary, Percent: 12.5},
		Retries: &servicepolicy.Retries{Attempts: 2, On: []string{"connect-failure", "5xx"}, PerTry: time.Second},
		Routes: []servicepolicy.Route{
			{Matches: []servicepolicy.Match{{Method: "GET"}}, Destinations: []servicepolicy.Destination{{Subset: canary, Weight: 1}}, Timeout: time.Minute},
			{Destinations: []servicepolicy.Destination{{Weight: 0}}},
		},
	})
	routes := got[host+":80"].(*routev3.RouteConfiguration).GetVirtualHosts()[0].GetRoutes()
	if len(routes) != 3 {
		t.Fatalf("got %d routes; want 3", len(routes))
	}
	first, second, rest := routes[0], routes[1], routes[2]
	if h := first.GetMatch().GetHeaders()[0]; h.GetName() != ":method" || h.GetStringMatch().GetExact() != "GET" {
		t.Errorf("the method is not matched: %v", first)
	}
	if got[first.GetRoute().GetCluster()] == nil || first.GetRoute().GetCluster() == cluster {
		t.Errorf("the canary has no cluster: %v", first)
	}
	if first.GetRoute().GetTimeout().AsDuration() != time.Minute || rest.GetRoute().GetTimeout().AsDuration() != time.Second {
		t.Errorf("timeouts: %v, %v", first.GetRoute().GetTimeout(), rest.GetRoute().GetTimeout())
	}
	if second.GetDirectResponse().GetStatus() != 500 {
		t.Errorf("what goes nowhere must fail: %v", second)
	}
	mirror := rest.GetRoute().GetRequestMirrorPolicies()[0]
	if mirror.GetCluster() != first.GetRoute().GetCluster() || mirror.GetRuntimeFraction().GetDefaultValue().GetNumerator() != 125_000 {
		t.Errorf("mirror: %v", mirror)
	}
	if retry := rest.GetRoute().GetRetryPolicy(); retry.GetRetryOn() != "5xx,connect-failure" || retry.GetNumRetries().GetValue() != 2 {
		t.Errorf("retries: %v", retry)
	}
}

func TestATimeoutOfAProxyIsSaid(t *testing.T) {
	got := told(t, clusterset.Port{Port: 80, AppProtocol: "http"}, nil)
	timeout := got[host+":80"].(*routev3.RouteConfiguration).GetVirtualHosts()[0].GetRoutes()[0].GetRoute().GetTimeout()
	if timeout == nil || timeout.AsDuration() != 0 {
		t.Errorf("got %v; want 0, for proxies assume 15 seconds", timeout)
	}
}

func TestGatewaysAreReachedByServerName(t *testing.T) {
	sockets := told(t, clusterset.Port{Port: 80, AppProtocol: "grpc"}, nil)[cluster].(*clusterv3.Cluster).GetTransportSocketMatches()
	if len(sockets) != 2 || sockets[0].GetMatch().GetFields()["hansa.dev/gateway"].GetStringValue() != "true" || sockets[1].GetMatch() != nil {
		t.Fatalf("got %v; want one for gateways, and one for the rest", sockets)
	}
	tls := &tlsv3.UpstreamTlsContext{}
	if err := sockets[0].GetTransportSocket().GetTypedConfig().UnmarshalTo(tls); err != nil {
		t.Fatal(err)
	}
	if tls.GetSni() != "outbound_.80_._."+host || tls.GetCommonTlsContext().GetAlpnProtocols()[0] != "h2" {
		t.Errorf("got %v", tls)
	}
	if tls.GetCommonTlsContext().GetValidationContextSdsSecretConfig().GetName() != translate.AuthoritySecret {
		t.Error("the gateway's certificate is not verified")
	}
}

// TestTheOwnGatewayIsAnEndpoint holds that a client whose cluster has a gateway of its own needs no TLS to reach others.
func TestTheOwnGatewayIsAnEndpoint(t *testing.T) {
	b := clusterset.NewBuilder(0)
	pods := clusterset.Endpoints{Groups: []clusterset.Group{{
		Ports:     []clusterset.TargetPort{{Port: 8080}},
		Endpoints: []clusterset.Endpoint{{Addr: netip.MustParseAddr("10.0.0.1"), Conditions: clusterset.Ready | clusterset.Serving}},
	}}}
	gateway := func(inside string) []clusterset.Gateway {
		return []clusterset.Gateway{{Addr: netip.MustParseAddr("192.0.2.1"), Tunnel: 15445, Inside: netip.MustParseAddr(inside)}}
	}
	for cluster, inside := range map[string]string{"m1": "10.0.9.1", "m2": "10.0.9.2", "m3": "10.0.9.3"} {
		b.SetCluster(clusterset.Cluster{ID: cluster, Network: cluster, Gateways: gateway(inside)})
		if cluster != "m1" {
			b.SetExport(cluster, key, clusterset.Export{Properties: &clusterset.Properties{Ports: []clusterset.Port{{Port: 80}}}})
			b.SetEndpoints(cluster, key, pods)
		}
	}
	b.SetImport("m1", key, clusterset.Import{GatewayPorts: []clusterset.GatewayPort{{Port: 20017}}})
	snapshot := b.Publish()
	for _, client := range []translate.Client{proxy, {Flavour: translate.GRPC, From: proxy.From}} {
		found := 0
		for _, m := range client.Moving(snapshot, snapshot.Service(key), true) {
			assignment := &endpointv3.ClusterLoadAssignment{}
			if proto.Unmarshal(m.Encoded, assignment) != nil || len(assignment.GetEndpoints()) == 0 {
				continue
			}
			found++
			endpoints := assignment.GetEndpoints()[0].GetLbEndpoints()
			address := endpoints[0].GetEndpoint().GetAddress().GetSocketAddress()
			if len(assignment.GetEndpoints()) != 1 || len(endpoints) != 1 || address.GetAddress() != "10.0.9.1" || address.GetPortValue() != 20017 {
				t.Errorf("%s is told %v; want the own gateway, once, at the port of the service", client, assignment)
			}
			if endpoints[0].GetMetadata() != nil {
				t.Errorf("%s is told that it is a gateway, to which it has to speak TLS", client)
			}
		}
		if found == 0 {
			t.Errorf("%s is told of no endpoints", client)
		}
	}
}

func TestServerNamesGoToLocalEndpoints(t *testing.T) {
	got := told(t, clusterset.Port{Port: 80}, nil)
	chains := got[translate.EastWestListener].(*listenerv3.Listener).GetFilterChains()
	if len(chains) != 1 || chains[0].GetFilterChainMatch().GetServerNames()[0] != "outbound_.80_._."+host {
		t.Fatalf("got %v", chains)
	}
	forward := &tcpproxyv3.TcpProxy{}
	if err := chains[0].GetFilters()[0].GetTypedConfig().UnmarshalTo(forward); err != nil {
		t.Fatal(err)
	}
	if to := "inbound|80||" + host; forward.GetCluster() != to || got[to] == nil {
		t.Errorf("goes to %s; want %s", forward.GetCluster(), to)
	}
}
