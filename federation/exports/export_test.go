package exports

import (
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"

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
