package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxConnections bounds the connections of one forwarder. Further ones wait in the listener's queue.
	maxConnections = 1024
	// connectPatience is how long a connection may take to be accepted: a paused API server's queue may be full.
	connectPatience = 10 * time.Second
)

// forwarder connects a listener of the host with a port of the loopback device of a namespace.
type forwarder struct {
	listener net.Listener
	space    namespace
	port     int
	log      *slog.Logger

	free  chan struct{} // holds one value per connection
	wait  sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil when closed
}

func newForwarder(listener net.Listener, space namespace, port int, log *slog.Logger) *forwarder {
	return &forwarder{
		listener: listener, space: space, port: port, log: log,
		free: make(chan struct{}, maxConnections), conns: map[net.Conn]struct{}{},
	}
}

// run forwards until ctx ends, and then closes the listener and all connections.
func (f *forwarder) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, f.close)
	defer stop()
	defer f.wait.Wait()
	defer f.close()
	for {
		select {
		case f.free <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := f.listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ECONNABORTED):
			f.log.Warn("cannot accept a connection", "port", f.port, "error", err)
			<-f.free
			if !pause(ctx, 100*time.Millisecond) {
				return nil
			}
			continue
		case err != nil:
			return fmt.Errorf("accepting connections to port %d: %w", f.port, err)
		}
		f.wait.Go(func() {
			defer func() { <-f.free }()
			f.serve(ctx, conn)
		})
	}
}

// pause waits, and tells whether ctx lasted that long.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// serve connects a connection with the API server. If there is none, the connection is closed at once: a client that is
// refused tries again, one that waits does not.
func (f *forwarder) serve(ctx context.Context, client net.Conn) {
	if !f.keep(client) {
		return
	}
	defer f.drop(client)
	server, err := f.dial(ctx)
	if err != nil {
		f.log.Debug("no connection to the API server", "port", f.port, "error", err)
		return
	}
	if !f.keep(server) {
		return
	}
	defer f.drop(server)
	splice(client, server)
}

// keep remembers a connection so that close finds it; false if it is too late, and the connection is closed then.
func (f *forwarder) keep(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns == nil {
		_ = conn.Close()
		return false
	}
	f.conns[conn] = struct{}{}
	return true
}

func (f *forwarder) drop(conn net.Conn) {
	_ = conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, conn)
}

func (f *forwarder) close() {
	_ = f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		_ = conn.Close()
	}
	f.conns = nil
}

// splice copies both ways. When one side has no more to say, the other one is told and may go on; when a side fails, both
// are closed.
func splice(a, b net.Conn) {
	var wait sync.WaitGroup
	pipe := func(to, from net.Conn) {
		_, err := io.Copy(to, from) // within the kernel, for TCP
		half, ok := to.(interface{ CloseWrite() error })
		if err == nil && ok && half.CloseWrite() == nil {
			return
		}
		_, _ = to.Close(), from.Close()
	}
	wait.Go(func() { pipe(a, b) })
	wait.Go(func() { pipe(b, a) })
	wait.Wait()
}

// dial connects to the port inside the namespace. Only the socket is made there: it stays in the namespace, and no
// thread has to while the connection is waited for.
func (f *forwarder) dial(ctx context.Context) (net.Conn, error) {
	var file *os.File
	err := f.space.enter(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening a socket: %w", err)
		}
		file = os.NewFile(uintptr(fd), "connection to the API server")
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // FileConn has its own copy
	if err := connect(ctx, file, f.port); err != nil {
		return nil, fmt.Errorf("connecting to 127.0.0.1:%d: %w", f.port, err)
	}
	return net.FileConn(file)
}

// connect connects a socket that does not block to a port of 127.0.0.1.
func connect(ctx context.Context, file *os.File, port int) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = conn.Control(func(fd uintptr) {
		result = unix.Connect(int(fd), &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	})
	if err != nil || !errors.Is(result, unix.EINPROGRESS) {
		return errors.Join(err, result)
	}
	if err := file.SetWriteDeadline(time.Now().Add(connectPatience)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = file.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Write(func(fd uintptr) bool {
		var done bool
		done, result = connected(int(fd))
		return done
	})
	return errors.Join(err, result)
}

// connected tells whether a connection attempt has ended, and how.
func connected(fd int) (bool, error) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}} //nolint:gosec // G115: it is a file descriptor
	if n, err := unix.Poll(poll, 0); n == 0 || errors.Is(err, unix.EINTR) {
		return false, nil
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return true, err
}
