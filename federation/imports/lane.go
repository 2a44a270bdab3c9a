package imports

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	// workers is how many services are worked on at once in one member.
	workers = 8
	// requestTimeout bounds one request to a member.
	requestTimeout = 30 * time.Second
	// retryFirst and retryMax bound the pause before the next attempt at a service.
	retryFirst = 10 * time.Millisecond
	retryMax   = 30 * time.Second
	// refusedRetry is the pause after an answer that will not change by itself.
	refusedRetry = time.Minute
	// rounds bounds how often one attempt plans anew after its own writes; a new import takes four.
	rounds = 8
)

var namespaceResource = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// lane brings the services in one member up to date. It mirrors what is there, and writes.
type lane struct {
	r        *run
	name     string
	revision string
	id       string // in the clusterset, as of the last snapshot; for the goroutine of Run alone
	cancel   context.CancelFunc
	life     context.Context //nolint:containedctx // of the watches and the workers
	queue    workqueue.TypedRateLimitingInterface[clusterset.Key]

	// nil without a client
	namespaces, exports, imports, services, slices *cluster.Watch
	serviceIndex, sliceIndex                       *index
	ports                                          *Allocation
	hintless                                       atomic.Bool // the member drops hints for nodes

	mu      sync.Mutex
	peer    peer
	ctx     context.Context //nolint:containedctx // of requests; renewed whenever the member stops being ready
	abort   context.CancelFunc
	since   map[clusterset.Key]time.Time // when what is in the queue got there
	held    map[clusterset.Key]bool      // what to look at again when the hub hears of clusters
	refused map[clusterset.Key]refusal   // of derived Services
	spaces  map[string]bool              // namespaces that can be written to

	quarrels map[clusterset.Key]quarrel
	footings map[clusterset.Key]footing // on which nothing was left to do
}

// newLane starts the watches and the workers of a member.
func newLane(r *run, p peer) *lane {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[clusterset.Key](retryFirst, retryMax)
	l := &lane{
		r: r, name: p.name, revision: p.revision, peer: p,
		queue:        workqueue.NewTypedRateLimitingQueue(limiter),
		serviceIndex: newIndex(), sliceIndex: newIndex(), ports: NewAllocation(),
		since: map[clusterset.Key]time.Time{}, held: map[clusterset.Key]bool{}, refused: map[clusterset.Key]refusal{}, spaces: map[string]bool{},
		quarrels: map[clusterset.Key]quarrel{}, footings: map[clusterset.Key]footing{},
	}
	l.life, l.cancel = context.WithCancel(r.ctx)
	l.ctx, l.abort = context.WithCancel(l.life)
	context.AfterFunc(l.life, l.queue.ShutDown)
	if p.client == nil {
		return l
	}
	ours := api.SliceManagedByLabel + "=" + api.Controller
	l.namespaces = l.watch(namespaceResource, "", func(name types.NamespacedName) { l.namespaceChanged(name.Name) })
	l.exports = l.watch(exportResource, "", l.add)
	l.imports = l.watch(importResource, "", l.add)
	l.services = l.watch(serviceResource, ours, l.serviceChanged)
	l.slices = l.watch(sliceResource, ours, func(name types.NamespacedName) { l.objectChanged(l.slices, l.sliceIndex, name) })
	for _, w := range l.watches() {
		r.running.Go(func() { w.Run(l.life) })
	}
	for range workers {
		r.running.Go(l.work)
	}
	return l
}

func (l *lane) watches() []*cluster.Watch {
	return []*cluster.Watch{l.namespaces, l.exports, l.imports, l.services, l.slices}
}

func (l *lane) watch(resource schema.GroupVersionResource, selector string, changed func(types.NamespacedName)) *cluster.Watch {
	options := cluster.WatchOptions{Resource: resource, Selector: selector, Changed: changed, Moved: l.moved, Reborn: l.forgetFootings, Pack: resource != namespaceResource}
	if resource == sliceResource {
		options.Shrink = shrink
	}
	if serves := l.peer.serves; serves != nil {
		options.Serves = func(ctx context.Context) (bool, error) { return serves(ctx, resource) }
	}
	return cluster.NewWatch(l.peer.client, options)
}

