package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterInfo tells about a member as a place where services run. It has the name and the namespace of its
// KubeFedCluster. The hub creates one for every member; people may write the spec.
type ClusterInfo struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ClusterInfoSpec   `json:"spec,omitempty"`
	Status ClusterInfoStatus `json:"status,omitempty"`
}

// ClusterInfoSpec is what people say about a cluster.
type ClusterInfoSpec struct {
	// Network names the network of the cluster's pods. Pods of two clusters reach each other directly when both name the same
	// one. Empty means a network of its own.
	Network string `json:"network,omitempty"`
	// ClusterID names the cluster in global names. Default: the member's ClusterProperty cluster.clusterset.k8s.io, else its
	// name with dots replaced by dashes.
	ClusterID string `json:"clusterID,omitempty"`
	// Region and Zone override what the nodes' labels say.
	Region string `json:"region,omitempty"`
	Zone   string `json:"zone,omitempty"`
	// Gateways override the discovered ones: where services of the cluster are reached from other networks.
	Gateways []Gateway `json:"gateways,omitempty"`
	// State is Active, Cordoned (no new consumers from elsewhere while others serve) or Draining (no consumers at all while
	// others serve).
	State ClusterState `json:"state,omitempty"`
	// DataPlane overrides the data plane's health: Up or Down. Empty means what is observed.
	DataPlane Health `json:"dataPlane,omitempty"`
}

// ClusterState is what operators want of a cluster.
type ClusterState string

// The states of a cluster.
const (
	Active   ClusterState = "Active"
	Cordoned ClusterState = "Cordoned"
	Draining ClusterState = "Draining"
)

// Health is one signal about a cluster.
type Health string

// The values of a health signal; empty means that it is not known.
const (
	Up   Health = "Up"
	Down Health = "Down"
)

// Gateway is an address that takes traffic for a cluster's services.
type Gateway struct {
	// Address is an IPv4 or IPv6 address.
	Address string `json:"address"`
	// Port takes TLS by server name. Default 15443.
	Port int32 `json:"port,omitempty"`
}

// ClusterInfoStatus is what the hub knows of a cluster.
type ClusterInfoStatus struct {
	ClusterID string    `json:"clusterID,omitempty"`
	Network   string    `json:"network,omitempty"`
	Region    string    `json:"region,omitempty"`
	Zones     []string  `json:"zones,omitempty"`
	Gateways  []Gateway `json:"gateways,omitempty"`
	// ControlPlane tells whether the API server answers, DataPlane whether traffic arrives. They are never mixed.
	ControlPlane Health `json:"controlPlane,omitempty"`
	DataPlane    Health `json:"dataPlane,omitempty"`
	// Exports and Endpoints count what is known of the cluster.
	Exports   int32 `json:"exports"`
	Endpoints int32 `json:"endpoints"`
	// LastKnown is when the hub was last in step with the cluster; nil while it is.
	LastKnown  *metav1.Time       `json:"lastKnown,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ClusterInfoList is a list of ClusterInfos.
type ClusterInfoList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ClusterInfo `json:"items"`
}

// ServicePolicy says how the global service of its own namespace and name is to be used. It lives in the host cluster.
type ServicePolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ServicePolicySpec   `json:"spec,omitempty"`
	Status ServicePolicyStatus `json:"status,omitempty"`
}

// ServicePolicySpec is how a service is to be used. What is not set has a sensible default.
type ServicePolicySpec struct {
	// Failover is the order in which endpoints are used. Default: the consumer's zone, its region, the rest.
	Failover []FailoverTier `json:"failover,omitempty"`
	// ClusterWeights divide the traffic of one tier between clusters.
	ClusterWeights []ClusterWeight `json:"clusterWeights,omitempty"`
	// MinHealthyPercent is the share of a tier's endpoints that must be ready for it to carry the traffic alone.
	MinHealthyPercent *int32 `json:"minHealthyPercent,omitempty"`
	// Consumers are the clusters that may use the service; nil means all.
	Consumers *Consumers `json:"consumers,omitempty"`

	LoadBalancing    *LoadBalancing    `json:"loadBalancing,omitempty"`
	CircuitBreaker   *CircuitBreaker   `json:"circuitBreaker,omitempty"`
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
	Timeouts         *Timeouts         `json:"timeouts,omitempty"`
	Retries          *Retries          `json:"retries,omitempty"`
	Routes           []Route           `json:"routes,omitempty"`
	Mirror           *Mirror           `json:"mirror,omitempty"`
	Fault            *Fault            `json:"fault,omitempty"`
}

// FailoverTier is one step of a failover order.
type FailoverTier struct {
	// By is Zone, Region, Cluster or Any.
	By string `json:"by"`
	// Names are the zones, regions or clusters meant; empty means the consumer's own.
	Names []string `json:"names,omitempty"`
}

// ClusterWeight is the weight of one cluster.
type ClusterWeight struct {
	Cluster string `json:"cluster"`
	// Weight is 0 to 10000; 0 takes the cluster out.
	Weight int32 `json:"weight"`
}

// Consumers lists clusters that may use a service.
type Consumers struct {
	Clusters []string `json:"clusters"`
}

// LoadBalancing is how a client chooses among endpoints.
type LoadBalancing struct {
	// Algorithm is RoundRobin (default), LeastRequest, RingHash or Random.
	Algorithm string `json:"algorithm,omitempty"`
	// HashHeader is the header that RingHash hashes by.
	HashHeader string `json:"hashHeader,omitempty"`
}

// CircuitBreaker bounds what one client has under way.
type CircuitBreaker struct {
	MaxConnections     *int32 `json:"maxConnections,omitempty"`
	MaxRequests        *int32 `json:"maxRequests,omitempty"`
	MaxPendingRequests *int32 `json:"maxPendingRequests,omitempty"`
	MaxRetries         *int32 `json:"maxRetries,omitempty"`
}

// OutlierDetection says when a client stops using an endpoint that fails.
type OutlierDetection struct {
	Consecutive5xx     *int32           `json:"consecutive5xx,omitempty"`
	Interval           *metav1.Duration `json:"interval,omitempty"`
	BaseEjectionTime   *metav1.Duration `json:"baseEjectionTime,omitempty"`
	MaxEjectionPercent *int32           `json:"maxEjectionPercent,omitempty"`
}

// Timeouts bound how long a client waits.
type Timeouts struct {
	Request *metav1.Duration `json:"request,omitempty"`
	Idle    *metav1.Duration `json:"idle,omitempty"`
	Connect *metav1.Duration `json:"connect,omitempty"`
}

// Retries says which requests a client sends again.
type Retries struct {
	// Attempts beyond the first.
	Attempts int32 `json:"attempts"`
	// On lists what is tried again, as Envoy names it: 5xx, gateway-error, connect-failure, unavailable, …
	On         []string         `json:"on,omitempty"`
	PerTry     *metav1.Duration `json:"perTry,omitempty"`
	Backoff    *metav1.Duration `json:"backoff,omitempty"`
	MaxBackoff *metav1.Duration `json:"maxBackoff,omitempty"`
}

// Route sends requests that match to destinations.
type Route struct {
	Matches      []RouteMatch       `json:"matches,omitempty"`
	Destinations []RouteDestination `json:"destinations"`
	Timeout      *metav1.Duration   `json:"timeout,omitempty"`
	Retries      *Retries           `json:"retries,omitempty"`
	Mirror       *Mirror            `json:"mirror,omitempty"`
}

// RouteMatch is a set of conditions on a request, all of which must hold.
type RouteMatch struct {
	Path    *StringMatch  `json:"path,omitempty"`
	Method  string        `json:"method,omitempty"`
	Headers []HeaderMatch `json:"headers,omitempty"`
}

// StringMatch compares a string; exactly one field is set.
type StringMatch struct {
	Exact  string `json:"exact,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	Regex  string `json:"regex,omitempty"`
}

