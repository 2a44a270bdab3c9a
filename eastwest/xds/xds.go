// Package xds tells clients about global services over xDS: gRPC clients, proxies, and Hansa's own agents.
//
// A Source stands between the table of services (clusterset.Snapshot) and the transport (package ads). Package translate
// says what the resources are; this package says who sees which of them, and keeps that up to date.
//
// What a client sees depends on its cluster, which its certificate proves, and on what it says of itself: its flavour
// (gRPC, proxy or agent) and its zone. The clients of one cluster, zone and flavour share a view:
//
//	flavour  by the node                                     sees
//	grpc     user_agent_name begins with gRPC or grpc        listeners, routes, clusters and endpoints by target
//	agent    metadata hansa.dev/kind is agent                facts about services and clusters: package servicepb
//	proxy    everything else                                 complete configuration of a proxy in that cluster
//
// An agent is told the facts, from which it makes what it needs for whoever asks: equal for all clusters that may consume a
// service, so they are encoded once. Its Table sums them up. Its zone makes no view of its own.
//
// A view has every service that its cluster may consume, whether a client asks for it or not: one change costs some ten
// microseconds per view, and a client that comes later, or asks for a name on demand, finds everything there.
package xds

import (
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/eastwest/xds/translate"
)

// ServiceType is the type URL of the resources for Hansa's own agents: servicepb.Service, named NAMESPACE/NAME.
const ServiceType = translate.ServiceType

// Kinds returns the kinds of resources that a Source fills views with, for ads.Config.
func Kinds() []ads.Kind {
	return append(ads.DefaultKinds(), ads.Kind{URL: servicepb.ClusterType, Full: true}, ads.Kind{URL: ServiceType, Full: true},
		ads.Kind{URL: servicepb.TableType, Full: true})
}
