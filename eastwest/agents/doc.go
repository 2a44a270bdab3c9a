// Package agents is the stream between the agent of a gateway and each replica of the hub.
//
// An agent says where its gateway is, what it sees of the gateways of other clusters, and what it has counted; a hub asks for
// probes. Every replica is told, so each makes the verdicts of package health itself, and none has to tell another: a hub
// that takes over knows what the one before did.
//
//	from       message   when
//	agent      Hello     first; again when an address changes
//	hub        Welcome   in answer to the first Hello
//	agent      Report    at once when a sight changes, and every second
//	agent      Stats     every two seconds, and when asked
//	hub        Trace     when an admin asks; a TraceResult answers
//	agent      Goodbye   before it ends on purpose: the gateway is leaving, not dead
//
// Who the agent is, its certificate says: the gateway of a cluster. No message names the cluster. One stream per cluster and
// node counts, the newest. Of one cluster health.MaxAgents are known: those that are gone make room for those that come.
//
// A Server holds what was said, and calls Observe when a verdict or a gateway changes. A Client keeps a stream to every hub.
// Operations are what admins ask a Server.
package agents
