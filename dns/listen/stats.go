package listen

import "sync/atomic"

// Stats counts what a Server did since New. All but Open and ReceiveBuffer only grow.
type Stats struct {
	// UDP, all engines together.
	Packets       uint64 // received
	Batches       uint64 // in which they came
	Responses     uint64 // sent
	Oversized     uint64 // packets larger than Options.UDPSize: no response
	Unsent        uint64 // responses that the kernel did not take
	Overflows     uint64 // packets that the kernel dropped because its queue was full
	Crowded       uint64 // packets without a response because Options.Waiting others waited
	ReceiveBuffer int    // octets that the kernel gives the queue of each socket; the smallest

	// Streams, by transport; that of UDP is zero.
	Streams [Transports]StreamStats

	Panics uint64 // of the Handler, over all transports; each cost one query, or one connection
}

// StreamStats counts connections and what they asked.
type StreamStats struct {
	Accepted uint64 // connections
	Refused  uint64 // closed at once because of a limit
	Evicted  uint64 // closed while idle to make room
	TimedOut uint64 // closed because the peer sent or took too slowly; idle ones apart
	Open     int64  // now
	Queries  uint64
}

// udpCounters are those of one engine. They change once per batch.
type udpCounters struct {
	packets, batches, responses, oversized, unsent atomic.Uint64

	_ [64]byte // keeps the counters of two engines off the same cache line
}

// streamCounters are those of one transport.
type streamCounters struct {
	accepted, refused, evicted, timedOut, queries atomic.Uint64
	open                                          atomic.Int64
}

func (c *streamCounters) read() StreamStats {
	return StreamStats{
		Accepted: c.accepted.Load(), Refused: c.refused.Load(), Evicted: c.evicted.Load(), TimedOut: c.timedOut.Load(),
		Open: c.open.Load(), Queries: c.queries.Load(),
	}
}
