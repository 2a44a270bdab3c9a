package xds_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/translate"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	seeds = 8
	steps = 25
)

// clients are those of all flavours in some places.
func clients() []translate.Client {
	var all []translate.Client
	for _, flavour := range []translate.Flavour{translate.GRPC, translate.Proxy, translate.Agent} {
		for _, from := range []clusterset.Consumer{{Cluster: "m1", Zone: "a"}, {Cluster: "m2"}} {
			all = append(all, translate.Client{Flavour: flavour, From: from})
		}
	}
	return all
}

// TestFollowingIsTheSameAsBeginning goes through random changes step by step, and compares with a view that begins there.
func TestFollowingIsTheSameAsBeginning(t *testing.T) {
	for seed := range uint64(seeds) {
		r, w := newRandom(seed), newTable(t, "m1", "m2")
		source := xds.NewSource(xds.Options{Snapshots: w, Log: logr.Discard()})
		followers := map[translate.Client]*xds.Follower{}
		for _, client := range clients() {
			followers[client] = xds.NewFollower(source, client)
			followers[client].Step(w.snapshot())
		}
		for step := range steps {
			for range r.IntN(4) {
				r.change(w)
			}
			w.Publish()
			for client, follower := range followers {
				if r.IntN(3) == 0 { // a view may miss snapshots
					continue
				}
				follower.Step(w.snapshot())
				fresh := xds.NewFollower(source, client)
				fresh.Step(w.snapshot())
				if diff := cmp.Diff(fresh.Versions(), follower.Versions()); diff != "" {
					t.Fatalf("%s, %s (-fresh +followed):\n%s", describe(seed, step), client, diff)
				}
				if follower.Counted() != len(follower.Versions()) {
					t.Fatalf("%s, %s: counts %d of %d resources", describe(seed, step), client, follower.Counted(), len(follower.Versions()))
				}
			}
		}
	}
}

// TestClientsAcceptEverything checks what random tables are translated to.
func TestClientsAcceptEverything(t *testing.T) {
	for seed := range uint64(seeds) {
		r, w := newRandom(seed), newTable(t, "m1", "m2")
		for step := range steps / 5 {
			for range 20 {
				r.change(w)
			}
			w.Publish()
			for _, client := range clients() {
				if client.Flavour == translate.Agent {
					continue
				}
				set := collect(w.snapshot(), client)
				if err := errors.Join(set.valid(), set.complete(client)); err != nil {
					t.Fatalf("%s, %s: %v", describe(seed, step), client, err)
				}
			}
		}
	}
}

// resources are those of one view, by name.
type resources struct {
	listeners   map[string]*listenerv3.Listener
	routes      map[string]*routev3.RouteConfiguration
	clusters    map[string]*clusterv3.Cluster
	assignments map[string]*endpointv3.ClusterLoadAssignment
	twice       []string
}

func collect(snapshot *clusterset.Snapshot, client translate.Client) *resources {
	set := &resources{
		map[string]*listenerv3.Listener{},
		map[string]*routev3.RouteConfiguration{},
		map[string]*clusterv3.Cluster{},
		map[string]*endpointv3.ClusterLoadAssignment{},
		nil,
	}
	set.add(client.Common(snapshot))
	for _, service := range snapshot.Services() {
		fixed, err := client.Fixed(service) // what is left out is another test's
		set.add(fixed)
		set.add(client.Moving(snapshot, service, err != nil))
	}
	return set
}

func (set *resources) add(messages []translate.Message) {
	for _, m := range messages {
		decoded, err := m.Message()
		if err != nil {
			set.twice = append(set.twice, err.Error())
		}
		switch message := decoded.(type) {
		case *listenerv3.Listener:
			put(set, set.listeners, m.Name, message)
		case *routev3.RouteConfiguration:
			put(set, set.routes, m.Name, message)
		case *clusterv3.Cluster:
			put(set, set.clusters, m.Name, message)
		case *endpointv3.ClusterLoadAssignment:
			put(set, set.assignments, m.Name, message)
		}
	}
}

