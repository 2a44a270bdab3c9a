package link_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"testing/quick"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab/wan/link"
)

const (
	ms = time.Millisecond
	µs = time.Microsecond

	least  = uint64(0)              // the random number that gets lost first, and the least jitter
	most   = uint64(math.MaxUint64) // the one that gets lost last, and the most jitter
	middle = uint64(1) << 63
)

// offer is one packet and what shall become of it.
type offer struct {
	at     time.Duration
	size   int
	random uint64

	due    time.Duration
	reason link.Reason
}

func TestModel(t *testing.T) {
	tests := []struct {
		reason   string
		settings link.Settings
		offers   []offer
	}{
		{
			reason: "nothing is asked for: a packet is there at once",
			offers: []offer{{at: 5 * ms, size: 1500, due: 5 * ms}},
		},
		{
			reason:   "a delay is the same for all sizes",
			settings: link.Settings{Delay: 20 * ms},
			offers:   []offer{{at: 0, size: 20, due: 20 * ms}, {at: ms, size: 1500, due: 21 * ms}},
		},
		{
			reason:   "jitter goes both ways, by its full width",
			settings: link.Settings{Delay: 20 * ms, Jitter: 5 * ms},
			offers:   []offer{{at: 0, random: least, due: 15 * ms}, {at: 50 * ms, random: most, due: 75 * ms}},
		},
		{
			reason:   "a packet with little jitter waits for the one before it",
			settings: link.Settings{Delay: 20 * ms, Jitter: 5 * ms},
			offers:   []offer{{at: 0, random: most, due: 25 * ms}, {at: ms, random: least, due: 25 * ms}},
		},
		{
			reason:   "loss is decided by the random number",
			settings: link.Settings{Loss: 0.5},
			offers:   []offer{{random: least, reason: link.Lost}, {random: middle}, {random: middle - 1, reason: link.Lost}, {random: most}},
		},
		{
			reason:   "all are lost, whatever the number",
			settings: link.Settings{Loss: 1},
			offers:   []offer{{random: least, reason: link.Lost}, {random: most, reason: link.Lost}},
		},
		{
			reason:   "none is lost, whatever the number",
			settings: link.Settings{},
			offers:   []offer{{random: least}, {random: most}},
		},
		{
			reason:   "packets are sent one after the other: 1000 bytes at 1 Mbit/s take 8 ms",
			settings: link.Settings{Bandwidth: link.Mbit, Delay: ms},
			offers: []offer{
				{at: 0, size: 1000, due: 9 * ms},
				{at: 0, size: 500, due: 13 * ms},
				{at: 12 * ms, size: 1000, due: 21 * ms}, // the line is free just then
				{at: 100 * ms, size: 1000, due: 109 * ms},
			},
		},
		{
			reason:   "a slow line queues ten packets, and the one after them falls off",
			settings: link.Settings{Bandwidth: 100 * link.Kbit}, // 1500 bytes take 120 ms
			offers: []offer{
				{size: 1500, due: 120 * ms},
				{size: 1500 * 9, due: 1200 * ms},
				{size: 1500, reason: link.Full},
				{at: 120 * ms, size: 1500, due: 1320 * ms},
				{at: 120 * ms, size: 20, reason: link.Full},
			},
		},
		{
			reason:   "a fast line queues what it sends in a tenth of a second",
			settings: link.Settings{Bandwidth: 80 * link.Mbit}, // a megabyte
			offers:   []offer{{size: 1e6, due: 100 * ms}, {size: 100, reason: link.Full}, {at: 10 * µs, size: 100, due: 100*ms + 10*µs}},
		},
		{
			reason:   "a packet that is larger than the queue passes when there is none",
			settings: link.Settings{Bandwidth: 8 * link.Kbit},
			offers:   []offer{{size: 20000, due: 20 * time.Second}, {size: 1, reason: link.Full}},
		},
		{
			reason:   "what is lost on the way has been sent: the next one waits for it",
			settings: link.Settings{Bandwidth: link.Mbit, Loss: 0.5},
			offers:   []offer{{size: 1000, random: least, reason: link.Lost}, {size: 1000, random: most, due: 16 * ms}},
		},
		{
			reason:   "nothing passes a cut, and nothing is told of other reasons",
			settings: link.Settings{Cut: true, Loss: 1, Delay: ms},
			offers:   []offer{{reason: link.Cut}, {random: most, reason: link.Cut}},
		},
	}
	for _, test := range tests {
		var m link.Model
		m.Set(test.settings)
		for i, o := range test.offers {
			due, reason := m.Offer(o.at, o.size, o.random)
			if due != o.due || reason != o.reason {
				t.Errorf("packet %d is %s and due at %s, want %s and %s: %s", i, reason, due, o.reason, o.due, test.reason)
			}
		}
	}
}

func TestSetForgetsTheOldLine(t *testing.T) {
	slow := link.Settings{Bandwidth: link.Kbit, Delay: time.Second}
	var m link.Model
	m.Set(slow)
	m.Offer(0, 1500, most) // due after 13 s
	m.Set(slow)
	if due, _ := m.Offer(0, 1500, most); due != 25*time.Second {
		t.Errorf("due at %s: what is set already changes nothing, so it queues behind the first one", due)
	}
	m.Set(link.Settings{Delay: ms})
	if due, reason := m.Offer(0, 1500, most); due != ms || reason != link.Passed {
		t.Errorf("%s, due at %s: the new line has no queue and no earlier packet", reason, due)
	}
	if got := m.Settings(); got != (link.Settings{Delay: ms}) {
		t.Errorf("the settings are %v", got)
	}
}

