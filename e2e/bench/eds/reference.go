package eds

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// reference is what any client of the members' API servers has: an informer on the EndpointSlices of each, in protobuf.
type reference struct {
	mu      sync.Mutex
	wanted  map[sight]int // index in seen
	seen    []int64       // nanoseconds since 1970; 0: not yet
	missing int
	done    chan struct{}
}

// sight is what shows that a change arrived.
type sight struct {
	member         int
	slice, address string
}

// follow starts the informers and returns when they hold everything. They end with ctx.
func (w *world) follow(ctx context.Context) (*reference, error) {
	r := &reference{}
	for i, member := range w.members {
		factory := informers.NewSharedInformerFactoryWithOptions(w.typed[i], 0, informers.WithNamespace(namespace),
			informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = discoveryv1.LabelManagedBy + "=" + managedBy }))
		informer := factory.Discovery().V1().EndpointSlices().Informer()
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, object any) {
			at := time.Now().UnixNano()
			if slice, ok := object.(*discoveryv1.EndpointSlice); ok && len(slice.Endpoints) > 0 && len(slice.Endpoints[0].Addresses) > 0 {
				r.see(sight{i, slice.Name, slice.Endpoints[0].Addresses[0]}, at)
			}
		}})
		if err != nil {
			return nil, fmt.Errorf("watching EndpointSlices in %s: %w", member, err)
		}
		factory.StartWithContext(ctx)
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return nil, fmt.Errorf("listing EndpointSlices in %s: %w", member, context.Cause(ctx))
		}
	}
	return r, nil
}

// expect begins to look for changes. Earlier ones are forgotten.
func (r *reference) expect(changes []change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted, r.seen = map[sight]int{}, make([]int64, len(changes))
	r.missing, r.done = len(changes), make(chan struct{})
	for i, c := range changes {
		r.wanted[sight{c.member, sliceName(c.service), c.address}] = i
	}
}

func (r *reference) see(s sight, at int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, wanted := r.wanted[s]
	if !wanted || r.seen[i] != 0 {
		return
	}
	r.seen[i] = at
	if r.missing--; r.missing == 0 {
		close(r.done)
	}
}

// await returns when each change was seen.
func (r *reference) await(ctx context.Context, limit time.Duration) ([]int64, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.done:
		return r.seen, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
		return nil, errors.New("the reference informer did not see all changes in time")
	}
}
