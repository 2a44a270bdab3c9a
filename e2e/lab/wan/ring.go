package wan

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A ring is memory shared with the kernel, in which it puts what a socket receives (TPACKET_V2). Its size is not subject
// to the limits of socket buffers, which an ordinary user cannot raise and which hold a few packets only.
//
// mostSlots hold what one connection sends at a stroke when its window opens, also while the process does not get the
// processor. With many clusters, each has less, so that all of them have 64 MiB.
const (
	slotSize   = 2048 // a frame and what the kernel says about it
	blockSize  = 16 * slotSize
	mostSlots  = 4096
	leastSlots = 256
	allSlots   = 64 << 20 / slotSize
)

// slotsEach is how many slots each of some rings has: a power of two.
func slotsEach(rings int) int {
	slots := mostSlots
	for slots > leastSlots && slots*rings > allSlots {
		slots /= 2
	}
	return slots
}

// Where things are in a slot (struct tpacket2_hdr).
const (
	atStatus = 0  // 32 bits: whose turn it is
	atLength = 4  // 32 bits: of the frame
	atFrame  = 12 // 16 bits: where the frame begins
)

type ring struct {
	memory []byte
	slots  int
	next   int // number of the slot that is filled next
}

// newRing makes the ring of a socket that is not bound yet.
func newRing(fd, slots int) (*ring, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return nil, fmt.Errorf("choosing the layout of a packet ring: %w", err)
	}
	err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &unix.TpacketReq{
		Block_size: blockSize, Block_nr: uint32(slots * slotSize / blockSize), Frame_size: slotSize, Frame_nr: uint32(slots), //nolint:gosec // G115: see slotsEach
	})
	if err != nil {
		return nil, fmt.Errorf("making a packet ring: %w", err)
	}
	memory, err := unix.Mmap(fd, 0, slots*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping a packet ring: %w", err)
	}
	return &ring{memory: memory, slots: slots}, nil
}

// take copies the next frame to pkt and gives its slot back; false if there is none.
func (r *ring) take(pkt *packet) bool {
	slot := r.memory[r.next*slotSize:][:slotSize]
	status := (*atomic.Uint32)(unsafe.Pointer(&slot[atStatus])) //nolint:gosec // G103: memory shared with the kernel
	if status.Load()&unix.TP_STATUS_USER == 0 {
		return false
	}
	length := int(binary.NativeEndian.Uint32(slot[atLength:]))
	begin := int(binary.NativeEndian.Uint16(slot[atFrame:]))
	pkt.size = copy(pkt.frame[:], slot[min(begin, slotSize):])
	if length <= pkt.size {
		pkt.size = length
	} else {
		pkt.size = 0 // it did not fit: no device here sends such
	}
	status.Store(unix.TP_STATUS_KERNEL)
	r.next = (r.next + 1) % r.slots
	return true
}

func (r *ring) close() error { return unix.Munmap(r.memory) }
