package connect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
)

// dial connects on one way. It returns when the other side has acknowledged; a socket for datagrams has nobody who does.
func (f *Finder) dial(ctx context.Context, w route.Way, number uint16, data []byte) (relay.Stream, error) {
	if w.Tunnel {
		if f.options.Opener == nil {
			return nil, tunnel.ErrUnknownPeer
		}
		return f.options.Opener.Open(ctx, tunnel.Peer{Cluster: w.Cluster, Addr: w.Addr}, tunnel.Request{
			Service: f.port.Key, Port: number, Datagrams: f.port.Datagrams(), Data: data,
		})
	}
	if f.port.Datagrams() {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(w.Addr))
		if err != nil {
			return nil, err
		}
		return relay.UDP(conn), nil
	}
	conn, err := dialer.DialContext(ctx, "tcp", w.Addr.String())
	if err != nil {
		return nil, err
	}
	c, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("connecting to %s: %T is no TCP connection", w.Addr, conn)
	}
	return relay.TCP(c), nil
}

// Why attempts fail, as metrics and logs have it.
const (
	reasonRefused     = "refused"     // nobody listens there
	reasonTimeout     = "timeout"     // no answer
	reasonUnreachable = "unreachable" // the network says so
	reasonTunnel      = "tunnel"      // the tunnel does not work
	reasonLocal       = "local"       // this gateway has no descriptors or ports left
	reasonBroken      = "broken"      // a way for datagrams that has worked before
	reasonOther       = "other"
)

// verdict is what an error of dial says about the way, and the reason; that is empty for what is no error.
func verdict(w route.Way, err error) (route.Result, string) {
	if refused, ok := errors.AsType[*tunnel.Refused](err); ok {
		switch refused.Code {
		case tunnel.NotFound, tunnel.Forbidden, tunnel.NoEndpoint, tunnel.Unreachable:
			return route.Refused, refused.Code.String()
		default: // this gateway does not, others may
			return route.Failed, refused.Code.String()
		}
	}
	switch {
	case errors.Is(err, tunnel.ErrNotUp), errors.Is(err, tunnel.ErrUnknownPeer), errors.Is(err, tunnel.ErrFull):
		return route.Absent, reasonTunnel
	case ours(err):
		return route.Dropped, reasonLocal
	case errors.Is(err, context.Canceled):
		return route.Dropped, ""
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return route.Failed, reasonTimeout
	case w.Tunnel:
		return route.Failed, reasonTunnel
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return route.Failed, reasonRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return route.Failed, reasonUnreachable
	}
	return route.Failed, reasonOther
}

// ours tells whether an error is about this gateway and says nothing about a way.
func ours(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
