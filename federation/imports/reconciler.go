package imports

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	// quietWay is how long nothing must have changed before it is written.
	quietWay = 10 * time.Millisecond
	// longestWay is how long writes are held back while changes go on.
	longestWay = 500 * time.Millisecond
)

// Snapshots is where the service table comes from, and a channel that is closed when there is a newer one. A nil snapshot
// means that too little is known to write anything.
type Snapshots interface {
	Current() (*clusterset.Snapshot, <-chan struct{})
}

// Members is the list of member clusters, and a channel that is closed when there is a newer one.
type Members interface {
	Current() ([]*cluster.Member, <-chan struct{})
}

// Reconciler keeps members in step with the service table. It is a controller-runtime Runnable.
type Reconciler struct {
	Snapshots Snapshots
	Members   Members
	// ClusterID returns the id in the clusterset of the member of a name, as soon as it is known.
	ClusterID func(member string) (string, bool)
	// Ready is closed once the snapshots hold what can be known of all clusters: until then nothing is written. Nil means
	// that they do from the first on.
	Ready <-chan struct{}
	Log   logr.Logger
	// Now is the clock of conditions; nil means time.Now.
	Now func() time.Time

	connect func(*cluster.Member) peer // nil but in tests
}

// peer is a member as far as it matters here.
type peer struct {
	name, revision string
	ready          bool
	client         dynamic.Interface // nil while the registration is malformed
	serves         func(context.Context, schema.GroupVersionResource) (bool, error)
}

func connect(m *cluster.Member) peer {
	return peer{name: m.Name, revision: m.Revision(), ready: m.Ready(), client: m.Client(), serves: m.Serves}
}

// NeedLeaderElection says that only the leader writes.
func (*Reconciler) NeedLeaderElection() bool { return true }

// Run writes until ctx ends. It returns an error only for a Reconciler that lacks something.
func (r *Reconciler) Run(ctx context.Context) error {
	if r.Snapshots == nil || r.Members == nil || r.ClusterID == nil {
		return errors.New("writing ServiceImports needs snapshots, members and their ids")
	}
	if r.Ready != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-r.Ready:
		}
	}
	run := newRun(ctx, r)
	defer run.stop()
	for {
		members, membersChanged := r.Members.Current()
		snapshot, snapshotChanged := r.Snapshots.Current()
		run.takeMembers(members)
		run.takeSnapshot(snapshot)
		select {
		case <-ctx.Done():
			return nil
		case <-membersChanged:
		case <-snapshotChanged:
			r.giveWay(ctx)
		}
	}
}

// giveWay waits after a change until no other one follows. Clients that are told at once come first: they and what is
// written into members want the same API servers and processors, and kube-proxy, which reads what is written, takes a second
// for it by default.
func (r *Reconciler) giveWay(ctx context.Context) {
	latest := time.NewTimer(longestWay)
	defer latest.Stop()
	for {
		_, changed := r.Snapshots.Current()
		quiet := time.NewTimer(quietWay)
		select {
		case <-changed:
			quiet.Stop()
			continue
		case <-quiet.C:
		case <-latest.C:
		case <-ctx.Done():
		}
		quiet.Stop()
		return
	}
}

// Start is Run, under the name that controller-runtime calls.
func (r *Reconciler) Start(ctx context.Context) error { return r.Run(ctx) }

// run is what a Reconciler holds while it runs.
type run struct {
	*Reconciler
	ctx     context.Context //nolint:containedctx // of everything that runs
	running sync.WaitGroup
	lanes   map[string]*lane // by member; for the goroutine of Run alone
	last    *clusterset.Snapshot
	moves   atomic.Uint64 // how often clusters moved
	turns   atomic.Uint64 // how often anything about clusters changed
	notes   notes

	mu      sync.Mutex
	all     []*lane                     // the same, for everybody
	indexed *clusterset.Snapshot        // that spaces is of
	spaces  map[string][]clusterset.Key // services by namespace
}

func newRun(ctx context.Context, r *Reconciler) *run {
	run := &run{Reconciler: r, ctx: ctx, lanes: map[string]*lane{}, notes: notes{byKey: map[clusterset.Key]map[string]string{}}}
	if run.connect == nil {
		run.connect = connect
	}
	if run.Now == nil {
		run.Now = time.Now
	}
	return run
}

func (r *run) stop() {
	for _, l := range r.lanes {
		l.stop()
	}
	r.running.Wait()
}

