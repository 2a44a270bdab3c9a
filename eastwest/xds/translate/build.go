package translate

import (
	"errors"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// build makes the messages about one service.
type build struct {
	Client
	service *clusterset.Service
	policy  *servicepolicy.L7 // nil: none, or none that is used
	packed  []proto.Message   // what is inside of others, for check
}

// fixed returns everything but assignments.
func (b *build) fixed() []Message {
	var messages []Message
	if b.sees(b.service) {
		for _, i := range tcpPorts(b.service) {
			messages = append(messages, b.port(b.service.Properties.Ports[i])...)
		}
	}
	if b.Flavour == Proxy {
		messages = append(messages, b.localClusters()...)
	}
	return messages
}

// port returns the listeners, routes and clusters of one port.
func (b *build) port(port clusterset.Port) []Message {
	var messages []Message
	if b.Flavour == GRPC {
		messages = append(messages, b.apiListeners(port)...)
	} else {
		messages = append(messages, b.outboundListeners(port)...)
	}
	routed := b.Flavour == GRPC || isHTTP(port)
	if routed {
		messages = append(messages, b.routes(port))
	}
	messages = append(messages, b.cluster(whole(b.service.Key, port)))
	if routed {
		for _, part := range b.parts(port) {
			messages = append(messages, b.cluster(part))
		}
	}
	return messages
}

// moving returns the assignments.
func (b *build) moving(snapshot *clusterset.Snapshot) []Message {
	var messages []Message
	if b.sees(b.service) {
		for _, i := range tcpPorts(b.service) {
			port := b.service.Properties.Ports[i]
			all := snapshot.ViewPort(b.service.Key, b.From, i)
			name := ClusterName(b.service.Key, port.Port, "")
			messages = append(messages, Message{Name: name, Encoded: appendAssignment(nil, name, all, nil)})
			if b.Flavour == GRPC || isHTTP(port) {
				messages = append(messages, b.partAssignments(snapshot, port, all)...)
			}
		}
	}
	if b.Flavour == Proxy {
		messages = append(messages, b.localAssignments()...)
	}
	return messages
}

// part is a set of endpoints that has a cluster: a port of a service, all of it or in some clusters only.
type part struct {
	key      clusterset.Key
	port     clusterset.Port
	clusters []string // nil: all
	name     string
}

func whole(key clusterset.Key, port clusterset.Port) part {
	return part{key: key, port: port, name: ClusterName(key, port.Port, "")}
}

// part returns the part that a subset means, seen from a port.
func (b *build) part(port clusterset.Port, subset servicepolicy.Subset) part {
	key := reference(b.service.Key, subset)
	if subset.Port != 0 {
		port.Port = subset.Port
	}
	if key == b.service.Key && len(subset.Clusters) == 0 && b.has(port.Port) {
		return whole(key, port)
	}
	clusters := slices.Clone(subset.Clusters)
	slices.Sort(clusters)
	clusters = slices.Compact(clusters)
	return part{key: key, port: port, clusters: clusters, name: ClusterName(key, port.Port, subsetName(b.service.Key, clusters))}
}

// has tells whether the service has a TCP port of this number.
func (b *build) has(port int32) bool {
	return slices.ContainsFunc(b.service.Properties.Ports, func(p clusterset.Port) bool { return isTCP(p) && p.Port == port })
}

// parts returns the parts that the policy names for a port, apart from the whole service, each once. Where two ports
// name the same one, it belongs to the first.
func (b *build) parts(port clusterset.Port) []part {
	var parts []part
	earlier := map[string]bool{}
	for _, i := range tcpPorts(b.service) {
		other := b.service.Properties.Ports[i]
		for _, p := range b.partsOf(other) {
			if other.Port == port.Port && !earlier[p.name] {
				parts = append(parts, p)
			}
			earlier[p.name] = true
		}
		if other.Port == port.Port {
			break
		}
	}
	return parts
}

func (b *build) partsOf(port clusterset.Port) []part {
	if b.policy == nil || b.Flavour != GRPC && !isHTTP(port) {
		return nil
	}
	var parts []part
	for _, subset := range subsets(b.policy) {
		p := b.part(port, subset)
		if p.key != b.service.Key || len(p.clusters) > 0 || !b.has(p.port.Port) {
			parts = append(parts, p)
		}
	}
	return parts
}

func (b *build) partAssignments(snapshot *clusterset.Snapshot, port clusterset.Port, all clusterset.Assignment) []Message {
	var messages []Message
	for _, p := range b.parts(port) {
		from := all
		if p.key != b.service.Key || p.port.Port != port.Port {
			from = b.elsewhere(snapshot, p)
		}
		messages = append(messages, Message{Name: p.name, Encoded: appendAssignment(nil, p.name, from, p.clusters)})
	}
	return messages
}

// elsewhere returns the assignment of another service or port; empty when there is none, or not for these clients.
func (b *build) elsewhere(snapshot *clusterset.Snapshot, p part) clusterset.Assignment {
	service := snapshot.Service(p.key)
	if service == nil || !b.sees(service) {
		return clusterset.Assignment{}
	}
	for _, i := range tcpPorts(service) {
		if service.Properties.Ports[i].Port == p.port.Port {
			return snapshot.ViewPort(p.key, b.From, i)
		}
	}
	return clusterset.Assignment{}
}

// subsets returns all that a policy names.
func subsets(policy *servicepolicy.L7) []servicepolicy.Subset {
	var all []servicepolicy.Subset
	if policy.Mirror != nil {
		all = append(all, policy.Mirror.Subset)
	}
	for _, route := range policy.Routes {
		for _, destination := range route.Destinations {
			all = append(all, destination.Subset)
		}
		if route.Mirror != nil {
			all = append(all, route.Mirror.Subset)
		}
	}
	return all
}

// reference returns the service that a subset is a part of.
func reference(own clusterset.Key, subset servicepolicy.Subset) clusterset.Key {
	if subset.Name == "" {
		return own
	}
	if subset.Namespace == "" {
		return clusterset.Key{Namespace: own.Namespace, Name: subset.Name}
	}
	return clusterset.Key{Namespace: subset.Namespace, Name: subset.Name}
}

// pack puts a message inside of another one.
func (b *build) pack(m proto.Message) *anypb.Any {
	b.packed = append(b.packed, m)
	return pack(m)
}

// pack cannot fail with the messages of this package, which have no required fields and valid text only.
func pack(m proto.Message) *anypb.Any {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return &anypb.Any{}
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: value}
}

// check has everything looked at by the validators of the protos.
func (b *build) check(messages []Message) error {
	var errs []error
	look := func(what string, m proto.Message) {
		if v, ok := m.(interface{ ValidateAll() error }); ok {
			if err := v.ValidateAll(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", what, err))
			}
		}
		if _, err := proto.Marshal(m); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	for _, m := range b.packed {
		look("inside of a resource", m)
	}
	for _, m := range messages {
		look(m.Name, m.Proto)
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("the policy of service %s makes resources that clients would refuse, look at its ServicePolicy and routes: %w",
		b.service.Key, errors.Join(errs...))
}

// overADS is where clients get resources that others refer to.
func overADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}
