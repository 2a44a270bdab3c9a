package hub

import (
	"context"
	"os"
	"runtime"
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
	// restingGC and restingGarbage are for a hub without work: it makes so little garbage that collecting it costs nothing.
	restingGC, restingGarbage = 20, 24 << 20
	// gcPeriod is how often the size of the heap is looked at.
	gcPeriod = time.Second
	// busy is how much is allocated in a period in which a hub has work.
	busy = 4 << 20
	// resting is after how many periods without work a hub is at rest. After work like the first lists of all members, half of
	// its memory is empty.
	resting = 5

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
			runtime.GC() // what lies in pools for use again goes with the second collection only
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
	quiet     int    // periods since there was work, at most one more than resting
}

// look takes in how much is in use and how much was allocated since the start, once a period. It tells whether to give
// memory back: once when a hub has come to rest.
func (h *heap) look(live, allocated uint64) (giveBack bool) {
	if allocated-h.allocated >= busy {
		h.quiet = 0
	} else {
		h.quiet = min(h.quiet+1, resting+1)
	}
	h.allocated = allocated
	if h.quiet < resting {
		h.percent = gcPercent(live, garbage, minGC)
	} else {
		h.percent = gcPercent(live, restingGarbage, restingGC)
	}
	return h.quiet == resting
}

// gcPercent is how much a heap of a size may grow before it is collected, in per cent, for so much garbage, but at least by
// least; in steps, so that it is not set anew for every byte.
func gcPercent(live uint64, garbage, least int) int {
	const step = 10
	if live <= uint64(garbage)*100/maxGC { //nolint:gosec // a size
		return maxGC
	}
	return max(least, int(uint64(garbage)*100/live)/step*step) //nolint:gosec // less than maxGC
}
