package hub

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// drillPeriod is how often drills are looked at. They are read from a cache.
const drillPeriod = time.Second

// drills ends drills whose time is over: who began one may have died before it could end it, and no cluster is to stay out of
// traffic because of that.
type drills struct {
	client    client.Client
	namespace string
	log       logr.Logger
}

// NeedLeaderElection says that the leader ends them.
func (d *drills) NeedLeaderElection() bool { return true }

// Start looks after drills until ctx ends.
func (d *drills) Start(ctx context.Context) error {
	tick := time.NewTicker(drillPeriod)
	defer tick.Stop()
	for {
		if err := d.end(ctx, time.Now()); err != nil && ctx.Err() == nil {
			d.log.Error(err, "A drill that is over could not be ended, will try again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// end ends those whose time is over.
func (d *drills) end(ctx context.Context, now time.Time) error {
	var infos v1alpha1.ClusterInfoList
	if err := d.client.List(ctx, &infos, client.InNamespace(d.namespace)); err != nil {
		return fmt.Errorf("listing ClusterInfos: %w", err)
	}
	for i := range infos.Items {
		info := &infos.Items[i]
		if until, drilling := info.Drill(); !drilling || now.Before(until) {
			continue
		}
		base := info.DeepCopy()
		info.EndDrill()
		if err := d.client.Patch(ctx, info, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("giving cluster %q its traffic back after a drill (clusterinfo/%s): %w", info.Name, info.Name, err)
		}
		d.log.Info("Ended a drill whose time was over: the cluster has its traffic back", "cluster", info.Name)
	}
	return nil
}
