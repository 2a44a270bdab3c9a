package exports

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// Bounds of a worker. Its pauses are short enough that a role that was granted, or a CRD that was installed, is seen soon;
// the member's health ends them when it comes back.
const (
	pauseFirst = 200 * time.Millisecond
	pauseMost  = 5 * time.Second
	// stallTimeout is how long a list may stand still.
	stallTimeout = 10 * time.Second
	// listTimeout bounds one page of a list.
	listTimeout = 60 * time.Second
	pageSize    = 500
	// watchLeast is how long a watch is asked to last at least; twice that at most.
	watchLeast = 5 * time.Minute
	// watchSlack is how much later than asked for a watch may end before it is ended: what is on the way may have lost it.
	watchSlack = 30 * time.Second
	// pauseAbsent is the pause while the cluster does not serve the kind, which costs two short answers to see.
	pauseAbsent   = 2 * time.Second
	servesTimeout = 10 * time.Second
	// pauseFull is the least time between two lists while something has to be left out: to list that much again and again would
	// take the hub's time from other clusters. What was taken in is followed meanwhile.
	pauseFull = 30 * time.Second
)

// worker follows one kind in one cluster: it lists, watches from there, and begins anew when that breaks.
type worker struct {
	kind    Kind
	cluster string
	sources []edition
	wake    chan struct{} // ends a pause
	tell    func(came, seen time.Time, f *fact)
	now     func() time.Time
	seen    prometheus.Counter
	full    *atomic.Pointer[excess] // the hub had to leave something out

	budget  budget
	state   State
	message string
	listed  bool // of the site, by this worker or one before
	paged   bool // the server does not stream lists
}

// errRelist ends a watch that cannot be continued although nothing is wrong.
var errRelist = errors.New("the watch has to begin anew")

// run follows the kind until ctx ends.
func (w *worker) run(ctx context.Context) {
	ctx = w.budget.with(ctx)
	pause := pauseFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := w.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errRelist) {
			err = nil
		}
		if time.Since(began) > pauseMost {
			pause = pauseFirst
		}
		if err != nil {
			w.fail(ctx, err)
		}
		var full *excess
		switch {
		case w.state == StateNotInstalled:
			pause = min(pause, pauseAbsent)
		case errors.As(err, &full) && time.Since(began) < pauseFull:
			pause = pauseFull
		}
		timer := time.NewTimer(pause + rand.N(pause/5)) //nolint:gosec // G404: jitter
		select {
		case <-ctx.Done():
		case <-w.wake:
			pause = pauseFirst
		case <-timer.C:
			pause = min(2*pause, pauseMost)
		}
		timer.Stop()
	}
}

// once lists the kind in the best version that is served, and watches it until that breaks.
func (w *worker) once(ctx context.Context) error {
	var err error
	w.full.Store(nil)
	for i := range w.sources {
		source := &w.sources[i]
		w.budget.renew()
		err = w.followSource(ctx, source)
		if !isNotServed(err) {
			return err
		}
	}
	return err
}

func (w *worker) followSource(ctx context.Context, s *edition) error {
	if !w.paged {
		err := w.stream(ctx, s)
		if !errors.Is(err, errNoStreaming) {
			return err
		}
		w.paged = true
	}
	version, err := w.list(ctx, s)
	if err != nil {
		return err
	}
	return w.watch(ctx, s, version)
}

// ending is how long a watch may last at most.
func ending(options metav1.ListOptions) time.Duration {
	return time.Duration(*options.TimeoutSeconds)*time.Second + watchSlack
}

func (w *worker) options(s *edition) metav1.ListOptions {
	options := metav1.ListOptions{LabelSelector: s.selector}
	seconds := int64((watchLeast + rand.N(watchLeast)).Seconds()) //nolint:gosec // G404: so that watches do not all end at once
	options.TimeoutSeconds = &seconds
	if !w.listed {
		options.ResourceVersion = "0" // any will do for a first list; a later one must not be older than what is known
	}
	return options
}

// watch follows changes from a version on. A watch that ends in the ordinary way is continued where it ended.
func (w *worker) watch(ctx context.Context, s *edition, version string) error {
	for {
		options := w.options(s)
		options.AllowWatchBookmarks = true
		options.ResourceVersion = version
		began := time.Now()
		w.budget.renew()
		var err error
		if version, err = w.continued(ctx, s, options); err != nil {
			return err
		}
		if time.Since(began) < time.Second {
			return fmt.Errorf("watching %s: the connection ended as soon as it began", s.resource.Resource)
		}
	}
}

