package hub

import (
	"context"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/hansa-dev/hansa/eastwest/agents"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
)

// newAgents makes the server that agents talk to. What they see becomes the table's health of clusters and gateways.
func (s services) newAgents(watcher *exports.Watcher, told *teller, who *identities, replica string) *agents.Server {
	return agents.NewServer(agents.ServerOptions{
		Name: replica, Identify: who.who.Identify, Snapshots: watcher, Log: s.log.WithName("agents"),
		Observe: func(cluster string, o agents.Observed) {
			told.tell(cluster, exports.Observed{DataPlane: o.DataPlane, Gateways: o.Gateways, Seen: o.Seen})
		},
	})
}

// table is who takes observations, and hands out what became of them.
type table interface {
	Current() (*clusterset.Snapshot, <-chan struct{})
	Observe(cluster string, o exports.Observed)
}

// teller tells the table what was observed of clusters: when that changes, and again of a cluster that is new, since the
// table forgets all of one that leaves, and it may come back before anything else is observed of it.
type teller struct {
	table table

	mu   sync.Mutex
	told map[string]exports.Observed
}

func newTeller(t table) *teller { return &teller{table: t, told: map[string]exports.Observed{}} }

func (t *teller) tell(cluster string, o exports.Observed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o.DataPlane == "" && o.Gateways == nil && o.Seen == nil {
		delete(t.told, cluster)
	} else {
		t.told[cluster] = o
	}
	t.table.Observe(cluster, o)
}

// tellPeriod is how often everything is told again: one may leave and come back between two looks.
const tellPeriod = 5 * time.Second

// run tells of clusters that are new, until ctx ends.
func (t *teller) run(ctx context.Context) {
	tick := time.NewTicker(tellPeriod)
	defer tick.Stop()
	known := map[string]bool{}
	for {
		snapshot, changed := t.table.Current()
		now := map[string]bool{}
		for _, cluster := range snapshot.Clusters() {
			now[cluster.ID] = true
			if !known[cluster.ID] {
				t.repeat(cluster.ID)
			}
		}
		known = now
		select {
		case <-changed:
		case <-tick.C:
			clear(known)
		case <-ctx.Done():
			return
		}
	}
}

func (t *teller) repeat(cluster string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o, ok := t.told[cluster]; ok {
		t.table.Observe(cluster, o)
	}
}

// verdicts draws conclusions from what agents say, and cuts off who was revoked: every replica does.
type verdicts struct {
	server  *agents.Server
	door    *door
	watcher *exports.Watcher
	told    *teller
}

var _ manager.LeaderElectionRunnable = verdicts{}

// NeedLeaderElection says that standbys serve too.
func (verdicts) NeedLeaderElection() bool { return false }

// Start runs until ctx ends.
func (v verdicts) Start(ctx context.Context) error {
	var watching sync.WaitGroup
	watching.Go(func() { v.door.watch(ctx, v.watcher, v.server.Recheck) })
	watching.Go(func() { v.told.run(ctx) })
	defer watching.Wait()
	return v.server.Run(ctx)
}

// reviews maps the one kind that members are asked for without a cache.
func reviews() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{authenticationv1.SchemeGroupVersion})
	mapper.Add(authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), meta.RESTScopeRoot)
	return mapper
}
