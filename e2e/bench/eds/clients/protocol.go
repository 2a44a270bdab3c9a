package clients

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

func (c *client) node() *corev3.Node {
	return &corev3.Node{
		Id: "bench-" + strconv.Itoa(c.index), UserAgentName: c.group.Agent, Locality: &corev3.Locality{Zone: c.group.Zone},
	}
}

func (c *client) knows(name string) bool {
	_, known := slices.BinarySearch(c.names, name)
	return known
}

// learn takes over the names of clusters whose endpoints come by EDS, and tells whether there are new ones.
func (c *client) learn(found []string) bool {
	if len(found) == 0 {
		return false
	}
	before := len(c.names)
	c.names = append(c.names, found...)
	slices.Sort(c.names)
	c.names = slices.Compact(c.names)
	return len(c.names) > before
}

// whole speaks State of the World: it asks for all clusters, and for the endpoints of each by name.
func (c *client) whole(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("opening a stream: %w", err)
	}
	requests := map[string]*wholeRequest{
		ads.ClusterType:  {DiscoveryRequest: &discoveryv3.DiscoveryRequest{TypeUrl: ads.ClusterType, Node: c.node()}},
		ads.EndpointType: {DiscoveryRequest: &discoveryv3.DiscoveryRequest{TypeUrl: ads.EndpointType}},
	}
	next := []string{ads.ClusterType}
	for {
		for _, url := range next {
			if err := stream.SendMsg(requests[url]); err != nil {
				return fmt.Errorf("asking for %s: %w", url, err)
			}
		}
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("reading a response: %w", err)
		}
		at := time.Now().UnixNano()
		request := requests[response.GetTypeUrl()]
		if request == nil {
			return fmt.Errorf("got %s, which nobody asked for", response.GetTypeUrl())
		}
		request.ResponseNonce, request.VersionInfo = response.GetNonce(), response.GetVersionInfo()
		next = []string{response.GetTypeUrl()}
		if news := c.read(response, at); news {
			requests[ads.EndpointType].ask(c.names)
			next = append(next, ads.EndpointType)
		}
	}
}

// read takes in a response of State of the World, and tells whether there are clusters that were not known.
func (c *client) read(response *discoveryv3.DiscoveryResponse, at int64) bool {
	var found []string
	for _, resource := range response.GetResources() {
		name, eds := nameOf(resource.GetValue())
		switch {
		case response.GetTypeUrl() == ads.EndpointType:
			c.take(name, resource.GetValue(), at)
		case eds:
			found = append(found, name)
		}
	}
	return c.learn(found)
}

// incremental speaks the delta protocol.
func (c *client) incremental(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("opening a stream: %w", err)
	}
	first := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: ads.ClusterType, Node: c.node(), ResourceNamesSubscribe: []string{"*"}}
	if err := stream.Send(first); err != nil {
		return fmt.Errorf("asking for clusters: %w", err)
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("reading a response: %w", err)
		}
		at := time.Now().UnixNano()
		var found []string
		for _, resource := range response.GetResources() {
			if response.GetTypeUrl() == ads.EndpointType {
				c.take(resource.GetName(), resource.GetResource().GetValue(), at)
			} else if _, eds := nameOf(resource.GetResource().GetValue()); eds && !c.knows(resource.GetName()) {
				found = append(found, resource.GetName())
			}
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()}); err != nil {
			return fmt.Errorf("answering: %w", err)
		}
		if !c.learn(found) {
			continue
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ads.EndpointType, ResourceNamesSubscribe: found}); err != nil {
			return fmt.Errorf("asking for endpoints: %w", err)
		}
	}
}
