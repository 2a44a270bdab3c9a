package wan

import (
	"maps"
	"math/rand/v2"
	"sync"

	"github.com/hansa-dev/hansa/e2e/lab/wan/link"
)

// maxFlying bounds the packets under way on one line, and with them the memory: 32 MiB. It is 500 Mbit/s for 0.4 s.
const maxFlying = 16384

// Reasons to drop a packet beside those of the model.
const (
	overload = "overload" // too many are under way
	refused  = "refused"  // the device did not take it
)

// line carries the packets from one port to another.
type line struct {
	wan      *WAN
	from, to *port

	mu      sync.Mutex
	model   link.Model
	era     uint64 // number of cuts: what was sent in an earlier one does not arrive
	flying  int
	packets uint64
	bytes   uint64
	dropped map[string]uint64
}

// offer takes over a packet.
func (l *line) offer(pkt *packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.wan.now()
	due, reason := l.model.Offer(now, pkt.length(), rand.Uint64()) //nolint:gosec // G404: nothing is secret
	switch {
	case reason != link.Passed:
		l.drop(pkt, reason.String())
	case due <= now && l.flying == 0: // nothing that it could overtake
		l.deliver(pkt)
	case l.flying >= maxFlying:
		l.drop(pkt, overload)
	default:
		l.flying++
		pkt.line, pkt.due, pkt.era = l, due, l.era
		l.wan.sky.add(pkt)
	}
}

// land delivers a packet whose time has come.
func (l *line) land(pkt *packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flying--
	if pkt.era != l.era {
		l.drop(pkt, link.Cut.String())
		return
	}
	l.deliver(pkt)
}

// deliver puts the packet on the device under the lock, so that after a cut none is just about to be.
func (l *line) deliver(pkt *packet) {
	if err := l.to.send(pkt); err != nil {
		l.drop(pkt, refused)
		return
	}
	l.packets++
	l.bytes += uint64(pkt.length()) //nolint:gosec // G115: not negative
	pkt.release()
}

func (l *line) drop(pkt *packet, reason string) {
	if l.dropped == nil {
		l.dropped = map[string]uint64{}
	}
	l.dropped[reason]++
	pkt.release()
}

func (l *line) settings() link.Settings {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.model.Settings()
}

func (l *line) set(s link.Settings) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Cut && !l.model.Settings().Cut {
		l.era++
	}
	l.model.Set(s)
}

func (l *line) status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{
		Pair: Pair{From: l.from.name, To: l.to.name}, Settings: l.model.Settings(),
		Packets: l.packets, Bytes: l.bytes, Dropped: map[string]uint64{},
	}
	maps.Copy(s.Dropped, l.dropped)
	return s
}