func (l *lane) stop() { l.cancel() }

// update takes in a newer state of the member. One that is not ready any more frees its workers at once; one that came back
// is listed anew and looked through.
func (l *lane) update(p peer) {
	l.mu.Lock()
	was := l.peer
	l.peer = p
	if was.ready && !p.ready {
		l.abort()
		l.ctx, l.abort = context.WithCancel(l.life)
	}
	l.mu.Unlock()
	if was.ready || !p.ready || p.client == nil {
		return
	}
	for _, w := range l.watches() {
		w.Restart()
	}
	l.wakeNow()
}

func (l *lane) current() (peer, context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peer, l.ctx
}

// moved looks at everything once it is known what is there.
func (l *lane) moved() {
	if l.listed() || l.exports.Synced() || l.hindrance() != "" {
		l.wakeNow()
	}
}

// hindrance says why nothing can be imported in a member that answers; empty while nothing is known to be in the way.
func (l *lane) hindrance() string {
	for _, w := range []struct {
		watch    *cluster.Watch
		resource string
	}{{l.namespaces, "namespaces"}, {l.imports, importResource.Resource}, {l.services, "services"}, {l.slices, sliceResource.Resource}} {
		switch state, _ := w.watch.State(); state {
		case cluster.WatchForbidden:
			return "the hub may not read " + w.resource + " there; join the cluster again: hansa join " + l.name + " --error-on-existing=false"
		case cluster.WatchNotInstalled:
			return "the cluster does not serve " + w.resource + " of the versions that the hub writes; join it again: hansa join " + l.name + " --error-on-existing=false"
		default:
		}
	}
	return ""
}

// listed tells whether it is known what is there of imports.
func (l *lane) listed() bool {
	for _, w := range []*cluster.Watch{l.namespaces, l.imports, l.services, l.slices} {
		if w == nil || !w.Synced() {
			return false
		}
	}
	return true
}

func (l *lane) wakeNow() {
	snapshot, _ := l.r.Snapshots.Current()
	if snapshot != nil {
		l.wake(snapshot)
	}
}

// wake looks at every service that there is or was.
func (l *lane) wake(snapshot *clusterset.Snapshot) {
	if l.exports == nil {
		return
	}
	for _, service := range snapshot.Services() {
		l.add(service.Key)
	}
	for _, keys := range [][]clusterset.Key{l.exports.Keys(), l.imports.Keys(), l.serviceIndex.keys(), l.sliceIndex.keys()} {
		for _, key := range keys {
			l.add(key)
		}
	}
}

func (l *lane) add(key clusterset.Key) {
	if l.exports == nil || l.life.Err() != nil {
		return
	}
	l.mu.Lock()
	if _, waits := l.since[key]; !waits {
		l.since[key] = time.Now()
	}
	waiting.WithLabelValues(l.name).Set(float64(len(l.since)))
	l.mu.Unlock()
	l.queue.Add(key)
}

func (l *lane) addHeld() {
	l.mu.Lock()
	held := l.held
	l.held = map[clusterset.Key]bool{}
	l.mu.Unlock()
	for key := range held {
		l.add(key)
	}
}

// namespaceChanged looks at the services of a namespace that came or went.
func (l *lane) namespaceChanged(name string) {
	usable := l.usable(name)
	l.mu.Lock()
	was := l.spaces[name]
	if usable {
		l.spaces[name] = true
	} else {
		delete(l.spaces, name)
	}
	l.mu.Unlock()
	if usable == was {
		return
	}
	for _, key := range l.r.servicesIn(name) {
		l.add(key)
	}
}

// usable tells whether objects can be made in a namespace.
func (l *lane) usable(name string) bool {
	namespace := l.namespaces.Get(types.NamespacedName{Name: name})
	return namespace != nil && !leaving(namespace)
}