func put[T proto.Message](set *resources, to map[string]T, name string, m T) {
	_, there := to[name]
	if _, listener := any(m).(*listenerv3.Listener); listener {
		there = false // an address may be that of two services for a moment
	}
	if there || nameOf(m) != name {
		set.twice = append(set.twice, name)
	}
	to[name] = m
}

// valid asks the validators of the protos, for what is packed inside too, and checks what they do not know.
func (set *resources) valid() error {
	var errs []error
	check := func(m proto.Message) { errs = append(errs, validate(m)) }
	for _, m := range set.listeners {
		check(m)
	}
	for _, m := range set.routes {
		check(m)
	}
	for _, m := range set.clusters {
		check(m)
	}
	for _, m := range set.assignments {
		check(m)
		errs = append(errs, acceptable(m))
	}
	if len(set.twice) > 0 {
		errs = append(errs, fmt.Errorf("two resources of one name, or of another: %v", set.twice))
	}
	return errors.Join(errs...)
}

func validate(m proto.Message) error {
	var errs []error
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.ProtoReflect().Descriptor().Name(), err))
		}
	}
	for _, inside := range unpack(m.ProtoReflect()) {
		errs = append(errs, validate(inside))
	}
	return errors.Join(errs...)
}

// unpack returns what is packed anywhere in m.
func unpack(m protoreflect.Message) []proto.Message {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inside, err := packed.UnmarshalNew()
		if err != nil {
			panic(err)
		}
		return []proto.Message{inside}
	}
	var found []proto.Message
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				found = append(found, unpack(v.Message())...)
				return true
			})
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				found = append(found, unpack(value.List().Get(i).Message())...)
			}
		case !field.IsMap() && !field.IsList() && field.Message() != nil:
			found = append(found, unpack(value.Message())...)
		}
		return true
	})
	return found
}

// acceptable checks what makes gRPC clients refuse an assignment, or drop a part of it without a word.
func acceptable(m *endpointv3.ClusterLoadAssignment) error {
	type place struct {
		priority uint32
		locality string
	}
	localities, addresses := map[place]bool{}, map[string]bool{}
	sums, last := map[uint32]uint64{}, -1
	for _, l := range m.GetEndpoints() {
		at := place{l.GetPriority(), l.GetLocality().String()}
		if localities[at] {
			return fmt.Errorf("%s: locality %v twice", m.GetClusterName(), at)
		}
		localities[at] = true
		if p := int(l.GetPriority()); p != last && p != last+1 {
			return fmt.Errorf("%s: priority %d after %d", m.GetClusterName(), p, last)
		}
		last = int(l.GetPriority())
		weight := uint64(l.GetLoadBalancingWeight().GetValue())
		if sums[l.GetPriority()] += weight; weight == 0 || sums[l.GetPriority()] > math.MaxUint32 || len(l.GetLbEndpoints()) == 0 {
			return fmt.Errorf("%s: locality %v has weight %d, %d endpoints", m.GetClusterName(), at, weight, len(l.GetLbEndpoints()))
		}
		inside := uint64(0)
		for _, e := range l.GetLbEndpoints() {
			address := hostPort(e.GetEndpoint().GetAddress())
			if addresses[address] || e.GetEndpoint().GetAddress().GetSocketAddress().GetPortValue() == 0 {
				return fmt.Errorf("%s: address %s twice, or without a port", m.GetClusterName(), address)
			}
			addresses[address] = true
			w := uint64(1)
			if e.GetLoadBalancingWeight() != nil {
				w = uint64(e.GetLoadBalancingWeight().GetValue())
			}
			if inside += w; w == 0 || inside > math.MaxUint32 {
				return fmt.Errorf("%s: endpoint %s has weight %d", m.GetClusterName(), address, w)
			}
		}
	}
	return nil
}

