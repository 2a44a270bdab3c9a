package controlplane

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
)

// view is what clients of one kind are served: a cache for clusters and one for assignments.
type view struct {
	zone                string
	clusters, endpoints *cache.LinearCache

	assignments map[string]*endpointv3.ClusterLoadAssignment // as they are served, so nobody changes them any more
	byHost      map[string][]string                          // names of assignments
}

func newView(zone string, clusters map[string]types.Resource, assignments map[string]*endpointv3.ClusterLoadAssignment) *view {
	v := &view{zone: zone, assignments: assignments, byHost: map[string][]string{}}
	served := make(map[string]types.Resource, len(assignments))
	for name, a := range assignments {
		served[name] = a
		host := hostOf(name)
		v.byHost[host] = append(v.byHost[host], name)
	}
	v.clusters = cache.NewLinearCache(resource.ClusterType, cache.WithInitialResources(clusters))
	v.endpoints = cache.NewLinearCache(resource.EndpointType, cache.WithInitialResources(served))
	return v
}

// apply makes changes, all of them at once.
func (v *view) apply(changes []Change) error {
	updates := map[string]types.Resource{}
	for _, c := range changes {
		if !strings.HasPrefix(v.zone, c.Zones) {
			continue
		}
		for _, name := range v.byHost[c.Host] {
			if changed := replaced(v.assignments[name], c.From, c.To); changed != nil {
				v.assignments[name], updates[name] = changed, changed
			}
		}
	}
	if len(updates) == 0 {
		return nil
	}
	if err := v.endpoints.UpdateResources(updates, nil); err != nil {
		return fmt.Errorf("updating the cache of assignments: %w", err)
	}
	return nil
}

// replaced returns a copy of an assignment with another address in the place of one, or nil if it does not have that.
func replaced(a *endpointv3.ClusterLoadAssignment, from, to string) *endpointv3.ClusterLoadAssignment {
	for i, locality := range a.GetEndpoints() {
		for k, e := range locality.GetLbEndpoints() {
			if addressOf(e).GetAddress() != from {
				continue
			}
			changed, _ := proto.Clone(a).(*endpointv3.ClusterLoadAssignment)
			addressOf(changed.GetEndpoints()[i].GetLbEndpoints()[k]).Address = to
			return changed
		}
	}
	return nil
}

func addressOf(e *endpointv3.LbEndpoint) *corev3.SocketAddress {
	return e.GetEndpoint().GetAddress().GetSocketAddress()
}

// hostOf is the last part of the name of a cluster, as in "outbound|80||a.b.svc.clusterset.local".
func hostOf(name string) string { return name[strings.LastIndexByte(name, '|')+1:] }

// kindOf tells which view a client is served.
func kindOf(node *corev3.Node) string {
	return node.GetUserAgentName() + "|" + node.GetLocality().GetZone()
}

// muxed finds the cache for a request: by the kind of client, then by the type.
func muxed(views map[string]*view) *cache.MuxCache {
	m := &cache.MuxCache{
		Classify:      func(r *cache.Request) string { return kindOf(r.GetNode()) + "|" + r.GetTypeUrl() },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return kindOf(r.GetNode()) + "|" + r.GetTypeUrl() },
		Caches:        map[string]cache.Cache{},
	}
	for kind, v := range views {
		m.Caches[kind+"|"+resource.ClusterType] = v.clusters
		m.Caches[kind+"|"+resource.EndpointType] = v.endpoints
	}
	return m
}
