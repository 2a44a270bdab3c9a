package agents

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Hello is what an agent says of itself. Addresses that are zero, and ports that are 0, are not there. Outside is refused if
// it is loopback, link-local, multicast or unspecified: all other gateways would dial it. Without any port it is none.
type Hello struct {
	Node, Version string
	Outside       netip.Addr // at which other clusters reach the gateway
	Passthrough   uint16     // for TLS by server name
	Tunnel        uint16     // for tunnels
	Inside        netip.Addr // at which pods of its own cluster reach it
}

// Sight is what an agent sees of one gateway of another cluster.
type Sight struct {
	Cluster string
	Addr    netip.AddrPort // of its tunnels
	Health  clusterset.Health
	Since   time.Time     // since when it is so
	Heard   time.Time     // the last sign of life; zero: none
	RTT     time.Duration // mean round trip; 0: not known
	Tunnels uint32        // that are up
	Wanted  uint32        // that there should be
	Streams uint32        // that are open
	Problem string        // why it is not up
}

// Counter is what a gateway has counted of one service with one other cluster, since it started.
type Counter struct {
	Service     clusterset.Key
	Port        uint16
	Peer        string // the other cluster; its own for pods there
	Inbound     bool   // the peer called
	Active      uint64 // connections that are open now
	Connections uint64
	Errors      uint64 // connections that a client saw fail
	Refused     uint64 // turned away on purpose
	Sent        uint64 // bytes
	Received    uint64 // bytes
	Connect     time.Duration
	Ejections   uint64
	Races       uint64 // won by the second path
}

// Stats are all counters of a gateway.
type Stats struct {
	Started  time.Time
	Counters []Counter
}

// TraceRequest asks for a probe to a service.
type TraceRequest struct {
	Service clusterset.Key
	Port    string // name or number; empty: the first
}

// Hop is one step of a probe. The last one may have failed.
type Hop struct {
	Name    string // what was done: decide, tunnel, connect
	Cluster string // where
	Address string // or object that was reached
	Took    time.Duration
	Detail  string
	Problem string // empty: none
	Next    string // what somebody may do about it
}

// encode returns the message; its strings are cut to what a hub takes.
func (h Hello) encode() *agentpb.Hello {
	return &agentpb.Hello{
		Node: shorten(h.Node, maxName), Version: shorten(h.Version, maxVersion), Outside: addrText(h.Outside), Inside: addrText(h.Inside),
		Passthrough: uint32(h.Passthrough), Tunnel: uint32(h.Tunnel),
	}
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

// encodeReport returns the message for what an agent sees; no more than a hub takes.
func encodeReport(sights []Sight, problem string) *agentpb.Report {
	r := &agentpb.Report{LocalProblem: shorten(problem, maxProblem)}
	for _, s := range sights[:min(len(sights), maxSights)] {
		r.Sights = append(r.Sights, &agentpb.Sight{
			Cluster: s.Cluster, Address: s.Addr.String(), Health: encodeHealth(s.Health), SinceMs: millis(s.Since), HeardMs: millis(s.Heard),
			RttUs: micros(s.RTT), Tunnels: s.Tunnels, Wanted: s.Wanted, Streams: s.Streams, Problem: shorten(s.Problem, maxProblem),
		})
	}
	return r
}

// encodeStats returns the message for what an agent counted. Of more counters than a hub takes, those with the most
// connections are told.
func encodeStats(s Stats) *agentpb.Stats {
	counters := s.Counters
	out := &agentpb.Stats{StartedMs: millis(s.Started)}
	if len(counters) > maxCounters {
		counters = slices.Clone(counters)
		slices.SortStableFunc(counters, func(a, b Counter) int { return cmp.Compare(b.Connections, a.Connections) })
		out.LeftOut = uint32(min(len(counters)-maxCounters, 1<<31))
		counters = counters[:maxCounters]
	}
	for i := range counters {
		c := &counters[i]
		out.Counters = append(out.Counters, &agentpb.Counter{
			Namespace: c.Service.Namespace, Name: c.Service.Name, Port: uint32(c.Port), Peer: c.Peer, Inbound: c.Inbound, Active: c.Active,
			Connections: c.Connections, Errors: c.Errors, Refused: c.Refused, BytesSent: c.Sent, BytesReceived: c.Received,
			ConnectUs: micros(c.Connect), Ejections: c.Ejections, Races: c.Races,
		})
	}
	return out
}

func encodeHops(hops []Hop) []*agentpb.Hop {
	var out []*agentpb.Hop
	for _, h := range hops[:min(len(hops), maxHops)] {
		out = append(out, &agentpb.Hop{
			Name: shorten(h.Name, maxName), Cluster: shorten(h.Cluster, maxLabel), Address: shorten(h.Address, maxName), TookUs: micros(h.Took),
			Detail: shorten(h.Detail, maxProblem), Problem: shorten(h.Problem, maxProblem), Next: shorten(h.Next, maxProblem),
		})
	}
	return out
}

func encodeHealth(h clusterset.Health) agentpb.Health {
	switch h {
	case clusterset.Up:
		return agentpb.Health_HEALTH_UP
	case clusterset.Down:
		return agentpb.Health_HEALTH_DOWN
	case clusterset.Unknown:
	}
	return agentpb.Health_HEALTH_UNKNOWN
}

func decodeHealth(h agentpb.Health) clusterset.Health {
	switch h {
	case agentpb.Health_HEALTH_UP:
		return clusterset.Up
	case agentpb.Health_HEALTH_DOWN:
		return clusterset.Down
	case agentpb.Health_HEALTH_UNKNOWN:
	}
	return clusterset.Unknown
}

// millis is Unix time in milliseconds; 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func micros(d time.Duration) uint64 { return uint64(max(d.Microseconds(), 0)) }
