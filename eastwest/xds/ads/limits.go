package ads

import "time"

// Limits bound what a client can make the server do or keep. A zero field has the default of DefaultLimits.
type Limits struct {
	Streams          int           // in all
	StreamsPerClient int           // of one identity
	RequestBytes     int           // of one request
	Names            int           // asked for by one stream
	NameBytes        int           // of one name
	RequestsPerSec   float64       // of one stream, answers to responses apart; more are read later
	RequestBurst     int           // that may come at once
	FirstRequest     time.Duration // until a new stream has to ask for something
	ResponseBytes    int           // of resources in one response, where it can be divided
	Unanswered       int           // responses of one kind that a stream sends without an answer
	Pace             time.Duration // between those
	Rest             time.Duration // after a response, until the next change is sent; longer for many names, and in bursts
	MaxRest          time.Duration // however many names, however long the burst
	Linger           time.Duration // that a view stays after its last client left
}

// DefaultLimits suit clients that ask for some thousand services, and proxies that ask for all.
func DefaultLimits() Limits {
	return Limits{
		Streams:          4096,
		StreamsPerClient: 256,
		RequestBytes:     4 << 20,
		Names:            50_000,
		NameBytes:        1024,
		RequestsPerSec:   200,
		RequestBurst:     1000,
		FirstRequest:     10 * time.Second,
		ResponseBytes:    2 << 20,
		Unanswered:       4,
		Pace:             20 * time.Millisecond,
		Rest:             2 * time.Millisecond,
		MaxRest:          50 * time.Millisecond,
		Linger:           time.Minute,
	}
}

// orDefault fills in what is zero.
func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	pick(&l.Streams, d.Streams)
	pick(&l.StreamsPerClient, d.StreamsPerClient)
	pick(&l.RequestBytes, d.RequestBytes)
	pick(&l.Names, d.Names)
	pick(&l.NameBytes, d.NameBytes)
	pick(&l.RequestsPerSec, d.RequestsPerSec)
	pick(&l.RequestBurst, d.RequestBurst)
	pick(&l.FirstRequest, d.FirstRequest)
	pick(&l.ResponseBytes, d.ResponseBytes)
	pick(&l.Unanswered, d.Unanswered)
	pick(&l.Pace, d.Pace)
	pick(&l.Rest, d.Rest)
	pick(&l.MaxRest, d.MaxRest)
	pick(&l.Linger, d.Linger)
	return l
}

func pick[T comparable](field *T, otherwise T) {
	var zero T
	if *field == zero {
		*field = otherwise
	}
}

const (
	restNames  = 100  // add one Rest in State of the World
	manyDirty  = 64   // names to look at, beyond which the memory for them is given back
	freeStreak = 2    // responses of a burst before the rest grows
	maxStreak  = 12   // that are counted
	maxMessage = 4096 // bytes kept of a NACK's message
	maxLabel   = 256  // bytes kept of what a client calls itself
	readBuffer = 4096 // bytes of a connection, beside what TLS has

	streamWindow = 256 << 10 // bytes that a client may send ahead of what was read
	connWindow   = 1 << 20   // in all streams of a connection

	// maxSearched bounds the bytes of a NACK's message in which names are looked for: all clients of the view wait meanwhile.
	maxSearched = 64 << 10
)
