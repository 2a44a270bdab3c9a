package listen

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is the memory of an engine: what recvmmsg fills and sendmmsg takes. All of it is allocated once.
//
// The kernel gets pointers into it. They are kept in fields of pointer type, so the garbage collector sees them, and
// what they point to is on the heap, where it does not move.
type batch struct {
	received, sent []message
	peers          [][unix.SizeofSockaddrInet6]byte // struct sockaddr_in6, or the shorter sockaddr_in
	queries        []unix.Iovec
	responses      []unix.Iovec
	controls       [][controlSize]byte // which address was asked; nil unless the socket is bound to all
	in, out        []byte
	stride         int
	size           int
}

// message is struct mmsghdr of recvmmsg(2).
type message struct {
	header unix.Msghdr
	length uint32
}

// controlSize is enough for IP_PKTINFO and IPV6_PKTINFO.
const controlSize = 64

// newBatch allocates a batch for n messages of up to size octets.
func newBatch(n, size int, bound netip.Addr) *batch {
	// One cache line more than size: else all messages would start in the same set of the cache.
	stride := (size+63)&^63 + 64
	b := &batch{
		received: make([]message, n), sent: make([]message, n),
		peers:   make([][unix.SizeofSockaddrInet6]byte, n),
		queries: make([]unix.Iovec, n), responses: make([]unix.Iovec, n),
		in: make([]byte, n*stride), out: make([]byte, n*stride), stride: stride, size: size,
	}
	if bound.IsUnspecified() {
		b.controls = make([][controlSize]byte, n)
	}
	for i := range n {
		b.queries[i].Base = &b.in[i*stride]
		b.queries[i].SetLen(size)
		h := &b.received[i].header
		h.Name = &b.peers[i][0]
		h.Iov = &b.queries[i]
		h.SetIovlen(1)
		h = &b.sent[i].header
		h.Iov = &b.responses[i]
		h.SetIovlen(1)
	}
	return b
}

// single returns a batch that holds a copy of message i and has room for its response.
func (b *batch) single(i int, query []byte, bound netip.Addr) *batch {
	s := newBatch(1, b.size, bound)
	copy(s.in, query)
	s.received[0].length = uint32(len(query)) //nolint:gosec // G115: at most size
	s.peers[0] = b.peers[i]
	s.received[0].header.Namelen = b.received[i].header.Namelen
	if b.controls != nil {
		s.controls[0] = b.controls[i]
		s.received[0].header.Control = &s.controls[0][0]
		s.received[0].header.Controllen = b.received[i].header.Controllen
	}
	return s
}

// receive waits for messages and returns how many there are.
func (b *batch) receive(fd int) (int, error) {
	for i := range b.received {
		h := &b.received[i].header
		h.Namelen = unix.SizeofSockaddrInet6
		if b.controls != nil {
			h.Control = &b.controls[i][0]
			h.SetControllen(controlSize)
		}
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&b.received[0])), uintptr(len(b.received)), //nolint:gosec // G103: for the kernel
		unix.MSG_WAITFORONE, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// ended reports whether the batch of n messages ends with what a socket gives that was shut down: nothing, from nobody.
func (b *batch) ended(n int) bool {
	return n > 0 && b.received[n-1].length == 0 && b.received[n-1].header.Namelen == 0
}

// query returns message i. When it is not whole, its end was lost.
func (b *batch) query(i int) (query []byte, whole bool) {
	m := &b.received[i]
	return b.in[i*b.stride:][:m.length:m.length], m.header.Flags&unix.MSG_TRUNC == 0
}

// peer returns who sent message i.
func (b *batch) peer(i int) netip.AddrPort {
	name := &b.peers[i]
	port := binary.BigEndian.Uint16(name[2:])
	if binary.NativeEndian.Uint16(name[:]) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(name[4:8])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(name[8:24])), port)
}

// local returns which address message i was sent to; bound is that of the socket.
func (b *batch) local(i int, bound netip.AddrPort) netip.AddrPort {
	if b.controls == nil {
		return bound
	}
	switch info := b.info(i); len(info) {
	case unix.SizeofInet4Pktinfo: // interface, local address, address in the header
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(info[8:12])), bound.Port())
	case unix.SizeofInet6Pktinfo: // address, interface
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(info[:16])), bound.Port())
	default:
		return bound
	}
}

// info returns what the kernel says about the address message i was sent to: struct in_pktinfo or in6_pktinfo, in place.
// It is the only control message that was asked for.
func (b *batch) info(i int) []byte {
	length := int(b.received[i].header.Controllen) //nolint:gosec // G115: at most controlSize
	header, data, _, err := unix.ParseOneSocketControlMessage(b.controls[i][:length])
	four := header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) == unix.SizeofInet4Pktinfo
	six := header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) == unix.SizeofInet6Pktinfo
	if err != nil || !four && !six {
		return nil
	}
	return data
}

// room returns the empty room for the response that is sent as the k-th.
func (b *batch) room(k int) []byte {
	return b.out[k*b.stride:][:0:b.stride]
}

// put makes the response to message i the k-th that is sent.
func (b *batch) put(k, i int, response []byte) {
	b.responses[k].Base = &response[0]
	b.responses[k].SetLen(len(response))
	to, from := &b.sent[k].header, &b.received[i].header
	to.Name, to.Namelen = from.Name, from.Namelen
	to.Control, to.Controllen = nil, 0
	if b.controls == nil {
		return
	}
	// The response leaves from the address that was asked. Through which interface is for the routes to say, unless the
	// address means nothing without it.
	info := b.info(i)
	switch len(info) {
	case 0:
		return
	case unix.SizeofInet4Pktinfo:
		clear(info[:4])
	default:
		if !netip.AddrFrom16([16]byte(info[:16])).IsLinkLocalUnicast() {
			clear(info[16:20])
		}
	}
	to.Control, to.Controllen = from.Control, from.Controllen
}

// send sends the first n responses and returns how many the kernel took. It does not wait: what the kernel has no room
// for is lost, as on any crowded network.
func (b *batch) send(fd, n int) (taken int) {
	for next := 0; next < n; {
		// The scheduler is not told, as it need not be of what does not wait: it would take the processor away after 20 µs, and
		// a thread that has only one would wait to get it back.
		sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd),
			uintptr(unsafe.Pointer(&b.sent[next])), uintptr(n-next), //nolint:gosec // G103: for the kernel
			unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			taken += int(sent)
			next += int(sent)
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			return taken
		default: // this one cannot be sent: port 0, no route, too long
			next++
		}
	}
	return taken
}

// overflows returns how many packets the kernel dropped because the queue of a socket was full.
func overflows(fd int) uint64 {
	var info [unix.SK_MEMINFO_VARS]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // G103: for the kernel
	if errno != 0 {
		return 0
	}
	return uint64(info[unix.SK_MEMINFO_DROPS])
}

// zone returns the index of an address's interface, 0 for none.
func zone(addr netip.Addr) uint32 {
	if addr.Zone() == "" {
		return 0
	}
	if index, err := strconv.ParseUint(addr.Zone(), 10, 32); err == nil {
		return uint32(index)
	}
	found, err := net.InterfaceByName(addr.Zone())
	if err != nil {
		return 0
	}
	return uint32(found.Index) //nolint:gosec // G115: an index
}
