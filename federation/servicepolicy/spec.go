package servicepolicy

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// defaultRetryOn are failures that are safe to try again: the server has not seen the request, or has said so.
var defaultRetryOn = []string{"connect-failure", "refused-stream", "unavailable"}

// maxTTL is how many seconds answers of DNS may be kept at most: a day.
const maxTTL = 86400

// FromSpec returns the policy that a ServicePolicy in namespace asks for. Its L7 is a *L7, or nil when nothing in the
// spec concerns L7 clients. Specs that mean the same give policies that are reflect.DeepEqual. It shares nothing with
// the spec.
func FromSpec(spec *v1alpha1.ServicePolicySpec, namespace string) clusterset.Policy {
	if spec == nil {
		return clusterset.Policy{}
	}
	policy := clusterset.Policy{MinHealthyPercent: min(count(spec.MinHealthyPercent), 100)}
	for _, tier := range spec.Failover {
		policy.Failover = append(policy.Failover, clusterset.Tier{By: clusterset.Scope(tier.By), Names: set(tier.Names)})
	}
	for _, w := range spec.ClusterWeights {
		policy.Weights = append(policy.Weights, clusterset.ClusterWeight{Cluster: w.Cluster, Weight: min(count(&w.Weight), clusterset.MaxWeight)})
	}
	slices.SortStableFunc(policy.Weights, func(a, b clusterset.ClusterWeight) int { return strings.Compare(a.Cluster, b.Cluster) })
	if spec.Consumers != nil {
		policy.Consumers = &clusterset.Consumers{Clusters: set(spec.Consumers.Clusters)}
	}
	if spec.DNS != nil {
		policy.TTL = min(count(spec.DNS.TTLSeconds), maxTTL)
	}
	if spec.Path == v1alpha1.PathDirect {
		policy.Path = clusterset.Direct
	}
	policy.Passthrough, policy.FirstFlight = passthroughFrom(spec.Passthrough), spec.FirstFlight
	l7 := l7FromSpec(spec, namespace)
	if !reflect.DeepEqual(l7, L7{}) {
		policy.L7 = &l7
	}
	return policy
}

// passthroughFrom returns nil for a service that is closed. A source that is no range admits nobody: without it, the list
// might say everybody.
func passthroughFrom(p *v1alpha1.Passthrough) *clusterset.Passthrough {
	if p == nil {
		return nil
	}
	made := &clusterset.Passthrough{ProxyProtocol: p.ProxyProtocol}
	for _, text := range set(p.Sources) {
		source, err := netip.ParsePrefix(text)
		if err != nil {
			source = netip.Prefix{}
		}
		made.Sources = append(made.Sources, source.Masked())
	}
	slices.SortFunc(made.Sources, netip.Prefix.Compare)
	made.Sources = slices.Compact(made.Sources)
	return made
}

func l7FromSpec(spec *v1alpha1.ServicePolicySpec, namespace string) L7 {
	l7 := L7{
		Retries: retriesFrom(spec.Retries),
		Mirror:  mirrorFrom(spec.Mirror, namespace),
		Fault:   faultFrom(spec.Fault),
	}
	if lb := spec.LoadBalancing; lb != nil {
		if lb.Algorithm != string(RoundRobin) { // which is what empty means
			l7.LoadBalancer = LoadBalancer(lb.Algorithm)
		}
		if l7.LoadBalancer == RingHash {
			l7.HashHeader = strings.ToLower(lb.HashHeader)
		}
	}
	if b := spec.CircuitBreaker; b != nil {
		l7.Breaker = orNil(Breaker{
			MaxConnections: count(b.MaxConnections), MaxRequests: count(b.MaxRequests),
			MaxPending: count(b.MaxPendingRequests), MaxRetries: count(b.MaxRetries),
		})
	}
	if o := spec.OutlierDetection; o != nil { // empty asks for it with the defaults
		l7.Outliers = &Outliers{
			Consecutive5xx: count(o.Consecutive5xx), Interval: duration(o.Interval),
			BaseEjection: duration(o.BaseEjectionTime), MaxPercent: min(count(o.MaxEjectionPercent), 100),
		}
	}
	if t := spec.Timeouts; t != nil {
		l7.Timeout, l7.Idle, l7.Connect = duration(t.Request), duration(t.Idle), duration(t.Connect)
	}
	for i := range spec.Routes {
		l7.Routes = append(l7.Routes, routeFrom(&spec.Routes[i], namespace))
	}
	return l7
}

