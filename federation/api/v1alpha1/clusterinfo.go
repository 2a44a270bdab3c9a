package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterInfo tells about a member as a place where services run. It has the name and the namespace of its
// KubeFedCluster. The hub creates one for every member; people may write the spec.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=clusterinfos,shortName=clinfo
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name=id,type=string,JSONPath=`.status.clusterID`
// +kubebuilder:printcolumn:name=network,type=string,JSONPath=`.status.network`
// +kubebuilder:printcolumn:name=region,type=string,JSONPath=`.status.region`
// +kubebuilder:printcolumn:name=state,type=string,JSONPath=`.spec.state`
// +kubebuilder:printcolumn:name=control-plane,type=string,JSONPath=`.status.controlPlane`
// +kubebuilder:printcolumn:name=data-plane,type=string,JSONPath=`.status.dataPlane`
// +kubebuilder:printcolumn:name=exports,type=integer,JSONPath=`.status.exports`
// +kubebuilder:printcolumn:name=endpoints,type=integer,JSONPath=`.status.endpoints`
// +kubebuilder:printcolumn:name=zones,type=string,JSONPath=`.status.zones`,priority=1
// +kubebuilder:printcolumn:name=gateways,type=string,JSONPath=`.status.gateways[*].address`,priority=1
// +kubebuilder:printcolumn:name=inside,type=string,JSONPath=`.status.gateways[*].inside`,priority=1
// +kubebuilder:printcolumn:name=last-known,type=date,JSONPath=`.status.lastKnown`,priority=1
// +kubebuilder:printcolumn:name=age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.spec) || !has(oldSelf.spec.clusterID) || oldSelf.spec.clusterID.size() == 0 || (has(self.spec) && has(self.spec.clusterID) && self.spec.clusterID == oldSelf.spec.clusterID) || !has(oldSelf.status) || !has(oldSelf.status.clusterID) || oldSelf.status.clusterID != oldSelf.spec.clusterID",message="clusterID cannot change while the cluster has it, since names and certificates carry it; to rename the cluster, delete this ClusterInfo and create it with the new id"
type ClusterInfo struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what people write.
	Spec ClusterInfoSpec `json:"spec,omitempty"`
	// Status is what the hub knows.
	Status ClusterInfoStatus `json:"status,omitempty"`
}

// ClusterInfoSpec is what people say about a cluster.
type ClusterInfoSpec struct {
	// Network names the network of the cluster's pods. Pods of two clusters reach each other directly when both name the same
	// one. Empty means a network of its own.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$')",message="write a name of lower-case letters, digits, dashes and dots, such as vpc-1; clusters that share a network write the same"
	Network string `json:"network,omitempty"`
	// ClusterID names the cluster in global names and certificates. Default: the member's ClusterProperty
	// cluster.clusterset.k8s.io, else its name with dots replaced by dashes. An id belongs to one cluster: who has it keeps it;
	// among those who begin to claim it together, the one whose KubeFedCluster is older has it, then the first by name. Another
	// one keeps the id that it had; if it had none, nothing of it is used. Its condition Accepted says so.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="write a DNS label: lower-case letters, digits and dashes, such as eu-west-1"
	ClusterID string `json:"clusterID,omitempty"`
	// Region is where the cluster stands. Default: what the label topology.kubernetes.io/region of its nodes says.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",message="write a region as the label topology.kubernetes.io/region of a node would say it: letters, digits, dashes, dots and underscores, such as eu-west"
	Region string `json:"region,omitempty"`
	// Zone is where consumers, gateways and endpoints of the cluster stand that have no zone of their own. Default: that of
	// all its nodes, if they are in one. Endpoints have the zone of their node.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",message="write a zone as the label topology.kubernetes.io/zone of a node would say it: letters, digits, dashes, dots and underscores, such as eu-west-1a"
	Zone string `json:"zone,omitempty"`
	// Gateways are where services of the cluster are reached from other networks. Default: the addresses that its agents tell.
	// Write them where others reach the agents at other addresses, through a load balancer for example, or where something else
	// is the gateway. Without agents and without this, other networks do not reach the cluster.
	//
	// +kubebuilder:validation:MaxItems=16
	Gateways []Gateway `json:"gateways,omitempty"`
	// State is Active, Cordoned (no new consumers from elsewhere while others serve) or Draining (no consumers at all while
	// others serve). Default: Active.
	State ClusterState `json:"state,omitempty"`
	// DataPlane says whether traffic arrives in the cluster: Up or Down. Down takes the cluster's endpoints away from consumers in
	// other clusters. What is written here holds whatever the agents of other clusters observe. Default: what they observe;
	// without agents it is not known, and the cluster's endpoints are used.
	DataPlane Health `json:"dataPlane,omitempty"`
}

