package tunnel

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unsentLimit is how much the kernel holds of what it cannot send yet: what waits there, nothing can overtake.
const unsentLimit = 256 << 10

// tune makes the kernel give up a connection that is not acknowledged for as long as a tunnel may be silent (RFC 5482), and
// hold little. That way a tunnel ends even if only one direction is cut, and the other side is still heard. It is no
// condition: a connection that is not TCP's does without.
func tune(conn net.Conn, dead time.Duration) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(dead.Milliseconds()))
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
	})
}

// dialTCP connects to a gateway. The heartbeat does what keep-alives would.
func dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}
	return d.DialContext(ctx, "tcp", to.String())
}
