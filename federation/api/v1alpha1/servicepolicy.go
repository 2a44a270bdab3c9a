package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ServicePolicy says how the global service of its own namespace and name is to be used. It lives in the host cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=svcpol
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name=accepted,type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].status`
// +kubebuilder:printcolumn:name=algorithm,type=string,JSONPath=`.spec.loadBalancing.algorithm`
// +kubebuilder:printcolumn:name=consumers,type=string,JSONPath=`.spec.consumers.clusters`,priority=1
// +kubebuilder:printcolumn:name=message,type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].message`,priority=1
// +kubebuilder:printcolumn:name=age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be the name of the service that the policy is for: a DNS label such as web"
type ServicePolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what people write.
	Spec ServicePolicySpec `json:"spec,omitempty"`
	// Status is what the hub says of it.
	Status ServicePolicyStatus `json:"status,omitempty"`
}

// ServicePolicySpec is how a service is to be used. What is not set has a sensible default. Clusters are named by their
// cluster id everywhere (`kubectl get clusterinfos` shows it).
type ServicePolicySpec struct {
	// Failover is the order in which endpoints are used. Default: the consumer's zone, its region, the rest.
	//
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="!self.exists(t, t.by == 'Any') || (self.filter(t, t.by == 'Any').size() == 1 && self[self.size() - 1].by == 'Any')",message="Any stands for everything that is left: write it once, as the last tier"
	// +kubebuilder:validation:XValidation:rule="self.all(t, self.exists_one(u, u.by == t.by && (has(u.names) ? u.names : []) == (has(t.names) ? t.names : [])))",message="two tiers select the same, so the later one can never act: remove it, or name other zones, regions or clusters in it"
	Failover []FailoverTier `json:"failover,omitempty"`
	// ClusterWeights divide the traffic of one tier between clusters. A cluster that is not listed has weight 1.
	//
	// +listType=map
	// +listMapKey=cluster
	// +kubebuilder:validation:MaxItems=256
	ClusterWeights []ClusterWeight `json:"clusterWeights,omitempty"`
	// MinHealthyPercent is the share of a tier's endpoints that must be ready for it to carry the traffic alone; below it the
	// next tier takes part. Default 0: a tier is left when nothing in it is ready.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MinHealthyPercent *int32 `json:"minHealthyPercent,omitempty"`
	// Consumers are the clusters that may use the service. Without it all may.
	Consumers *Consumers `json:"consumers,omitempty"`
	// DNS is how the names of the service are answered for.
	DNS *DNS `json:"dns,omitempty"`

	// Path is how plain pods of a cluster with gateways of its own reach the service: Gateway (default) sends every connection
	// through one of them, which prefers pods of its own cluster, follows failover and clusterWeights, and tries the next way
	// at once when one fails. Direct lets kube-proxy send to pods of its own cluster, and to those on the same network, without
	// that hop, whatever failover and clusterWeights say; what is further away still goes through a gateway.
	//
	// +kubebuilder:validation:XValidation:rule="self in ['', 'Gateway', 'Direct']",message="write Gateway, which is the default, or Direct, with which pods that need no gateway are reached without one"
	// +kubebuilder:validation:MaxLength=16
	Path ServicePath `json:"path,omitempty"`
	// Passthrough opens the service to clients on other networks that bring TLS of their own: gateways pass it on by server name,
	// unseen. Without it the service is closed to them. Tunnels between gateways do not need it. A gateway sees neither who
	// such a client is nor what it says, so consumers does not hold for it: the service has to check certificates itself.
	Passthrough *Passthrough `json:"passthrough,omitempty"`
	// FirstFlight lets gateways send the first bytes of a client along with the request for a connection, which saves a round
	// trip. Such a connection is not tried on a second way when the first is slow, since what was sent might be delivered twice.
	FirstFlight bool `json:"firstFlight,omitempty"`

	// LoadBalancing is how a client chooses among the endpoints of a tier. Default: RoundRobin.
	LoadBalancing *LoadBalancing `json:"loadBalancing,omitempty"`
	// CircuitBreaker bounds what one client has under way. Default: the client's own bounds.
	CircuitBreaker *CircuitBreaker `json:"circuitBreaker,omitempty"`
	// OutlierDetection has clients stop using an endpoint that fails, for a while. Without it they do not; {} asks for it with
	// all defaults.
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
	// Timeouts bound how long a client waits.
	Timeouts *Timeouts `json:"timeouts,omitempty"`
	// Retries says which requests a client sends again. Without it the client decides.
	Retries *Retries `json:"retries,omitempty"`
	// Routes are tried in order; requests that none matches go to the service as a whole.
	//
	// +kubebuilder:validation:MaxItems=32
	Routes []Route `json:"routes,omitempty"`
	// Mirror sends a copy of requests elsewhere; what comes back is thrown away.
	Mirror *Mirror `json:"mirror,omitempty"`
	// Fault makes clients answer requests with errors, or late, to see what happens then.
	Fault *Fault `json:"fault,omitempty"`
}

