// Package wan carries IPv4 packets between the networks of clusters, in user space, over links with distance: delay,
// jitter, loss, bandwidth and cuts, each direction of each pair apart (package link has the model).
//
//	   cluster m1                       WAN                        cluster m2
//	┌──────────────┐      ┌─────────────────────────────┐      ┌──────────────┐
//	│ wan (veth) ──┼──────┼─ c1 ─► route ─► link m1→m2 ─┼─►─┐  │              │
//	│              │      │                             │   │  │              │
//	│              │      │        link m2→m1 ◄─ route ◄┼─ c2 ─┼── wan (veth) │
//	└──────────────┘      └─────────────────────────────┘      └──────────────┘
//
// The devices on the side of the WAN have no addresses: packet sockets take what a cluster sends and put what it gets.
// A packet goes to the cluster whose ranges hold its destination, if its source is in the ranges of the cluster that
// sent it; all else is dropped and counted. The time to live stays as it is: a packet crosses once, so none can go round
// for ever.
package wan
