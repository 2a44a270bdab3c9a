// Package cluster knows the member clusters: which ones are registered, how to reach them, whether their API servers
// answer, and what they hold.
//
// The Registry turns KubeFedCluster objects and their Secrets into Members and publishes them as immutable lists. It
// is a multicluster-runtime Provider, so low-rate controllers can run against members through that library. High-rate
// member data goes through Watch instead: one reflector per (cluster, kind), so that a dead or forbidden cluster holds
// up no other (docs/adr/0002).
package cluster