// HeaderMatch compares a header. Without a value the header only has to be there.
type HeaderMatch struct {
	Name  string       `json:"name"`
	Value *StringMatch `json:"value,omitempty"`
}

// RouteDestination is a part of the endpoints with a share of the requests.
type RouteDestination struct {
	Subset `json:",inline"`
	// Weight is relative to the other destinations of the route. Default 1.
	Weight *int32 `json:"weight,omitempty"`
}

// Subset is a part of a service's endpoints, or another global service.
type Subset struct {
	// Clusters limits the endpoints to those of these clusters.
	Clusters []string `json:"clusters,omitempty"`
	// Service is another global service; nil means this one.
	Service *ServiceReference `json:"service,omitempty"`
}

// ServiceReference names a global service.
type ServiceReference struct {
	// Namespace defaults to the policy's own.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Port defaults to the port that was asked for.
	Port int32 `json:"port,omitempty"`
}

// Mirror sends a copy of requests elsewhere.
type Mirror struct {
	Subset `json:",inline"`
	// Percent is 0 to 100, default 100.
	Percent *int32 `json:"percent,omitempty"`
}

// Fault makes a client answer requests with errors, or late.
type Fault struct {
	Delay *FaultDelay `json:"delay,omitempty"`
	Abort *FaultAbort `json:"abort,omitempty"`
}

// FaultDelay holds requests back.
type FaultDelay struct {
	Percent  int32           `json:"percent"`
	Duration metav1.Duration `json:"duration"`
}

// FaultAbort answers requests with an error.
type FaultAbort struct {
	Percent int32 `json:"percent"`
	// HTTPStatus or GRPCStatus, exactly one.
	HTTPStatus *int32 `json:"httpStatus,omitempty"`
	GRPCStatus *int32 `json:"grpcStatus,omitempty"`
}

// ServicePolicyStatus says what became of a policy.
type ServicePolicyStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
	// HonouredBy lists for each field that is set which kinds of client act on it.
	HonouredBy []FieldSupport `json:"honouredBy,omitempty"`
}

// FieldSupport says who acts on one field of a policy.
type FieldSupport struct {
	Field string `json:"field"`
	// Clients are some of DNS, Gateway (plain pods through a gateway), GRPC, Envoy.
	Clients []string `json:"clients"`
	// Note says what a client makes of it where that is not the whole of it.
	Note string `json:"note,omitempty"`
}

// ServicePolicyList is a list of ServicePolicies.
type ServicePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ServicePolicy `json:"items"`
}
