package translate

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// channelID is the state by which gRPC clients hash that have no header to hash by: each channel keeps its endpoint.
const channelID = "io.grpc.channel_id"

// routes returns the routes of one port: those of the policy, and one for the rest.
func (b *build) routes(port clusterset.Port) Message {
	target := Target(b.service.Key, port.Port)
	host := &routev3.VirtualHost{Name: Host(b.service.Key), Domains: []string{"*"}}
	rest := servicepolicy.Route{}
	if b.policy != nil {
		for _, route := range b.policy.Routes {
			host.Routes = append(host.Routes, b.route(port, route)...)
		}
	}
	host.Routes = append(host.Routes, b.route(port, rest)...)
	return Message{Name: target, Proto: &routev3.RouteConfiguration{Name: target, VirtualHosts: []*routev3.VirtualHost{host}}}
}

// route returns one route for each match that can hold.
func (b *build) route(port clusterset.Port, route servicepolicy.Route) []*routev3.Route {
	matches := route.Matches
	if len(matches) == 0 {
		matches = []servicepolicy.Match{{}}
	}
	var made []*routev3.Route
	for _, m := range matches {
		if match := b.match(m); match != nil {
			r := &routev3.Route{Match: match}
			b.act(r, port, route)
			made = append(made, r)
		}
	}
	return made
}

// match returns nil for what no request fulfils.
func (b *build) match(m servicepolicy.Match) *routev3.RouteMatch {
	made := &routev3.RouteMatch{}
	switch {
	case m.Path.Exact != "":
		made.PathSpecifier = &routev3.RouteMatch_Path{Path: m.Path.Exact}
	case m.Path.Regex != "":
		if !compiles(m.Path.Regex) {
			return nil
		}
		made.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: m.Path.Regex}}
	case m.Path.Prefix != "":
		made.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: m.Path.Prefix}
	default:
		made.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
	}
	switch {
	case m.Method == "":
	case b.Flavour == GRPC: // all its calls are POST, and there is no header that says so
		if m.Method != "POST" {
			return nil
		}
	default:
		made.Headers = append(made.Headers, header(":method", servicepolicy.StringMatch{Exact: m.Method}))
	}
	for _, h := range m.Headers {
		if !compiles(h.Value.Regex) {
			return nil
		}
		made.Headers = append(made.Headers, header(strings.ToLower(h.Name), h.Value))
	}
	return made
}

func compiles(regex string) bool {
	_, err := regexp.Compile(regex)
	return err == nil
}

func header(name string, value servicepolicy.StringMatch) *routev3.HeaderMatcher {
	made := &routev3.HeaderMatcher{Name: name}
	pattern := &matcherv3.StringMatcher{}
	switch {
	case value.Exact != "":
		pattern.MatchPattern = &matcherv3.StringMatcher_Exact{Exact: value.Exact}
	case value.Prefix != "":
		pattern.MatchPattern = &matcherv3.StringMatcher_Prefix{Prefix: value.Prefix}
	case value.Regex != "":
		pattern.MatchPattern = &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: value.Regex}}
	default:
		made.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
		return made
	}
	made.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: pattern}
	return made
}

// act fills in what happens to requests that match.
func (b *build) act(to *routev3.Route, port clusterset.Port, route servicepolicy.Route) {
	action := &routev3.RouteAction{}
	if !b.send(action, port, route.Destinations) {
		b.failRequests(to)
		return
	}
	timeout, retries, mirror := route.Timeout, route.Retries, route.Mirror
	if b.policy != nil {
		if timeout == 0 {
			timeout = b.policy.Timeout
		}
		if retries == nil {
			retries = b.policy.Retries
		}
		if mirror == nil {
			mirror = b.policy.Mirror
		}
	}
	b.limit(action, timeout)
	action.RetryPolicy = b.retry(retries)
	action.HashPolicy = b.hash()
	if b.Flavour == Proxy && mirror != nil && mirror.Percent > 0 {
		action.RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{
			Cluster:         b.part(port, mirror.Subset).name,
			RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: percent(mirror.Percent)},
		}}
	}
	to.Action = &routev3.Route_Route{Route: action}
}

