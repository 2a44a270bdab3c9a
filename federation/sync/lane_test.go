package sync_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	fedsync "github.com/hansa-dev/hansa/federation/sync"
)

func TestLaneWorksOnAKeyOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var working, handled atomic.Int32
		lane := fedsync.NewLane(8, func(context.Context, types.NamespacedName) bool {
			if working.Add(1) > 1 {
				t.Error("two goroutines work on one key")
			}
			<-time.After(time.Millisecond)
			working.Add(-1)
			handled.Add(1)
			return false
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { lane.Run(ctx) })
		for range 20 {
			lane.Add("a")
			<-time.After(100 * time.Microsecond)
		}
		<-time.After(time.Second)
		if n := handled.Load(); n < 2 || n > 20 {
			t.Errorf("handled %d times; adding while it is worked on means once more, and not once per addition", n)
		}
		cancel()
		running.Wait()
	})
}

func TestLaneKeepsItsLimitAndFinishesWhatItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var working, most, finished atomic.Int32
		lane := fedsync.NewLane(3, func(context.Context, types.NamespacedName) bool {
			n := working.Add(1)
			for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
			}
			<-time.After(time.Second)
			working.Add(-1)
			finished.Add(1)
			return false
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			lane.Run(ctx)
		}()
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			lane.Add(name)
		}
		<-time.After(500 * time.Millisecond)
		cancel()
		<-done
		if most.Load() != 3 {
			t.Errorf("%d keys were worked on at once, want 3", most.Load())
		}
		if working.Load() != 0 || finished.Load() < 3 {
			t.Errorf("run returned with %d keys in hand and %d finished", working.Load(), finished.Load())
		}
	})
}

func TestLaneRetriesLaterEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Time
		ctx, cancel := context.WithCancel(t.Context())
		lane := fedsync.NewLane(1, func(context.Context, types.NamespacedName) bool {
			tries = append(tries, time.Now())
			return len(tries) < 14
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			lane.Run(ctx)
		}()
		lane.Add("a")
		<-time.After(time.Minute)
		cancel()
		<-done
		if len(tries) != 14 {
			t.Fatalf("tried %d times, want until it succeeds", len(tries))
		}
		if first, last := tries[1].Sub(tries[0]), tries[13].Sub(tries[12]); first > 10*time.Millisecond || last > 6*time.Second || last < 4*time.Second {
			t.Errorf("pauses go from %v to %v, want from about 5ms to about 5s", first, last)
		}
	})
}
