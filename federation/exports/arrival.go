package exports

import (
	"sync/atomic"
	"time"
)

// arrival tells when the events of a watch came. What reads the connection calls note; who takes the events, one after the
// other, calls take.
//
// An event came when its first bytes were read. Of one that was read while the one before it had not been taken, that is not
// known any more, and it counts from when that one was taken: what waits in a connection has not come.
type arrival struct {
	read  atomic.Int64 // of the first bytes since take, in nanoseconds since 1970; 0: none
	taken int64        // when take was called last
}

func (a *arrival) note(now time.Time) { a.read.CompareAndSwap(0, now.UnixNano()) }

// take returns when the event came that is being taken, and begins to wait for the next one.
func (a *arrival) take(now time.Time) time.Time {
	came := a.read.Swap(0)
	if came == 0 {
		came = a.taken
	}
	a.taken = now.UnixNano()
	if came == 0 {
		return now
	}
	return time.Unix(0, came)
}