func (l *lane) objectChanged(watch *cluster.Watch, known *index, name types.NamespacedName) {
	if object := watch.Get(name); object != nil {
		key := clusterset.Key{Namespace: name.Namespace, Name: derivedFrom(object)}
		if was, had := known.set(name, key); had && was != key {
			l.add(was)
		}
		l.add(key)
		return
	}
	if was, had := known.unset(name); had {
		l.add(was)
	}
}

// serviceChanged is objectChanged for derived Services. They say which ports of the gateways are their own; what cannot be
// read is written anew.
func (l *lane) serviceChanged(name types.NamespacedName) {
	service := l.services.Get(name)
	if service == nil {
		if key, had := l.serviceIndex.keyOf(name); had && name.Name == DerivedName(key.Name) {
			l.ports.Forget(key)
		}
	} else if key := (clusterset.Key{Namespace: name.Namespace, Name: derivedFrom(service)}); name.Name == DerivedName(key.Name) {
		ports, err := clusterset.ParseGatewayPorts(service.GetAnnotations()[api.GatewayPortsAnnotation])
		if err != nil {
			ports = nil
		}
		for _, loser := range l.ports.See(key, ports) {
			l.forgetFooting(loser)
			l.add(loser)
		}
	}
	l.objectChanged(l.services, l.serviceIndex, name)
}

func (l *lane) work() {
	for {
		key, down := l.queue.Get()
		if down {
			return
		}
		l.attempt(key)
		l.queue.Done(key)
	}
}

// outcome of an attempt at a service.
type outcome struct {
	wrote bool
	after time.Duration // look again after this time
}

func (l *lane) attempt(key clusterset.Key) {
	if wait := l.pause(key); wait > 0 {
		l.queue.AddAfter(key, wait)
		return
	}
	l.mu.Lock()
	since := l.since[key]
	delete(l.since, key)
	waiting.WithLabelValues(l.name).Set(float64(len(l.since)))
	l.mu.Unlock()
	out, err := l.guarded(key)
	if out.wrote {
		l.wrote(key)
	}
	p, _ := l.current()
	switch {
	case err == nil:
		if out.wrote && !since.IsZero() {
			lag.WithLabelValues(l.name).Observe(time.Since(since).Seconds())
		}
		l.queue.Forget(key)
		if out.after > 0 {
			l.queue.AddAfter(key, out.after)
		}
	case !p.ready || l.life.Err() != nil:
		l.queue.Forget(key) // everything is looked at when the member is back
	default:
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			failures.WithLabelValues(l.name).Inc()
			l.r.Log.Error(err, "A global service is not up to date in a cluster; it will be tried again", "cluster", l.name, "service", key.String())
		}
		l.queue.AddRateLimited(key)
	}
}

// guarded handles a service. A panic costs the service a retry, not the hub its life.
func (l *lane) guarded(key clusterset.Key) (out outcome, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("service %s: panic, which is a bug: %v\n%s", key, cause, debug.Stack())
		}
	}()
	return l.handle(key)
}

// handle brings one service in the member up to date: what is imported, and what is said of its export.
func (l *lane) handle(key clusterset.Key) (outcome, error) {
	p, ctx := l.current()
	turns := l.r.turns.Load() // before the snapshot, which then is not older than they are
	snapshot, _ := l.r.Snapshots.Current()
	id, known := l.r.ClusterID(l.name)
	if !p.ready || snapshot == nil || !known {
		return outcome{}, nil // what is missing wakes the lane when it comes
	}
	var out outcome
	var problems [2]error
	stand := l.stand(snapshot, turns, key)
	if l.settled(key, stand) {
		return out, nil
	}
	w := For(snapshot, id, key, Given{Complete: stand.complete, NodeHints: !l.hintless.Load()})
	w.GatewayPorts = l.ports.Assign(key, claims(w.Properties), hasGateways(snapshot.Cluster(id)))
	switch {
	case stand.listed:
		out, problems[0] = l.settleImport(ctx, p, w, &stand)
	case w.Properties != nil:
		l.r.note(key, l.name, l.hindrance())
	default:
		l.r.note(key, l.name, "")
	}
	wrote, err := l.settleExport(ctx, p, snapshot.Service(key), id, key, &stand)
	problems[1] = err
	out.wrote = out.wrote || wrote
	l.settle(key, stand, problems == [2]error{} && out.after == 0)
	return out, errors.Join(problems[:]...)
}