// FailoverTier is one step of a failover order.
//
// +kubebuilder:validation:XValidation:rule="self.by != 'Any' || !has(self.names) || self.names.size() == 0",message="Any takes no names: remove them, or write by: Zone, Region or Cluster"
type FailoverTier struct {
	// By is what the tier's endpoints are chosen by: Zone, Region, Cluster, or Any for all that are left.
	//
	// +kubebuilder:validation:Enum=Zone;Region;Cluster;Any
	By string `json:"by"`
	// Names are the zones, regions or clusters meant; empty means the consumer's own.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",message="write a zone or a region as the labels of nodes say it, or the id of a cluster as kubectl get clusterinfos shows it: letters, digits, dashes, dots and underscores"
	Names []string `json:"names,omitempty"`
}

// ClusterWeight is the weight of one cluster.
type ClusterWeight struct {
	// Cluster is the id of the cluster.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="write the id of a cluster, as kubectl get clusterinfos shows it: a DNS label such as eu-west-1"
	Cluster string `json:"cluster"`
	// Weight is 0 to 10000, relative to the other clusters; 0 takes the cluster out.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	Weight int32 `json:"weight"`
}

// Consumers lists clusters that may use a service. An empty list lets nobody.
type Consumers struct {
	// Clusters are the ids of the clusters that may use the service. An empty list lets nobody.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="write the id of a cluster, as kubectl get clusterinfos shows it: a DNS label such as eu-west-1"
	Clusters []string `json:"clusters"`
}

// DNS is how the names of a service are answered for.
type DNS struct {
	// TTLSeconds is for how long clients may keep an answer about the service's names, 1 to 86400 seconds. Default 5. A
	// client that keeps one longer hears later of endpoints that have gone.
	//
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 86400",message="write a number of seconds from 1 to 86400, which is a day, such as 5 or 300; leave it out for 5 seconds"
	TTLSeconds *int32 `json:"ttlSeconds,omitempty"`
}

// ServicePath is how plain pods reach a service.
type ServicePath string

// The paths; empty is PathGateway.
const (
	PathGateway ServicePath = "Gateway"
	PathDirect  ServicePath = "Direct"
)

// Passthrough says which clients with TLS of their own reach a service through gateways. {} lets all of them.
type Passthrough struct {
	// Sources are the ranges of addresses from which clients may come, as a gateway sees them. Default: everywhere.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="write a range of addresses, such as 203.0.113.0/24 or 2001:db8::/32; one address is a range with /32 or /128 behind it"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",message="write a range by its first address, such as 10.0.0.0/8 instead of 10.1.2.3/8"
	Sources []string `json:"sources,omitempty"`
	// ProxyProtocol puts a header of the PROXY protocol, version 2, before what a client says, so that the service learns where
	// the client comes from. The service has to expect it.
	ProxyProtocol bool `json:"proxyProtocol,omitempty"`
}

