package listen

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets opens sockets that somebody keeps over the end of this process: what comes while no server runs waits in the kernel.
// Closing one closes it for this process only. Networks are "tcp" and "udp"; what is returned are sockets of package net.
type Sockets interface {
	Listen(network string, addr netip.AddrPort) (net.Listener, error)
	ListenPacket(network string, addr netip.AddrPort) (net.PacketConn, error)
}

// glance is how often an engine looks whether it is to stop while nothing comes. One with a socket of its own is woken
// instead, by a call that would end the socket for whoever comes next.
const glance = 100 * time.Millisecond

// keepUDP opens one socket that all engines of an address read from.
func (s *Server) keepUDP(addr netip.AddrPort, into *sockets) (netip.AddrPort, error) {
	conn, err := s.options.Sockets.ListenPacket("udp", addr)
	if err != nil {
		return addr, err
	}
	defer func() { _ = conn.Close() }() // the engines have descriptors of their own
	raw, err := descriptor(conn)
	if err != nil {
		return addr, err
	}
	for range s.options.Engines {
		e := &engine{server: s, fd: -1, kept: true}
		into.engines = append(into.engines, e)
		if err := e.adopt(raw); err != nil {
			return addr, err
		}
		addr = e.local
		e.batch = newBatch(s.options.Batch, s.options.UDPSize, addr.Addr())
	}
	return addr, nil
}

// descriptor returns the way to that of a socket of package net.
func descriptor(conn any) (syscall.RawConn, error) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T is no socket", conn)
	}
	return socket.SyscallConn()
}

// adopt makes a socket that is bound already the engine's.
func (e *engine) adopt(raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		e.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if e.local, err = e.name(); err != nil {
		return err
	}
	if err := e.enlarge(); err != nil {
		return err
	}
	for _, o := range options(e.local.Addr()) {
		if o.name == unix.IPV6_V6ONLY && o.level == unix.IPPROTO_IPV6 {
			continue // it is bound
		}
		if err := e.set(o.level, o.name, o.value); err != nil {
			return err
		}
	}
	wait := unix.NsecToTimeval(glance.Nanoseconds())
	if err := unix.SetsockoptTimeval(e.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return err
	}
	return unix.SetNonblock(e.fd, false) // engines wait in the kernel
}

// idle tells whether an error of receiving says only that an engine whose socket is kept is to look around.
func (e *engine) idle(err error) bool { return e.kept && errors.Is(err, unix.EAGAIN) }

// listenTCP opens a listener of an address.
func (s *Server) listenTCP(addr netip.AddrPort) (*net.TCPListener, error) {
	if s.options.Sockets != nil {
		l, err := s.options.Sockets.Listen("tcp", addr)
		if err != nil {
			return nil, err
		}
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			return nil, errors.Join(fmt.Errorf("a %T is no listener of package net", l), l.Close())
		}
		return tcp, nil
	}
	network := "tcp6"
	if addr.Addr().Is4() {
		network = "tcp4"
	}
	return net.ListenTCP(network, net.TCPAddrFromAddrPort(addr))
}
