package servicepolicy

import (
	"slices"
	"strings"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// Sets of clients, in the order in which they are shown. A client that understands requests understands all below it.
var (
	names       = []string{v1alpha1.ClientDNS} // whoever looks names up
	everybody   = []string{v1alpha1.ClientDNS, v1alpha1.ClientGateway, v1alpha1.ClientGRPC, v1alpha1.ClientEnvoy}
	connections = []string{v1alpha1.ClientGateway, v1alpha1.ClientGRPC, v1alpha1.ClientEnvoy} // whoever picks per connection or request
	plain       = []string{v1alpha1.ClientGateway}
	others      = []string{v1alpha1.ClientDNS, v1alpha1.ClientGRPC, v1alpha1.ClientEnvoy} // whoever brings TLS of its own
	requests    = []string{v1alpha1.ClientGRPC, v1alpha1.ClientEnvoy}
	envoy       = []string{v1alpha1.ClientEnvoy}
)

// gRPC tries again by status code. It knows these reasons, and those that mean unavailable to it.
var (
	grpcRetries     = []string{"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
	grpcUnavailable = []string{"5xx", "connect-failure", "gateway-error", "refused-stream", "reset", "reset-before-request"}
)

// Notes on fields of which a client makes something else.
const (
	inARow = "gRPC counts no failures in a row, and takes an endpoint out when nine in ten of at least as many calls fail within the interval"
	direct = "kube-proxy shares connections out evenly between the pods that it reaches directly and the gateways: failover, clusterWeights and minHealthyPercent decide only about what goes through a gateway"
	byPath = "gRPC and Envoy reach pods on their own network without a gateway in any case"
	unseen = "gateways do not see who comes with TLS of its own: passthrough.sources is all that keeps such a client out"
	opened = "gateways enforce it on connections with TLS from other networks; what comes through tunnels, from plain pods, it does not concern"
)

// Support tells for each field that is set which kinds of client act on it, in the order of the spec. What it says of
// gRPC is what grpc-go does with xDS resources.
func Support(spec *v1alpha1.ServicePolicySpec) []v1alpha1.FieldSupport {
	if spec == nil {
		return nil
	}
	s := &support{}
	s.add("failover", len(spec.Failover) > 0, everybody, "")
	s.add("clusterWeights", len(spec.ClusterWeights) > 0, everybody, "DNS leaves clusters of weight 0 out and gives no others a smaller share")
	s.add("minHealthyPercent", spec.MinHealthyPercent != nil, connections, "")
	s.consumers(spec)
	s.add("dns.ttlSeconds", spec.DNS != nil && spec.DNS.TTLSeconds != nil, names, "")
	s.path(spec)
	s.loadBalancing(spec.LoadBalancing)
	s.circuitBreaker(spec.CircuitBreaker)
	s.outlierDetection(spec.OutlierDetection)
	s.timeouts(spec.Timeouts)
	s.retries("retries", spec.Retries)
	s.routes(spec.Routes)
	s.add("mirror", spec.Mirror != nil, envoy, "gRPC sends no copies")
	s.fault(spec.Fault)
	return s.fields
}

type support struct{ fields []v1alpha1.FieldSupport }

// add notes a field if it is set, once.
func (s *support) add(field string, isSet bool, clients []string, note string) {
	known := func(f v1alpha1.FieldSupport) bool { return f.Field == field }
	if isSet && !slices.ContainsFunc(s.fields, known) {
		s.fields = append(s.fields, v1alpha1.FieldSupport{Field: field, Clients: slices.Clone(clients), Note: note})
	}
}

func (s *support) consumers(spec *v1alpha1.ServicePolicySpec) {
	note := ""
	if spec.Passthrough != nil {
		note = unseen
	}
	s.add("consumers", spec.Consumers != nil, everybody, note)
}

// path notes what concerns gateways only. It stands before the rest, which concerns requests.
func (s *support) path(spec *v1alpha1.ServicePolicySpec) {
	note := byPath
	if spec.Path == v1alpha1.PathDirect {
		note = direct
	}
	s.add("path", spec.Path != "", plain, note)
	if p := spec.Passthrough; p != nil {
		s.add("passthrough", true, others, opened)
		s.add("passthrough.sources", len(p.Sources) > 0, others, "")
		s.add("passthrough.proxyProtocol", p.ProxyProtocol, others, "")
	}
	s.add("firstFlight", spec.FirstFlight, plain, "")
}

func (s *support) loadBalancing(lb *v1alpha1.LoadBalancing) {
	if lb == nil {
		return
	}
	clients, note := requests, ""
	if lb.Algorithm == string(Random) {
		clients, note = envoy, "gRPC has no Random: it uses RoundRobin"
	}
	s.add("loadBalancing.algorithm", lb.Algorithm != "", clients, note)
	clients, note = requests, ""
	if binary(lb.HashHeader) {
		clients, note = envoy, "gRPC does not hash by headers that end in -bin: name another header"
	}
	s.add("loadBalancing.hashHeader", lb.HashHeader != "", clients, note)
}

func (s *support) circuitBreaker(b *v1alpha1.CircuitBreaker) {
	if b == nil {
		return
	}
	s.add("circuitBreaker.maxConnections", b.MaxConnections != nil, envoy, "gRPC holds one connection to each endpoint")
	s.add("circuitBreaker.maxRequests", b.MaxRequests != nil, requests, "")
	s.add("circuitBreaker.maxPendingRequests", b.MaxPendingRequests != nil, envoy, "gRPC bounds requests by maxRequests only")
	s.add("circuitBreaker.maxRetries", b.MaxRetries != nil, envoy, "gRPC bounds requests by maxRequests only")
}

func (s *support) outlierDetection(o *v1alpha1.OutlierDetection) {
	if o == nil {
		return
	}
	s.add("outlierDetection.consecutive5xx", o.Consecutive5xx != nil, requests, inARow)
	s.add("outlierDetection.interval", o.Interval != nil, requests, "")
	s.add("outlierDetection.baseEjectionTime", o.BaseEjectionTime != nil, requests, "")
	s.add("outlierDetection.maxEjectionPercent", o.MaxEjectionPercent != nil, requests, "")
	if *o == (v1alpha1.OutlierDetection{}) { // all defaults, and still something that is set
		s.add("outlierDetection", true, requests, inARow)
	}
}

func (s *support) timeouts(t *v1alpha1.Timeouts) {
	if t == nil {
		return
	}
	s.add("timeouts.request", t.Request != nil, requests, "")
	s.add("timeouts.idle", t.Idle != nil, envoy, "gRPC takes it from the program's dial options")
	s.add("timeouts.connect", t.Connect != nil, envoy, "gRPC takes it from the program's dial options")
}

// retries notes each field of retries, under the field that holds them.
func (s *support) retries(field string, r *v1alpha1.Retries) {
	if r == nil {
		return
	}
	on := set(r.On)
	if len(on) == 0 {
		on = defaultRetryOn
	}
	clients := requests
	var notes, alike, unknown []string
	for _, reason := range on {
		switch {
		case slices.Contains(grpcUnavailable, reason):
			alike = append(alike, reason)
		case !slices.Contains(grpcRetries, reason):
			unknown = append(unknown, reason)
		}
	}
	if len(alike) > 0 {
		notes = append(notes, "to gRPC, which tries again by status code, unavailable stands for "+strings.Join(alike, ", "))
	}
	if len(unknown) > 0 {
		notes = append(notes, "gRPC does not know "+strings.Join(unknown, ", "))
	}
	if len(unknown) == len(on) {
		clients = envoy
	}
	note := strings.Join(notes, "; ")
	s.add(field, true, clients, note)
	s.add(field+".perTry", r.PerTry != nil, envoy, "gRPC bounds the request as a whole: set timeouts.request")
}

func (s *support) routes(routes []v1alpha1.Route) {
	if len(routes) == 0 {
		return
	}
	s.add("routes", true, requests, routesNote(routes))
	for i := range routes {
		s.add("routes.timeout", routes[i].Timeout != nil, requests, "")
		s.retries("routes.retries", routes[i].Retries)
		s.add("routes.mirror", routes[i].Mirror != nil, envoy, "gRPC sends no copies")
	}
}

// routesNote tells what of the matches gRPC cannot compare.
func routesNote(routes []v1alpha1.Route) string {
	var method, bin bool
	for _, route := range routes {
		for _, match := range route.Matches {
			method = method || match.Method != "" && match.Method != "POST"
			bin = bin || slices.ContainsFunc(match.Headers, func(h v1alpha1.HeaderMatch) bool { return binary(h.Name) })
		}
	}
	var notes []string
	if method {
		notes = append(notes, "all requests of gRPC have the method POST, so matches with another one do not concern it")
	}
	if bin {
		notes = append(notes, "gRPC does not compare headers that end in -bin: a match with one never holds")
	}
	return strings.Join(notes, "; ")
}

func (s *support) fault(f *v1alpha1.Fault) {
	if f == nil {
		return
	}
	s.add("fault.delay", f.Delay != nil, requests, "")
	note := ""
	if f.Abort != nil && f.Abort.HTTPStatus != nil {
		note = "gRPC answers with the status code that stands for the one of HTTP"
	}
	s.add("fault.abort", f.Abort != nil, requests, note)
}

// binary tells whether gRPC sends a header as bytes.
func binary(header string) bool { return strings.HasSuffix(strings.ToLower(header), "-bin") }
