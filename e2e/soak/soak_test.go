package soak_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

var (
	duration = flag.Duration("soak", 8*time.Second, "for how long gateways work while things break")
	seed     = flag.Uint64("soak-seed", 0, "of what happens when; 0: another one each time")
	pace     = flag.Duration("soak-pace", 8*time.Millisecond, "between the clients that come; the race detector needs more")
)

// How often something breaks, and for how long. Short runs are in more of a hurry.
const (
	period, holds           = 5 * time.Second, 2 * time.Second
	shortPeriod, shortHolds = 2500 * time.Millisecond, 500 * time.Millisecond
	short                   = time.Minute
	warmUp                  = 2 * time.Second
)

// What may be there at the end that was not there after the warm-up: what is being replaced at that moment, and caches.
const (
	moreGoroutines  = 24
	moreDescriptors = 16
	moreHeap        = 6 << 20
)

// TestSoak has everything break in turn while clients come and go. Afterwards everything is as it was, nobody was served
// twice, and only those clients noticed anything who were there when something broke.
func TestSoak(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d", *seed)
	w := newWorld(t)
	load(w, warmUp, rand.New(rand.NewPCG(*seed, 1)), nil)
	before := settle(t, w, usage{})
	t.Logf("after the warm-up: %s", before)

	chaos := &chaos{t: t, world: w, random: rand.New(rand.NewPCG(*seed, 2)), hold: holds}
	every := period
	if *duration < short {
		every, chaos.hold = shortPeriod, shortHolds
	}
	load(w, *duration, rand.New(rand.NewPCG(*seed, 3)), func(ctx context.Context) {
		for next := time.Now().Add(every / 4); ctx.Err() == nil; next = next.Add(every) {
			rest(ctx, time.Until(next))
			if ctx.Err() == nil {
				chaos.happen()
			}
		}
	})
	end := settle(t, w, before)
	t.Logf("at the end:        %s", end)
	t.Logf("what happened:\n%s", w.books)
	end.compare(t, before)
	judge(t, w)
}

// load has clients come for a while, with something beside that ends by itself when ctx does.
func load(w *world, d time.Duration, random *rand.Rand, beside func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	w.clients.begin(ctx, random)
	w.clients.running.Go(func() { w.books.stalls(ctx) })
	if beside != nil {
		beside(ctx)
	}
	<-ctx.Done()
	w.clients.running.Wait()
}

// judge fails the test for what clients noticed.
func judge(t *testing.T, w *world) {
	t.Helper()
	if w.books.duplicates > 0 {
		t.Errorf("%d requests were seen twice", w.books.duplicates)
	}
	if n := w.clients.skipped.Load(); n > 0 {
		t.Errorf("%d clients did not come, because there were too many", n)
	}
	said := 0
	for _, f := range w.books.unexplained() {
		what := w.books.describe(&f)
		said++
		if said > 100 {
			t.Error("and more")
			return
		}
		switch f.kind {
		case repeated:
			t.Logf("asked again although nothing broke: %s", what)
		default:
			t.Errorf("noticed something although nothing broke: %s", what)
		}
	}
}

// usage is what the process has.
type usage struct {
	goroutines, descriptors     int
	heap, stacks, system, total uint64 // octets; total is what the kernel says
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, heap %.1f MiB, stacks %.1f MiB, from the system %.1f MiB, resident %.1f MiB",
		u.goroutines, u.descriptors, mib(u.heap), mib(u.stacks), mib(u.system), mib(u.total))
}

func mib(n uint64) float64 { return float64(n) / (1 << 20) }

func measure() usage {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, _ := os.ReadDir("/proc/self/fd")
	u := usage{goroutines: runtime.NumGoroutine(), descriptors: len(fds), heap: m.HeapAlloc, stacks: m.StackInuse, system: m.Sys}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size uint64
		if _, err := fmt.Sscan(string(text), &size, &u.total); err == nil {
			u.total *= uint64(os.Getpagesize())
		}
	}
	return u
}

// within tells whether there is no more than there was.
func (u usage) within(before usage) bool {
	return u.goroutines <= before.goroutines+moreGoroutines && u.descriptors <= before.descriptors+moreDescriptors && u.heap <= before.heap+moreHeap
}

// settle waits until everything works, nothing is under way, and there is no more than there was before; or for as long as
// that may take.
func settle(t *testing.T, w *world, before usage) usage {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := w.whole()
		if err == nil {
			if u := measure(); before == (usage{}) || u.within(before) {
				return u
			}
		}
		if time.Now().After(deadline) {
			if err != nil {
				t.Errorf("afterwards: %v", err)
			}
			return measure()
		}
		rest(context.Background(), 200*time.Millisecond)
	}
}

// compare fails the test when there is more than before, and says of what.
func (u usage) compare(t *testing.T, before usage) {
	t.Helper()
	if u.within(before) {
		return
	}
	t.Errorf("something stays: before, there were %s", before)
	var text strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&text, 1); err == nil {
		t.Logf("%.12000s", text.String())
	}
}
