package hub

import (
	"context"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/hansa-dev/hansa/eastwest/agents"
	"github.com/hansa-dev/hansa/federation/exports"
)

// newAgents makes the server that agents talk to. What they see becomes the table's health of clusters and gateways.
func (s services) newAgents(watcher *exports.Watcher, who *identities, replica string) *agents.Server {
	return agents.NewServer(agents.ServerOptions{
		Name: replica, Identify: who.who.Identify, Snapshots: watcher, Log: s.log.WithName("agents"),
		Observe: func(cluster string, o agents.Observed) {
			watcher.Observe(cluster, exports.Observed{DataPlane: o.DataPlane, Gateways: o.Gateways, Seen: o.Seen})
		},
	})
}

// verdicts draws conclusions from what agents say, and cuts off who was revoked: every replica does.
type verdicts struct {
	server  *agents.Server
	door    *door
	watcher *exports.Watcher
}

var _ manager.LeaderElectionRunnable = verdicts{}

// NeedLeaderElection says that standbys serve too.
func (verdicts) NeedLeaderElection() bool { return false }

// Start runs until ctx ends.
func (v verdicts) Start(ctx context.Context) error {
	var watching sync.WaitGroup
	watching.Go(func() { v.door.watch(ctx, v.watcher, v.server.Recheck) })
	defer watching.Wait()
	return v.server.Run(ctx)
}

// reviews maps the one kind that members are asked for without a cache.
func reviews() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{authenticationv1.SchemeGroupVersion})
	mapper.Add(authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), meta.RESTScopeRoot)
	return mapper
}