// continued watches once from the version in the options.
func (w *worker) continued(ctx context.Context, s *edition, options metav1.ListOptions) (version string, err error) {
	bounded, cancel := context.WithTimeout(ctx, ending(options))
	defer cancel()
	events, err := s.watch(bounded, options)
	if err != nil {
		return "", ended(fmt.Errorf("watching %s: %w", s.resource.Resource, err))
	}
	return w.drain(ctx, events, options.ResourceVersion)
}

// drain tells of events until the watch ends, and returns the version that it has come to.
func (w *worker) drain(ctx context.Context, events watch.Interface, version string) (string, error) {
	defer events.Stop()
	w.budget.arrival.take(time.Now())  // what came before was the list
	again := time.NewTicker(pauseFull) // to see whether everything fits by now
	defer again.Stop()
	for {
		select {
		case <-again.C:
			if full := w.full.Load(); full != nil {
				return "", full
			}
		case <-ctx.Done():
			return "", ctx.Err()
		case event, open := <-events.ResultChan():
			if !open {
				return version, nil
			}
			w.budget.renew()
			var err error
			if version, err = w.event(event); err != nil {
				return "", err
			}
		}
	}
}

// event tells of one event, and returns the version that it brings the watch to.
func (w *worker) event(event watch.Event) (version string, err error) {
	came := w.budget.arrival.take(time.Now())
	if event.Type == watch.Error {
		return "", broken(event.Object)
	}
	object, err := meta.Accessor(event.Object)
	if err != nil {
		return "", fmt.Errorf("reading an event of %s: %w", w.kind, err)
	}
	if event.Type == watch.Bookmark {
		return object.GetResourceVersion(), nil
	}
	i, err := decode(w.kind, event.Object)
	if err != nil {
		return "", err
	}
	if event.Type == watch.Deleted {
		i = item{name: i.name}
	}
	w.tell(came, w.now(), &fact{kind: w.kind, news: newsItem, item: i})
	w.seen.Inc()
	return object.GetResourceVersion(), nil
}

// running tells of a complete list.
func (w *worker) running(items []item) {
	w.listed = true
	observeState(w.cluster, w.kind, w.state, StateRunning)
	watchStarts.WithLabelValues(w.cluster, w.kind.String()).Inc()
	w.state, w.message = StateRunning, ""
	w.tell(time.Time{}, w.now(), &fact{kind: w.kind, news: newsList, items: items})
}

// fail tells why the worker is not in step.
func (w *worker) fail(ctx context.Context, err error) {
	state := StateUnreachable
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		state = StateForbidden
		if w.lacks(ctx) {
			state = StateNotInstalled // who may not list what is not there is told the former
		} else {
			err = fmt.Errorf("%w; join the cluster again with --error-on-existing=false to renew what the hub may do there", err)
		}
	case isNotServed(err) && (w.state == StateNotInstalled || w.lacks(ctx)):
		state = StateNotInstalled
	}
	if state == w.state && err.Error() == w.message {
		return
	}
	if state == StateNotInstalled {
		w.listed = false
	}
	observeState(w.cluster, w.kind, w.state, state)
	w.state, w.message = state, err.Error()
	w.tell(time.Time{}, time.Time{}, &fact{kind: w.kind, news: newsState, state: state, message: w.message})
}

// lacks tells whether the cluster says for certain that it does not serve the kind: a 404 may come from a proxy on the way.
func (w *worker) lacks(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, servesTimeout)
	defer cancel()
	w.budget.renew()
	for i := range w.sources {
		if w.sources[i].serves == nil {
			return false
		}
		if served, err := w.sources[i].serves(ctx); err != nil || served {
			return false
		}
	}
	return true
}

// broken is the error that an event of a watch carries.
func broken(object runtime.Object) error { return ended(apierrors.FromObject(object)) }

// ended tells a watch whose version is too old, which is nothing to report, from one that failed.
func ended(err error) error {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return errRelist
	}
	return err
}

// isNotServed recognises the answer of an API server that has no such resource.
func isNotServed(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code == http.StatusNotFound
}
