package translate

import (
	"net/netip"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// What a proxy has once, whatever the services.
const (
	// OutboundListener takes connections that were redirected to the proxy, and hands them to the listener of their original
	// destination. Those to no global service go on as they are, through PassthroughCluster.
	OutboundListener   = "outbound"
	OutboundPort       = 15001
	PassthroughCluster = "passthrough"
	// EastWestListener takes TLS from other networks, and passes it on by its server name to local endpoints, which end it.
	EastWestListener = "east-west"
	EastWestPort     = 15443
)

// outboundListeners returns one listener per ClusterSetIP that the service has in the proxy's cluster. They bind no port:
// ClusterSetIPs are no addresses of a host, and traffic to them is redirected to OutboundListener.
func (b *build) outboundListeners(port clusterset.Port) []Message {
	var messages []Message
	for _, ip := range b.service.ClusterSetIPs(b.From.Cluster) {
		addr := netip.AddrPortFrom(ip, uint16(port.Port)) //nolint:gosec // a port
		name := "outbound|" + addr.String()
		messages = append(messages, Message{Name: name, Proto: &listenerv3.Listener{
			Name: name, Address: address(addr), BindToPort: wrapperspb.Bool(false),
			TrafficDirection: corev3.TrafficDirection_OUTBOUND,
			FilterChains:     []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{b.handler(port)}}},
		}})
	}
	return messages
}

// handler is what handles the connections to a port.
func (b *build) handler(port clusterset.Port) *listenerv3.Filter {
	if isHTTP(port) {
		manager := b.connectionManager(Target(b.service.Key, port.Port))
		if !isHTTP2(port) {
			manager.UpgradeConfigs = []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}}
		}
		return b.filter("envoy.filters.network.http_connection_manager", manager)
	}
	name := ClusterName(b.service.Key, port.Port, "")
	forward := tcpProxy(name)
	if b.policy != nil {
		forward.IdleTimeout = positive(b.policy.Idle)
	}
	if b.balancer() == servicepolicy.RingHash {
		forward.HashPolicy = []*typev3.HashPolicy{{
			PolicySpecifier: &typev3.HashPolicy_SourceIp_{SourceIp: &typev3.HashPolicy_SourceIp{}},
		}}
	}
	return b.filter("envoy.filters.network.tcp_proxy", forward)
}

func (b *build) filter(name string, config proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: b.pack(config)}}
}

func tcpProxy(cluster string) *tcpproxyv3.TcpProxy {
	return &tcpproxyv3.TcpProxy{StatPrefix: cluster, ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster}}
}

// localClusters returns a cluster of local endpoints for each port that the proxy's cluster exports.
func (b *build) localClusters() []Message {
	var messages []Message
	for _, port := range b.localPorts(b.service) {
		name := LocalName(b.service.Key, port.port.Port)
		made := edsCluster(name)
		made.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: 0}}
		messages = append(messages, Message{Name: name, Proto: made})
	}
	return messages
}

func (b *build) localAssignments() []Message {
	var messages []Message
	for _, port := range b.localPorts(b.service) {
		name := LocalName(b.service.Key, port.port.Port)
		made := &endpointv3.ClusterLoadAssignment{ClusterName: name}
		if targets := b.local(b.service, port); len(targets) > 0 {
			made.Endpoints = []*endpointv3.LocalityLbEndpoints{locality(clusterset.Locality{
				Cluster: b.From.Cluster, Weight: uint32(len(targets)), Targets: targets, //nolint:gosec // some thousand
			}, 0)}
		}
		messages = append(messages, Message{Name: name, Proto: made})
	}
	return messages
}

// localPorts returns the TCP ports that the proxy's cluster exports, each number once.
func (c Client) localPorts(service *clusterset.Service) []localPort {
	var ports []localPort
	for _, port := range c.exported(service) {
		again := slices.ContainsFunc(ports, func(p localPort) bool { return p.port.Port == port.port.Port })
		if isTCP(port.port) && !again {
			ports = append(ports, port)
		}
	}
	return ports
}

// Common returns what proxies have once, and which depends on which services there are.
func (c Client) Common(snapshot *clusterset.Snapshot) []Message {
	if c.Flavour != Proxy {
		return nil
	}
	messages := []Message{
		{Name: OutboundListener, Proto: outbound()},
		{Name: PassthroughCluster, Proto: &clusterv3.Cluster{
			Name:                 PassthroughCluster,
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
			LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
		}},
	}
	// A listener without filter chains is invalid.
	if chains := c.serverNames(snapshot); len(chains) > 0 {
		messages = append(messages, Message{Name: EastWestListener, Proto: &listenerv3.Listener{
			Name: EastWestListener, Address: socket("0.0.0.0", EastWestPort), TrafficDirection: corev3.TrafficDirection_INBOUND,
			ListenerFilters: []*listenerv3.ListenerFilter{listenerFilter("envoy.filters.listener.tls_inspector", &tlsinspectorv3.TlsInspector{})},
			FilterChains:    chains,
		}})
	}
	return messages
}

func outbound() *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: OutboundListener, Address: socket("0.0.0.0", OutboundPort), TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		UseOriginalDst:  wrapperspb.Bool(true),
		ListenerFilters: []*listenerv3.ListenerFilter{listenerFilter("envoy.filters.listener.original_dst", &originaldstv3.OriginalDst{})},
		FilterChains:    []*listenerv3.FilterChain{tcpChain("", PassthroughCluster)},
	}
}

func listenerFilter(name string, config proto.Message) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: pack(config)}}
}

// serverNames returns a filter chain for each port that the proxy's cluster exports, in the order of the services.
func (c Client) serverNames(snapshot *clusterset.Snapshot) []*listenerv3.FilterChain {
	var chains []*listenerv3.FilterChain
	for _, service := range snapshot.Services() {
		for _, port := range c.localPorts(service) {
			name := ServerName(service.Key, port.port.Port)
			chain := tcpChain(name, LocalName(service.Key, port.port.Port))
			chain.FilterChainMatch = &listenerv3.FilterChainMatch{ServerNames: []string{name}, TransportProtocol: "tls"}
			chains = append(chains, chain)
		}
	}
	return chains
}

func tcpChain(name, cluster string) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Name: name, Filters: []*listenerv3.Filter{{
		Name:       "envoy.filters.network.tcp_proxy",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(tcpProxy(cluster))},
	}}}
}
