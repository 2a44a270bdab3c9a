package exports

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// primerPeriod is how long the Primer waits before it tries again.
const primerPeriod = time.Second

// Primer tells a Watcher every ClusterInfo, ServicePolicy and Revocation that there is, and the age of every member, before
// its first snapshot. Without it a hub that starts would serve, for a moment, services to clusters that a policy keeps them
// from, and gateways would admit whose certificates are revoked. Routes of the Gateway API follow: they say how a service is
// used, never by whom.
type Primer struct {
	Controllers *Controllers
	// Complete is closed once the list of members is whole.
	Complete <-chan struct{}
	// Done is closed when all that is done and Complete is closed: it is the Complete of the Watcher's Options.
	Done chan struct{}
}

// NeedLeaderElection says that it runs on every replica.
func (*Primer) NeedLeaderElection() bool { return false }

// Start runs until Done is closed, or ctx ends.
func (p *Primer) Start(ctx context.Context) error {
	for {
		err := p.tell(ctx)
		if err == nil {
			break
		}
		p.Controllers.Log.Error(err, "Cannot read what people say of clusters and services, will try again; no service is served before")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(primerPeriod):
		}
	}
	select {
	case <-ctx.Done():
	case <-p.Complete:
		close(p.Done)
	}
	return nil
}

func (p *Primer) tell(ctx context.Context) error {
	c := p.Controllers
	var members corev1b1.KubeFedClusterList
	if err := c.Client.List(ctx, &members, client.InNamespace(c.Namespace)); err != nil {
		return fmt.Errorf("listing KubeFedClusters: %w", err)
	}
	for i := range members.Items {
		c.Watcher.setBorn(members.Items[i].Name, members.Items[i].CreationTimestamp.Time)
	}
	var infos v1alpha1.ClusterInfoList
	if err := c.Client.List(ctx, &infos, client.InNamespace(c.Namespace)); err != nil {
		return fmt.Errorf("listing ClusterInfos: %w", err)
	}
	for i := range infos.Items {
		c.Watcher.SetInfo(infos.Items[i].Name, &infos.Items[i])
	}
	if _, err := c.readRevocations(ctx, reconcile.Request{}); err != nil {
		return err
	}
	var policies v1alpha1.ServicePolicyList
	if err := c.Client.List(ctx, &policies); err != nil {
		return fmt.Errorf("listing ServicePolicies: %w", err)
	}
	for i := range policies.Items {
		key := types.NamespacedName{Namespace: policies.Items[i].Namespace, Name: policies.Items[i].Name}
		if _, err := c.readPolicy(ctx, reconcile.Request{NamespacedName: key}); err != nil {
			return err
		}
	}
	return nil
}
