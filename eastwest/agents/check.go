package agents

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/eastwest/health"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// What a message may have at most. Agents cut what they say to that; who says more is sent away.
const (
	maxLabel    = 63
	maxName     = 253
	maxVersion  = 64
	maxProblem  = 512
	maxSights   = 1024
	maxCounters = 2048
	maxHops     = 32
	maxPort     = 1<<16 - 1
)

// readHello returns what a Hello says, or what is wrong with it.
func readHello(m *agentpb.Hello) (Hello, error) {
	h := Hello{Node: m.GetNode(), Version: printable(m.GetVersion(), maxVersion)}
	if problems := validation.IsDNS1123Subdomain(h.Node); len(problems) > 0 {
		return Hello{}, fmt.Errorf("node %q is no name of a node: %s", printable(h.Node, maxName), problems[0])
	}
	if m.GetPassthrough() > maxPort || m.GetTunnel() > maxPort {
		return Hello{}, fmt.Errorf("there is no port %d", max(m.GetPassthrough(), m.GetTunnel()))
	}
	h.Passthrough, h.Tunnel = uint16(m.GetPassthrough()), uint16(m.GetTunnel()) //nolint:gosec // checked above
	var err error
	if h.Outside, err = readAddr(m.GetOutside()); err != nil {
		return Hello{}, fmt.Errorf("the address at which other clusters reach the gateway: %w", err)
	}
	if h.Outside.IsLoopback() || h.Outside.IsLinkLocalUnicast() {
		return Hello{}, fmt.Errorf("the address at which other clusters reach the gateway: nobody elsewhere is reached at %s; see --outside-address", h.Outside)
	}
	if h.Passthrough == 0 && h.Tunnel == 0 {
		h.Outside = netip.Addr{} // nobody is to dial what takes nothing
	}
	if h.Inside, err = readAddr(m.GetInside()); err != nil {
		return Hello{}, fmt.Errorf("the address at which pods reach the gateway: %w", err)
	}
	return h, nil
}

// readAddr reads an IP address; empty is none.
func readAddr(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is no IP address", printable(text, maxLabel))
	}
	zone := addr.Zone() != ""
	addr = addr.WithZone("").Unmap()
	if zone || addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}, fmt.Errorf("nobody is reached at %s", addr)
	}
	return addr, nil
}

// readReport returns what a Report says to the machine of verdicts, or what is wrong with it. What people read of it is made
// printable in m.
func readReport(m *agentpb.Report) (health.Report, error) {
	if n := len(m.GetSights()); n > maxSights {
		return health.Report{}, fmt.Errorf("%d sights are more than the %d that a report may have", n, maxSights)
	}
	m.LocalProblem = printable(m.GetLocalProblem(), maxProblem)
	r := health.Report{Problem: m.GetLocalProblem(), Sights: make(map[health.Gateway]clusterset.Health, len(m.GetSights()))}
	for _, s := range m.GetSights() {
		if problems := validation.IsDNS1123Label(s.GetCluster()); len(problems) > 0 {
			return health.Report{}, fmt.Errorf("cluster id %q is no DNS label", printable(s.GetCluster(), maxLabel))
		}
		addr, err := netip.ParseAddrPort(s.GetAddress())
		if err != nil || addr.Addr().Zone() != "" {
			return health.Report{}, fmt.Errorf("%q is no address and port", printable(s.GetAddress(), maxLabel))
		}
		addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		s.Address, s.Problem = addr.String(), printable(s.GetProblem(), maxProblem)
		r.Sights[health.Gateway{Cluster: s.GetCluster(), Addr: addr}] = decodeHealth(s.GetHealth())
	}
	return r, nil
}

// checkStats tells what is wrong with Stats, and makes what people read of them printable.
func checkStats(m *agentpb.Stats) error {
	if n := len(m.GetCounters()); n > maxCounters {
		return fmt.Errorf("%d counters are more than the %d that stats may have", n, maxCounters)
	}
	for _, c := range m.GetCounters() {
		if len(c.GetNamespace()) > maxName || len(c.GetName()) > maxName || len(c.GetPeer()) > maxLabel || c.GetPort() > maxPort {
			return fmt.Errorf("a counter names a service that cannot be: %s", printable(c.GetNamespace()+"/"+c.GetName(), maxName))
		}
		c.Namespace, c.Name, c.Peer = printable(c.GetNamespace(), maxName), printable(c.GetName(), maxName), printable(c.GetPeer(), maxLabel)
	}
	return nil
}

// cleanTrace makes what people read of a TraceResult printable, and no longer than it may be.
func cleanTrace(m *agentpb.TraceResult) {
	m.Problem = printable(m.GetProblem(), maxProblem)
	m.Hops = m.GetHops()[:min(len(m.GetHops()), maxHops)]
	for _, h := range m.GetHops() {
		h.Name, h.Cluster, h.Address = printable(h.GetName(), maxName), printable(h.GetCluster(), maxLabel), printable(h.GetAddress(), maxName)
		h.Detail, h.Problem, h.Next = printable(h.GetDetail(), maxProblem), printable(h.GetProblem(), maxProblem), printable(h.GetNext(), maxProblem)
	}
}

// printable returns a text on one line that a terminal shows as it is.
func printable(text string, most int) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return -1
	}, shorten(text, most))
}

// shorten cuts a text to so many bytes, between characters.
func shorten(text string, most int) string {
	if len(text) > most {
		for most > 0 && !utf8.RuneStart(text[most]) {
			most--
		}
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "")
}
