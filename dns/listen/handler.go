package listen

import (
	"context"
	"net/netip"
)

// Handler answers queries. Its methods are called by several goroutines at a time.
type Handler interface {
	// Respond appends the response to query to dst and returns the longer slice. Returning dst as it was means that there
	// is no response. Returning nil means that the answer takes time: see Waiter. It must not keep query or dst, and must
	// not block: over UDP, everybody who asks the same socket waits meanwhile.
	//
	// dst is empty and has room for Options.UDPSize octets at least; a longer response costs an allocation. It has at most
	// 65,535 octets, and over UDP what IP can carry.
	Respond(dst, query []byte, from Source) []byte
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(dst, query []byte, from Source) []byte

// Respond calls f.
func (f HandlerFunc) Respond(dst, query []byte, from Source) []byte { return f(dst, query, from) }

// Waiter may be implemented by a Handler that has to ask others for some answers. For a query to which Respond returns
// nil, Wait is called in a goroutine that may block: over UDP one of Options.Waiting, and a query beyond those gets no
// response; over streams that of the connection, whose other queries wait. ctx ends when the server has stopped waiting.
// Otherwise Wait is as Respond. Without a Waiter, nil is no response.
type Waiter interface {
	Wait(ctx context.Context, dst, query []byte, from Source) []byte
}

// Streamer may be implemented by a Handler that answers some queries with more than one message (AXFR). It is asked
// first for every query over TCP and TLS. send sends a message at once, and may block until the peer takes it, at most
// for Options.WriteTimeout; it fails when the peer or the server goes away. When handled is false, Respond is asked. An
// error ends the connection.
type Streamer interface {
	Stream(query []byte, from Source, send func(message []byte) error) (handled bool, err error)
}

// Source says where a query comes from.
type Source struct {
	Peer      netip.AddrPort // who asks; without an IPv6 zone
	Local     netip.AddrPort // which address was asked
	Transport Transport
}

// Transport is how a query comes and its response goes.
type Transport uint8

// The transports. Transports is their number.
const (
	UDP Transport = iota
	TCP
	TLS
	HTTPS
	Transports
)

// String returns the transport's name in lower case.
func (t Transport) String() string {
	switch t {
	case UDP:
		return "udp"
	case TCP:
		return "tcp"
	case TLS:
		return "tls"
	case HTTPS:
		return "https"
	default:
		return "unknown"
	}
}

// Stream reports whether messages may have 65,535 octets, and whether the peer's address is proven.
func (t Transport) Stream() bool { return t != UDP }
