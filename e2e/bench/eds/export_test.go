package eds

import (
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
)

// For tests of the package's pure parts.
type (
	Sample = sample
	Burst  = burst
)

var (
	Samples    = samples
	Apart      = apart
	BurstOf    = burstOf
	Marker     = marker
	PodAddress = podAddress
	ParseHeap  = parseHeap
	FreeOf     = freeOf

	Sent, Event, First, Last = sent, event, toFirst, toLast
)

// NewSample makes a sample of moments in milliseconds.
func NewSample(sent, event int64, arrivals ...int64) Sample {
	s := sample{sent: sent * 1e6, event: event * 1e6}
	for _, a := range arrivals {
		s.arrivals = append(s.arrivals, a*1e6)
	}
	return s
}

// Moments are those of a burst, in seconds.
func (b burst) Moments() [3]float64 { return [3]float64{b.events, b.all, b.after} }

// Spread returns the members and services of so many changes in a world of that size.
func Spread(members, services, first, count int) (in []int, of []int, addresses []string) {
	w := &world{members: make([]string, members), services: services}
	for _, c := range w.spread(first, count) {
		in, of, addresses = append(in, c.member), append(of, c.service), append(addresses, c.address)
	}
	return in, of, addresses
}

// Figures returns the rows of a hub that takes twice as long, and as much, as the reference.
func Figures() map[string]*result.Figures {
	once := func(by float64) arrivals {
		one := result.Runs{by}
		return arrivals{all: one, slowest: one, typical: one, server: one, clients: one, received: one}
	}
	u := &usual{
		clients: 1, objects: 1, informers: rig.Memory{RSS: 100e6}, collected: rig.Memory{RSS: 90e6}, serving: rig.Memory{RSS: 300e6}, came: once(1),
		changes: series{samples: []sample{NewSample(0, 1, 5)}, hub: time.Second}, bursts: []burstRun{{burst: burst{all: 1}, hub: 1}},
	}
	mixed := series{samples: []sample{NewSample(0, 1, 3)}}
	return map[string]*result.Figures{
		syncRow:   syncFigures(once(2), u),
		memoryRow: memoryFigures(possession{resting: rig.Memory{RSS: 200e6}, endpoints: 1}, u),
		burstRow:  burstFigures([]burstRun{{burst: burst{all: 2}}}, u),
		changeRow: changeFigures(mixed, map[string]series{"one_sotw": {samples: []sample{NewSample(0, 1, 3)}}}, u),
	}
}
