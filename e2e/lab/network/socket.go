package network

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// The kernel takes paths of sockets of up to 107 bytes, and a lab may lie deep. So sockets are reached through the open
// folder that they are in, by its number.

// within runs do with a short path for a file.
func within(path string, do func(short string) error) error {
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return do(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

// listen listens on a socket that only its owner can connect to. It takes the place of one that is there already, at a
// stroke: whoever finds it is answered.
func listen(ctx context.Context, path string) (net.Listener, error) {
	var listener *net.UnixListener
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var failed error
		err := conn.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o600) })
		if err != nil {
			return err
		}
		return failed
	}}
	err := within(path, func(short string) error {
		fresh := short + ".new"
		_ = os.Remove(fresh) // of a process that was killed
		l, err := config.Listen(ctx, "unix", fresh)
		if err != nil {
			return err
		}
		listener = l.(*net.UnixListener) //nolint:forcetypeassert // what Listen returns for unix
		listener.SetUnlinkOnClose(false) // it will have another name
		if err := os.Rename(fresh, short); err != nil {
			_ = listener.Close()
			return err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	return listener, nil
}

// Dial connects to a unix socket, whose path may be longer than the 107 bytes that an address can hold.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	var conn net.Conn
	err := within(path, func(short string) error {
		var dialer net.Dialer
		var err error
		conn, err = dialer.DialContext(ctx, "unix", short)
		return err
	})
	return conn, err
}