func retriesFrom(r *v1alpha1.Retries) *Retries {
	if r == nil || r.Attempts < 1 {
		return nil
	}
	on := set(r.On)
	if len(on) == 0 {
		on = slices.Clone(defaultRetryOn)
	}
	return &Retries{
		Attempts: count(&r.Attempts), On: on,
		PerTry: duration(r.PerTry), Backoff: duration(r.Backoff), MaxBackoff: duration(r.MaxBackoff),
	}
}

func routeFrom(r *v1alpha1.Route, namespace string) Route {
	route := Route{Timeout: duration(r.Timeout), Retries: retriesFrom(r.Retries), Mirror: mirrorFrom(r.Mirror, namespace)}
	for _, m := range r.Matches {
		match := Match{Path: stringFrom(m.Path), Method: m.Method}
		for _, h := range m.Headers {
			match.Headers = append(match.Headers, HeaderMatch{Name: strings.ToLower(h.Name), Value: stringFrom(h.Value)})
		}
		route.Matches = append(route.Matches, match)
	}
	for _, d := range r.Destinations {
		destination := Destination{Subset: subsetFrom(d.Subset, namespace), Weight: 1}
		if d.Weight != nil {
			destination.Weight = count(d.Weight)
		}
		if destination.Weight > 0 {
			route.Destinations = append(route.Destinations, destination)
		}
	}
	if len(route.Destinations) == 0 {
		route.Destinations = nowhere()
	}
	return route
}

// nowhere are the destinations of requests that are to fail.
func nowhere() []Destination { return []Destination{{}} }

func stringFrom(m *v1alpha1.StringMatch) StringMatch {
	switch {
	case m == nil:
		return StringMatch{}
	case m.Exact != "":
		return StringMatch{Exact: m.Exact}
	case m.Prefix != "":
		return StringMatch{Prefix: m.Prefix}
	default:
		return StringMatch{Regex: m.Regex}
	}
}

func subsetFrom(s v1alpha1.Subset, namespace string) Subset {
	subset := Subset{Clusters: set(s.Clusters)}
	if s.Service != nil && s.Service.Name != "" {
		subset.Namespace, subset.Name, subset.Port = s.Service.Namespace, s.Service.Name, max(s.Service.Port, 0)
		if subset.Namespace == "" {
			subset.Namespace = namespace
		}
	}
	return subset
}

func mirrorFrom(m *v1alpha1.Mirror, namespace string) *Mirror {
	if m == nil {
		return nil
	}
	mirror := &Mirror{Subset: subsetFrom(m.Subset, namespace), Percent: 100}
	if m.Percent != nil {
		mirror.Percent = float64(min(count(m.Percent), 100))
	}
	if mirror.Percent == 0 {
		return nil
	}
	return mirror
}

func faultFrom(f *v1alpha1.Fault) *Fault {
	if f == nil {
		return nil
	}
	fault := Fault{}
	if d := f.Delay; d != nil && d.Percent > 0 && d.Duration.Duration > 0 {
		fault.DelayPercent, fault.Delay = float64(min(d.Percent, 100)), d.Duration.Duration
	}
	if a := f.Abort; a != nil && a.Percent > 0 {
		http, grpc := count(a.HTTPStatus), count(a.GRPCStatus)
		if http > 0 {
			grpc = 0
		}
		if http+grpc > 0 {
			fault.AbortPercent, fault.AbortHTTP, fault.AbortGRPC = float64(min(a.Percent, 100)), http, grpc
		}
	}
	return orNil(fault)
}

// count returns what is set and positive, else 0.
func count(v *int32) uint32 {
	if v == nil || *v < 0 {
		return 0
	}
	return uint32(*v)
}

func duration(d *metav1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return max(d.Duration, 0)
}

// set returns a sorted copy without repetitions; nil when there is nothing.
func set(values []string) []string {
	if len(values) == 0 {
		return nil
	}
	values = slices.Clone(values)
	slices.Sort(values)
	return slices.Compact(values)
}

// orNil returns nil for the zero value.
func orNil[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
