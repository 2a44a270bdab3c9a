// Package link is the model of one direction of a connection between two places: what happens to a packet that is sent
// into it. It knows no clock and no randomness, both are arguments, and it moves nothing.
//
//	          cut?      queue full?      lost?
//	packet ────┬────────────┬──────────────┬──► serialised at the bandwidth, then under way for delay ± jitter ──► due
//	           ▼            ▼              ▼
//	        dropped      dropped       dropped (its turn in the queue is spent all the same)
//
// Sizes are those of IP packets, headers included: what a transfer reaches is a few percent less.
package link
