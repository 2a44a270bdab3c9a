package exports

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// recordLag is how much later than its record says a member may have been in step: the time of a record that does not change
// is written anew every five minutes, and writes are paced.
const recordLag = 6 * knownTimeAccuracy

// LastKnown returns when a hub was last in step with a member of which there is a record. What the leader wrote into the
// status of the ClusterInfo is right to the second: since when it was out of step, or that it was in step, and then it was
// until the hub led last (led; zero if that is not known). info may be nil. It is never earlier than the record says, and
// never so late that the record would have been written again.
func LastKnown(record *Record, info *v1alpha1.ClusterInfo, led time.Time) time.Time {
	at := record.Time
	switch {
	case info == nil:
		return at
	case info.Status.LastKnown != nil:
		led = info.Status.LastKnown.Time
	case !meta.IsStatusConditionTrue(info.Status.Conditions, ConditionInStep):
		return at // nobody has said yet
	}
	if latest := at.Add(recordLag); led.After(latest) {
		led = latest
	}
	if led.After(at) {
		return led
	}
	return at
}

// lastLed returns when a hub last led, by its Lease; zero when none did. It has to be asked before this hub competes for it.
func lastLed(ctx context.Context, reader client.Reader, namespace string) (time.Time, error) {
	var lease coordinationv1.Lease
	if err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: api.HubLease}, &lease); client.IgnoreNotFound(err) != nil {
		return time.Time{}, fmt.Errorf("reading Lease %s/%s: %w", namespace, api.HubLease, err)
	}
	if lease.Spec.RenewTime == nil {
		return time.Time{}, nil
	}
	return lease.Spec.RenewTime.Time, nil
}
