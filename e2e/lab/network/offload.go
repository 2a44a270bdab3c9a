package network

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolRequest is the kernel's struct ifreq with a pointer to a struct ethtool_value in it.
type ethtoolRequest struct {
	name  [unix.IFNAMSIZ]byte
	value *ethtoolValue
	_     [16]byte // the rest of the union
}

type ethtoolValue struct {
	command uint32
	_       uint32 // its argument; 0 is off
}

// ethtoolSetChecksums turns the checksums that a device computes itself on or off (ETHTOOL_STXCSUM).
const ethtoolSetChecksums = 0x17

// withoutOffload makes a device of the calling thread's namespace send whole packets, as a wire would see them. By
// default the kernel leaves checksums open and packets uncut where both ends of a device are in its own memory; without
// checksums the kernel does not leave packets uncut either.
func withoutOffload(device string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("turning off the checksums of device %s: %w", device, err)
	}
	defer func() { _ = unix.Close(fd) }()
	request := ethtoolRequest{value: &ethtoolValue{command: ethtoolSetChecksums}}
	copy(request.name[:len(request.name)-1], device)
	//nolint:gosec // G103: the kernel's interface
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return fmt.Errorf("turning off the checksums of device %s: %w", device, errno)
	}
	return nil
}
