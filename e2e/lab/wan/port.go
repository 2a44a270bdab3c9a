package wan

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// receiveBuffer is what the kernel may keep of a cluster's packets until they are read. It grants less without root.
const receiveBuffer = 8 << 20

// port is an open Port: one socket for each direction, so that sending may block.
type port struct {
	name       string
	header     [ethernetHeader]byte // of frames towards the cluster
	in         *os.File
	out        int
	stopped    atomic.Bool
	unroutable atomic.Uint64
}

func openPort(p Port) (*port, error) {
	device, err := net.InterfaceByName(p.Device)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", p.Device, err)
	}
	opened := &port{name: p.Name, out: -1}
	copy(opened.header[:6], p.Peer)
	copy(opened.header[6:12], device.HardwareAddr)
	opened.header[12], opened.header[13] = unix.ETH_P_IP>>8, unix.ETH_P_IP&0xff

	in, err := packetSocket(device.Index, unix.ETH_P_IP, unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", p.Device, err)
	}
	opened.in = os.NewFile(uintptr(in), p.Device) //nolint:gosec // G115: it is a file descriptor
	if unix.SetsockoptInt(in, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(in, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // as much as may be
	}
	if opened.out, err = packetSocket(device.Index, 0, 0); err != nil { // it receives nothing
		_ = opened.close()
		return nil, fmt.Errorf("device %s: %w", p.Device, err)
	}
	return opened, nil
}

// packetSocket opens a socket for the frames of a device.
func packetSocket(device int, protocol uint16, flags int) (int, error) {
	protocol = protocol<<8 | protocol>>8 // the kernel wants it as in the frame
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return -1, fmt.Errorf("opening a packet socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: device}); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("binding a packet socket: %w", err)
	}
	return fd, nil
}

// receive passes on what the cluster sends, until it is interrupted.
func (p *port) receive(pass func(*packet)) error {
	conn, err := p.in.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	pkt := newPacket()
	err = conn.Read(func(fd uintptr) bool {
		for !p.stopped.Load() {
			n, err := unix.Read(int(fd), pkt.frame[:]) //nolint:gosec // G115: it is a file descriptor
			switch {
			case errors.Is(err, unix.EAGAIN):
				return false // wait for more
			case errors.Is(err, unix.EINTR):
				continue
			case err != nil:
				failed = err
				return true
			}
			pkt.size = n
			pass(pkt)
			pkt = newPacket()
		}
		return true
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return errors.Join(err, failed)
}

// send gives a packet to the cluster.
func (p *port) send(pkt *packet) error {
	copy(pkt.frame[:], p.header[:])
	for {
		_, err := unix.Write(p.out, pkt.frame[:pkt.size])
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func (p *port) interrupt() {
	p.stopped.Store(true) // it may never wait
	_ = p.in.SetReadDeadline(time.Unix(1, 0))
}

func (p *port) close() error {
	err := p.in.Close()
	if p.out >= 0 {
		err = errors.Join(err, unix.Close(p.out))
	}
	return err
}
