package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
	"sigs.k8s.io/multicluster-runtime/pkg/multicluster"
)

// Registry holds the members. It is a multicluster-runtime Provider: each revision of a member's credentials is a
// cluster object of its own there, engaged in a goroutine of its own, so that no member waits for another.
type Registry struct {
	log     logr.Logger
	pace    atomic.Pointer[Pace]
	started chan struct{}
	known   chan struct{}                     // closed once every registered member is in the list
	run     context.Context                   //nolint:containedctx // the life of the probes, which outlive the call that starts them
	notify  atomic.Pointer[func(name string)] // told when conditions or topology of a member changed

	mu      sync.Mutex
	aware   multicluster.Aware // nil unless this hub leads
	entries map[string]*entry
	current []*Member
	changed chan struct{}
	indexes []index
}

// entry is a member with what belongs to its registration but not to its public face.
type entry struct {
	member   *Member
	topology Topology
	live     context.Context //nolint:containedctx // the life of its link
	stop     context.CancelFunc
}

type index struct {
	object  client.Object
	field   string
	extract client.IndexerFunc
}

var (
	_ multicluster.Provider         = (*Registry)(nil)
	_ multicluster.ProviderRunnable = (*Registry)(nil)
)

// NewRegistry returns an empty registry. It probes nothing before Run.
func NewRegistry(log logr.Logger) *Registry {
	r := &Registry{
		log:     log,
		started: make(chan struct{}),
		known:   make(chan struct{}),
		entries: map[string]*entry{},
		changed: make(chan struct{}),
	}
	r.SetPace(DefaultPace)
	r.onChange(func(string) {})
	return r
}

// SetPace changes how members are probed from their next probe on.
func (r *Registry) SetPace(pace Pace) { r.pace.Store(&pace) }

// onChange sets who is told, by name, when a member's conditions or topology changed.
func (r *Registry) onChange(f func(name string)) { r.notify.Store(&f) }

// Run makes the registry live until ctx ends: members are probed, on every replica of the hub.
func (r *Registry) Run(ctx context.Context) error {
	r.run = ctx
	close(r.started)
	<-ctx.Done()
	return nil
}

// Start engages all members, present and future, with multicluster-runtime until ctx ends. multicluster-runtime calls it on
// the leader; Run needs no leader.
func (r *Registry) Start(ctx context.Context, aware multicluster.Aware) error {
	r.mu.Lock()
	r.aware = aware
	for _, e := range r.entries {
		r.engage(e)
	}
	r.mu.Unlock()
	<-ctx.Done()
	return nil
}

// Current returns the members, sorted by name, and a channel that is closed as soon as that list is no longer current.
// Neither the list nor its members may be changed.
func (r *Registry) Current() ([]*Member, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current, r.changed
}

// Complete is closed once the list of members has held every registered cluster. Until then a cluster that is missing
// from it may exist, and nothing may be concluded from its absence.
func (r *Registry) Complete() <-chan struct{} { return r.known }

// complete says that every registered member has been ensured. Only the first call counts.
func (r *Registry) complete() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.known:
	default:
		close(r.known)
	}
}

// Get returns the multicluster-runtime cluster of a member, ErrClusterNotFound for an unknown or malformed one.
func (r *Registry) Get(_ context.Context, name multicluster.ClusterName) (cluster.Cluster, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[name.String()]; e != nil && e.member.link != nil {
		return e.member.link.cluster, nil
	}
	return nil, fmt.Errorf("member cluster %q: %w", name, multicluster.ErrClusterNotFound)
}

// IndexField indexes a field on all members, present and future.
func (r *Registry) IndexField(ctx context.Context, obj client.Object, field string, extract client.IndexerFunc) error {
	r.mu.Lock()
	r.indexes = append(r.indexes, index{obj, field, extract})
	links := make([]*link, 0, len(r.entries))
	for _, e := range r.entries {
		if e.member.link != nil {
			links = append(links, e.member.link)
		}
	}
	r.mu.Unlock()
	for _, l := range links {
		if err := l.cluster.GetFieldIndexer().IndexField(ctx, obj, field, extract); err != nil {
			return fmt.Errorf("indexing %s: %w", field, err)
		}
	}
	return nil
}

// ensure registers a member or takes over what changed of it. secret is nil when it does not exist.
func (r *Registry) ensure(ctx context.Context, kfc *corev1b1.KubeFedCluster, secret *corev1.Secret) error {
	select {
	case <-r.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.take(kfc, secret) {
		(*r.notify.Load())(kfc.Name)
	}
	return nil
}

// take registers a member or takes over what changed of it, and reports whether its registration is a new one.
func (r *Registry) take(kfc *corev1b1.KubeFedCluster, secret *corev1.Secret) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.entries[kfc.Name]
	if old != nil && old.member.link != nil && old.member.Revision() == revisionOf(kfc, secret) {
		if !sameLabels(old.member.Labels, kfc.Labels) {
			renewed := *old.member
			renewed.Labels = kfc.Labels
			old.member = &renewed
			r.publish()
		}
		return false
	}
	next := newEntry(old, kfc, secret)
	if old != nil && old.member.link == nil && next.member.link == nil &&
		old.member.Health.Message == next.member.Health.Message && sameLabels(old.member.Labels, kfc.Labels) {
		return false // as malformed as before
	}
	if next.member.link != nil {
		r.connect(next)
	}
	r.retire(old)
	r.entries[kfc.Name] = next
	r.publish()
	return true
}