// traffic is a random stream of packets.
func traffic(seed uint64, n int, gap time.Duration) []offer {
	random := rand.New(rand.NewPCG(seed, 0))
	offers := make([]offer, n)
	var now time.Duration
	for i := range offers {
		now += time.Duration(random.Int64N(int64(gap)))
		offers[i] = offer{at: now, size: 20 + random.IntN(1481), random: random.Uint64()}
	}
	return offers
}

func TestNeverEarlyAndInOrder(t *testing.T) {
	property := func(seed uint64, delay, jitter uint16, mbit uint8) bool {
		s := link.Settings{
			Delay: time.Duration(delay) * µs, Jitter: time.Duration(min(jitter, delay)) * µs, Bandwidth: link.Bandwidth(mbit) * link.Mbit,
		}
		var m link.Model
		m.Set(s)
		var last time.Duration
		for _, o := range traffic(seed, 300, 100*µs) {
			due, reason := m.Offer(o.at, o.size, o.random)
			if reason != link.Passed {
				continue
			}
			if due < last || due < o.at+s.Delay-s.Jitter {
				t.Logf("sent at %s, due at %s, the one before at %s, with %+v", o.at, due, last, s)
				return false
			}
			last = due
		}
		return true
	}
	if err := quick.Check(property, nil); err != nil {
		t.Error(err)
	}
}

func TestLateByJitterAtMost(t *testing.T) {
	s := link.Settings{Delay: 10 * ms, Jitter: 4 * ms}
	var m link.Model
	m.Set(s)
	var sum time.Duration
	offers := traffic(1, 10000, 40*ms) // far apart, so that the order does not matter much
	for _, o := range offers {
		due, _ := m.Offer(o.at, o.size, o.random)
		if late := due - o.at; late > s.Delay+s.Jitter {
			t.Fatalf("a packet takes %s", late)
		}
		sum += due - o.at
	}
	if mean := sum / time.Duration(len(offers)); mean < s.Delay-ms/2 || mean > s.Delay+ms/2 {
		t.Errorf("packets take %s on average: they are as often early as late", mean)
	}
}

func TestLossRate(t *testing.T) {
	const n = 100000
	for _, loss := range []float64{0.001, 0.01, 0.3, 0.5, 0.99} {
		var m link.Model
		m.Set(link.Settings{Loss: loss})
		lost := 0
		for _, o := range traffic(2, n, ms) {
			if _, reason := m.Offer(o.at, o.size, o.random); reason == link.Lost {
				lost++
			}
		}
		want, deviation := n*loss, math.Sqrt(n*loss*(1-loss))
		if math.Abs(float64(lost)-want) > 5*deviation {
			t.Errorf("%d of %d are lost, want %.0f ± %.0f", lost, n, want, 5*deviation)
		}
	}
}

// TestLossIsIndependentOfJitter: both come from one random number, of which each must have a part of its own.
func TestLossIsIndependentOfJitter(t *testing.T) {
	s := link.Settings{Delay: 10 * ms, Jitter: 10 * ms, Loss: 0.5}
	var m link.Model
	m.Set(s)
	var sum time.Duration
	n := 0
	for _, o := range traffic(3, 20000, 100*ms) {
		if due, reason := m.Offer(o.at, o.size, o.random); reason == link.Passed {
			sum += due - o.at
			n++
		}
	}
	if mean := sum / time.Duration(n); mean < 9*ms || mean > 11*ms {
		t.Errorf("packets that are not lost take %s on average, want %s", mean, s.Delay)
	}
}

func TestBandwidthIsExact(t *testing.T) {
	for _, bandwidth := range []link.Bandwidth{link.Kbit, 77777, link.Mbit, 33333333, link.Gbit, 7 * link.Gbit} {
		var m link.Model
		m.Set(link.Settings{Bandwidth: bandwidth})
		var now, last time.Duration
		bits := int64(0)
		for i := range 10000 { // the next one always comes while the line is busy with another
			size := 40 + i%1461
			due, reason := m.Offer(now, size, most)
			if reason != link.Passed {
				t.Fatalf("at %s a packet is %s", bandwidth, reason)
			}
			bits += int64(size) * 8
			now, last = last, due
		}
		want := time.Duration(float64(bits) / float64(bandwidth) * float64(time.Second))
		if diff := last - want; diff.Abs() > time.Duration(float64(want)*1e-12)+2 {
			t.Errorf("%d bits at %s take %s, want %s", bits, bandwidth, last, want)
		}
	}
}

func TestReasonString(t *testing.T) {
	for reason, want := range map[link.Reason]string{
		link.Passed: "passed", link.Cut: "cut", link.Full: "full", link.Lost: "lost", 99: "unknown",
	} {
		if got := reason.String(); got != want {
			t.Errorf("reason %d is %q, want %q", reason, got, want)
		}
	}
}

func BenchmarkOffer(b *testing.B) {
	var m link.Model
	m.Set(link.Settings{Delay: 20 * ms, Jitter: ms, Loss: 0.01, Bandwidth: 100 * link.Gbit})
	var now time.Duration
	for b.Loop() {
		now += µs
		m.Offer(now, 1500, uint64(now)*0x9e3779b97f4a7c15)
	}
}
