// Package outbound takes the connections of pods to global services and carries them to a pod that is ready, in whatever
// cluster: a listener per port of a service, at the gateway's address inside its cluster.
//
//	pod ─► listener ─► route: pods here and on the same network, gateways of other clusters, in the view's order
//	                     │
//	                     ├─ first way ─────────────► acknowledges: it has the connection
//	                     ├─ no answer for a while ─► second way beside it: the first that acknowledges has it
//	                     ├─ fails ─────────────────► next way, at once
//	                     └─ nothing is left ───────► the client is reset, at once
//
// No byte of the client's leaves the gateway before a way has acknowledged: until then they stay in the client's socket,
// and there is nothing that could be lost or delivered twice. Ways that did not win are reset. The exception is a service
// whose policy has FirstFlight: what its client says at once goes with the request, on one way at a time.
//
// A service with session affinity ClientIP has a client's connections go the same way while that is usable: the same pod, or
// the same gateway of another cluster, where all clients of this one have one pod, since nobody says there who they are.
//
// Ways that fail, or lose against others, are left out for a while (package route), so that the next connections do not
// wait for them. Second ways are bounded by a budget, connections by limits, every wait by a time.
//
// A connection to a pod that is reached directly is relayed by a few goroutines for all (relay.Loops) and costs two
// descriptors and about two kilobytes at rest; one through a tunnel costs one descriptor, two goroutines and about ten.
package outbound
