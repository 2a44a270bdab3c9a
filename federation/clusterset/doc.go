// Package clusterset is the global service table: one name per service over all clusters, who serves it, and in which
// order a consumer should use them.
//
// It is pure. A Builder takes what was seen in the clusters (exports, endpoints, the addresses of derived services), facts
// about the clusters, and policies, and publishes immutable Snapshots. Everything that tells somebody about services (xDS,
// DNS, ServiceImports, the CLI) is a projection of a Snapshot, so they cannot disagree. The order of the changes does not
// matter: the same facts give the same content, byte for byte.
//
// Services are those of the Multi-Cluster Services API (KEP-1645): namespace and name are the identity in all clusters, the
// oldest export wins a conflict, and the conflict is told on all exports. The table of rules stands at the top of merge.go.
//
// A View is what one consumer (a cluster, and a zone in it) may use of a service:
//
//	source cluster                         consumers in it    consumers elsewhere
//	same network, or the consumer's own    its pods           its pods
//	another network                        -                  its gateways, weighted by the ready pods behind them
//	cordoned                               as ever            only while no other cluster serves
//	draining                               only while no other cluster serves
//	control plane down or unknown          as last known, with its age
//	data plane down                        as ever            nothing
//	data plane unknown                     as ever            as ever
//
// Ready endpoints count, no others. Priorities are the same zone, the same region, and the rest, or what the Policy says.
//
// With the build tag clusterset_checked a published service carries a hash of its content, and reading one that somebody
// has modified since panics with its name.
package clusterset
