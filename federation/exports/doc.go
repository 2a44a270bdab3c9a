// Package exports watches what members export, and feeds the global service table with it.
//
// The Watcher runs on every replica of the hub. For each member it has one worker per kind: ServiceExports, Services,
// EndpointSlices, nodes and the ClusterProperty that names the cluster. A worker lists and watches by itself, decodes into
// facts of a few hundred bytes, and lets the objects go. One goroutine takes the facts of all workers, owns the
// clusterset.Builder, and publishes: at once when it is idle; what arrives while it publishes goes into the next snapshot.
//
// Knowledge is never dropped because the hub lost sight. A worker that fails keeps what it had; the cluster's LastKnown says
// since when it ages. Only three things remove facts: a watch event, a complete list without them, and the end of the
// registration.
//
// The leader keeps what is known in ConfigMaps (Keeper), and every replica restores from them what it cannot read after a
// start. The Controllers connect the Watcher to the objects of the hub: ClusterInfo, ServicePolicy and the routes of the
// Gateway API.
//
// # Cluster ids
//
// A member's id is ClusterInfo.spec.clusterID, else the value of its ClusterProperty cluster.clusterset.k8s.io, else its name
// with dashes for dots. Certificates and global names carry ids, so two members never share one. When two claim the same,
// the one whose ClusterInfo.status has it keeps it, else the one that has it, else the first by name. The other is left out
// of the table, with the reason in Clusters, until one of them claims something else.
package exports
