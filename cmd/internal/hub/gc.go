package hub

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// maxGC lets a small heap grow to three times what is in use before it is collected: what a hub decodes from watches is
	// short-lived, and a fifth of its CPU went into collecting it.
	maxGC = 200
	// minGC is for a heap so large that collecting it is what costs.
	minGC = 50
	// garbage is about how much may lie around: a large heap need not have as much garbage as it has content.
	garbage = 64 << 20
	// gcPeriod is how often the size of the heap is looked at.
	gcPeriod = 5 * time.Second
	// busy is how much is allocated in a period in which a hub has work. After work like the first lists of all members,
	// half of its memory is empty.
	busy = 16 << 20

	liveHeap  = "/gc/heap/live:bytes"
	allocated = "/gc/heap/allocs:bytes"
)

// collect keeps the garbage of the hub within bounds until ctx ends. GOGC, where it is set, decides instead.
func collect(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	sample := []metrics.Sample{{Name: liveHeap}, {Name: allocated}}
	tick := time.NewTicker(gcPeriod)
	defer tick.Stop()
	for h := (heap{}); ; {
		metrics.Read(sample)
		set := h.percent
		giveBack := h.look(sample[0].Value.Uint64(), sample[1].Value.Uint64())
		if h.percent != set {
			debug.SetGCPercent(h.percent)
		}
		if giveBack {
			debug.FreeOSMemory()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// heap is what was seen of the heap, and what was decided.
type heap struct {
	percent   int    // by how much it may grow before it is collected
	allocated uint64 // since the start, as of the last look
	worked    bool   // since memory was given back
}

// look takes in how much is in use and how much was allocated since the start, once a period. It tells whether to give
// memory back: once after work, when there is none any more.
func (h *heap) look(live, allocated uint64) (giveBack bool) {
	working := allocated-h.allocated >= busy
	giveBack = h.worked && !working
	h.percent, h.allocated, h.worked = gcPercent(live), allocated, working
	return giveBack
}

// gcPercent is how much a heap of a size may grow before it is collected, in per cent; in steps, so that it is not set
// anew for every byte.
func gcPercent(live uint64) int {
	const step = 10
	if live <= garbage*100/maxGC {
		return maxGC
	}
	return max(minGC, int(garbage*100/live)/step*step)
}
