package exports

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// errNoStreaming says that the server answers no list as a watch.
var errNoStreaming = errors.New("the API server does not stream lists")

// stream asks for a list as the beginning of a watch (KEP-3157): the server sends it from its cache object by object, and no
// more than one of them is in memory at a time.
func (w *worker) stream(ctx context.Context, s *edition) error {
	options := w.options(s)
	options.AllowWatchBookmarks = true
	options.SendInitialEvents = new(true)
	options.ResourceVersionMatch = metav1.ResourceVersionMatchNotOlderThan
	bounded, cancel := context.WithTimeout(ctx, ending(options))
	defer cancel()
	events, err := s.watch(bounded, options)
	switch {
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return errNoStreaming
	case err != nil:
		return fmt.Errorf("listing %s: %w", s.resource.Resource, err)
	}
	version, err := w.initial(ctx, events)
	if err != nil {
		events.Stop()
		return err
	}
	version, err = w.drain(ctx, events, version)
	if err != nil {
		return err
	}
	cancel()
	return w.watch(ctx, s, version)
}

// initial reads a streamed list up to its end.
func (w *worker) initial(ctx context.Context, events watch.Interface) (version string, err error) {
	all := gathered{kind: w.kind}
	stalled := time.NewTimer(stallTimeout)
	defer stalled.Stop()
	for {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-stalled.C:
			if len(all.items) > 0 {
				return "", errNoStreaming // an old server ignores the wish, and never says that it is done
			}
			return "", fmt.Errorf("listing %s: nothing arrived for %s", w.kind, stallTimeout)
		case event, open := <-events.ResultChan():
			if !open {
				return "", fmt.Errorf("listing %s: the connection ended before the list did", w.kind)
			}
			stalled.Reset(stallTimeout)
			w.budget.renew()
			if event.Type == watch.Bookmark {
				if version, done := endOfList(event.Object); done {
					w.running(all.items)
					return version, nil
				}
				continue
			}
			if err := all.add(w.element(event)); err != nil {
				return "", err
			}
		}
	}
}

// element reads an event that stands for an element of a list.
func (w *worker) element(event watch.Event) (item, error) {
	switch event.Type {
	case watch.Added, watch.Modified:
		return decode(w.kind, event.Object)
	case watch.Error:
		return item{}, broken(event.Object)
	default:
		return item{}, fmt.Errorf("listing %s: the list has an event of type %s", w.kind, event.Type)
	}
}

// endOfList tells whether a bookmark ends a streamed list, and the version of the list.
func endOfList(bookmark runtime.Object) (version string, done bool) {
	object, err := meta.Accessor(bookmark)
	if err != nil {
		return "", false
	}
	return object.GetResourceVersion(), object.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}

// list reads a list page by page.
func (w *worker) list(ctx context.Context, s *edition) (version string, err error) {
	all := gathered{kind: w.kind}
	options := w.options(s)
	options.TimeoutSeconds = nil
	options.Limit = pageSize
	for {
		page, err := w.page(ctx, s, options)
		if err != nil {
			return "", err
		}
		err = meta.EachListItem(page, func(object runtime.Object) error {
			return all.add(decode(w.kind, object))
		})
		if err != nil {
			return "", fmt.Errorf("reading a list of %s: %w", w.kind, err)
		}
		about, err := meta.ListAccessor(page)
		if err != nil {
			return "", fmt.Errorf("reading a list of %s: %w", w.kind, err)
		}
		if about.GetContinue() == "" {
			w.running(all.items)
			return about.GetResourceVersion(), nil
		}
		options.Continue, options.ResourceVersion = about.GetContinue(), ""
	}
}

func (w *worker) page(ctx context.Context, s *edition, options metav1.ListOptions) (runtime.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	w.budget.renew()
	page, err := s.list(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", s.resource.Resource, err)
	}
	return page, nil
}
