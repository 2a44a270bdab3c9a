package tunnel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Protocol is the ALPN name of tunnels: https://www.rfc-editor.org/rfc/rfc7301.
const Protocol = "hansa-tunnel/1"

// Limits of what is said when a stream is opened.
const (
	MaxData     = 16 << 10 // octets of Request.Data
	MaxMessage  = 256      // octets of Refused.Message
	MaxDatagram = 65507    // octets of a datagram: what UDP over IPv4 can hold
	maxLabel    = 63       // octets of a name: https://www.rfc-editor.org/rfc/rfc1123
)

// Peer is a gateway of another cluster.
type Peer struct {
	Cluster string         // its id in the clusterset, which its certificate has to show
	Addr    netip.AddrPort // at which it takes tunnels
}

func (p Peer) String() string { return fmt.Sprintf("gateway %s of cluster %s", p.Addr, p.Cluster) }

// Request says what a stream is for. A Service that is zero asks for the gateway itself, which sends back what it gets.
type Request struct {
	Service   clusterset.Key
	Port      uint16 // of the service
	Datagrams bool   // the stream carries datagrams
	Hostname  string // of one pod of a headless service; empty: any
	// Data is what the client has said already, at most MaxData octets. It is on its way before anybody has agreed, so it may
	// arrive when Open fails: see ErrUncertain.
	Data []byte
}

// Probe tells whether r asks for the gateway itself.
func (r *Request) Probe() bool { return r.Service == clusterset.Key{} }

// Stream is one end of what was opened. Read and Write are for one goroutine each; everything else may be called at any
// time. Read returns io.EOF only when the other side called CloseWrite and all was read. Of datagrams, one Write sends one
// and one Read returns one; what does not fit is cut off. A stream of datagrams also has Next() ([]byte, error), which
// returns the next one whole.
type Stream interface {
	net.Conn
	// CloseWrite says that nothing more is written. Reading goes on.
	CloseWrite() error
	// Reset ends both directions at once. The other side's Read and Write fail, and it gets nothing that is still under way.
	Reset() error
}

// Code says why a stream was refused.
type Code uint8

// The codes. They are sent, so a number keeps its meaning for good; one that is not known is as good as Internal.
const (
	accepted      Code = 0
	NotUnderstood Code = 1 // the open frame, or its version
	NotFound      Code = 2 // no such service or port here, or it is not exported
	Forbidden     Code = 3 // the other cluster may not use it
	NoEndpoint    Code = 4 // nobody is ready to serve
	Unreachable   Code = 5 // nobody of those who are ready took the connection
	Busy          Code = 6 // too many streams
	Draining      Code = 7 // the gateway is about to leave: try another one
	Internal      Code = 8
)

func (c Code) String() string {
	names := [...]string{"accepted", "not understood", "not found", "forbidden", "no endpoint", "unreachable", "busy", "draining", "internal error"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Refused is the error of Open when the other gateway said no. Nothing was delivered.
type Refused struct { //nolint:errname // it is what the other gateway did, and errors.As reads well
	Code    Code
	Message string // for people; at most MaxMessage octets
}

func (r *Refused) Error() string {
	if r.Message == "" {
		return "the other gateway refused: " + r.Code.String()
	}
	return fmt.Sprintf("the other gateway refused: %s: %s", r.Code, r.Message)
}

// Handler serves streams that other gateways open. Serve is called in a goroutine of its own for each. ctx ends when the
// other side has reset the stream, or its tunnel is dead. from proved to be a gateway; its certificate was issued at issued.
// The stream that in.Accept returned is the handler's; one that is neither accepted nor refused when Serve returns is
// refused.
type Handler interface {
	Serve(ctx context.Context, from identity.ID, issued time.Time, r Request, in Incoming)
}

// HandlerFunc is a Handler.
type HandlerFunc func(ctx context.Context, from identity.ID, issued time.Time, r Request, in Incoming)

// Serve calls f.
func (f HandlerFunc) Serve(ctx context.Context, from identity.ID, issued time.Time, r Request, in Incoming) {
	f(ctx, from, issued, r, in)
}

// Incoming is a stream that waits for an answer. It is answered once.
type Incoming interface {
	// Accept tells the other side that it is connected. Request.Data is not in the stream.
	Accept() (Stream, error)
	Refuse(code Code, message string)
}
