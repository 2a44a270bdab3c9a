package outbound

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/go-logr/logr"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/sockets"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Sockets is where listening sockets come from. Who keeps them over this process's end closes them at Release.
type Sockets interface {
	Listen(network string, addr netip.AddrPort) (net.Listener, error)         // "tcp"
	ListenPacket(network string, addr netip.AddrPort) (net.PacketConn, error) // "udp"
	Release(addr netip.AddrPort)
}

// Snapshots is where the service table comes from.
type Snapshots interface {
	Current() (*clusterset.Snapshot, <-chan struct{})
}

// Options say whom a Gateway serves, and bound what it does. A zero field has the default beside it.
type Options struct {
	Snapshots Snapshots       // required
	Cluster   string          // the own one: required
	Zone      func() string   // of the node, which may become known later: ""
	Address   netip.Addr      // at which pods reach the gateway: required
	Connect   connect.Options // how ways are found; the Opener is required
	Sockets   Sockets         // sockets.Direct

	FlightTimeout time.Duration // for what a client of a service with FirstFlight says at once: 10 ms

	Connections    int           // at a time: 16384
	PerService     int           // of one port of a service: 8192
	Sessions       int           // clients of one UDP port of a service: 4096
	IdleTimeout    time.Duration // in which nothing moves: 1 h
	SessionTimeout time.Duration // in which no datagram comes from the client or for it: 1 min
	DrainTimeout   time.Duration // for connections that are there when the gateway stops: 30 s

	Loops    int // goroutines that relay: GOMAXPROCS
	Pipes    int // for bulk; negative: none: 48
	PipeSize int // octets: 1 MiB

	Log logr.Logger // zero: none; connections are logged at level 1
}

// orDefault fills in what is zero.
func (o Options) orDefault() Options {
	if o.Sockets == nil {
		o.Sockets = sockets.Direct{}
	}
	if o.Zone == nil {
		o.Zone = func() string { return "" }
	}
	o.Connect.Log = o.Log
	o.Connect = o.Connect.OrDefault()
	o.FlightTimeout = cmp.Or(o.FlightTimeout, 10*time.Millisecond)
	o.Connections = cmp.Or(o.Connections, 16384)
	o.PerService = cmp.Or(o.PerService, 8192)
	o.Sessions = cmp.Or(o.Sessions, 4096)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, time.Hour)
	o.SessionTimeout = cmp.Or(o.SessionTimeout, time.Minute)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 30*time.Second)
	return o
}

// check says what is missing.
func (o Options) check() error {
	switch {
	case o.Snapshots == nil || o.Connect.Opener == nil:
		return errors.New("an outbound gateway needs a service table and tunnels: set Snapshots and Connect.Opener")
	case o.Cluster == "":
		return errors.New("an outbound gateway needs to know its own cluster: set Cluster")
	case !o.Address.IsValid():
		return errors.New("an outbound gateway needs an address that pods of its cluster reach: set Address")
	}
	return nil
}
