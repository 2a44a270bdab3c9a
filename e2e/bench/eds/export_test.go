package eds

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
