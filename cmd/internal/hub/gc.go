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
	garbage = 96 << 20
	// gcPeriod is how often the size of the heap is looked at.
	gcPeriod = 5 * time.Second
	liveHeap = "/gc/heap/live:bytes"
)

// collect keeps the garbage of the hub within bounds until ctx ends. GOGC, where it is set, decides instead.
func collect(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	sample := []metrics.Sample{{Name: liveHeap}}
	tick := time.NewTicker(gcPeriod)
	defer tick.Stop()
	for set := 0; ; {
		metrics.Read(sample)
		if percent := gcPercent(sample[0].Value.Uint64()); percent != set {
			debug.SetGCPercent(percent)
			set = percent
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
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
