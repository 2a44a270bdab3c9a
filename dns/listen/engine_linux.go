package listen

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// engine is one UDP socket and the thread that serves it. Sockets of one address share it by SO_REUSEPORT: the kernel
// picks one by the hash of the peer's address and port.
type engine struct {
	server  *Server
	fd      int
	local   netip.AddrPort
	kept    bool // somebody else has the socket too: see Sockets
	granted int  // octets of the kernel's queue
	udpCounters

	stopping atomic.Bool
	closing  sync.Mutex // held by whoever uses fd beside the thread
	closed   bool
	dropped  uint64 // by the kernel, as of closing

	batch *batch
}

// openUDP opens a socket per engine. The first one is bound alone, so that a program that shares ports as well is not
// joined by mistake.
func (s *Server) openUDP(addr netip.AddrPort, into *sockets) (netip.AddrPort, error) {
	if s.options.Sockets != nil {
		return s.keepUDP(addr, into)
	}
	for i := range s.options.Engines {
		e := &engine{server: s, fd: -1}
		into.engines = append(into.engines, e)
		if err := e.open(addr, i > 0); err != nil {
			return addr, err
		}
		addr = e.local
		e.batch = newBatch(s.options.Batch, s.options.UDPSize, addr.Addr())
	}
	return addr, nil
}

func (e *engine) open(addr netip.AddrPort, shared bool) (err error) {
	family := unix.AF_INET6
	if addr.Addr().Is4() {
		family = unix.AF_INET
	}
	if e.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := e.configure(addr.Addr()); err != nil {
		return err
	}
	if shared {
		if err := e.set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return err
		}
	}
	if err := unix.Bind(e.fd, sockaddr(addr)); err != nil {
		return err
	}
	if err := e.set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	e.local, err = e.name()
	return err
}

// option is one of setsockopt(2).
type option struct{ level, name, value int }

// configure sets what a socket needs before it is bound.
func (e *engine) configure(addr netip.Addr) error {
	if err := e.enlarge(); err != nil {
		return err
	}
	for _, o := range options(addr) {
		if err := e.set(o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

// options of a socket that is bound to addr. What routers say about the path's MTU is ignored: believing it would let
// strangers have responses fragmented, and fragments can be forged.
func options(addr netip.Addr) []option {
	var found []option
	if addr.Is6() {
		found = append(found, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
			option{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT})
	} else {
		found = append(found, option{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT})
	}
	switch {
	case !addr.IsUnspecified():
		return found
	case addr.Is6():
		return append(found, option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1})
	default:
		return append(found, option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1})
	}
}

// enlarge asks for long queues: beyond the host's limit if that is allowed, else up to it.
func (e *engine) enlarge() error {
	size := e.server.options.SocketBuffer
	for _, option := range []struct{ force, polite int }{
		{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF},
	} {
		if e.set(unix.SOL_SOCKET, option.force, size) == nil {
			continue
		}
		if err := e.set(unix.SOL_SOCKET, option.polite, size); err != nil {
			return err
		}
	}
	got, err := unix.GetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	e.granted = got / 2 // the kernel doubles what it is asked for, for its own books
	return err
}

func (e *engine) set(level, option, value int) error {
	return unix.SetsockoptInt(e.fd, level, option, value)
}

func (e *engine) name() (netip.AddrPort, error) {
	name, err := unix.Getsockname(e.fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil //nolint:gosec // G115: a port
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), nil //nolint:gosec // G115: a port
	default:
		return netip.AddrPort{}, fmt.Errorf("the socket's own address is a %T", name)
	}
}

func sockaddr(addr netip.AddrPort) unix.Sockaddr {
	if addr.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16(), ZoneId: zone(addr.Addr())}
}

// lastBatches bounds what is still answered of a queue when the engine stops.
const lastBatches = 256

// run answers until stop is called, and then what is queued.
func (e *engine) run() error {
	runtime.LockOSThread() // waits in the kernel; a scheduler in between would only add latency
	defer runtime.UnlockOSThread()
	for last := 0; last < lastBatches; {
		n, err := e.batch.receive(e.fd)
		stopping := e.stopping.Load()
		switch {
		case stopping && e.kept: // what is queued is for who has the socket next
			if err == nil {
				e.answer(n)
			}
			return nil
		case err == nil:
		case e.idle(err), passing(err):
			continue
		case stopping:
			return nil
		default:
			return fmt.Errorf("receiving on udp %s: %w", e.local, err)
		}
		if stopping && e.batch.ended(n) {
			e.answer(n - 1)
			return nil
		}
		e.answer(n)
		if stopping {
			last++
		}
	}
	return nil
}

// passing reports whether an error says nothing about the socket.
func passing(err error) bool {
	return errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS)
}

// answer answers the first n messages of the batch.
func (e *engine) answer(n int) {
	b, oversized, responses := e.batch, 0, 0
	for i := range n {
		query, whole := b.query(i)
		if !whole {
			oversized++
			continue
		}
		if len(query) == 0 {
			continue
		}
		from := Source{Peer: b.peer(i), Local: b.local(i, e.local)}
		response := e.server.respond(b.room(responses), query, from)
		if response == nil && e.server.waiter != nil {
			e.later(i, query, from)
			continue
		}
		if len(response) > 0 {
			b.put(responses, i, response)
			responses++
		}
	}
	sent := b.send(e.fd, responses)
	e.count(n, responses, sent, oversized)
}

func (e *engine) count(received, responses, sent, oversized int) {
	c := &e.udpCounters
	c.batches.Add(1)
	c.packets.Add(uint64(received)) //nolint:gosec // G115: counts are not negative
	c.responses.Add(uint64(sent))   //nolint:gosec // G115
	if sent < responses {
		c.unsent.Add(uint64(responses - sent)) //nolint:gosec // G115
	}
	if oversized > 0 {
		c.oversized.Add(uint64(oversized))
	}
}

// later answers message i in a goroutine, if not too many wait already.
func (e *engine) later(i int, query []byte, from Source) {
	s := e.server
	select {
	case s.waiting <- struct{}{}:
	default:
		s.crowded.Add(1)
		return
	}
	single := e.batch.single(i, query, e.local.Addr())
	s.waiters.Go(func() {
		defer func() { <-s.waiting }()
		copied, _ := single.query(0)
		response := s.wait(single.room(0), copied, from)
		if len(response) == 0 {
			return
		}
		single.put(0, 0, response)
		if single.send(e.fd, 1) == 1 {
			e.responses.Add(1)
		} else {
			e.unsent.Add(1)
		}
	})
}

// stop makes run return soon: it wakes the thread, which then finds nothing more to receive.
func (e *engine) stop() {
	e.stopping.Store(true)
	if e.kept {
		return // it looks around
	}
	_ = unix.Shutdown(e.fd, unix.SHUT_RD) // ENOTCONN, and yet it wakes who waits
}

// close frees the socket. Nothing else may use it any more, apart from Stats.
func (e *engine) close() {
	e.closing.Lock()
	defer e.closing.Unlock()
	if e.closed || e.fd < 0 {
		return
	}
	e.dropped, e.closed = overflows(e.fd), true
	_ = unix.Close(e.fd)
}

func (e *engine) addTo(s *Stats) {
	s.Packets += e.packets.Load()
	s.Batches += e.batches.Load()
	s.Responses += e.responses.Load()
	s.Oversized += e.oversized.Load()
	s.Unsent += e.unsent.Load()
	e.closing.Lock()
	defer e.closing.Unlock()
	if e.closed {
		s.Overflows += e.dropped
		return
	}
	s.Overflows += overflows(e.fd)
}
