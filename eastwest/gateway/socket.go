package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway/poll"
)

// wanted are the events of every connection.
const wanted = poll.Readable | poll.Writable | poll.PeerDone

// Dead peers are noticed after about two minutes: keepIdle seconds without a packet, then keepCount probes.
const (
	keepIdle     = 60
	keepInterval = 15
	keepCount    = 4
)

// listenTCP opens a listening socket as package net does.
func listenTCP(address string) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // its sockets take on nothing of the listening one
	return config.Listen(context.Background(), "tcp", address)
}

// listen opens a listening socket. What is set on it holds for what it accepts too.
func listen(open func(address string) (net.Listener, error), address string) (fd int, addr netip.AddrPort, err error) {
	if open == nil {
		open = listenTCP
	}
	listener, err := open(address)
	if err != nil {
		return -1, addr, fmt.Errorf("listening on %s: %w", address, err)
	}
	defer func() { _ = listener.Close() }() // the socket stays open through the other descriptor
	tcp, ok := listener.(syscall.Conn)
	if !ok {
		return -1, addr, fmt.Errorf("listening on %s: not a TCP socket", address)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1, addr, fmt.Errorf("listening on %s: %w", address, err)
	}
	var failed error
	err = raw.Control(func(from uintptr) {
		if fd, failed = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0); failed == nil {
			failed = prepare(fd)
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return -1, addr, fmt.Errorf("listening on %s: %w", address, err)
	}
	if local, ok := listener.Addr().(*net.TCPAddr); ok {
		addr = local.AddrPort()
	}
	return fd, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), nil
}

// prepare sets what holds for all connections: small writes are not delayed, and dead peers are noticed.
func prepare(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepIdle),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepInterval),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepCount),
	)
}

// connect begins a connection. It is there when the socket is writable and has not failed.
func connect(to netip.AddrPort) (int, error) {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := prepare(fd); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	if err := unix.Connect(fd, sockaddr(to)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func sockaddr(addr netip.AddrPort) unix.Sockaddr {
	if addr.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
}

// skippable tells whether an error of accepting is about one connection, which is gone, and the next may be there.
func skippable(err error) bool {
	for _, e := range []unix.Errno{unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
