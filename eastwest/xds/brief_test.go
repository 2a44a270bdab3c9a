package xds_test

import (
	"fmt"
	"strconv"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
)

// Equals compares resources with lines that say the most about them, in the order of the lines.
func (r *reply) Equals(lines ...string) *reply {
	r.c.t.Helper()
	var got []string
	for _, line := range lines {
		name, _, _ := strings.Cut(line, " ")
		m, ok := r.resources[name]
		if !ok {
			got = append(got, name+" is missing")
			continue
		}
		got = append(got, name+" "+brief(m))
	}
	if len(r.resources) != len(lines) {
		got = append(got, fmt.Sprintf("%d resources", len(r.resources)))
	}
	if diff := cmp.Diff(lines, got); diff != "" {
		r.c.t.Fatalf("%s (-want +got):\n%s", r.url, diff)
	}
	return r
}

func brief(m proto.Message) string {
	switch m := m.(type) {
	case *endpointv3.ClusterLoadAssignment:
		return briefAssignment(m)
	case *routev3.RouteConfiguration:
		var routes []string
		for _, route := range m.GetVirtualHosts()[0].GetRoutes() {
			routes = append(routes, briefRoute(route))
		}
		return strings.Join(routes, "; ")
	case *clusterv3.Cluster:
		return m.GetLbPolicy().String()
	case *servicepb.Service:
		return briefService(m)
	}
	return ""
}

// briefAssignment writes "0: m1/zone*2 10.0.0.1:8080,10.0.0.2:8080 | 1: …".
func briefAssignment(m *endpointv3.ClusterLoadAssignment) string {
	var parts []string
	for _, l := range m.GetEndpoints() {
		part := fmt.Sprintf("%d: %s/%s*%d", l.GetPriority(), l.GetLocality().GetSubZone(), l.GetLocality().GetZone(), l.GetLoadBalancingWeight().GetValue())
		var partSb62 strings.Builder
		for i, e := range l.GetLbEndpoints() {
			partSb62.WriteString([]string{" ", ","}[min(i, 1)] + hostPort(e.GetEndpoint().GetAddress()))
			if w := e.GetLoadBalancingWeight().GetValue(); w != 0 {
				fmt.Fprintf(&partSb62, "*%d", w)
			}
			if e.GetMetadata() != nil {
				partSb62.WriteString("(gateway)")
			}
		}
		part += partSb62.String()
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, " | ")
}

func hostPort(a *corev3.Address) string {
	return fmt.Sprintf("%s:%d", a.GetSocketAddress().GetAddress(), a.GetSocketAddress().GetPortValue())
}

// briefRoute writes "/prefix* header=value -> cluster*weight".
func briefRoute(route *routev3.Route) string {
	match := route.GetMatch()
	text := match.GetPath() + match.GetPrefix() + match.GetSafeRegex().GetRegex()
	var textSb87 strings.Builder
	for _, h := range match.GetHeaders() {
		textSb87.WriteString(" " + h.GetName() + "=" + h.GetStringMatch().GetExact())
	}
	text += textSb87.String()
	text += " -> "
	switch {
	case route.GetNonForwardingAction() != nil:
		return text + "error"
	case route.GetDirectResponse() != nil:
		return text + strconv.FormatUint(uint64(route.GetDirectResponse().GetStatus()), 10)
	case route.GetRoute().GetCluster() != "":
		return text + route.GetRoute().GetCluster()
	}
	var textSb99 strings.Builder
	for i, c := range route.GetRoute().GetWeightedClusters().GetClusters() {
		textSb99.WriteString([]string{"", ","}[min(i, 1)] + fmt.Sprintf("%s*%d", c.GetName(), c.GetWeight().GetValue()))
	}
	text += textSb99.String()
	return text
}

// briefService writes "m1/2 m2/1 imports m1:10.96.0.1": sources with their numbers of endpoints, and ClusterSetIPs.
func briefService(m *servicepb.Service) string {
	var parts []string
	for _, source := range m.GetSources() {
		endpoints := 0
		for _, group := range source.GetEndpoints().GetGroups() {
			endpoints += len(group.GetEndpoints())
		}
		parts = append(parts, fmt.Sprintf("%s/%d", source.GetCluster(), endpoints))
	}
	for _, i := range m.GetImports() {
		parts = append(parts, fmt.Sprintf("%s:%v", i.GetCluster(), i.GetAddresses()))
	}
	if consumers := m.GetPolicy().GetConsumers(); consumers != nil {
		parts = append(parts, fmt.Sprintf("for %v", consumers.GetClusters()))
	}
	return strings.Join(parts, " ")
}