// LoadBalancing is how a client chooses among endpoints.
//
// +kubebuilder:validation:XValidation:rule="!has(self.hashHeader) || self.hashHeader.size() == 0 || (has(self.algorithm) && self.algorithm == 'RingHash')",message="hashHeader works with RingHash only: write algorithm: RingHash, or remove hashHeader"
type LoadBalancing struct {
	// Algorithm is RoundRobin (default), LeastRequest, RingHash or Random.
	//
	// +kubebuilder:validation:Enum="";RoundRobin;LeastRequest;RingHash;Random
	Algorithm string `json:"algorithm,omitempty"`
	// HashHeader is the header that RingHash hashes by.
	//
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[-A-Za-z0-9!#$%&*+.^_`|~]+$')",message="write the name of a header, such as x-user"
	HashHeader string `json:"hashHeader,omitempty"`
}

// CircuitBreaker bounds what one client has under way.
type CircuitBreaker struct {
	// MaxConnections is how many connections to one cluster's endpoints a client may hold.
	//
	// +kubebuilder:validation:Minimum=1
	MaxConnections *int32 `json:"maxConnections,omitempty"`
	// MaxRequests is how many requests a client may have under way; more fail at once.
	//
	// +kubebuilder:validation:Minimum=1
	MaxRequests *int32 `json:"maxRequests,omitempty"`
	// MaxPendingRequests is how many requests may wait for a connection; more fail at once.
	//
	// +kubebuilder:validation:Minimum=1
	MaxPendingRequests *int32 `json:"maxPendingRequests,omitempty"`
	// MaxRetries is how many retries a client may have under way; requests beyond fail as they are.
	//
	// +kubebuilder:validation:Minimum=1
	MaxRetries *int32 `json:"maxRetries,omitempty"`
}

// OutlierDetection says when a client stops using an endpoint that fails.
type OutlierDetection struct {
	// Consecutive5xx is the number of failures in a row, default 5.
	//
	// +kubebuilder:validation:Minimum=1
	Consecutive5xx *int32 `json:"consecutive5xx,omitempty"`
	// Interval is the time between checks, default 10s, at most 1h.
	Interval *metav1.Duration `json:"interval,omitempty"`
	// BaseEjectionTime is how long the first ejection lasts, default 30s, at most 24h. Each further one lasts longer.
	BaseEjectionTime *metav1.Duration `json:"baseEjectionTime,omitempty"`
	// MaxEjectionPercent is the share of the endpoints that may be out at once, default 10.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxEjectionPercent *int32 `json:"maxEjectionPercent,omitempty"`
}

// Timeouts bound how long a client waits.
type Timeouts struct {
	// Request is how long a request may take, retries included, at most 24h. Default: no bound.
	Request *metav1.Duration `json:"request,omitempty"`
	// Idle is how long a connection without requests is kept, at most 24h. Default: the client's own.
	Idle *metav1.Duration `json:"idle,omitempty"`
	// Connect is how long to wait until a connection stands, at most 1h. Default: the client's own.
	Connect *metav1.Duration `json:"connect,omitempty"`
}

// Retries says which requests a client sends again.
//
// +kubebuilder:validation:XValidation:rule="!has(self.maxBackoff) || duration(self.maxBackoff) >= (has(self.backoff) ? duration(self.backoff) : duration('25ms'))",message="maxBackoff must be at least backoff, which is 25ms when it is not set"
type Retries struct {
	// Attempts is how often a request is sent beyond the first time, 1 to 10.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	Attempts int32 `json:"attempts"`
	// On lists what is tried again, as Envoy names it: 5xx, gateway-error, connect-failure, unavailable, … Default:
	// connect-failure, refused-stream and unavailable, which are safe to send again. (It is not called on, because YAML
	// reads that as true.)
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Enum="5xx";gateway-error;reset;reset-before-request;connect-failure;envoy-ratelimited;retriable-4xx;refused-stream;http3-post-connect-failure;cancelled;deadline-exceeded;internal;resource-exhausted;unavailable
	On []string `json:"retryOn,omitempty"`
	// PerTry is how long one attempt may take, at most 24h. Default: the timeout of the request.
	PerTry *metav1.Duration `json:"perTry,omitempty"`
	// Backoff is the base of the growing time between attempts, default 25ms, at most 1h.
	Backoff *metav1.Duration `json:"backoff,omitempty"`
	// MaxBackoff bounds the time between attempts, default ten times backoff, at most 1h.
	MaxBackoff *metav1.Duration `json:"maxBackoff,omitempty"`
}

// Route sends requests that match to destinations.
type Route struct {
	// Matches are sets of conditions; a request that meets any of them is routed. None means every request.
	//
	// +kubebuilder:validation:MaxItems=16
	Matches []RouteMatch `json:"matches,omitempty"`
	// Destinations are where the requests go, each with its share.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.exists(d, !has(d.weight) || d.weight > 0)",message="give at least one destination a weight above 0"
	Destinations []RouteDestination `json:"destinations"`
	// Timeout replaces timeouts.request for this route, at most 24h.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// Retries replace those of the policy for this route.
	Retries *Retries `json:"retries,omitempty"`
	// Mirror replaces that of the policy for this route.
	Mirror *Mirror `json:"mirror,omitempty"`
}

// RouteMatch is a set of conditions on a request, all of which must hold.
type RouteMatch struct {
	// Path is that of the request, for gRPC /package.Service/Method.
	//
	// +kubebuilder:validation:XValidation:rule="(!has(self.exact) || self.exact == '' || self.exact.startsWith('/')) && (!has(self.prefix) || self.prefix == '' || self.prefix.startsWith('/'))",message="write a path that starts with /, such as /shop or, for gRPC, /package.Service/Method"
	Path *StringMatch `json:"path,omitempty"`
	// Method is that of HTTP; empty means any.
	//
	// +kubebuilder:validation:Enum="";GET;HEAD;POST;PUT;DELETE;CONNECT;OPTIONS;TRACE;PATCH
	Method string `json:"method,omitempty"`
	// Headers are conditions on headers, all of which must hold.
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Headers []HeaderMatch `json:"headers,omitempty"`
}

// StringMatch compares a string; exactly one field is set.
//
// +kubebuilder:validation:XValidation:rule="(has(self.exact) && self.exact.size() > 0 ? 1 : 0) + (has(self.prefix) && self.prefix.size() > 0 ? 1 : 0) + (has(self.regex) && self.regex.size() > 0 ? 1 : 0) == 1",message="write exactly one of exact, prefix and regex"
type StringMatch struct {
	// Exact is the whole string.
	//
	// +kubebuilder:validation:MaxLength=1024
	Exact string `json:"exact,omitempty"`
	// Prefix is what the string begins with.
	//
	// +kubebuilder:validation:MaxLength=1024
	Prefix string `json:"prefix,omitempty"`
	// Regex is in RE2 syntax and matches the whole string.
	//
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self == '' || ''.matches(self) || !''.matches(self)",message="write a regular expression in RE2 syntax, such as /v[0-9]+/.*"
	Regex string `json:"regex,omitempty"`
}

// HeaderMatch compares a header. Without a value the header only has to be there.
type HeaderMatch struct {
	// Name of the header, in any case.
	//
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-A-Za-z0-9!#$%&*+.^_`|~]+$')",message="write the name of a header, such as x-canary; path and method have fields of their own"
	Name string `json:"name"`
	// Value is what its value must be. Without it the header only has to be there.
	Value *StringMatch `json:"value,omitempty"`
}

// RouteDestination is a part of the endpoints with a share of the requests.
type RouteDestination struct {
	Subset `json:",inline"`
	// Weight is relative to the other destinations of the route. Default 1.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	Weight *int32 `json:"weight,omitempty"`
}

// Subset is a part of a service's endpoints, or another global service.
type Subset struct {
	// Clusters limits the endpoints to those of these clusters, by their ids.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="write the id of a cluster, as kubectl get clusterinfos shows it: a DNS label such as eu-west-1"
	Clusters []string `json:"clusters,omitempty"`
	// Service is another global service. Default: this one.
	Service *ServiceReference `json:"service,omitempty"`
}

// ServiceReference names a global service.
type ServiceReference struct {
	// Namespace of the service. Default: the policy's own.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="write the name of a namespace, or leave it out for that of the policy"
	Namespace string `json:"namespace,omitempty"`
	// Name of the service.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="write the name of a service without its namespace, such as web"
	Name string `json:"name"`
	// Port of the service. Default: the port that was asked for.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// Mirror sends a copy of requests elsewhere.
//
// +kubebuilder:validation:XValidation:rule="has(self.service) || (has(self.clusters) && self.clusters.size() > 0)",message="say where copies go: name a service, or clusters; a copy to all of the same service would only double its load"
type Mirror struct {
	Subset `json:",inline"`
	// Percent is the share of requests that are copied, 0 to 100, default 100.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`
}

// Fault makes a client answer requests with errors, or late.
type Fault struct {
	// Delay holds a share of the requests back.
	Delay *FaultDelay `json:"delay,omitempty"`
	// Abort answers a share of the requests with an error.
	Abort *FaultAbort `json:"abort,omitempty"`
}

// FaultDelay holds requests back.
type FaultDelay struct {
	// Percent is the share of requests that are held back, 0 to 100.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent int32 `json:"percent"`
	// Duration is for how long, at most 1h.
	Duration metav1.Duration `json:"duration"`
}

// FaultAbort answers requests with an error.
//
// +kubebuilder:validation:XValidation:rule="has(self.httpStatus) != has(self.grpcStatus)",message="write exactly one of httpStatus and grpcStatus"
type FaultAbort struct {
	// Percent is the share of requests that are answered with an error, 0 to 100.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent int32 `json:"percent"`
	// HTTPStatus is the status code of HTTP to answer with. Write it or grpcStatus, exactly one.
	//
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	HTTPStatus *int32 `json:"httpStatus,omitempty"`
	// GRPCStatus is the status code of gRPC to answer with, by its number; 0, which is OK, is none.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	GRPCStatus *int32 `json:"grpcStatus,omitempty"`
}

// ServicePolicyStatus says what became of a policy.
type ServicePolicyStatus struct {
	// ObservedGeneration is the generation of the spec that the rest of the status is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions are Accepted (the policy is in force) and Resolved (the service is exported, and everything that the policy
	// names exists and can be used; else the message says which part does not).
	//
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// HonouredBy lists for each field that is set which kinds of client act on it.
	//
	// +listType=map
	// +listMapKey=field
	HonouredBy []FieldSupport `json:"honouredBy,omitempty"`
}

// Conditions of a ServicePolicy.
const (
	// PolicyAccepted is True once the policy is part of the global table.
	PolicyAccepted = "Accepted"
)

// FieldSupport says who acts on one field of a policy.
type FieldSupport struct {
	// Field is its path in the spec, such as timeouts.request.
	Field string `json:"field"`
	// Clients are some of DNS, Gateway (plain pods through a gateway), GRPC, Envoy.
	//
	// +listType=set
	Clients []string `json:"clients"`
	// Note says what a client makes of it where that is not the whole of it.
	Note string `json:"note,omitempty"`
}

// The kinds of client that FieldSupport names.
const (
	// ClientDNS looks up the names of services and connects by itself.
	ClientDNS = "DNS"
	// ClientGateway is a plain pod whose connections a gateway carries.
	ClientGateway = "Gateway"
	// ClientGRPC is a gRPC client that speaks xDS.
	ClientGRPC = "GRPC"
	// ClientEnvoy is a proxy that speaks xDS v3.
	ClientEnvoy = "Envoy"
)

// ServicePolicyList is a list of ServicePolicies.
//
// +kubebuilder:object:root=true
type ServicePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ServicePolicy `json:"items"`
}
