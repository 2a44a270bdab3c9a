package translate

import (
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Endpoints that are gateways carry this metadata, by which a proxy's cluster chooses TLS for them.
const (
	matchFilter = "envoy.transport_socket_match"
	matchKey    = "hansa.dev/gateway"
)

// assignment translates the endpoints of a part: those of some clusters, or of all.
func assignment(name string, from clusterset.Assignment, clusters []string) *endpointv3.ClusterLoadAssignment {
	made := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	priority := uint32(0)
	for _, p := range from.Priorities {
		before := len(made.Endpoints)
		for _, l := range p.Localities {
			if len(clusters) == 0 || slices.Contains(clusters, l.Cluster) {
				made.Endpoints = append(made.Endpoints, locality(l, priority))
			}
		}
		if len(made.Endpoints) > before {
			priority++
		}
	}
	return made
}

// locality translates one locality. The cluster is its sub-zone: so no two localities of a priority have the same name.
func locality(l clusterset.Locality, priority uint32) *endpointv3.LocalityLbEndpoints {
	made := &endpointv3.LocalityLbEndpoints{
		Locality:            &corev3.Locality{Region: l.Region, Zone: l.Zone, SubZone: l.Cluster},
		LoadBalancingWeight: wrapperspb.UInt32(l.Weight),
		Priority:            priority,
		LbEndpoints:         make([]*endpointv3.LbEndpoint, len(l.Targets)),
	}
	var metadata *corev3.Metadata
	if l.Gateway {
		metadata = gatewayMetadata()
	}
	for i, target := range l.Targets {
		made.LbEndpoints[i] = endpoint(target, metadata)
	}
	return made
}

// endpoint translates one address. A weight of 1 is what clients assume.
func endpoint(target clusterset.Target, metadata *corev3.Metadata) *endpointv3.LbEndpoint {
	made := &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(target.Addr)}},
		Metadata:       metadata,
	}
	if target.Weight > 1 {
		made.LoadBalancingWeight = wrapperspb.UInt32(target.Weight)
	}
	return made
}

func address(addr netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: addr.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(addr.Port())},
	}}}
}

func gatewayMetadata() *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{matchFilter: gatewayMatch()}}
}

func gatewayMatch() *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{matchKey: structpb.NewStringValue("true")}}
}