// send fills in where requests go. It returns false if they go nowhere.
func (b *build) send(action *routev3.RouteAction, port clusterset.Port, destinations []servicepolicy.Destination) bool {
	if len(destinations) == 0 {
		destinations = []servicepolicy.Destination{{Weight: 1}}
	}
	var sum uint64
	for _, d := range destinations {
		sum += uint64(d.Weight)
	}
	if sum == 0 {
		return false
	}
	shift := 0
	for sum>>shift > math.MaxUint32 {
		shift++
	}
	var clusters []*routev3.WeightedCluster_ClusterWeight
	for _, d := range destinations {
		if d.Weight > 0 {
			clusters = append(clusters, &routev3.WeightedCluster_ClusterWeight{
				Name: b.part(port, d.Subset).name, Weight: wrapperspb.UInt32(max(1, d.Weight>>shift)),
			})
		}
	}
	if len(clusters) == 1 {
		action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: clusters[0].GetName()}
		return true
	}
	action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: &routev3.WeightedCluster{Clusters: clusters}}
	return true
}

// failRequests answers what has nowhere to go: gRPC clients fail calls whose action is not to send them anywhere.
func (b *build) failRequests(to *routev3.Route) {
	if b.Flavour == GRPC {
		to.Action = &routev3.Route_NonForwardingAction{NonForwardingAction: &routev3.NonForwardingAction{}}
		return
	}
	to.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 500}}
}

// limit fills in the timeout. Proxies have one of 15 seconds where nothing is said.
func (b *build) limit(action *routev3.RouteAction, timeout time.Duration) {
	timeout = max(timeout, 0)
	if b.Flavour == Proxy {
		action.Timeout = durationpb.New(timeout)
		return
	}
	if timeout > 0 {
		action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(timeout)}
	}
}

// grpcRetries are the conditions that gRPC clients know.
var grpcRetries = []string{"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}

// unavailable are conditions on HTTP that look like unavailable to a gRPC client.
var unavailable = []string{"5xx", "gateway-error", "connect-failure", "refused-stream", "reset", "reset-before-request", "retriable-status-codes"}

// retry translates a retry policy; nil for one that never applies.
func (b *build) retry(retries *servicepolicy.Retries) *routev3.RetryPolicy {
	if retries == nil || retries.Attempts == 0 {
		return nil
	}
	var on []string
	for _, condition := range retries.On {
		switch {
		case b.Flavour == Proxy || slices.Contains(grpcRetries, condition):
			on = append(on, condition)
		case slices.Contains(unavailable, condition):
			on = append(on, "unavailable")
		}
	}
	if slices.Sort(on); len(on) == 0 {
		return nil
	}
	made := &routev3.RetryPolicy{
		RetryOn: strings.Join(slices.Compact(on), ","), NumRetries: wrapperspb.UInt32(retries.Attempts),
		PerTryTimeout: positive(retries.PerTry),
	}
	if base := retries.Backoff; base > 0 || retries.MaxBackoff > 0 {
		if base <= 0 {
			base = min(25*time.Millisecond, retries.MaxBackoff)
		}
		made.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(base)}
		if retries.MaxBackoff > 0 {
			made.RetryBackOff.MaxInterval = durationpb.New(max(base, retries.MaxBackoff))
		}
	}
	return made
}

// hash returns by what requests are hashed, for clusters that choose by hash.
func (b *build) hash() []*routev3.RouteAction_HashPolicy {
	if b.balancer() != servicepolicy.RingHash {
		return nil
	}
	made := &routev3.RouteAction_HashPolicy{}
	switch {
	case b.policy != nil && b.policy.HashHeader != "":
		made.PolicySpecifier = &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: strings.ToLower(b.policy.HashHeader)},
		}
	case b.Flavour == GRPC:
		made.PolicySpecifier = &routev3.RouteAction_HashPolicy_FilterState_{
			FilterState: &routev3.RouteAction_HashPolicy_FilterState{Key: channelID},
		}
	default:
		made.PolicySpecifier = &routev3.RouteAction_HashPolicy_ConnectionProperties_{
			ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
		}
	}
	return []*routev3.RouteAction_HashPolicy{made}
}
