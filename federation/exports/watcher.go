package exports

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// DefaultPatience is how long the first snapshot waits for clusters that neither answer nor are known to be away.
const DefaultPatience = 3 * time.Second

// Members is the list of registered clusters, as cluster.Registry gives it.
type Members interface {
	Current() ([]*cluster.Member, <-chan struct{})
}

// Options say what a Watcher works with.
type Options struct {
	Members Members
	// Complete is closed once the list of members is whole (cluster.Registry.Complete). Nil means that it is.
	Complete <-chan struct{}
	Log      logr.Logger
	// Archive is where to restore clusters from that cannot be read after a start; it may be nil.
	Archive Archive
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// ClusterID is for a Watcher of one member alone, in that cluster: it has this id, whatever anybody claims. Such a Watcher
	// also shows services that the cluster imports and does not export.
	ClusterID string
	// Patience is how long the first snapshot waits at most once the list of members is whole; 0 means DefaultPatience.
	Patience time.Duration
}

// Watcher follows all members and publishes the global service table. Its methods may be called by anybody at any time.
type Watcher struct {
	members  Members
	complete <-chan struct{}
	archive  Archive
	log      logr.Logger
	now      func() time.Time
	patience time.Duration

	inbox   inbox
	latest  *clusterset.Latest
	ready   chan struct{}
	workers sync.WaitGroup

	mu    sync.Mutex // the loop holds it while it applies changes
	table *table
}

// NewWatcher returns a Watcher that Run starts.
func NewWatcher(o Options) *Watcher {
	w := &Watcher{
		members:  o.Members,
		complete: o.Complete,
		archive:  o.Archive,
		log:      o.Log,
		now:      o.Now,
		patience: o.Patience,
		inbox:    inbox{signal: make(chan struct{}, 1)},
		latest:   clusterset.NewLatest(&clusterset.Snapshot{}),
		ready:    make(chan struct{}),
	}
	if w.now == nil {
		w.now = time.Now
	}
	if w.patience == 0 {
		w.patience = DefaultPatience
	}
	if w.complete == nil {
		whole := make(chan struct{})
		close(whole)
		w.complete = whole
	}
	w.table = newTable(w.log, w.now)
	if o.ClusterID != "" {
		w.table.id = o.ClusterID
		w.table.builder.ShowImports()
	}
	return w
}

// Current returns the newest snapshot, and a channel that is closed when there is a newer one. Before Ready the snapshot is
// the zero one: empty, with the number 0, and nothing may be concluded from it.
func (w *Watcher) Current() (*clusterset.Snapshot, <-chan struct{}) { return w.latest.Current() }

// Ready is closed at the first snapshot: every registered cluster was listed, restored, or is away.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// NeedLeaderElection says that a Watcher runs on every replica.
func (w *Watcher) NeedLeaderElection() bool { return false }

// Start is Run, for a controller-runtime manager.
func (w *Watcher) Start(ctx context.Context) error { return w.Run(ctx) }

// SetInfo takes what people and the leader say of a member, by the name of its KubeFedCluster; nil when there is nothing. The
// object must not be modified any more.
func (w *Watcher) SetInfo(name string, info *v1alpha1.ClusterInfo) {
	w.inbox.push(change{apply: func(t *table) { t.setInfo(name, info) }})
}

// setLed takes when a hub last led before this one started.
func (w *Watcher) setLed(at time.Time) {
	w.inbox.push(change{apply: func(t *table) { t.led = at }})
}

// setBorn takes when a member was registered, by the name of its KubeFedCluster; zero when there is none.
func (w *Watcher) setBorn(name string, born time.Time) {
	w.inbox.push(change{apply: func(t *table) { t.setBorn(name, born) }})
}

// SetPolicy takes the policy of a service; nil when it has none.
func (w *Watcher) SetPolicy(key clusterset.Key, policy *clusterset.Policy) {
	w.inbox.push(change{seen: w.now(), apply: func(t *table) {
		if policy == nil {
			t.builder.RemovePolicy(key)
		} else {
			t.builder.SetPolicy(key, *policy)
		}
	}})
}

// Clusters returns the state of every member, sorted by name.
func (w *Watcher) Clusters() []ClusterState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.table.states()
}

// ClusterID returns the id of a member, by the name of its KubeFedCluster. A member that is left out has none.
func (w *Watcher) ClusterID(member string) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.table.sites[member]
	if s == nil || s.id == "" {
		return "", false
	}
	return s.id, true
}

