package soak_test

import (
	"context"
	"fmt"
	"time"
)

// What of the machine's trouble counts as a fault: this process was not run for so long, because others were. It is counted
// beside the others, so a run with many says little.
const (
	beat  = 10 * time.Millisecond
	stall = 250 * time.Millisecond
)

// stalls notes when this process did not get to run, until ctx ends.
func (b *books) stalls(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		rest(ctx, beat)
		if late := time.Since(began) - beat; late > stall && ctx.Err() == nil {
			b.note(fmt.Sprintf("machine stalled for more than %v", stall))
		}
	}
}
