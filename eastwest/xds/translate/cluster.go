package translate

import (
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// The secrets that a proxy's bootstrap has to define for TLS with gateways: its certificate with its key, and whom to trust.
const (
	CertificateSecret = "hansa"
	AuthoritySecret   = "hansa-ca"
)

const upstreamOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// cluster returns the cluster of a part of a service.
func (b *build) cluster(p part) Message {
	made := edsCluster(p.name)
	made.CircuitBreakers = b.breaker()
	made.OutlierDetection = b.outliers()
	switch b.balancer() {
	case servicepolicy.LeastRequest:
		made.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	case servicepolicy.RingHash:
		made.LbPolicy = clusterv3.Cluster_RING_HASH
	case servicepolicy.Random:
		if b.Flavour == Proxy { // gRPC has no such policy, and refuses the cluster
			made.LbPolicy = clusterv3.Cluster_RANDOM
		}
	case servicepolicy.RoundRobin:
	}
	if b.Flavour == Proxy {
		b.forProxy(made, p)
	}
	return Message{Name: p.name, Proto: made}
}

// edsCluster is a cluster whose endpoints come by its own name.
func edsCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: overADS()},
	}
}

// balancer returns how endpoints are chosen. Proxies can keep clients with an endpoint by their address.
func (b *build) balancer() servicepolicy.LoadBalancer {
	if b.policy != nil && b.policy.LoadBalancer != "" {
		return b.policy.LoadBalancer
	}
	if b.Flavour == Proxy && b.service.Properties.SessionAffinity == corev1.ServiceAffinityClientIP {
		return servicepolicy.RingHash
	}
	return servicepolicy.RoundRobin
}

// breaker returns the bounds of the policy. Where it says nothing there are none; clients assume 1024.
func (b *build) breaker() *clusterv3.CircuitBreakers {
	bound := func(n uint32) *wrapperspb.UInt32Value {
		if n == 0 {
			n = math.MaxUint32
		}
		return wrapperspb.UInt32(n)
	}
	policy := servicepolicy.Breaker{}
	if b.policy != nil && b.policy.Breaker != nil {
		policy = *b.policy.Breaker
	}
	thresholds := &clusterv3.CircuitBreakers_Thresholds{MaxRequests: bound(policy.MaxRequests)}
	if b.Flavour == Proxy {
		thresholds.MaxConnections = bound(policy.MaxConnections)
		thresholds.MaxPendingRequests = bound(policy.MaxPending)
		thresholds.MaxRetries = bound(policy.MaxRetries)
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{thresholds}}
}

// Defaults of outlier detection, those of the protocol.
const (
	consecutive  = 5
	interval     = 10 * time.Second
	baseEjection = 30 * time.Second
	maxEjected   = 10
)

// outliers translates when endpoints that fail are left out. gRPC clients do not count failures in a row: for them an
// endpoint is out when nine in ten of at least as many calls fail within the interval.
func (b *build) outliers() *clusterv3.OutlierDetection {
	if b.policy == nil || b.policy.Outliers == nil {
		return nil
	}
	policy := b.policy.Outliers
	inARow := orElse(policy.Consecutive5xx, consecutive)
	made := &clusterv3.OutlierDetection{
		Interval:             durationpb.New(orElse(max(policy.Interval, 0), interval)),
		BaseEjectionTime:     durationpb.New(orElse(max(policy.BaseEjection, 0), baseEjection)),
		MaxEjectionPercent:   wrapperspb.UInt32(min(orElse(policy.MaxPercent, maxEjected), 100)),
		EnforcingSuccessRate: wrapperspb.UInt32(0),
	}
	if ejection := made.BaseEjectionTime.AsDuration(); ejection > maxEjectionTime {
		made.MaxEjectionTime = durationpb.New(ejection)
	}
	if b.Flavour == Proxy {
		made.Consecutive_5Xx = wrapperspb.UInt32(inARow)
		made.EnforcingConsecutive_5Xx = wrapperspb.UInt32(100)
		return made
	}
	made.EnforcingFailurePercentage = wrapperspb.UInt32(100)
	made.FailurePercentageThreshold = wrapperspb.UInt32(90)
	made.FailurePercentageMinimumHosts = wrapperspb.UInt32(1)
	made.FailurePercentageRequestVolume = wrapperspb.UInt32(inARow)
	return made
}

// maxEjectionTime is what clients assume; it must not be less than the base.
const maxEjectionTime = 300 * time.Second

func orElse[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// forProxy adds what gRPC clients refuse or do not read.
func (b *build) forProxy(made *clusterv3.Cluster, p part) {
	var idle time.Duration
	if b.policy != nil {
		made.ConnectTimeout = positive(b.policy.Connect)
		idle = b.policy.Idle
	}
	made.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{
		// Only ready endpoints are listed, so fewer healthy ones than expected are no reason to use the others.
		HealthyPanicThreshold: &typev3.Percent{Value: 0},
		LocalityConfigSpecifier: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
			LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
		},
	}
	var alpn []string
	if isHTTP(p.port) {
		alpn = []string{"http/1.1"}
		if isHTTP2(p.port) {
			alpn = []string{"h2"}
		}
		made.TypedExtensionProtocolOptions = map[string]*anypb.Any{upstreamOptions: b.pack(protocolOptions(isHTTP2(p.port), idle))}
	}
	made.TransportSocketMatches = []*clusterv3.Cluster_TransportSocketMatch{
		{Name: "gateway", Match: gatewayMatch(), TransportSocket: transportSocket("tls", b.pack(gatewayTLS(ServerName(p.key, p.port.Port), alpn)))},
		{Name: "pod", TransportSocket: transportSocket("raw_buffer", b.pack(&rawbufferv3.RawBuffer{}))},
	}
}

func transportSocket(name string, config *anypb.Any) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets." + name, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}
}

// gatewayTLS is how a proxy speaks with the gateways of another network, with the secrets of its bootstrap.
func gatewayTLS(serverName string, alpn []string) *tlsv3.UpstreamTlsContext {
	return &tlsv3.UpstreamTlsContext{
		Sni: serverName,
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:                      &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: CertificateSecret}},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
				ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: AuthoritySecret},
			},
			AlpnProtocols: alpn,
		},
	}
}

func protocolOptions(http2 bool, idle time.Duration) *upstreamv3.HttpProtocolOptions {
	explicit := &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
	}
	if http2 {
		explicit.ProtocolConfig = &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}}
	}
	made := &upstreamv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
	}
	if idle > 0 {
		made.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(idle)}
	}
	return made
}
