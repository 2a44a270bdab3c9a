package exports

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// nameOf returns the name of an object in memory of its own: what was decoded is to be let go.
func nameOf(object metav1.Object) key {
	return key{Namespace: clusterset.Intern(object.GetNamespace()).String(), Name: strings.Clone(object.GetName())}
}

// decode returns what matters of an object.
func decode(kind Kind, object runtime.Object) (item, error) {
	switch kind {
	case kindExports:
		if u, ok := object.(*unstructured.Unstructured); ok {
			return decodeExport(u), nil
		}
	case kindServices:
		if s, ok := object.(*corev1.Service); ok {
			return decodeService(s), nil
		}
	case kindSlices:
		if s, ok := object.(*discoveryv1.EndpointSlice); ok {
			return decodeSlice(s), nil
		}
	case kindNodes:
		if m, ok := object.(*metav1.PartialObjectMetadata); ok {
			return decodeNode(m), nil
		}
	case kindProperty:
		if u, ok := object.(*unstructured.Unstructured); ok {
			value, _, _ := unstructured.NestedString(u.Object, "spec", "value")
			return item{name: nameOf(u), property: value}, nil
		}
	}
	return item{}, fmt.Errorf("a watch of %s delivered %T", kind, object)
}

func decodeExport(u *unstructured.Unstructured) item {
	labels, _, _ := unstructured.NestedStringMap(u.Object, "spec", "exportedLabels")
	annotations, _, _ := unstructured.NestedStringMap(u.Object, "spec", "exportedAnnotations")
	return item{name: nameOf(u), export: &exportFact{
		created: u.GetCreationTimestamp().Time, labels: labels, annotations: annotations,
	}}
}

// ours tells whether Hansa wrote an object.
func ours(object metav1.Object) bool {
	return object.GetLabels()[api.SliceManagedByLabel] == api.Controller
}

func decodeService(s *corev1.Service) item {
	i := item{name: nameOf(s)}
	if ours(s) {
		if global := s.Labels[api.ServiceNameLabel]; global != "" {
			i.derived = &derivedFact{
				global: key{Namespace: i.name.Namespace, Name: strings.Clone(global)},
				says:   clusterset.Import{ClusterIPs: addresses(s.Spec.ClusterIPs), GatewayPorts: gatewayPorts(s.Annotations)},
			}
		}
		return i
	}
	p := clusterset.Properties{
		Type:            constant(s.Spec.Type),
		Headless:        s.Spec.ClusterIP == corev1.ClusterIPNone,
		SessionAffinity: constant(s.Spec.SessionAffinity),
	}
	for j := range s.Spec.Ports {
		port := &s.Spec.Ports[j]
		app := ""
		if port.AppProtocol != nil {
			app = clusterset.Intern(*port.AppProtocol).String()
		}
		p.Ports = append(p.Ports, clusterset.Port{
			Name: clusterset.Intern(port.Name).String(), Protocol: constant(port.Protocol), Port: port.Port, AppProtocol: app,
		})
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		p.AffinityTimeout = *c.ClientIP.TimeoutSeconds
	}
	if s.Spec.InternalTrafficPolicy != nil {
		p.InternalTrafficPolicy = constant(*s.Spec.InternalTrafficPolicy)
	}
	if s.Spec.TrafficDistribution != nil {
		p.TrafficDistribution = clusterset.Intern(*s.Spec.TrafficDistribution).String()
	}
	for _, family := range s.Spec.IPFamilies {
		p.IPFamilies = append(p.IPFamilies, constant(family))
	}
	i.service = &serviceFact{of: p}
	return i
}

// gatewayPorts returns the ports that a derived Service has of the cluster's gateways. What cannot be read is none: who writes
// derived Services writes it anew.
func gatewayPorts(annotations map[string]string) []clusterset.GatewayPort {
	ports, err := clusterset.ParseGatewayPorts(annotations[api.GatewayPortsAnnotation])
	if err != nil {
		return nil
	}
	for i := range ports {
		ports[i].Name, ports[i].Protocol = clusterset.Intern(ports[i].Name).String(), constant(ports[i].Protocol)
	}
	return ports
}

// constant returns the one copy of a word of the API.
func constant[T ~string](word T) T { return T(clusterset.Intern(string(word)).String()) }

func addresses(written []string) []netip.Addr {
	var list []netip.Addr
	for _, text := range written {
		if addr, err := netip.ParseAddr(text); err == nil { // "None" is no address
			list = append(list, addr)
		}
	}
	return list
}

func decodeSlice(s *discoveryv1.EndpointSlice) item {
	i := item{name: nameOf(s)}
	service := s.Labels[discoveryv1.LabelServiceName]
	if ours(s) || service == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
		return i
	}
	if strings.HasPrefix(i.name.Name, service) {
		service = i.name.Name[:len(service)]
	} else {
		service = strings.Clone(service)
	}
	fact := &sliceFact{service: service, ports: targetPorts(s.Ports)}
	endpoints := make([]clusterset.Endpoint, 0, len(s.Endpoints))
	for j := range s.Endpoints {
		if e, ok := decodeEndpoint(&s.Endpoints[j]); ok {
			endpoints = append(endpoints, e)
		}
	}
	fact.endpoints = clusterset.Tidy(endpoints)
	i.slice = fact
	return i
}

func targetPorts(written []discoveryv1.EndpointPort) []clusterset.TargetPort {
	ports := make([]clusterset.TargetPort, 0, len(written))
	for j := range written {
		port := &written[j]
		if port.Port == nil || *port.Port < 1 || *port.Port > 65535 {
			continue // no port means all ports, which no Service asks for
		}
		target := clusterset.TargetPort{Port: uint16(*port.Port), Protocol: corev1.ProtocolTCP}
		if port.Name != nil {
			target.Name = clusterset.Intern(*port.Name)
		}
		if port.Protocol != nil {
			target.Protocol = constant(*port.Protocol)
		}
		ports = append(ports, target)
	}
	return ports
}

// decodeEndpoint takes the first address, as kube-proxy does. What is nil means what discovery.k8s.io/v1 says that it means.
func decodeEndpoint(written *discoveryv1.Endpoint) (clusterset.Endpoint, bool) {
	if len(written.Addresses) == 0 {
		return clusterset.Endpoint{}, false
	}
	addr, err := netip.ParseAddr(written.Addresses[0])
	if err != nil {
		return clusterset.Endpoint{}, false
	}
	e := clusterset.Endpoint{Addr: addr, Node: name(written.NodeName), Zone: name(written.Zone), Hostname: name(written.Hostname)}
	ready := written.Conditions.Ready == nil || *written.Conditions.Ready
	serving := ready
	if written.Conditions.Serving != nil {
		serving = *written.Conditions.Serving
	}
	if ready {
		e.Conditions |= clusterset.Ready
	}
	if serving {
		e.Conditions |= clusterset.Serving
	}
	if written.Conditions.Terminating != nil && *written.Conditions.Terminating {
		e.Conditions |= clusterset.Terminating
	}
	return e, true
}

func name(written *string) clusterset.Name {
	if written == nil {
		return clusterset.Name{}
	}
	return clusterset.Intern(*written)
}

func decodeNode(m *metav1.PartialObjectMetadata) item {
	first := func(keys ...string) clusterset.Name {
		for _, k := range keys {
			if value := m.Labels[k]; value != "" {
				return clusterset.Intern(value)
			}
		}
		return clusterset.Name{}
	}
	return item{name: nameOf(m), node: &nodeFact{
		region: first(corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaRegion),
		zone:   first(corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaZone),
	}}
}
