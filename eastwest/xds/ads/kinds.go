package ads

import "strings"

// The type URLs of the resources that gRPC clients and proxies ask for.
const (
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
)

// Kind says how resources of one type travel.
type Kind struct {
	// URL is the type URL.
	URL string
	// Full is set for types whose State-of-the-World responses hold everything the client asked for, so that what is
	// absent is deleted. An empty first request for such a type asks for all resources. For other types a response
	// holds what changed, and nothing but a delta response deletes.
	Full bool
	// Warms names a type whose resources are sent again, unchanged, when the resource of this type with the same name
	// changes: a proxy that gets a changed cluster waits for its endpoints.
	Warms string
}

// DefaultKinds returns the kinds in the order in which something new must arrive: what others refer to comes first.
// Removals go in reverse. Kinds of one's own may be appended.
func DefaultKinds() []Kind {
	return []Kind{
		{URL: ClusterType, Full: true, Warms: EndpointType},
		{URL: EndpointType},
		{URL: ListenerType, Full: true},
		{URL: RouteType},
	}
}

// label is the short name of a kind in metrics: the message without its package.
func (k Kind) label() string {
	return k.URL[strings.LastIndexAny(k.URL, "./")+1:]
}

// kinds is the table of a server; a kind is known by its place in it.
type kinds []Kind

func (ks kinds) find(url string) int {
	for i := range ks {
		if ks[i].URL == url {
			return i
		}
	}
	return -1
}
