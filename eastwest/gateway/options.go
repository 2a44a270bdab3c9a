package gateway

import (
	"cmp"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/go-logr/logr"

	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
)

// Options say where a Server listens, and bound what strangers can make it do. A zero field has the default beside it.
type Options struct {
	Addresses []string // "IP:port", or ":port" for all addresses of both families: ":15443"
	Router    Router   // required
	// Listen opens sockets, "tcp" at an address; nil: package net. The listeners are syscall.Conns, as package net's.
	Listen func(address string) (net.Listener, error)
	Names  hello.Names
	// Sources are who may connect at all; empty: everybody. Routers decide per service.
	Sources []netip.Prefix

	Loops       int // goroutines that serve: GOMAXPROCS
	Connections int // at a time: 16384
	PerSource   int // of one IPv4 address or IPv6 /64; nodes and NAT make one source of many clients: 4096
	Attempts    int // endpoints that are tried for a connection: 3

	HelloTimeout time.Duration // from a connection to the end of its ClientHello: 5 s
	DialTimeout  time.Duration // per endpoint: 1 s
	IdleTimeout  time.Duration // in which nothing moves: 1 h
	Linger       time.Duration // for which a refused client may take its alert: 1 s
	DrainTimeout time.Duration // for connections that are there when the server stops: 30 s

	Pipes    int // for bulk, in all; negative: none: 48
	PipeSize int // octets: 1 MiB

	Log logr.Logger // zero: none; connections are logged at level 1
}

// orDefault fills in what is zero.
func (o Options) orDefault() Options {
	if len(o.Addresses) == 0 {
		o.Addresses = []string{":15443"}
	}
	o.Loops = cmp.Or(o.Loops, runtime.GOMAXPROCS(0))
	o.Connections = cmp.Or(o.Connections, 16384)
	o.PerSource = cmp.Or(o.PerSource, 4096)
	o.Attempts = cmp.Or(o.Attempts, 3)
	o.HelloTimeout = cmp.Or(o.HelloTimeout, 5*time.Second)
	o.DialTimeout = cmp.Or(o.DialTimeout, time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, time.Hour)
	o.Linger = cmp.Or(o.Linger, time.Second)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 30*time.Second)
	return o
}