// takeMembers starts and stops lanes. A member with other credentials gets another lane.
func (r *run) takeMembers(members []*cluster.Member) {
	listed := map[string]bool{}
	for _, m := range members {
		p := r.connect(m)
		listed[p.name] = true
		l := r.lanes[p.name]
		if l != nil && l.revision != p.revision {
			l.stop()
			delete(r.lanes, p.name)
			l = nil
		}
		if l == nil {
			r.lanes[p.name] = newLane(r, p)
			continue
		}
		l.update(p)
	}
	for name, l := range r.lanes {
		if listed[name] {
			continue
		}
		l.stop()
		delete(r.lanes, name)
		r.dropNotes(name)
		forget(name)
	}
	r.mu.Lock()
	r.all = slices.Collect(maps.Values(r.lanes))
	r.mu.Unlock()
}

// everyLane returns the lanes of all members.
func (r *run) everyLane() []*lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

// takeSnapshot tells the lanes what to look at.
func (r *run) takeSnapshot(snapshot *clusterset.Snapshot) {
	if snapshot == nil {
		return
	}
	first := r.last == nil
	changes := snapshot.Since(r.last)
	r.last = snapshot
	if len(changes.Moved) > 0 {
		r.moves.Add(1)
	}
	if len(changes.Clusters) > 0 {
		r.turns.Add(1)
	}
	keys := map[clusterset.Key]bool{}
	for _, key := range changes.Services {
		keys[key] = true
	}
	for _, id := range changes.Moved {
		for _, key := range snapshot.Exports(id) {
			keys[key] = true
		}
	}
	for _, l := range r.lanes {
		id, known := r.ClusterID(l.name)
		switch {
		case known && (first || l.id != id || slices.Contains(changes.Moved, id)):
			l.id = id
			l.wake(snapshot)
			continue
		case !known:
			l.id = ""
		}
		for key := range keys {
			l.add(key)
		}
		if len(changes.Clusters) > 0 {
			l.addHeld()
		}
	}
}

// isComplete tells whether the ids of all members are known.
func (r *run) isComplete() bool {
	return !slices.ContainsFunc(r.everyLane(), func(l *lane) bool {
		_, known := r.ClusterID(l.name)
		return !known
	})
}

// servicesIn returns the services of a namespace in the current snapshot.
func (r *run) servicesIn(namespace string) []clusterset.Key {
	snapshot, _ := r.Snapshots.Current()
	if snapshot == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.indexed != snapshot {
		r.indexed, r.spaces = snapshot, map[string][]clusterset.Key{}
		for _, service := range snapshot.Services() {
			r.spaces[service.Namespace] = append(r.spaces[service.Namespace], service.Key)
		}
	}
	return r.spaces[namespace]
}

// notes are the reasons, by service and member, for which services could not be imported.
type notes struct {
	mu    sync.Mutex
	byKey map[clusterset.Key]map[string]string
}

// note sets the reason why a member cannot import a service, empty for none, and tells the exporters of news.
func (r *run) note(key clusterset.Key, member, why string) {
	r.notes.mu.Lock()
	have := r.notes.byKey[key][member]
	switch {
	case have == why:
	case why == "":
		delete(r.notes.byKey[key], member)
		if len(r.notes.byKey[key]) == 0 {
			delete(r.notes.byKey, key)
		}
	default:
		if r.notes.byKey[key] == nil {
			r.notes.byKey[key] = map[string]string{}
		}
		r.notes.byKey[key][member] = why
	}
	r.notes.mu.Unlock()
	if have == why {
		return
	}
	for _, l := range r.everyLane() {
		l.add(key)
	}
}

// noted returns the reasons of all members, sorted by member, as one text.
func (r *run) noted(key clusterset.Key) string {
	r.notes.mu.Lock()
	defer r.notes.mu.Unlock()
	var texts []string
	for _, member := range slices.Sorted(maps.Keys(r.notes.byKey[key])) {
		texts = append(texts, "not imported in "+member+": "+r.notes.byKey[key][member])
	}
	return strings.Join(texts, "; ")
}

func (r *run) dropNotes(member string) {
	r.notes.mu.Lock()
	var keys []clusterset.Key
	for key, byMember := range r.notes.byKey {
		if _, noted := byMember[member]; noted {
			keys = append(keys, key)
		}
	}
	r.notes.mu.Unlock()
	for _, key := range keys {
		r.note(key, member, "")
	}
}
