package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Direct opens sockets in this process, which take their connections with them when it ends.
type Direct struct{}

// Listen opens a listening socket. The network is "tcp". The unspecified address of IPv6 stands for both families.
func (Direct) Listen(network string, addr netip.AddrPort) (net.Listener, error) {
	if network != "tcp" {
		return nil, fmt.Errorf("listening on %s %s: want tcp", network, addr)
	}
	config := plainListen()
	listener, err := config.Listen(context.Background(), network, hostPort(addr))
	if err != nil {
		return nil, fmt.Errorf("listening on %s %s: %w", network, addr, cause(err))
	}
	return listener, nil
}

// ListenPacket opens a socket for datagrams. The network is "udp".
func (Direct) ListenPacket(network string, addr netip.AddrPort) (net.PacketConn, error) {
	if network != "udp" {
		return nil, fmt.Errorf("listening on %s %s: want udp", network, addr)
	}
	config := plainListen()
	conn, err := config.ListenPacket(context.Background(), network, hostPort(addr))
	if err != nil {
		return nil, fmt.Errorf("listening on %s %s: %w", network, addr, cause(err))
	}
	return conn, nil
}

// Release does nothing: who closes a socket of this process has released it.
func (Direct) Release(netip.AddrPort) {}

// plainListen is how sockets are opened: Multipath TCP's are slower to hand over, and nobody here asks for them.
func plainListen() net.ListenConfig {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	return config
}

// hostPort is an address as package net wants it, which takes "[::]" for IPv6 alone where there is no IPv6.
func hostPort(addr netip.AddrPort) string {
	if addr.Addr() == netip.IPv6Unspecified() {
		return fmt.Sprintf(":%d", addr.Port())
	}
	return addr.String()
}

// cause leaves out what package net says before the reason: which address it was stands before it already.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
