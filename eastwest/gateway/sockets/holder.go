package sockets

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxSockets is how many sockets a holder keeps: a gateway has at most 10,000 ports for services over TCP, and as many over
// UDP; some more are for DNS.
const maxSockets = 20100

var (
	errTooMany = fmt.Errorf("%d sockets are kept already", maxSockets)
	errEnding  = errors.New("the parent ends")
)

// kept is a socket that is kept.
type kept struct {
	fd   int
	addr netip.AddrPort // where it really is
	// asked is the number of the newest worker that asked for it.
	asked uint64
	// due is when it is closed unless it is asked for; zero: it is in use.
	due time.Time
}

// holder keeps sockets. Its methods are for any goroutine.
type holder struct {
	mu      sync.Mutex
	sockets map[key]*kept
	ended   bool
}

func newHolder() *holder { return &holder{sockets: map[key]*kept{}} }

// take returns a socket, and opens it if need be, for a worker. The caller closes the descriptor, a copy.
func (h *holder) take(k key, worker uint64) (fd int, addr netip.AddrPort, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return -1, addr, errEnding
	}
	socket := h.sockets[k]
	if socket == nil {
		if len(h.sockets) >= maxSockets {
			return -1, addr, errTooMany
		}
		if socket, err = open(k); err != nil {
			return -1, addr, err
		}
		h.sockets[k] = socket
	}
	socket.asked, socket.due = max(worker, socket.asked), time.Time{}
	fd, err = unix.FcntlInt(uintptr(socket.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, addr, fmt.Errorf("copying the descriptor of %s: %w", k, err)
	}
	return fd, socket.addr, nil
}

// release closes the sockets at an address, whichever way it is called: as it was asked for, or as it became.
func (h *holder) release(addr netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(func(k key, s *kept) bool { return k.addr == addr || s.addr == addr })
}

// abandon says that sockets are closed at a time unless they are asked for: all that no worker of this number or a greater
// one asked for.
func (h *holder) abandon(worker uint64, due time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, socket := range h.sockets {
		if socket.asked < worker && socket.due.IsZero() {
			socket.due = due
		}
	}
}

// forget closes sockets that are due, and returns which.
func (h *holder) forget(now time.Time) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.drop(func(_ key, s *kept) bool { return !s.due.IsZero() && !now.Before(s.due) })
}

// close closes all sockets, for good.
func (h *holder) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	h.drop(func(key, *kept) bool { return true })
}

// drop closes the sockets of which which is true, and returns their names, sorted.
func (h *holder) drop(which func(key, *kept) bool) []string {
	var names []string
	maps.DeleteFunc(h.sockets, func(k key, s *kept) bool {
		if !which(k, s) {
			return false
		}
		names = append(names, k.String())
		_ = unix.Close(s.fd)
		return true
	})
	slices.Sort(names)
	return names
}

// count returns how many sockets are kept.
func (h *holder) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sockets)
}

// open opens a socket.
func open(k key) (*kept, error) {
	var direct Direct
	if k.network == "udp" {
		conn, err := direct.ListenPacket(k.network, k.addr)
		if err != nil {
			return nil, err
		}
		return keep(conn, conn.LocalAddr().String())
	}
	listener, err := direct.Listen(k.network, k.addr)
	if err != nil {
		return nil, err
	}
	return keep(listener, listener.Addr().String())
}

// keep takes a descriptor of a socket, and closes what package net has made of it.
func keep(socket io.Closer, at string) (*kept, error) {
	defer func() { _ = socket.Close() }()
	addr, err := netip.ParseAddrPort(at)
	if err != nil {
		return nil, fmt.Errorf("reading the address of a socket: %w", err)
	}
	fd, err := descriptor(socket)
	if err != nil {
		return nil, err
	}
	return &kept{fd: fd, addr: plain(addr)}, nil
}

// descriptor returns a copy of the descriptor of something of package net or os.
func descriptor(of any) (int, error) {
	conn, ok := of.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("a %T has no descriptor", of)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("reading a descriptor: %w", err)
	}
	fd, failed := -1, error(nil)
	err = raw.Control(func(from uintptr) { fd, failed = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, failed); err != nil {
		return -1, fmt.Errorf("copying a descriptor: %w", err)
	}
	return fd, nil
}