// newEntry makes the entry of a member whose connection is new. What was known of a former one stays known: renewed
// credentials do not make a ready cluster unknown.
func newEntry(old *entry, kfc *corev1b1.KubeFedCluster, secret *corev1.Secret) *entry {
	member := &Member{Name: kfc.Name, UID: kfc.UID, Labels: kfc.Labels, Health: unprobed()}
	next := &entry{member: member, stop: func() {}}
	connection, err := newLink(kfc, secret)
	if err != nil {
		member.Health = malformed(err, time.Now())
		return next
	}
	member.link = connection
	if old != nil && old.member.UID == kfc.UID {
		next.topology = old.topology
		if old.member.link != nil {
			member.Health = old.member.Health
		}
	}
	return next
}

// remove forgets a member. Nothing is changed in the cluster itself.
func (r *Registry) remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.entries[name]; old != nil {
		delete(r.entries, name)
		r.retire(old)
		r.publish()
	}
}

// connect starts what runs for as long as the link of e is in use. The caller holds the lock.
func (r *Registry) connect(e *entry) {
	e.live, e.stop = context.WithCancel(r.run)
	e.member.link.cancel = e.stop
	go r.probe(e.live, e.member.Name, e.member.link)
	r.engage(e)
}

// engage hands the cluster of a member to multicluster-runtime, if this hub leads. The caller holds the lock.
func (r *Registry) engage(e *entry) {
	aware, connection, ctx, name := r.aware, e.member.link, e.live, e.member.Name
	if aware == nil || connection == nil {
		return
	}
	indexes := slices.Clone(r.indexes)
	go func() {
		for _, i := range indexes {
			if err := connection.cluster.GetFieldIndexer().IndexField(ctx, i.object, i.field, i.extract); err != nil {
				r.log.Error(err, "Indexing a member failed", "cluster", name, "field", i.field)
			}
		}
		if err := aware.Engage(ctx, multicluster.ClusterName(name), connection.cluster); err != nil {
			r.log.Error(err, "Engaging a member failed", "cluster", name)
		}
		if err := connection.cluster.Start(ctx); err != nil {
			r.log.Error(err, "The client of a member stopped", "cluster", name)
		}
	}()
}

func (r *Registry) retire(e *entry) {
	if e == nil {
		return
	}
	e.stop()
	if e.member.link != nil {
		e.member.link.close()
	}
}

// publish makes a new list of members current. The caller holds the lock.
func (r *Registry) publish() {
	list := make([]*Member, 0, len(r.entries))
	for _, e := range r.entries {
		list = append(list, e.member)
	}
	slices.SortFunc(list, func(a, b *Member) int { return strings.Compare(a.Name, b.Name) })
	r.current = list
	close(r.changed)
	r.changed = make(chan struct{})
	countMembers(list)
}

// report takes in the result of a probe over the given link.
func (r *Registry) report(name string, connection *link, o Outcome, now time.Time) (becameReady bool) {
	r.mu.Lock()
	e := r.entries[name]
	if e == nil || e.member.link != connection {
		r.mu.Unlock()
		return false
	}
	before := e.member.Health
	renewed := *e.member
	renewed.Health = before.After(o, *r.pace.Load(), now)
	e.member = &renewed
	moved := !renewed.Health.sameVerdict(before)
	if moved {
		r.publish()
	}
	r.mu.Unlock()
	if moved {
		r.log.Info("The health of a member changed", "cluster", name, "ready", renewed.Health.Ready, "reason", renewed.Health.Reason, "message", renewed.Health.Message)
		(*r.notify.Load())(name)
	}
	return moved && renewed.Health.Ready == corev1.ConditionTrue
}

// learn takes in what was read of a member's version and nodes.
func (r *Registry) learn(name string, connection *link, topology Topology) {
	r.mu.Lock()
	e := r.entries[name]
	moved := e != nil && e.member.link == connection && !e.topology.equal(topology)
	if moved {
		e.topology = topology
	}
	r.mu.Unlock()
	if moved {
		(*r.notify.Load())(name)
	}
}

// look returns health and topology of a member as they are now.
func (r *Registry) look(name string) (Health, Topology, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[name]
	if e == nil {
		return Health{}, Topology{}, false
	}
	return e.member.Health, e.topology, true
}

func sameLabels(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for key, value := range a {
		if other, ok := b[key]; !ok || other != value {
			return false
		}
	}
	return true
}
