package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
)

// follow prints objects as they change, until the context ends. A watch that breaks is taken up again, in members that
// did not answer before too.
func (p *program) follow(ctx context.Context, q *query, results []listed, columns []column) error {
	changes := make(chan change)
	var group sync.WaitGroup
	for _, result := range results {
		group.Go(func() { newFollower(result, changes).run(ctx) })
	}
	go func() { group.Wait(); close(changes) }()
	for c := range changes {
		if c.err != nil {
			p.warn("%v", c.err)
			continue
		}
		switch q.output {
		case "json", "yaml":
			if err := writeValue(p.streams.Out, q.output, annotated(c.cluster, c.object)); err != nil {
				return err
			}
		case "name":
			p.say("%s", objectName(q, c.cluster, c.object))
		default:
			row := cells(q, columns, c.cluster, c.object)
			if c.deleted {
				row = append(row, "(deleted)")
			}
			if err := (table{rows: [][]string{row}}).write(q.rows, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// change is an object that changed in a cluster, or why a cluster cannot be watched any more.
type change struct {
	cluster string
	object  *unstructured.Unstructured
	deleted bool
	err     error
}

// Pauses before a source is asked again: short after a watch that ended, longer the longer a source does not answer.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 15 * time.Second
)

// follower watches one source.
type follower struct {
	from  listed
	out   chan<- change
	seen  map[types.UID]*unstructured.Unstructured // as last shown
	told  bool                                     // that the source does not answer
	pause wait.Backoff
}

func newFollower(from listed, out chan<- change) *follower {
	f := &follower{from: from, out: out, seen: map[types.UID]*unstructured.Unstructured{}, told: from.err != nil}
	for i := range from.objects {
		f.seen[from.objects[i].GetUID()] = &from.objects[i]
	}
	f.rest()
	return f
}

// rest makes the next pause a short one.
func (f *follower) rest() {
	f.pause = wait.Backoff{Duration: firstPause, Factor: 2, Jitter: 0.1, Steps: 100, Cap: longestPause}
}

// run watches until the context ends.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		if f.from.version != "" {
			next, err := f.watch(ctx)
			f.from.version = next
			f.complain(ctx, err)
		}
		select {
		case <-time.After(f.pause.Step()):
		case <-ctx.Done():
			return
		}
		if f.from.version == "" {
			f.catchUp(ctx)
		}
	}
}

// complain says once per outage that a source is not watched. A watch that the server ended is no outage.
func (f *follower) complain(ctx context.Context, err error) {
	if err == nil || f.told || ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	f.told = true
	f.send(ctx, change{err: fmt.Errorf("%w\nIts objects are shown again when it answers", explainMember(f.from.query, f.from.source, err))})
}

// catchUp lists a source again, and sends what changed since it was last seen.
func (f *follower) catchUp(ctx context.Context) {
	now := list(ctx, f.from.query, f.from.source)
	if now.err != nil {
		if !f.told && ctx.Err() == nil {
			f.told = true
			f.send(ctx, change{err: now.err})
		}
		return
	}
	f.told = false
	f.from.query, f.from.version = now.query, now.version
	if now.version != "" {
		f.rest()
	}
	for _, c := range since(f.seen, now.objects) {
		f.show(ctx, c)
	}
}

// since compares what was shown with what is there now: deleted objects first, then new and changed ones.
func since(seen map[types.UID]*unstructured.Unstructured, now []unstructured.Unstructured) []change {
	var changed []change
	there := map[types.UID]bool{}
	for i := range now {
		object := &now[i]
		there[object.GetUID()] = true
		if before := seen[object.GetUID()]; before == nil || before.GetResourceVersion() != object.GetResourceVersion() {
			changed = append(changed, change{object: object})
		}
	}
	var gone []change
	for uid, object := range seen {
		if !there[uid] {
			gone = append(gone, change{object: object, deleted: true})
		}
	}
	slices.SortFunc(gone, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.object.GetNamespace(), b.object.GetNamespace()), cmp.Compare(a.object.GetName(), b.object.GetName()))
	})
	return append(gone, changed...)
}

// show sends a change and remembers it.
func (f *follower) show(ctx context.Context, c change) bool {
	c.cluster = f.from.source.name
	if c.deleted {
		delete(f.seen, c.object.GetUID())
	} else {
		f.seen[c.object.GetUID()] = c.object
	}
	return f.send(ctx, c)
}

func (f *follower) send(ctx context.Context, c change) bool {
	select {
	case f.out <- c:
		return true
	case <-ctx.Done():
		return false
	}
}

// watch watches until the server ends the watch, and returns where to take it up again: nowhere after an error.
func (f *follower) watch(ctx context.Context) (string, error) {
	q, version := f.from.query, f.from.version
	resources, err := q.open(f.from.source, 0)
	if err != nil {
		return "", err
	}
	watcher, err := resources.Watch(ctx, metav1.ListOptions{LabelSelector: q.selector, ResourceVersion: version, AllowWatchBookmarks: true})
	if err != nil {
		return "", err
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		if event.Type == watch.Error {
			return "", apierrors.FromObject(event.Object)
		}
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		version = object.GetResourceVersion()
		f.rest()
		if event.Type == watch.Bookmark || !q.wants(object.GetName()) {
			continue
		}
		if !f.show(ctx, change{object: object, deleted: event.Type == watch.Deleted}) {
			break
		}
	}
	return version, nil
}
