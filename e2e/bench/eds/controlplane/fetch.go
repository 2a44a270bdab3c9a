package controlplane

import (
	"context"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
)

// maxMessage is what is taken in one message.
const maxMessage = 256 << 20

func nodeOf(g clients.Group) *corev3.Node {
	return &corev3.Node{Id: "bench-control-plane", UserAgentName: g.Agent, Locality: &corev3.Locality{Zone: g.Zone}}
}

// fetch asks a server for everything that it has for clients of a kind.
func fetch(ctx context.Context, g clients.Group, patience time.Duration) (*view, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	creds, err := g.Credentials()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+g.Address, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", g.Address, err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening a stream to %s: %w", g.Address, err)
	}
	t := taking{
		stream: stream, least: g.Services,
		clusters: map[string]types.Resource{}, assignments: map[string]*endpointv3.ClusterLoadAssignment{},
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.ClusterType, Node: nodeOf(g), ResourceNamesSubscribe: []string{"*"}}); err != nil {
		return nil, fmt.Errorf("asking %s for clusters: %w", g.Address, err)
	}
	for !t.complete() {
		if err := t.next(); err != nil {
			return nil, fmt.Errorf("taking over what %s serves to %s in %s: %w", g.Address, g.Agent, g.Zone, err)
		}
	}
	return newView(g.Zone, t.clusters, t.assignments), nil
}

// taking is a conversation with a server in which everything is taken over.
type taking struct {
	stream      discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	least       int // assignments there are at least
	asked       int // assignments that were asked for
	clusters    map[string]types.Resource
	assignments map[string]*endpointv3.ClusterLoadAssignment
}

func (t *taking) complete() bool { return len(t.assignments) >= max(t.asked, t.least) }

// next takes in one response, and asks for the assignments of clusters that are new.
func (t *taking) next() error {
	response, err := t.stream.Recv()
	if err != nil {
		return err
	}
	found, err := t.read(response)
	if err != nil {
		return err
	}
	if err := t.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()}); err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	t.asked += len(found)
	return t.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.EndpointType, ResourceNamesSubscribe: found})
}

// read decodes the resources of a response, and returns the names of new clusters whose endpoints come by EDS.
func (t *taking) read(response *discoveryv3.DeltaDiscoveryResponse) (found []string, err error) {
	for _, r := range response.GetResources() {
		if response.GetTypeUrl() == resource.EndpointType {
			a := &endpointv3.ClusterLoadAssignment{}
			if err := r.GetResource().UnmarshalTo(a); err != nil {
				return nil, fmt.Errorf("decoding the assignment %q: %w", r.GetName(), err)
			}
			t.assignments[r.GetName()] = a
			continue
		}
		c := &clusterv3.Cluster{}
		if err := r.GetResource().UnmarshalTo(c); err != nil {
			return nil, fmt.Errorf("decoding the cluster %q: %w", r.GetName(), err)
		}
		if _, known := t.clusters[r.GetName()]; !known && c.GetType() == clusterv3.Cluster_EDS {
			found = append(found, r.GetName())
		}
		t.clusters[r.GetName()] = c
	}
	return found, nil
}
