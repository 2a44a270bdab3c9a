package rig

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// Event is what a watch saw, with the time at which it arrived in this process.
type Event struct {
	Cluster string
	Type    watch.EventType
	Object  *unstructured.Unstructured
	At      time.Time
}

// Feed shows the changes of one kind in one namespace of some clusters, by one watch per cluster, to those tallies
// that are open.
type Feed struct {
	mu      sync.Mutex
	tallies map[*Tally]bool
	broken  error
}

// Follow starts a watch in every cluster and returns when all of them run. They end with ctx.
func (r *Rig) Follow(ctx context.Context, resource schema.GroupVersionResource, namespace string, clusters ...string) (*Feed, error) {
	f := &Feed{tallies: map[*Tally]bool{}}
	for _, name := range clusters {
		client, err := r.Client(name)
		if err != nil {
			return nil, err
		}
		if err := f.follow(ctx, client.Resource(resource).Namespace(namespace), name); err != nil {
			return nil, fmt.Errorf("watching %s in %s: %w", resource.Resource, name, err)
		}
	}
	return f, nil
}

func (f *Feed) follow(ctx context.Context, objects dynamic.ResourceInterface, cluster string) error {
	list, err := objects.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	version := list.GetResourceVersion()
	w, err := objects.Watch(ctx, metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		return err
	}
	go func() {
		// API servers end watches now and then, and when a CustomResourceDefinition changes; the next one goes on
		// where the last one ended.
		for err == nil && ctx.Err() == nil {
			version, err = f.drain(w, cluster, version)
			w.Stop()
			if err == nil && ctx.Err() == nil {
				w, err = objects.Watch(ctx, metav1.ListOptions{ResourceVersion: version})
			}
		}
		f.end(errors.Join(fmt.Errorf("the watch in %s ended", cluster), err))
	}()
	return nil
}

// drain shows the events of a watch until it ends, and returns the version of the last one.
func (f *Feed) drain(w watch.Interface, cluster, version string) (string, error) {
	for event := range w.ResultChan() {
		at := time.Now()
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok || event.Type == watch.Error {
			return version, apierrors.FromObject(event.Object)
		}
		version = object.GetResourceVersion()
		f.show(Event{Cluster: cluster, Type: event.Type, Object: object, At: at})
	}
	return version, nil
}

func (f *Feed) show(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for t := range f.tallies {
		t.observe(e)
	}
}

func (f *Feed) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = err
	for t := range f.tallies {
		t.fail(err)
	}
}

// Tally waits until so many (cluster, object) pairs have matched.
type Tally struct {
	feed  *Feed
	want  int
	match func(Event) bool

	seen map[string]bool // guarded by the feed's lock, as all below
	last time.Time
	err  error
	done chan struct{}
}

// Expect opens a tally of events that match. The caller waits for it, which closes it.
func (f *Feed) Expect(want int, match func(Event) bool) *Tally {
	t := &Tally{feed: f, want: want, match: match, seen: map[string]bool{}, done: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tallies[t] = true
	if f.broken != nil {
		t.fail(f.broken)
	}
	return t
}

func (t *Tally) observe(e Event) {
	if len(t.seen) >= t.want || t.err != nil || !t.match(e) {
		return
	}
	t.seen[e.Cluster+"/"+e.Object.GetName()] = true
	t.last = e.At
	if len(t.seen) == t.want {
		close(t.done)
	}
}

func (t *Tally) fail(err error) {
	if len(t.seen) < t.want && t.err == nil {
		t.err = err
		close(t.done)
	}
}

// errLate means that what a tally waited for did not come in time.
var errLate = errors.New("waited too long")

// Wait returns when the last of the wanted events came. The error tells how many were missing after limit.
func (t *Tally) Wait(ctx context.Context, limit time.Duration) (time.Time, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var err error
	select {
	case <-t.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
		err = errLate
	}
	t.feed.mu.Lock()
	defer t.feed.mu.Unlock()
	delete(t.feed.tallies, t)
	if err == nil {
		err = t.err
	}
	if err != nil {
		return t.last, fmt.Errorf("%d of %d objects after %s: %w", len(t.seen), t.want, limit, err)
	}
	return t.last, nil
}

// Last returns when the latest event that counted came.
func (t *Tally) Last() time.Time {
	t.feed.mu.Lock()
	defer t.feed.mu.Unlock()
	return t.last
}

// Close gives up a tally that nobody will wait for.
func (t *Tally) Close() {
	t.feed.mu.Lock()
	defer t.feed.mu.Unlock()
	delete(t.feed.tallies, t)
}
