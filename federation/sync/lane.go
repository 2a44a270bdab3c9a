package sync

import (
	"context"
	"sync/atomic"
	"time"

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
// thousands of idle lanes cost one goroutine each.
type lane struct {
	queue  workqueue.TypedRateLimitingInterface[types.NamespacedName]
	limit  int
	handle func(context.Context, types.NamespacedName) verdict
	yields func() bool // while it returns true, yielding goroutines have to do; nil never yields
	inHand atomic.Int64
}

// yielding is how many goroutines work on while a lane yields to others, and yieldCheck how often it asks again.
const (
	yielding   = 2
	yieldCheck = 5 * time.Millisecond
)

// verdict says what becomes of an item after it was handled.
type verdict struct {
	retry bool          // try again, later each time
	after time.Duration // look again after this time
}

func newLane(name string, limit int, handle func(context.Context, types.NamespacedName) verdict) *lane {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](retryFirst, retryMax)
	queue := workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[types.NamespacedName]{Name: name})
	return &lane{queue: queue, limit: limit, handle: handle}
}

// busy reports whether there is work, waiting or in hand.
func (l *lane) busy() bool { return l.inHand.Load() > 0 || l.queue.Len() > 0 }

// giveWay waits while the lane yields and enough of it is under way.
func (l *lane) giveWay(ctx context.Context) {
	for l.yields != nil && l.inHand.Load() >= yielding && l.yields() {
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
		places <- struct{}{}
		l.giveWay(ctx)
		l.inHand.Add(1)
		go func() {
			defer func() { <-places }()
			defer l.inHand.Add(-1)
			defer l.queue.Done(key)
			v := l.handle(ctx, key)
			switch {
			case v.retry:
				l.queue.AddRateLimited(key)
			case v.after > 0:
				l.queue.Forget(key)
				l.queue.AddAfter(key, v.after)
			default:
				l.queue.Forget(key)
			}
		}()
	}
	for range l.limit {
		places <- struct{}{}
	}
}
