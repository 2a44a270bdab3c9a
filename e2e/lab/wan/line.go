package wan

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/hansa-dev/hansa/e2e/lab/wan/link"
)

// maxFlying bounds the packets under way on one line, and with them the memory: 32 MiB. It is 500 Mbit/s for 0.4 s.
const maxFlying = 16384

// Reasons to drop a packet, beside those of the model.
const (
	overload = link.Lost + 1 + iota // too many are under way
	refused                         // the device did not take it
	reasons
)

// reasonName is how statistics call a reason.
func reasonName(r link.Reason) string {
	switch r {
	case overload:
		return "overload"
	case refused:
		return "refused"
	default:
		return r.String()
	}
}

// line carries the packets from one port to another.
type line struct {
	wan      *WAN
	from, to *port

	mu    sync.Mutex
	model link.Model
	lane  *lane // for packets that are sent now; a new one with each change

	wire sync.Mutex // held while a packet is put on the device
	era  int        // number of cuts, guarded by wire: what was sent in an earlier one does not arrive

	flying  atomic.Int64 // packets on all lanes
	packets atomic.Uint64
	bytes   atomic.Uint64
	dropped [reasons]atomic.Uint64
}

func newLine(w *WAN, from, to *port) *line {
	l := &line{wan: w, from: from, to: to}
	l.lane = &lane{line: l}
	return l
}

// offer takes over a packet. Only one goroutine offers packets to a line.
func (l *line) offer(pkt *packet) {
	l.mu.Lock()
	now := l.wan.now()
	due, reason := l.model.Offer(now, pkt.length(), rand.Uint64()) //nolint:gosec // G404: nothing is secret
	lane := l.lane
	l.mu.Unlock()
	switch {
	case reason != link.Passed:
		l.drop(pkt, reason)
	case due <= now && l.flying.Load() == 0: // nothing that it could overtake
		l.deliver(pkt, lane.era)
	case l.flying.Load() >= maxFlying:
		l.drop(pkt, overload)
	default:
		l.flying.Add(1)
		pkt.due = due
		l.wan.sky.add(lane, pkt)
	}
}

// land delivers a packet that was under way.
func (l *line) land(pkt *packet, era int) {
	l.deliver(pkt, era)
	l.flying.Add(-1) // from now on, others may go straight to the device
}

// deliver puts a packet on the device, unless the line has been cut since it was sent.
func (l *line) deliver(pkt *packet, era int) {
	l.wire.Lock()
	if era != l.era {
		l.wire.Unlock()
		l.drop(pkt, link.Cut)
		return
	}
	err := l.to.send(pkt)
	l.wire.Unlock()
	if err != nil {
		l.drop(pkt, refused)
		return
	}
	l.packets.Add(1)
	l.bytes.Add(uint64(pkt.length())) //nolint:gosec // G115: not negative
	pkt.release()
}

func (l *line) drop(pkt *packet, reason link.Reason) {
	l.dropped[reason].Add(1)
	pkt.release()
}

func (l *line) settings() link.Settings {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.model.Settings()
}

// set changes the line. When it returns from a cut, no packet is just about to arrive.
func (l *line) set(s link.Settings) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.model.Settings()
	if s == old {
		return
	}
	l.wire.Lock()
	defer l.wire.Unlock()
	if s.Cut && !old.Cut {
		l.era++
	}
	l.model.Set(s)
	l.lane = &lane{line: l, era: l.era}
}

func (l *line) status() Status {
	s := Status{
		Pair: Pair{From: l.from.name, To: l.to.name}, Settings: l.settings(),
		Packets: l.packets.Load(), Bytes: l.bytes.Load(), Dropped: map[string]uint64{},
	}
	for reason := range reasons {
		if n := l.dropped[reason].Load(); n > 0 {
			s.Dropped[reasonName(reason)] = n
		}
	}
	return s
}