// Member returns the member that has a cluster id.
func (w *Watcher) Member(id string) (*cluster.Member, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.table.sites {
		if s.id == id && id != "" {
			return s.member, true
		}
	}
	return nil, false
}

// Run follows the members until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer w.workers.Wait()
	defer cancel()
	w.restore(ctx)
	complete := w.complete
	var patience <-chan time.Time
	for {
		changed := w.follow(ctx)
		w.work()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-w.inbox.signal:
		case <-complete:
			complete = nil
			timer := time.NewTimer(w.patience)
			defer timer.Stop()
			patience = timer.C
			w.inbox.push(change{apply: func(t *table) { t.whole = true }})
		case <-patience:
			patience = nil
			w.inbox.push(change{apply: func(t *table) { t.impatient, t.claims = true, true }})
		}
	}
}

// restore reads the archive in the background. Until it has been read, or could not be, there is no first snapshot, unless
// patience ends.
func (w *Watcher) restore(ctx context.Context) {
	if w.archive == nil {
		w.inbox.push(change{apply: func(t *table) { t.restored = true }})
		return
	}
	w.workers.Go(func() {
		records, err := w.archive.Load(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			w.log.Error(err, "Restoring what was last known of the clusters failed; those that cannot be reached start empty")
		}
		w.inbox.push(change{apply: func(t *table) { t.restore(records) }})
	})
}

// follow starts and ends what belongs to members that came, changed or went.
func (w *Watcher) follow(ctx context.Context) <-chan struct{} {
	members, changed := w.members.Current()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.table.sameMembers(members) {
		return changed
	}
	w.table.members = members
	present := map[string]bool{}
	for _, m := range members {
		present[m.Name] = true
		if s, restart := w.table.join(m); restart {
			w.connect(ctx, s)
		}
	}
	for name := range w.table.sites {
		if !present[name] {
			w.table.leave(name)
		}
	}
	w.table.settle()
	return changed
}

// work applies what has arrived, and publishes it.
func (w *Watcher) work() {
	changes := w.inbox.take()
	w.mu.Lock()
	for i := range changes {
		w.table.apply(&changes[i])
	}
	w.table.settle()
	observeSeen(changes, time.Now())
	if !w.table.published && !w.table.presentable() {
		w.mu.Unlock()
		return
	}
	snapshot := w.table.publish()
	first := !w.table.published
	w.table.published = true
	w.mu.Unlock()
	w.latest.Publish(snapshot)
	observePublished(snapshot, changes, w.now())
	if first {
		close(w.ready)
	}
}

// publish returns a snapshot with everything that was applied, numbered by the clock.
func (t *table) publish() *clusterset.Snapshot {
	return t.builder.PublishAs(clusterset.NextSequence(t.builder.Current().Sequence(), t.now()))
}

// change is one thing to take in: from a worker (line is not nil; one that is no longer in use says nothing any more), or
// from elsewhere.
type change struct {
	line *line
	came time.Time // when the first bytes of a watch's event were read; zero for anything else
	seen time.Time // when an event that may change the table was decoded; zero for anything else

	apply func(*table)
	fact  *fact
}

// inbox takes changes from many for the one that applies them. Workers of a member that tells more than can be applied wait;
// nobody else does.
type inbox struct {
	signal chan struct{} // holds one token while there is something to take

	mu      sync.Mutex
	changes []change
	waiting map[*line]int // bytes of changes
	taken   chan struct{} // closed when they are taken
}

// bring is push for workers: it waits until there is room, or ctx ends and with it the use of what is brought.
func (b *inbox) bring(ctx context.Context, c change) {
	size := c.fact.size()
	for {
		b.mu.Lock()
		if b.waiting == nil {
			b.waiting, b.taken = map[*line]int{}, make(chan struct{})
		}
		before, taken := b.waiting[c.line], b.taken
		if before == 0 || before+size <= maxWaiting {
			b.waiting[c.line] += size
			b.mu.Unlock()
			b.push(c)
			return
		}
		b.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return
		}
	}
}

func (b *inbox) push(changes ...change) {
	b.mu.Lock()
	b.changes = append(b.changes, changes...)
	b.mu.Unlock()
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

// take returns what has arrived. At most once per call of push is there nothing.
func (b *inbox) take() []change {
	b.mu.Lock()
	defer b.mu.Unlock()
	changes := b.changes
	b.changes = nil
	if len(b.waiting) > 0 {
		close(b.taken)
		b.waiting = nil
	}
	return changes
}
