package dns

import (
	"cmp"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hansa-dev/hansa/dns/listen"
)

// RateLimit bounds the responses that one network gets over UDP, so that forged queries do not turn the server against
// their alleged senders. Responses over streams, and those to clients with a valid cookie, are not limited: these proved
// their address.
type RateLimit struct {
	PerSecond int // responses to one network, at most MaxPerSecond; 0: no limit
	Burst     int // that may come at once; 0: PerSecond
	// Slip is how many of the limited responses are sent all the same, truncated to nothing, so that honest clients come
	// back over TCP: one in Slip. 0: 2; negative: none.
	Slip               int
	IPv4Bits, IPv6Bits int // of a network; 0: 24 and 56
	Networks           int // that are told apart, rounded up to a power of two; 0: 65,536 (512 KiB)
}

// MaxPerSecond is the greatest limit: beyond it, times would have to be kept more exactly.
const MaxPerSecond = 1_000_000

// verdict is what to do with a response.
type verdict uint8

const (
	send verdict = iota
	slip         // send it empty and truncated
	drop
)

const (
	tick      = 128 * time.Nanosecond // in which times are kept: 40 bits of them go round in 39 hours
	timeBits  = 40
	timeMask  = 1<<timeBits - 1
	probes    = 4 // slots that a network may be in
	minSlots  = 64
	maxRetry  = 3
	networkIn = 17 // octets that name a network: length and address
)

// limiter is a table of fixed size. A slot is 24 bits of a network's hash and the time at which the network has used
// up what it was sent (the generic cell rate algorithm); in 64 bits, so that one instruction replaces it.
type limiter struct {
	slots       []atomic.Uint64
	seed        maphash.Seed
	start       time.Time
	cost, burst uint64 // of one response, and how far ahead of now a network may be, in ticks
	v4, v6      int
	slip        uint64
	limited     atomic.Uint64 // so far
}

// newLimiter returns nil when there is no limit.
func newLimiter(o RateLimit, now time.Time) *limiter {
	if o.PerSecond <= 0 {
		return nil
	}
	size := minSlots
	for size < cmp.Or(o.Networks, 1<<16) {
		size *= 2
	}
	rate := time.Duration(min(o.PerSecond, MaxPerSecond))
	cost := (time.Second/tick + rate/2) / rate
	burst := min(uint64(cost)*uint64(cmp.Or(o.Burst, int(rate))), timeMask/4) //nolint:gosec // both are positive
	return &limiter{
		slots: make([]atomic.Uint64, size), seed: maphash.MakeSeed(), start: now,
		cost: uint64(cost), burst: burst, //nolint:gosec // positive
		v4: cmp.Or(o.IPv4Bits, 24), v6: cmp.Or(o.IPv6Bits, 56),
		slip: uint64(max(cmp.Or(o.Slip, 2), 0)),
	}
}

// take says what to do with a response to an address.
func (l *limiter) take(peer netip.Addr, now time.Time) verdict {
	hash := l.hash(peer)
	at := uint64(max(now.Sub(l.start)/tick, 0)) + 1
	mark := hash >> timeBits << timeBits
	for range maxRetry {
		slot, old := l.find(hash, mark, at)
		ahead := l.cost
		if old>>timeBits<<timeBits == mark {
			ahead += l.ahead(old, at)
		}
		if ahead > l.burst {
			return l.refuse()
		}
		if slot.CompareAndSwap(old, mark|(at+ahead)&timeMask) {
			return send
		}
	}
	return send
}

// skew is by how many ticks one thread may have read the clock before another one wrote a slot.
const skew = uint64(time.Second / tick)

// ahead returns by how many ticks the time in a slot is after at. It never is by more than the burst, beside what threads read
// of the clock: what seems to be was written before times went round.
func (l *limiter) ahead(value, at uint64) uint64 {
	if ahead := (value - at) & timeMask; ahead <= l.burst+skew {
		return ahead
	}
	return 0
}

// quiet returns for how many ticks the network of a slot has not been ahead of its time.
func (l *limiter) quiet(value, at uint64) uint64 {
	switch {
	case value == 0:
		return timeMask
	case l.ahead(value, at) > 0:
		return 0
	}
	return (at - value) & timeMask
}

// find returns the slot of a network: its own, or that of the network which was quiet for longest.
func (l *limiter) find(hash, mark, at uint64) (slot *atomic.Uint64, value uint64) {
	base := int(hash & uint64(len(l.slots)-1)) //nolint:gosec // less than the length
	for i := range probes {
		candidate := &l.slots[(base+i)&(len(l.slots)-1)]
		v := candidate.Load()
		if v>>timeBits<<timeBits == mark && v != 0 {
			return candidate, v
		}
		if slot == nil || l.quiet(v, at) > l.quiet(value, at) {
			slot, value = candidate, v
		}
	}
	return slot, value
}

func (l *limiter) refuse() verdict {
	if n := l.limited.Add(1); l.slip > 0 && n%l.slip == 0 {
		return slip
	}
	return drop
}

func (l *limiter) hash(peer netip.Addr) uint64 {
	var network [networkIn]byte
	bits := l.v6
	if peer.Is4() {
		bits = l.v4
	}
	prefix, err := peer.Prefix(bits)
	if err != nil {
		return 0
	}
	address := prefix.Addr().As16()
	network[0] = byte(bits) //nolint:gosec // at most 128
	copy(network[1:], address[:])
	return maphash.Bytes(l.seed, network[:])
}

// random returns a random number for an answer: of what the client chooses, so that both paths choose alike. Over HTTPS that is
// always the same (RFC 8484, 4.1), and does not count.
func random(id uint16, from *listen.Source) uint64 {
	if from.Transport == listen.HTTPS {
		return rand.Uint64() //nolint:gosec // spreads load
	}
	return sample(id, from.Peer.Port())
}

// sample makes a random number of what clients choose: ids, some one after the other, and ports (splitmix64).
func sample(id, port uint16) uint64 {
	x := (uint64(id)<<16 | uint64(port)) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
