package wan

import (
	"net/netip"
	"time"
)

// Routes finds ports by addresses, for tests.
type Routes struct{ routes }

// Add makes ranges lead to a port.
func (r *Routes) Add(port int, ranges ...netip.Prefix) error { return r.add(port, ranges) }

// Find returns the port of an address, -1 if there is none.
func (r *Routes) Find(addr netip.Addr) int {
	if port, ok := r.find(addr); ok {
		return port
	}
	return -1
}

// Addresses reads a frame, for tests. length is that of the IP packet in it.
func Addresses(frame []byte) (source, destination netip.Addr, length int, ok bool) {
	pkt := newPacket()
	defer pkt.release()
	pkt.size = copy(pkt.frame[:], frame)
	source, destination, ok = pkt.addresses()
	return source, destination, pkt.length(), ok
}

// Schedule is a schedule whose packets are numbers, for tests.
type Schedule struct{ *schedule }

// Lane is a lane of a Schedule.
type Lane = lane

// NewSchedule returns a schedule with a clock.
func NewSchedule(now func() time.Duration) (Schedule, error) {
	s, err := newSchedule(now)
	return Schedule{s}, err
}

// Add schedules a number.
func (s Schedule) Add(to *Lane, number int, due time.Duration) {
	s.add(to, &packet{size: number, due: due})
}

// Next returns the numbers that are due now on the lane whose turn it is, at most two.
func (s Schedule) Next() []int {
	due := make([]*packet, 2)
	_, n := s.next(due)
	var numbers []int
	for _, pkt := range due[:n] {
		numbers = append(numbers, pkt.size)
	}
	return numbers
}

// Wait waits until the timer rings.
func (s Schedule) Wait(deadline time.Time) error {
	if err := s.timer.SetReadDeadline(deadline); err != nil {
		return err
	}
	_, err := s.timer.Read(make([]byte, 8))
	return err
}

// Close lets go of the timer.
func (s Schedule) Close() error { return s.close() }
