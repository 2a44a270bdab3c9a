// Package feed keeps an agent's table of services in step with the hub's.
//
// A Client asks one of the hubs for facts (package servicepb) over delta ADS, builds a table from them, and hands out its
// snapshots: Current, as the hub's own table does. A Store keeps what is known on disk.
//
// What is known stays. Neither a hub that does not answer nor one that refuses, nor a resource that cannot be read, takes
// anything away: a resource goes when the hub says that it is gone, and by nothing else. State says how old the rest is.
//
//	what happens                          the client
//	a response                            takes it in, accepts it, and publishes once it is complete
//	a resource that it cannot read        keeps the last one it could, refuses the response and names the resource
//	a stream that ends, a hub that fails  tries the next hub, and waits longer each time all have failed
//	silence                               asks for a sign of life every Heartbeat, and leaves after Silence
//	another hub, or a new start           says what it has: only what changed is sent
//
// # The own cluster
//
// An agent may see its own cluster better than the hub does, and goes on seeing it when the hub is away. With Options.Own,
// what it sees there replaces what the hub says of that cluster's exports, endpoints and imports:
//
//	                                      counts
//	services of other clusters, policies  what the hub says, or the disk
//	facts about clusters, revocations     what the hub says, or the disk
//	services of the own cluster           what Own says, once it has seen all of the cluster; until then the hub, or the disk
//
// Both are published at once, and only the hub's part is saved. Nothing is published of the own cluster alone: services of
// others would count as not there.
//
// # Numbers
//
// Nonces begin with the number of the hub's snapshot. The Table, which comes last, sums up what there is as of that
// number; when what the client has comes to the same sum, it has all of it, and publishes it under the hub's number. So a
// DNS server's SOA serial, which follows from it, is comparable with the snapshot that EDS clients of the same hub have.
//
// The numbers of a client only rise. They are not the hub's, but greater, when the client comes from a hub with greater
// numbers (each hub counts from the time at which it started): then each change adds one, until the hub's are greater. And
// while changes come so fast that nothing is ever complete, what is there is published every Hold, each time under the next
// number. A snapshot in which nothing changed for the agent has no number of its own: the client keeps the one before. Where
// the hub's numbers jump by some hundreds, as when it was restarted, the table is made anew: then everything counts as
// changed (clusterset.Snapshot.Since). What changed in the own cluster is published under the time, so that such a client is
// ahead of the hub.
package feed
