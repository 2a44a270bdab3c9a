package gateway

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
)

// Router decides where a connection goes. It is called by several goroutines, and must not block.
type Router interface {
	Route(target hello.Target, source netip.Addr) Decision
}

// RouterFunc is a function as a Router.
type RouterFunc func(target hello.Target, source netip.Addr) Decision

// Route calls f.
func (f RouterFunc) Route(target hello.Target, source netip.Addr) Decision { return f(target, source) }

// Decision is where a connection goes, or why it goes nowhere.
type Decision struct {
	// Refusal is why the connection is refused; 0 when it is not.
	Refusal Refusal
	// Pool is who may take the connection.
	Pool *Pool
	// Port is that of the service.
	Port uint16
	// Proxy has the endpoint told who the client is, in a header of the PROXY protocol, version 2.
	Proxy bool
}

// Pool is the endpoints of one port of a service. Its methods may be called by several goroutines.
type Pool struct {
	backends []*Backend
	next     atomic.Uint32
}

// Backend is one endpoint.
type Backend struct {
	Addr netip.AddrPort
	open atomic.Int64
}

// NewPool returns a pool of the given addresses. Endpoints that were in old too keep their count of connections; old may
// be nil.
func NewPool(addrs []netip.AddrPort, old *Pool) *Pool {
	p := &Pool{backends: make([]*Backend, 0, len(addrs))}
	for _, addr := range addrs {
		p.backends = append(p.backends, old.find(addr))
	}
	return p
}

func (p *Pool) find(addr netip.AddrPort) *Backend {
	if p != nil {
		if at := slices.IndexFunc(p.backends, func(b *Backend) bool { return b.Addr == addr }); at >= 0 {
			return p.backends[at]
		}
	}
	return &Backend{Addr: addr}
}

// Len returns the number of endpoints.
func (p *Pool) Len() int { return len(p.backends) }

// choices is how many endpoints are compared for a connection.
const choices = 3

// Take chooses an endpoint that is not among those tried, and counts a connection to it: the one with the fewest of some
// neighbours, which change with every call. It returns nil when all were tried.
func (p *Pool) Take(tried []*Backend) *Backend {
	var best *Backend
	n, seen := uint32(len(p.backends)), 0 //nolint:gosec // G115: no service has that many endpoints
	start := p.next.Add(1)
	for i := uint32(0); i < n && seen < choices; i++ {
		b := p.backends[(start+i)%n]
		if slices.Contains(tried, b) {
			continue
		}
		seen++
		if best == nil || b.open.Load() < best.open.Load() {
			best = b
		}
	}
	if best != nil {
		best.open.Add(1)
	}
	return best
}

// Release ends a connection that Take has counted.
func (b *Backend) Release() { b.open.Add(-1) }

// Open returns how many connections the endpoint has.
func (b *Backend) Open() int64 { return b.open.Load() }

// Refusal is why a client is turned away.
type Refusal uint8

// The refusals. Those of Routers come first.
const (
	UnknownService  Refusal = iota + 1 // this cluster exports no service of that name
	UnknownPort                        // the service has no such port for TCP, or the name does not say which
	UnknownSubset                      // subsets are not known here
	Forbidden                          // the service is not open to the source
	NoEndpoint                         // nothing is ready
	DialFailed                         // what is ready does not take connections
	NotUnderstood                      // see hello.ParseError
	TooSlow                            // the ClientHello took too long
	Gone                               // the client has left before it was served
	SourceRange                        // the listener is not open to the source
	TooMany                            // all connections there may be are there
	TooManyOfSource                    // all connections that one source may have are there
	refusals                           // their number
)

// String returns the refusal as metrics and logs have it.
func (r Refusal) String() string {
	names := [refusals]string{
		UnknownService: "unknown-service", UnknownPort: "unknown-port", UnknownSubset: "unknown-subset", Forbidden: "forbidden",
		NoEndpoint: "no-endpoint", DialFailed: "dial-failed", NotUnderstood: "not-understood", TooSlow: "too-slow", Gone: "gone",
		SourceRange: "source-range", TooMany: "too-many", TooManyOfSource: "too-many-of-source",
	}
	if r < refusals && names[r] != "" {
		return names[r]
	}
	return "unknown"
}

// Alert returns what the client is told; 0: nothing. A service that is not open is told like one that does not exist, so
// that nobody learns which there are.
func (r Refusal) Alert() hello.Alert {
	switch r {
	case UnknownService, UnknownPort, UnknownSubset, Forbidden:
		return hello.UnrecognizedName
	case NoEndpoint, DialFailed:
		return hello.InternalError
	default:
		return 0
	}
}
