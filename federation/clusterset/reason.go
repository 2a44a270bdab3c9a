package clusterset

import "time"

// Reason says why an endpoint, or a whole service, is not used by a consumer. It is empty for what is used.
type Reason string

// The reasons. An endpoint has the first that applies, in this order.
const (
	Used Reason = ""

	// NoSuchService: no cluster exports it.
	NoSuchService Reason = "NoSuchService"
	// NotExported: no export is valid; or, of an endpoint, that of its cluster is not.
	NotExported Reason = "NotExported"
	// NotAllowed: the policy does not list the consumer's cluster.
	NotAllowed Reason = "NotAllowed"
	// ZeroWeight: the policy gives the cluster no weight.
	ZeroWeight Reason = "ZeroWeight"
	// PortNotExposed: the cluster's Service does not have the port.
	PortNotExposed Reason = "PortNotExposed"
	// NoGateway: the cluster is in another network and has no gateway.
	NoGateway Reason = "NoGateway"
	// NotOpened: the cluster is in another network, and its gateways pass TLS on for services only whose policy says so.
	NotOpened Reason = "NotOpened"
	// NoTargetPort: the endpoint's slice does not name the port.
	NoTargetPort Reason = "NoTargetPort"
	// OtherFamily: the cluster's pods are used by their addresses of the other IP family.
	OtherFamily Reason = "OtherFamily"
	// NotInOrder: no tier of the policy's failover order covers it.
	NotInOrder Reason = "NotInOrder"
	// IsTerminating: the pod is being deleted.
	IsTerminating Reason = "Terminating"
	// NotReady: the pod is not ready.
	NotReady Reason = "NotReady"
	// DataPlaneDown: traffic does not arrive in the cluster.
	DataPlaneDown Reason = "DataPlaneDown"
	// GatewaysDown: the cluster is in another network and all its gateways are down.
	GatewaysDown Reason = "GatewaysDown"
	// DuplicateAddress: the same address and port is listed already, in a way that comes first.
	DuplicateAddress Reason = "DuplicateAddress"
	// ClusterCordoned: the cluster is cordoned, and others serve.
	ClusterCordoned Reason = "ClusterCordoned"
	// ClusterDraining: the cluster is draining, and others serve.
	ClusterDraining Reason = "ClusterDraining"
)

// Explain returns the reason as a sentence without the final stop, for people.
func (r Reason) Explain() string {
	if text, known := explanations[r]; known {
		return text
	}
	return string(r)
}

var explanations = map[Reason]string{
	Used:           "used",
	NoSuchService:  "no cluster exports the service: create a ServiceExport beside it",
	NotExported:    "the export is not valid: see the conditions of the ServiceExport",
	NotAllowed:     "the ServicePolicy does not list the consumer's cluster",
	ZeroWeight:     "the ServicePolicy gives the cluster the weight 0",
	PortNotExposed: "the Service in the cluster does not expose this port",
	NoGateway:      "the cluster is in another network and has no gateway",
	NotOpened: "the cluster is in another network, and the consumer's own cluster has no gateway for this port: " +
		"set passthrough in the ServicePolicy for clients with TLS, or install a gateway beside the consumer",
	NoTargetPort:     "the EndpointSlice does not name this port",
	OtherFamily:      "the pod is used by its address of the other IP family",
	NotInOrder:       "no step of the ServicePolicy's failover order covers it",
	IsTerminating:    "the pod is being deleted",
	NotReady:         "the pod is not ready",
	DataPlaneDown:    "no traffic arrives in the cluster",
	GatewaysDown:     "the cluster is in another network and all its gateways are down",
	DuplicateAddress: "the same address is listed already, from a cluster that comes first",
	ClusterCordoned:  "the cluster is cordoned and another one serves",
	ClusterDraining:  "the cluster is draining and another one serves",
}

// Explanation tells, for one consumer and port, about every endpoint that is known of a service.
type Explanation struct {
	// Reason is that of the View: when it is not empty, it holds for all endpoints.
	Reason Reason
	// Clusters tell how the source clusters stand, sorted by cluster.
	Clusters []SourceFacts
	// Endpoints are sorted by cluster and address.
	Endpoints []Verdict
}

// SourceFacts is how a source cluster stands for a consumer.
type SourceFacts struct {
	Cluster                 string
	ControlPlane, DataPlane Health
	State                   State
	// Direct says that the consumer reaches its pods at their own addresses.
	Direct bool
	// Age is how old what is known of it is; zero while the hub is in step with it.
	Age time.Duration
	// Unread says that its endpoints were never read.
	Unread bool
}

// Verdict is what became of one endpoint.
type Verdict struct {
	Cluster  string
	Endpoint Endpoint
	// Reason is why it is not used; empty if it is, and then the following fields are set.
	Reason Reason
	// Priority counts from 0.
	Priority int
	// Weight is that of its locality in the priority.
	Weight uint32
	// Targets are the addresses by which it is reached: its own, or those of gateways.
	Targets []Target
}
