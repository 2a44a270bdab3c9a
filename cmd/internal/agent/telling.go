package agent

import (
	"cmp"
	"context"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/eastwest/agents"
	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// hello is what the agent says of itself.
func (w *worker) hello() agents.Hello {
	return agents.Hello{
		Node: w.options.NodeName, Version: version(), Outside: w.options.outside, Inside: w.options.inside,
		Passthrough: portOf(w.options.Passthrough), Tunnel: portOf(w.options.Tunnels),
	}
}

// version is that of the program.
func version() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return build.Main.Version
}

func addrPort(addr netip.Addr, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(addr.Unmap(), port)
}

func comparePeers(a, b tunnel.Peer) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), a.Addr.Compare(b.Addr))
}

// silence is how long a gateway may not be reached before that is said.
const silence = time.Second

// sights are what a dialer's tunnels show of the gateways of other clusters.
type sights struct{ dialer *tunnel.Dialer }

// Changed implements agents.Peers.
func (s sights) Changed() <-chan struct{} { return s.dialer.Changed() }

// Sights implements agents.Peers.
func (s sights) Sights() []agents.Sight {
	states := s.dialer.State()
	seen := make([]agents.Sight, 0, len(states))
	for i := range states {
		seen = append(seen, sightOf(&states[i], time.Now()))
	}
	return seen
}

// sightOf is what a peer's tunnels show: one that was reached before and is not now is down at once, one that never was
// after a moment.
func sightOf(p *tunnel.PeerState, now time.Time) agents.Sight {
	sight := agents.Sight{
		Cluster: p.Cluster, Addr: p.Addr, Health: clusterset.Unknown, Since: p.Since, Heard: p.LastHeard, RTT: p.RTT,
		Tunnels: uint32(max(p.Tunnels, 0)), Wanted: uint32(max(p.Wanted, 0)), Streams: uint32(max(p.Streams, 0)), Problem: p.Problem, //nolint:gosec // G115: small numbers
	}
	switch {
	case p.Up:
		sight.Health = clusterset.Up
	case !p.LastHeard.IsZero() || now.Sub(p.Since) >= silence:
		sight.Health = clusterset.Down
	}
	return sight
}

// stats are all counters: by service and other cluster.
func (w *worker) stats() agents.Stats {
	s := agents.Stats{Started: w.started}
	snapshot, _ := w.feed.Current()
	for _, service := range w.out.Stats() {
		key, port := service.Port.Key, numberOf(snapshot.Service(service.Port.Key), service.Port.Name)
		for i := range service.Peers {
			p := &service.Peers[i]
			s.Counters = append(s.Counters, agents.Counter{
				Service: key, Port: port, Peer: p.Cluster, Active: uint64(max(p.Open, 0)), Connections: p.Connections, Errors: p.Broken(),
				Sent: p.Up, Received: p.Down, Connect: p.Latency.Mean(), Ejections: p.Ejections, Races: p.Won,
			})
		}
		if failed := failedOf(service.Refused); failed > 0 { // no cluster was found for them
			s.Counters = append(s.Counters, agents.Counter{Service: key, Port: port, Connections: failed, Errors: failed})
		}
	}
	flows, _ := w.inbound.Stats()
	for i := range flows {
		f := &flows[i]
		s.Counters = append(s.Counters, agents.Counter{
			Service: f.Flow.Key, Port: f.Flow.Port, Peer: f.Flow.Cluster, Inbound: true, Active: uint64(max(f.Open, 0)), Connections: f.Connections,
			Errors: f.Outcomes[relay.ServerReset], Sent: f.Down, Received: f.Up,
		})
	}
	return s
}

// numberOf is the number of a service's port; 0 when it is not known any more.
func numberOf(service *clusterset.Service, port string) uint16 {
	if service == nil || service.Properties == nil {
		return 0
	}
	i, ok := service.Port(port)
	if !ok {
		return 0
	}
	return uint16(service.Properties.Ports[i].Port) //nolint:gosec // G115: ports have 16 bits
}

// failedOf is how many connections clients have seen fail, of those for which no way was found.
func failedOf(refused map[string]uint64) uint64 {
	var failed uint64
	for reason, n := range refused {
		if reason != connect.ClientGone {
			failed += n
		}
	}
	return failed
}

// trace sends a probe by the way that a connection of a client's would go.
func (w *worker) trace(ctx context.Context, r agents.TraceRequest) ([]agents.Hop, error) {
	var hops []agents.Hop
	for _, h := range w.out.Trace(ctx, r.Service, r.Port) {
		hops = append(hops, agents.Hop{Name: string(h.Step), Cluster: clusterIn(h.At, w.cluster), Address: h.At, Took: h.Took, Problem: h.Problem})
	}
	return hops, nil
}

// clusterIn is the cluster that a hop's place names, "... cluster ID ..."; the own one where it names none.
func clusterIn(place, own string) string {
	_, rest, named := strings.Cut(" "+place, " cluster ")
	if id, _, _ := strings.Cut(rest, " "); named && id != "" {
		return id
	}
	return own
}
