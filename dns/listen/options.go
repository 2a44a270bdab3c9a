package listen

import (
	"cmp"
	"crypto/tls"
	"runtime"
	"time"

	"github.com/go-logr/logr"
)

// Options say where a Server listens, and bound what strangers can make it do. A zero field has the default beside it.
//
// Addresses are "IP:port", or ":port" for all addresses of both families. Port 0 stands for one that is free; it is the
// same for UDP and TCP, and for both families.
type Options struct {
	UDP   []string
	TCP   []string // nil: those of UDP, on the same ports; an empty slice: none
	TLS   []string // needs TLSConfig
	HTTPS []string // needs TLSConfig; HTTP/2 and HTTP/1.1

	// Sockets opens them; nil: they are the server's own. Those of UDP that are kept are of one family: name addresses, not ":port".
	Sockets Sockets

	TLSConfig *tls.Config // certificates; the protocols of ALPN are filled in
	HTTPSPath string      // "/dns-query"

	Engines      int // threads per UDP address: GOMAXPROCS
	Batch        int // UDP messages that are received, answered and sent together: 64
	UDPSize      int // octets of a query over UDP, and of the room for its response: 4096
	SocketBuffer int // octets that the kernel may queue per UDP socket and direction: 4 MiB
	Waiting      int // UDP queries that wait in a Waiter at a time: 256

	Connections int // in all; the one that was idle for longest makes room for a new one: 2048
	PerPeer     int // of one IPv4 address or IPv6 /64: 256

	IdleTimeout  time.Duration // between queries of a connection: 20 s
	ReadTimeout  time.Duration // from the first octet of a query to its last, and for a handshake: 3 s
	WriteTimeout time.Duration // until the peer has taken a response: 5 s
	DrainTimeout time.Duration // for what is under way when the server stops: 5 s

	Log logr.Logger // zero: none
}

// orDefault fills in what is zero.
func (o Options) orDefault() Options {
	if o.TCP == nil {
		o.TCP = o.UDP
	}
	o.HTTPSPath = cmp.Or(o.HTTPSPath, "/dns-query")
	o.Engines = cmp.Or(o.Engines, runtime.GOMAXPROCS(0))
	o.Batch = min(cmp.Or(o.Batch, 64), 1024)
	o.UDPSize = min(cmp.Or(o.UDPSize, 4096), maxMessage)
	o.SocketBuffer = cmp.Or(o.SocketBuffer, 4<<20)
	o.Waiting = cmp.Or(o.Waiting, 256)
	o.Connections = cmp.Or(o.Connections, 2048)
	o.PerPeer = cmp.Or(o.PerPeer, 256)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 20*time.Second)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 3*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 5*time.Second)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 5*time.Second)
	return o
}

// maxMessage is the largest message that the two octets of length can announce.
const maxMessage = 1<<16 - 1
