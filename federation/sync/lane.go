package sync

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
)

// Pauses before the same object is tried again: short at first, since most failures are about order (a namespace that
// is just being made), and never so long that a healed member waits for its objects.
const (
	retryFirst = 5 * time.Millisecond
	retryMax   = 5 * time.Second
)

// lane is a work queue whose items are handled by at most limit goroutines, started only while there is work, so that
// thousands of idle lanes cost little.
type lane struct {
	queue  workqueue.TypedRateLimitingInterface[types.NamespacedName]
	limit  int
	log    logr.Logger
	handle func(context.Context, types.NamespacedName) verdict
	inHand atomic.Int64

	yields func() bool // whether others have work that goes first; nil means that they never have
	since  time.Time   // when that began
}

// While a lane yields, only yielding goroutines of it work. It asks again every yieldCheck, and yields for yieldMax at
// most, so that one slow cluster cannot hold it down.
const (
	yielding   = 2
	yieldCheck = 5 * time.Millisecond
	yieldMax   = 2 * time.Second
)

// verdict says what becomes of an item after it was handled.
type verdict struct {
	retry bool          // try again, later each time
	after time.Duration // look again after this time
}

// newLane returns a lane. Its queue has metrics if it has a name.
func newLane(name string, limit int, log logr.Logger, handle func(context.Context, types.NamespacedName) verdict) *lane {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](retryFirst, retryMax)
	queue := workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[types.NamespacedName]{Name: name})
	return &lane{queue: queue, limit: limit, log: log, handle: handle}
}

// busy reports whether there is work, waiting or in hand.
func (l *lane) busy() bool { return l.inHand.Load() > 0 || l.queue.Len() > 0 }

// giveWay waits while the lane yields and enough of it is under way.
func (l *lane) giveWay(ctx context.Context) {
	for l.yields != nil {
		if !l.yields() {
			l.since = time.Time{}
			return
		}
		if l.since.IsZero() {
			l.since = time.Now()
		}
		if l.inHand.Load() < yielding || time.Since(l.since) > yieldMax {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(yieldCheck):
		}
	}
}

func (l *lane) add(key types.NamespacedName) { l.queue.Add(key) }

// run handles items until ctx ends, then waits for those in hand.
func (l *lane) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, l.queue.ShutDown)
	defer stop()
	places := make(chan struct{}, l.limit)
	for {
		key, down := l.queue.Get()
		if down {
			break
		}
		if ctx.Err() != nil {
			l.queue.Done(key) // what is left in a queue that was shut down is not begun any more
			continue
		}
		places <- struct{}{}
		l.giveWay(ctx)
		l.inHand.Add(1)
		go func() {
			defer func() { <-places }()
			defer l.inHand.Add(-1)
			defer l.queue.Done(key)
			l.dispose(key, l.attempt(ctx, key))
		}()
	}
	for range l.limit {
		places <- struct{}{}
	}
}

// attempt handles one item. A panic is logged and costs the item a retry, not the hub its life.
func (l *lane) attempt(ctx context.Context, key types.NamespacedName) (v verdict) {
	defer func() {
		if cause := recover(); cause != nil {
			l.log.Error(fmt.Errorf("panic: %v", cause), "Handling an object failed; this is a bug", "object", key, "stack", string(debug.Stack()))
			v = verdict{retry: true}
		}
	}()
	return l.handle(ctx, key)
}

func (l *lane) dispose(key types.NamespacedName, v verdict) {
	switch {
	case v.retry:
		l.queue.AddRateLimited(key)
	case v.after > 0:
		l.queue.Forget(key)
		l.queue.AddAfter(key, v.after)
	default:
		l.queue.Forget(key)
	}
}
