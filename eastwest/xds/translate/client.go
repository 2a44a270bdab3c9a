package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// Flavour is what a client understands.
type Flavour string

// The flavours.
const (
	GRPC  Flavour = "grpc"
	Proxy Flavour = "proxy"
	Agent Flavour = "agent"
)

// Client stands for all clients of one flavour in one place.
type Client struct {
	Flavour Flavour
	From    clusterset.Consumer
}

// String names the client as views are named: FLAVOUR/CLUSTER/ZONE.
func (c Client) String() string { return string(c.Flavour) + "/" + c.From.Cluster + "/" + c.From.Zone }

// Message is a resource before it is encoded, or an assignment that is encoded already.
type Message struct {
	Name    string
	Proto   proto.Message // nil: see Encoded
	Encoded []byte        // of a ClusterLoadAssignment
}

// Message decodes what is encoded already.
func (m Message) Message() (proto.Message, error) {
	if m.Proto != nil {
		return m.Proto, nil
	}
	made := &endpointv3.ClusterLoadAssignment{}
	if err := proto.Unmarshal(m.Encoded, made); err != nil {
		return nil, fmt.Errorf("decoding assignment %q: %w", m.Name, err)
	}
	return made, nil
}

// Shape is what Fixed reads of a service. Two equal shapes have equal Fixed messages.
type Shape struct {
	service    clusterset.Key
	visible    bool
	exports    bool
	properties *clusterset.Properties
	own        *clusterset.Properties
	policy     *clusterset.Policy
	addresses  []netip.Addr
}

// Shape returns that of a service, or of none.
func (c Client) Shape(service *clusterset.Service) Shape {
	if service == nil {
		return Shape{}
	}
	shape := Shape{
		service: service.Key, visible: c.sees(service), properties: service.Properties, policy: service.Policy,
	}
	if c.Flavour == Proxy {
		shape.addresses = service.ClusterSetIPs(c.From.Cluster)
		if source := c.source(service); source != nil {
			shape.exports, shape.own = true, source.Properties
		}
	}
	return shape
}

// Equal compares. What is shared between snapshots is not looked at.
func (s Shape) Equal(other Shape) bool {
	return s.service == other.service && s.visible == other.visible && s.exports == other.exports &&
		slices.Equal(s.addresses, other.addresses) && same(s.properties, other.properties) &&
		same(s.own, other.own) && same(s.policy, other.policy)
}

func same[T any](a, b *T) bool { return a == b || a != nil && b != nil && reflect.DeepEqual(a, b) }

// Fixed returns the messages about a service that do not depend on its endpoints. The error says that its policy's part
// for clients was left out, and why.
func (c Client) Fixed(service *clusterset.Service) ([]Message, error) {
	if service == nil || c.Flavour == Agent {
		return nil, nil
	}
	b := &build{Client: c, service: service, policy: l7(service)}
	messages := b.fixed()
	if b.policy == nil {
		return messages, nil
	}
	if err := b.check(messages); err != nil {
		plain := &build{Client: c, service: service}
		return plain.fixed(), err
	}
	return messages, nil
}

// Moving returns the messages about a service that depend on endpoints. Plain says that Fixed left the policy's part for
// clients out.
func (c Client) Moving(snapshot *clusterset.Snapshot, service *clusterset.Service, plain bool) []Message {
	switch {
	case service == nil:
		return nil
	case c.Flavour == Agent:
		return c.agent(snapshot, service)
	}
	b := &build{Client: c, service: service}
	if !plain {
		b.policy = l7(service)
	}
	return b.moving(snapshot)
}

// References returns the other services that a service's policy names, sorted.
func References(service *clusterset.Service) []clusterset.Key {
	policy := l7(service)
	if policy == nil {
		return nil
	}
	var keys []clusterset.Key
	for _, subset := range subsets(policy) {
		if key := reference(service.Key, subset); key != service.Key {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, CompareKeys)
	return slices.Compact(keys)
}

// CompareKeys orders services by namespace and name.
func CompareKeys(a, b clusterset.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// sees tells whether clients may use the service.
func (c Client) sees(service *clusterset.Service) bool {
	return service.Exported() && (service.Policy == nil || service.Policy.Consumers == nil ||
		slices.Contains(service.Policy.Consumers.Clusters, c.From.Cluster))
}

// source returns what the clients' own cluster contributes, or nil.
func (c Client) source(service *clusterset.Service) *clusterset.Source {
	if !service.Exported() {
		return nil
	}
	at, found := slices.BinarySearchFunc(service.Sources, c.From.Cluster, func(s clusterset.Source, id string) int {
		return cmp.Compare(s.Cluster, id)
	})
	if !found || service.Sources[at].Properties == nil {
		return nil
	}
	return &service.Sources[at]
}

// l7 returns the part of a service's policy that is for clients, or nil.
func l7(service *clusterset.Service) *servicepolicy.L7 {
	if service == nil || service.Policy == nil {
		return nil
	}
	policy, _ := service.Policy.L7.(*servicepolicy.L7)
	return policy
}

// tcpPorts returns the indexes of a service's TCP ports, each number once.
func tcpPorts(service *clusterset.Service) []int {
	if service.Properties == nil {
		return nil
	}
	ports := make([]int, 0, len(service.Properties.Ports))
	for i, port := range service.Properties.Ports {
		again := slices.ContainsFunc(ports, func(j int) bool { return service.Properties.Ports[j].Port == port.Port })
		if isTCP(port) && !again {
			ports = append(ports, i)
		}
	}
	return ports
}

func isTCP(port clusterset.Port) bool {
	return port.Protocol == "" || port.Protocol == corev1.ProtocolTCP
}
