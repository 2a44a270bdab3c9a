package poll

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below return at once, on sockets that do not block. They do not tell Go's scheduler that they are under way,
// which is for calls that wait: telling it costs more than many of them, and it may give the processor to another thread
// in the middle.

// Read reads from a socket. At the end of what the peer sends it returns 0.
func Read(fd int, b []byte) (int, error) {
	return result(unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))) //nolint:gosec // G103: the kernel's interface
}

// Write writes to a socket.
func Write(fd int, b []byte) (int, error) {
	return result(unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), //nolint:gosec // G103: the kernel's interface
		unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0))
}

// Splice moves up to size octets from or to a pipe.
func Splice(from, to, size int) (int, error) {
	return result(unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(size), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK))
}

// Accept takes a connection from a listening socket. It does not block either.
func Accept(fd int) (int, netip.AddrPort, error) {
	var from unix.RawSockaddrInet6 // of IPv4 it holds all that counts
	size := uint32(unix.SizeofSockaddrInet6)
	accepted, err := result(unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)), //nolint:gosec // G103: the kernel's interface
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0))
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	number := (*[2]byte)(unsafe.Pointer(&from.Port)) //nolint:gosec // G103: likewise; in the order of networks
	port := binary.BigEndian.Uint16(number[:])
	if from.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&from)) //nolint:gosec // G103: likewise
		return accepted, netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port), nil
	}
	return accepted, netip.AddrPortFrom(netip.AddrFrom16(from.Addr).Unmap(), port), nil
}

// poll takes the events that are there.
func (l *Loop) poll() (int, error) {
	return result(unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), batch, 0, 0, 0)) //nolint:gosec // G103: the kernel's interface
}

func result(n, _ uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
