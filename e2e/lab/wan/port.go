package wan

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// port is an open Port: one socket for each direction, so that sending may block.
type port struct {
	name       string
	header     [ethernetHeader]byte // of frames towards the cluster
	in         *os.File
	ring       *ring // of in
	out        int
	stopped    atomic.Bool
	unroutable atomic.Uint64

	counting sync.Mutex
	missed   uint64
}

// openPort opens one of several ports.
func openPort(p Port, of int) (_ *port, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("device %s: %w", p.Device, err)
		}
	}()
	device, err := net.InterfaceByName(p.Device)
	if err != nil {
		return nil, err
	}
	opened := &port{name: p.Name, out: -1}
	copy(opened.header[:6], p.Peer)
	copy(opened.header[6:12], device.HardwareAddr)
	opened.header[12], opened.header[13] = unix.ETH_P_IP>>8, unix.ETH_P_IP&0xff
	defer func() {
		if err != nil {
			_ = opened.close()
		}
	}()
	in, err := packetSocket(unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, err
	}
	opened.in = os.NewFile(uintptr(in), p.Device)
	if opened.ring, err = newRing(in, slotsEach(of)); err != nil {
		return nil, err
	}
	if err := bind(in, device.Index, unix.ETH_P_IP); err != nil {
		return nil, err
	}
	if opened.out, err = packetSocket(0); err != nil {
		return nil, err
	}
	return opened, bind(opened.out, device.Index, 0) // it receives nothing
}

func packetSocket(flags int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return -1, fmt.Errorf("opening a packet socket: %w", err)
	}
	return fd, nil
}

// bind makes a packet socket that of a device and a protocol.
func bind(fd, device int, protocol uint16) error {
	protocol = protocol<<8 | protocol>>8 // as it is in the frame
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: device}); err != nil {
		return fmt.Errorf("binding a packet socket: %w", err)
	}
	return nil
}

// receive passes on what the cluster sends, until it is interrupted.
func (p *port) receive(pass func(*packet)) error {
	conn, err := p.in.SyscallConn()
	if err != nil {
		return err
	}
	pkt := newPacket()
	err = conn.Read(func(uintptr) bool {
		for p.ring.take(pkt) {
			pass(pkt)
			pkt = newPacket()
			if p.stopped.Load() {
				return true
			}
		}
		return false // wait for more
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
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

// overrun is how many packets found no room in the ring, so far.
func (p *port) overrun() uint64 {
	p.counting.Lock()
	defer p.counting.Unlock()
	conn, err := p.in.SyscallConn()
	if err != nil {
		return p.missed // it is closed
	}
	_ = conn.Control(func(fd uintptr) {
		if stats, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			p.missed += uint64(stats.Drops) // since it was asked last
		}
	})
	return p.missed
}

func (p *port) close() error {
	var errs []error
	if p.ring != nil {
		errs = append(errs, p.ring.close())
	}
	if p.in != nil {
		errs = append(errs, p.in.Close())
	}
	if p.out >= 0 {
		errs = append(errs, unix.Close(p.out))
	}
	return errors.Join(errs...)
}
