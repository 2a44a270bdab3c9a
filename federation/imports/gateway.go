package imports

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// outbound is the way through the gateways of the importing cluster.
type outbound struct {
	gateways []clusterset.Gateway // none: there is no such way
	hints    bool                 // tell of each gateway for which node it is
	ports    []uint16             // of the gateways, by port of the service; 0: none
	reached  []map[string]bool    // by port of the service: the clusters to which the gateways have a way
}

// newOutbound returns what there is of that way for a service. A headless service has none: its clients choose pods
// themselves.
func newOutbound(snapshot *clusterset.Snapshot, service *clusterset.Service, cluster string, hints bool) outbound {
	gateways := near(snapshot.Cluster(cluster))
	if len(gateways) == 0 || service.Properties.Headless || len(service.Properties.Ports) == 0 {
		return outbound{}
	}
	o := outbound{gateways: gateways, hints: hints && !slices.ContainsFunc(gateways, func(g clusterset.Gateway) bool { return g.Node == "" })}
	held := portsIn(service, cluster)
	for i, port := range namedPorts(service.Properties) {
		o.ports = append(o.ports, gatewayPort(held, port))
		o.reached = append(o.reached, reached(snapshot, service.Key, cluster, i))
	}
	if !slices.ContainsFunc(o.ports, func(port uint16) bool { return port != 0 }) {
		return outbound{}
	}
	return o
}

// near returns the gateways that pods of their own cluster use, each address once.
func near(own *clusterset.Cluster) []clusterset.Gateway {
	if own == nil {
		return nil
	}
	var gateways []clusterset.Gateway
	for _, gateway := range own.InsideGateways() {
		if !slices.ContainsFunc(gateways, func(g clusterset.Gateway) bool { return g.Inside == gateway.Inside }) {
			gateways = append(gateways, gateway)
		}
	}
	return gateways
}

// hasGateways tells whether ports of gateways are of use in a cluster, now or when one of its gateways is back.
func hasGateways(own *clusterset.Cluster) bool {
	return own != nil && slices.ContainsFunc(own.Gateways, func(g clusterset.Gateway) bool { return g.Inside.IsValid() })
}

func portsIn(service *clusterset.Service, cluster string) []clusterset.GatewayPort {
	for i := range service.Imports {
		if service.Imports[i].Cluster == cluster {
			return service.Imports[i].GatewayPorts
		}
	}
	return nil
}

func gatewayPort(held []clusterset.GatewayPort, port clusterset.Port) uint16 {
	for _, h := range held {
		if h.Name == port.Name && protocolOf(h.Protocol) == protocolOf(port.Protocol) {
			return h.Port
		}
	}
	return 0
}

func protocolOf(protocol corev1.Protocol) corev1.Protocol {
	if protocol == "" {
		return corev1.ProtocolTCP
	}
	return protocol
}

// reached returns the clusters that a gateway of the importing cluster uses for a port.
func reached(snapshot *clusterset.Snapshot, key clusterset.Key, cluster string, port int) map[string]bool {
	clusters := map[string]bool{}
	for _, priority := range snapshot.ViewPort(key, clusterset.Consumer{Cluster: cluster, Gateway: true}, port).Priorities {
		for i := range priority.Localities {
			clusters[priority.Localities[i].Cluster] = true
		}
	}
	return clusters
}

// there tells whether there is a way through gateways at all.
func (o *outbound) there() bool { return len(o.gateways) > 0 }

// offers returns where the gateways take the traffic for a source cluster.
func (o *outbound) offers(p *clusterset.Properties, source string) []offer {
	var offers []offer
	for i, port := range namedPorts(p) {
		if o.ports[i] != 0 && o.reached[i][source] {
			offers = append(offers, offer{index: i, port: port, target: o.ports[i]})
		}
	}
	return offers
}

// byGateway tells whether traffic for a source cluster goes through the gateways: by default all does, since there a pod
// or a cluster that fails is noticed with the connection, not with the next change of a slice.
func (g *gathering) byGateway(source string) bool {
	if !g.out.there() {
		return false
	}
	direct := g.service.Policy != nil && g.service.Policy.Path == clusterset.Direct ||
		g.service.Properties.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	return !direct || !g.direct(source)
}

// collectGateways lists the gateways as endpoints of a source cluster. All clusters have the same ones: kube-proxy takes an
// address once.
func (g *gathering) collectGateways(source string) {
	offers := g.out.offers(g.service.Properties, source)
	if len(offers) == 0 {
		return
	}
	for _, gateway := range g.out.gateways {
		b := g.bucket(source, gateway.Inside.Is6(), offers)
		b.add(&clusterset.Endpoint{
			Addr: gateway.Inside, Node: clusterset.Intern(gateway.Node), Conditions: clusterset.Ready | clusterset.Serving,
		}, false, true)
		if g.out.hints {
			b.members[len(b.members)-1].listed.Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: gateway.Node}}}
		}
	}
}

// hinted tells whether an EndpointSlice has hints for nodes. API servers before 1.33 drop them.
func hinted(slice *unstructured.Unstructured) bool {
	endpoints, _, _ := unstructured.NestedSlice(slice.Object, "endpoints")
	for _, endpoint := range endpoints {
		if fields, ok := endpoint.(map[string]any); ok {
			if nodes, _, _ := unstructured.NestedSlice(fields, "hints", "forNodes"); len(nodes) > 0 {
				return true
			}
		}
	}
	return false
}

// usesGateways tells whether a service may be reached through gateways: then its ports are given ones of theirs.
func usesGateways(p *clusterset.Properties) bool { return p != nil && !p.Headless }

// claims returns the ports of a service that want a port of the gateways. They carry TCP and UDP.
func claims(p *clusterset.Properties) []clusterset.Port {
	if !usesGateways(p) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(namedPorts(p)), func(port clusterset.Port) bool {
		protocol := protocolOf(port.Protocol)
		return protocol != corev1.ProtocolTCP && protocol != corev1.ProtocolUDP
	})
}
