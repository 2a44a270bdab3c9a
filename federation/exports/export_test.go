package exports

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// KnownOf returns what a watcher knows of a member.
func KnownOf(w *Watcher, member string) clusterset.Known {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.table.builder.Known(w.table.sites[member].id)
}

// The kinds, for tests.
const (
	Exports  = kindExports
	Services = kindServices
	Slices   = kindSlices
	Nodes    = kindNodes
	Property = kindProperty
)

// Play is the table of a Watcher without workers, clocks and goroutines.
type Play struct{ table *table }

// NewPlay returns a table with members of which everything has been listed, and there is nothing.
func NewPlay(log logr.Logger, now func() time.Time, members ...string) *Play {
	p := &Play{newTable(log, now)}
	for _, name := range members {
		s, _ := p.table.join(&cluster.Member{Name: name})
		s.line = &line{site: s, cancel: func() {}}
		for k := range Kind(kinds) {
			p.tell(name, &fact{kind: k, news: newsList})
		}
	}
	return p
}

func (p *Play) tell(member string, f *fact) {
	p.table.apply(&change{line: p.table.sites[member].line, fact: f})
}

// Put tells of an object that came or changed.
func (p *Play) Put(member string, kind Kind, object runtime.Object) {
	i, err := decode(kind, object)
	if err != nil {
		panic(err)
	}
	p.tell(member, &fact{kind: kind, news: newsItem, item: i})
}

// Gone tells of an object that went.
func (p *Play) Gone(member string, kind Kind, namespace, name string) {
	p.tell(member, &fact{kind: kind, news: newsItem, item: item{name: key{Namespace: namespace, Name: name}}})
}

// Info tells of a ClusterInfo.
func (p *Play) Info(member string, info *v1alpha1.ClusterInfo) { p.table.setInfo(member, info) }

// Born tells when a member was registered.
func (p *Play) Born(member string, at time.Time) { p.table.setBorn(member, at) }

// Leave tells that a member left.
func (p *Play) Leave(member string) { p.table.leave(member) }

// Policy tells of a policy.
func (p *Play) Policy(key clusterset.Key, policy *clusterset.Policy) {
	if policy == nil {
		p.table.builder.RemovePolicy(key)
	} else {
		p.table.builder.SetPolicy(key, *policy)
	}
}

// Publish settles and publishes.
func (p *Play) Publish() *clusterset.Snapshot {
	p.table.settle()
	return p.table.builder.Publish()
}

// Most sets how much of one kind is kept of one member.
func (p *Play) Most(bytes int) { p.table.limits.bytes = bytes }

// MostServices and MostEndpoints set how many exports are kept of one member, and how many endpoints of one service.
func (p *Play) MostServices(n int) { p.table.limits.exports = n }

// MostEndpoints is explained at MostServices.
func (p *Play) MostEndpoints(n int) { p.table.limits.endpoints = n }

// List tells of all objects of a kind.
func (p *Play) List(member string, kind Kind, objects ...runtime.Object) {
	f := &fact{kind: kind, news: newsList}
	for _, object := range objects {
		i, err := decode(kind, object)
		if err != nil {
			panic(err)
		}
		f.items = append(f.items, i)
	}
	p.tell(member, f)
}

// State returns the state of a member.
func (p *Play) State(member string) ClusterState { return p.table.sites[member].state() }

// LeftOut tells whether the worker of a kind is told to begin anew.
func (p *Play) LeftOut(member string, kind Kind) bool {
	return p.table.sites[member].line.full[kind].Load() != nil
}

// Inbox is what workers tell, with nobody who takes it.
type Inbox struct{ inbox inbox }

// NewInbox returns an empty one, and lines that tell it things.
func NewInbox() (*Inbox, [2]func(ctx context.Context, object runtime.Object)) {
	b := &Inbox{inbox{signal: make(chan struct{}, 1)}}
	var tell [2]func(ctx context.Context, object runtime.Object)
	for at := range tell {
		l := &line{}
		tell[at] = func(ctx context.Context, object runtime.Object) {
			i, err := decode(kindSlices, object)
			if err != nil {
				panic(err)
			}
			b.inbox.bring(ctx, change{line: l, fact: &fact{kind: kindSlices, news: newsItem, item: i}})
		}
	}
	return b, tell
}

// Take takes what has arrived, and returns how much that is.
func (b *Inbox) Take() int { return len(b.inbox.take()) }

// Inject tells a Watcher that runs of an object of a member, as a worker would: decoded at this moment.
func Inject(w *Watcher, member string, kind Kind, object runtime.Object) {
	i, err := decode(kind, object)
	if err != nil {
		panic(err)
	}
	w.mu.Lock()
	l := w.table.sites[member].line
	w.mu.Unlock()
	w.inbox.push(change{line: l, seen: time.Now(), fact: &fact{kind: kind, news: newsItem, item: i}})
}

// Touched is touched.
func Touched(policies []v1alpha1.ServicePolicy, changes clusterset.Changes) []clusterset.Key {
	return touched(policies, changes)
}

// WriteInfo is what the leader does about a member or a ClusterInfo.
func (c *Controllers) WriteInfo(ctx context.Context, request reconcile.Request) error {
	_, err := c.writeInfo(ctx, request)
	return err
}

// LookBack is what Controllers do before a manager starts; it returns what the watcher then knows, which must not run.
func (c *Controllers) LookBack(reader client.Reader) time.Time {
	c.lookBack(reader)
	for _, change := range c.Watcher.inbox.take() {
		c.Watcher.table.apply(&change)
	}
	return c.Watcher.table.led
}

// Restore gives a Play a record, and says when a hub last led.
func (p *Play) Restore(record Record, led time.Time) {
	p.table.led = led
	p.table.restore([]Record{record})
}

// NewMember adds a member of which nothing was listed.
func (p *Play) NewMember(name string) { p.table.join(&cluster.Member{Name: name}) }

// Arrival is an arrival.
type Arrival struct{ arrival }

// NewArrival returns one that nothing was noted of.
func NewArrival() *Arrival { return &Arrival{} }

// Note is note.
func (a *Arrival) Note(now time.Time) { a.note(now) }

// Take is take.
func (a *Arrival) Take(now time.Time) time.Time { return a.take(now) }