// complete checks that everything that is referred to is there, and nothing else.
func (set *resources) complete(client translate.Client) error {
	var errs []error
	clusters, routes := map[string]bool{}, map[string]bool{}
	for _, m := range set.routes {
		for _, cluster := range routeClusters(m) {
			clusters[cluster] = true
		}
	}
	for _, m := range set.listeners {
		for _, inside := range append(unpack(m.ProtoReflect()), unpackTwice(m)...) {
			switch inside := inside.(type) {
			case *hcmv3.HttpConnectionManager:
				routes[inside.GetRds().GetRouteConfigName()] = true
			case *tcpproxyv3.TcpProxy:
				clusters[inside.GetCluster()] = true
			}
		}
	}
	for name := range clusters {
		if set.clusters[name] == nil {
			errs = append(errs, fmt.Errorf("there is no cluster %s", name))
		}
	}
	for name := range routes {
		if set.routes[name] == nil {
			errs = append(errs, fmt.Errorf("there is no route %s", name))
		}
	}
	eds := 0
	for name, m := range set.clusters {
		if m.GetType() == clusterv3.Cluster_EDS {
			eds++
			if set.assignments[name] == nil {
				errs = append(errs, fmt.Errorf("cluster %s has no assignment", name))
			}
		}
		if client.Flavour == translate.GRPC {
			errs = append(errs, understood(m))
		}
	}
	if eds != len(set.assignments) {
		errs = append(errs, fmt.Errorf("%d assignments for %d clusters", len(set.assignments), eds))
	}
	if client.Flavour == translate.Proxy {
		errs = append(errs, set.consistent())
	}
	return errors.Join(errs...)
}

// understood checks what gRPC clients refuse in clusters.
func understood(m *clusterv3.Cluster) error {
	policies := []clusterv3.Cluster_LbPolicy{clusterv3.Cluster_ROUND_ROBIN, clusterv3.Cluster_LEAST_REQUEST, clusterv3.Cluster_RING_HASH}
	if len(m.GetTransportSocketMatches()) > 0 || !slices.Contains(policies, m.GetLbPolicy()) || m.GetEdsClusterConfig().GetEdsConfig().GetAds() == nil {
		return fmt.Errorf("cluster %s is not for gRPC: %v", m.GetName(), m)
	}
	return nil
}

// unpackTwice returns what is packed in what is packed.
func unpackTwice(m proto.Message) []proto.Message {
	var found []proto.Message
	for _, inside := range unpack(m.ProtoReflect()) {
		found = append(found, unpack(inside.ProtoReflect())...)
	}
	return found
}

func routeClusters(m *routev3.RouteConfiguration) []string {
	var names []string
	for _, route := range m.GetVirtualHosts()[0].GetRoutes() {
		action := route.GetRoute()
		if action.GetCluster() != "" {
			names = append(names, action.GetCluster())
		}
		for _, c := range action.GetWeightedClusters().GetClusters() {
			names = append(names, c.GetName())
		}
		for _, mirror := range action.GetRequestMirrorPolicies() {
			names = append(names, mirror.GetCluster())
		}
	}
	return names
}

// consistent asks go-control-plane. It knows routes from listeners only, and services that the cluster does not import
// have no listener; so those are given to it without their routes.
func (set *resources) consistent() error {
	reached := map[string]bool{}
	for _, m := range set.listeners {
		for _, inside := range unpack(m.ProtoReflect()) {
			if manager, ok := inside.(*hcmv3.HttpConnectionManager); ok {
				reached[manager.GetRds().GetRouteConfigName()] = true
			}
		}
	}
	var clusters, assignments, listeners, routes []types.Resource
	for _, m := range set.clusters {
		clusters = append(clusters, m)
	}
	for _, m := range set.assignments {
		assignments = append(assignments, m)
	}
	for _, m := range set.listeners {
		listeners = append(listeners, m)
	}
	for name, m := range set.routes {
		if reached[name] {
			routes = append(routes, m)
		}
	}
	snapshot, err := cache.NewSnapshot("1", map[string][]types.Resource{CDS: clusters, EDS: assignments, LDS: listeners, RDS: routes})
	if err != nil {
		return err
	}
	return snapshot.Consistent()
}