// ClusterState is what operators want of a cluster.
//
// +kubebuilder:validation:Enum="";Active;Cordoned;Draining
type ClusterState string

// The states of a cluster; empty is Active.
const (
	Active   ClusterState = "Active"
	Cordoned ClusterState = "Cordoned"
	Draining ClusterState = "Draining"
)

// Health is one signal about a cluster.
//
// +kubebuilder:validation:Enum="";Up;Down
type Health string

// The values of a health signal; empty means that it is not known.
const (
	Up   Health = "Up"
	Down Health = "Down"
)

// Gateway is an address that takes traffic for a cluster's services.
type Gateway struct {
	// Address is an IPv4 or IPv6 address.
	//
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="write an IPv4 or IPv6 address, such as 203.0.113.10 or 2001:db8::1; names are not looked up"
	// +kubebuilder:validation:XValidation:rule="!isIP(self) || ip(self).isGlobalUnicast() || ip(self).isLoopback() || ip(self).isLinkLocalUnicast()",message="write the address at which other clusters reach the gateway, such as 203.0.113.10 or 2001:db8::1; the unspecified address (0.0.0.0, ::), multicast and broadcast reach no gateway"
	Address string `json:"address"`
	// Port is where the gateway takes TLS by server name. Default 15443.
	//
	// +kubebuilder:default=15443
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
	// TunnelPort is where gateways of other clusters open tunnels. Default: the port that the cluster's agents tell; without
	// agents there are no tunnels, and only clients that bring TLS reach the cluster here.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	TunnelPort int32 `json:"tunnelPort,omitempty"`
}

// Source says from whom the hub knows something.
//
// +kubebuilder:validation:Enum=Spec;Agent
type Source string

// The sources of what the hub knows.
const (
	// SourceSpec is the spec of the same object.
	SourceSpec Source = "Spec"
	// SourceAgent is what agents told.
	SourceAgent Source = "Agent"
)

// KnownGateway is a gateway as the hub knows it.
type KnownGateway struct {
	// Address is where other clusters reach it. Empty where they reach the cluster at other addresses, which the spec says.
	Address string `json:"address,omitempty"`
	// Port is where it takes TLS by server name, for services whose policy opens them. 0: nowhere.
	Port int32 `json:"port,omitempty"`
	// TunnelPort is where it takes tunnels of other clusters' gateways. 0: nowhere.
	TunnelPort int32 `json:"tunnelPort,omitempty"`
	// Inside is the address at which pods of its own cluster reach it. Empty: they do not, or it is not known.
	Inside string `json:"inside,omitempty"`
	// Node is where it runs in its own cluster.
	Node string `json:"node,omitempty"`
	// Health is what other clusters' agents observe of it. Empty: nothing.
	Health Health `json:"health,omitempty"`
	// Source says who told of the address: Spec or Agent.
	Source Source `json:"source,omitempty"`
}

// ClusterInfoStatus is what the hub knows of a cluster.
type ClusterInfoStatus struct {
	// ClusterID is the id that the cluster has. Empty while it has none, and then nothing of it is used.
	ClusterID string `json:"clusterID,omitempty"`
	// Network is that of the spec.
	Network string `json:"network,omitempty"`
	// Region is that of the spec, else what the nodes say.
	Region string `json:"region,omitempty"`
	// Zones are those of the nodes.
	Zones []string `json:"zones,omitempty"`
	// Gateways are those of the spec and those that agents told of. After a restart the hub uses them until an agent speaks.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=80
	Gateways []KnownGateway `json:"gateways,omitempty"`
	// ControlPlane tells whether the API server is ready. It says nothing about traffic.
	ControlPlane Health `json:"controlPlane,omitempty"`
	// DataPlane tells whether traffic arrives: that of the spec, else what agents of other clusters observe.
	DataPlane Health `json:"dataPlane,omitempty"`
	// DataPlaneSource says who told of dataPlane. Empty while it is not known.
	DataPlaneSource Source `json:"dataPlaneSource,omitempty"`
	// Exports counts the services that the cluster is known to export.
	//
	// +optional
	Exports int32 `json:"exports"`
	// Endpoints counts the endpoints that are known of them.
	//
	// +optional
	Endpoints int32 `json:"endpoints"`
	// LastKnown is when the hub was last in step with the cluster; nil while it is.
	LastKnown *metav1.Time `json:"lastKnown,omitempty"`
	// Conditions are Accepted (the cluster is a member and has the id that it claims) and InStep (the hub reads everything that
	// it should; else what is known is as old as lastKnown).
	//
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ClusterInfoList is a list of ClusterInfos.
//
// +kubebuilder:object:root=true
type ClusterInfoList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ClusterInfo `json:"items"`
}