// settleImport plans and acts until nothing is left to do but to wait.
func (l *lane) settleImport(ctx context.Context, p peer, w *Wanted, stand *footing) (out outcome, err error) {
	for range rounds {
		plan, err := Make(w, l.have(w), l.r.Now())
		if err != nil {
			return out, err
		}
		l.remember(w.Key, plan)
		more := false
		for _, step := range plan.Steps {
			err := l.execute(ctx, p, w.Key, step, stand)
			switch {
			case err == nil:
				out.wrote = true
			case l.takeRefusal(w, step, err):
				out.after = refusedRetry + time.Second
			case apierrors.IsAlreadyExists(err):
				if err := l.meet(ctx, p, w.Key, step); err != nil {
					return out, err
				}
				more, stand.open = true, true // nobody has looked at what it says
			default:
				return out, err
			}
			more = more || leads(step)
		}
		if !more {
			return out, nil
		}
	}
	return out, fmt.Errorf("service %s in cluster %q: what was written does not stay as it was written; does something else write ServiceImports or Services there?", w.Key, l.name)
}

// leads tells whether a step may lead to another one. The end of what was deleted is told by its watch, and nothing depends
// on slices and statuses.
func leads(step Step) bool {
	return step.Verb != Delete && step.Verb != UpdateStatus && step.Resource != sliceResource
}

// meet goes on after a create met an object that the watch does not show: ours, written a moment ago, or somebody else's.
func (l *lane) meet(ctx context.Context, p peer, key clusterset.Key, step Step) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	name := step.Object.GetName()
	live, err := p.client.Resource(step.Resource).Namespace(key.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("cluster %q: reading %s %s/%s: %w", l.name, step.Resource.Resource, key.Namespace, name, err)
	}
	if !Ours(live) && step.Resource != importResource { // a foreign ServiceImport is the next plan's matter
		return fmt.Errorf("cluster %q: %s %s/%s is not Hansa's, but has the name that service %s needs: delete it", l.name, step.Resource.Resource, key.Namespace, name, key)
	}
	l.observe(key, step, live)
	return nil
}

// remember notes what a plan says about later.
func (l *lane) remember(key clusterset.Key, plan Plan) {
	l.mu.Lock()
	if plan.Held {
		l.held[key] = true
	}
	l.mu.Unlock()
	why := ""
	if plan.Foreign {
		why = "the ServiceImport there was not made by Hansa; delete it, or the export"
	}
	l.r.note(key, l.name, why)
}

// have returns what is there of a service.
func (l *lane) have(w *Wanted) Have {
	key := w.Key
	have := Have{Namespace: l.usable(key.Namespace), Import: l.imports.Get(key), Refused: l.refusalOf(w)}
	for _, name := range l.serviceIndex.of(key) {
		if service := l.services.Get(name); service != nil && (have.Service == nil || name.Name == DerivedName(key.Name)) {
			have.Service = service
		}
	}
	for _, name := range l.sliceIndex.of(key) {
		if slice := l.slices.Get(name); slice != nil {
			have.Slices = append(have.Slices, slice)
		}
	}
	return have
}

// settleExport writes the conditions of the member's ServiceExport.
func (l *lane) settleExport(ctx context.Context, p peer, service *clusterset.Service, id string, key clusterset.Key, stand *footing) (bool, error) {
	if !l.exports.Synced() {
		return false, nil
	}
	live := l.exports.Get(key)
	if live == nil {
		return false, nil
	}
	wanted, err := ExportStatus(service, id, live, l.r.noted(key), l.r.Now())
	if err != nil || wanted == nil {
		return false, err
	}
	return true, l.execute(ctx, p, key, Step{UpdateStatus, exportResource, wanted}, stand)
}
