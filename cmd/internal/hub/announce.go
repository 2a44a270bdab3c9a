package hub

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api"
)

// Where the hub says how clients reach its xDS: the leader keeps a ConfigMap with the addresses of all replicas and the
// roots to check them by; each replica keeps a Lease with its own.
const (
	announcement     = "hansa-xds"
	addressKey       = "address"   // HOST:PORT of each replica, joined by commas
	enrolmentKey     = "enrolment" // the same of where agents ask for certificates; not there where they do not
	rootsKey         = "ca.crt"
	addressNote      = "hansa.dev/xds-address"
	enrolmentNote    = "hansa.dev/enrolment-address"
	announcePeriod   = 5 * time.Second
	replicaLifetime  = 20 * time.Second
	replicaForgotten = 5 * time.Minute
)

// announcer tells where this replica serves xDS, and on the leader where all replicas do.
type announcer struct {
	client    client.Client
	reader    client.Reader // past the cache, which holds no Leases
	namespace string
	replica   string // unique among the hubs of the namespace
	address   string
	enrolment string // empty: it does not enrol agents
	roots     func() []byte
	ready     <-chan struct{} // closed once there are roots
	leads     <-chan struct{}
	log       logr.Logger
	seen      map[string]renewal
}

// renewal is the last one of a Lease that this replica has seen, by its own clock: those of others may be wrong.
type renewal struct {
	was time.Time // as written
	at  time.Time // when it was new here
}

// NeedLeaderElection says that every replica tells of itself.
func (a *announcer) NeedLeaderElection() bool { return false }

// Start announces until ctx ends, and then takes its own address back.
func (a *announcer) Start(ctx context.Context) error {
	select {
	case <-a.ready:
	case <-ctx.Done():
		return nil
	}
	tick := time.NewTicker(announcePeriod)
	defer tick.Stop()
	leads := a.leads
	for {
		if err := a.announce(ctx); err != nil && ctx.Err() == nil {
			a.log.Error(err, "Announcing where xDS is served failed, will try again")
		}
		select {
		case <-ctx.Done():
			return a.leave(context.WithoutCancel(ctx))
		case <-leads:
			leads = nil
		case <-tick.C:
		}
	}
}

func (a *announcer) announce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, announcePeriod)
	defer cancel()
	if err := a.renew(ctx); err != nil {
		return err
	}
	select {
	case <-a.leads:
		return a.publish(ctx)
	default:
		return nil
	}
}

func (a *announcer) lease() *coordinationv1.Lease {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace: a.namespace, Name: announcement + "-" + a.replica,
		Labels: map[string]string{api.XDSReplicaLabel: "true"}, Annotations: map[string]string{addressNote: a.address},
	}}
	if a.enrolment != "" {
		lease.Annotations[enrolmentNote] = a.enrolment
	}
	return lease
}

// renew says that this replica lives.
func (a *announcer) renew(ctx context.Context) error {
	now := metav1.NowMicro()
	lease := a.lease()
	err := a.reader.Get(ctx, client.ObjectKeyFromObject(lease), lease)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading Lease %s/%s: %w", lease.Namespace, lease.Name, err)
	}
	missing := err != nil
	lease.Labels, lease.Annotations = a.lease().Labels, a.lease().Annotations
	lease.Spec.HolderIdentity = &a.replica
	lease.Spec.RenewTime = &now
	lease.Spec.LeaseDurationSeconds = new(int32(replicaLifetime / time.Second))
	if missing {
		err = a.client.Create(ctx, lease)
	} else {
		err = a.client.Update(ctx, lease)
	}
	if err != nil {
		return fmt.Errorf("writing Lease %s/%s: %w", lease.Namespace, lease.Name, err)
	}
	return nil
}

// leave takes the address of this replica back.
func (a *announcer) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := client.IgnoreNotFound(a.client.Delete(ctx, a.lease())); err != nil {
		a.log.Info("Could not take back where xDS was served", "lease", a.lease().Name, "reason", err.Error())
	}
	return nil
}

// publish writes the ConfigMap if it says something else than the Leases do.
func (a *announcer) publish(ctx context.Context) error {
	var leases coordinationv1.LeaseList
	if err := a.reader.List(ctx, &leases, client.InNamespace(a.namespace), client.HasLabels{api.XDSReplicaLabel}); err != nil {
		return fmt.Errorf("listing the Leases of hubs: %w", err)
	}
	a.witness(leases.Items, time.Now())
	alive, gone := living(leases.Items, time.Now())
	for i := range gone {
		if err := client.IgnoreNotFound(a.client.Delete(ctx, &gone[i], client.Preconditions{UID: &gone[i].UID})); err != nil {
			return fmt.Errorf("deleting Lease %s of a hub that is gone: %w", gone[i].Name, err)
		}
	}
	wanted := map[string]string{addressKey: strings.Join(addresses(alive, addressNote), ","), rootsKey: string(a.roots())}
	if enrolment := addresses(alive, enrolmentNote); len(enrolment) > 0 {
		wanted[enrolmentKey] = strings.Join(enrolment, ",")
	}
	live := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: a.namespace, Name: announcement}
	err := a.reader.Get(ctx, key, live)
	switch {
	case apierrors.IsNotFound(err):
		live.ObjectMeta = metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}
		live.Data = wanted
		err = a.client.Create(ctx, live)
	case err == nil && !maps.Equal(live.Data, wanted):
		live.Data = wanted
		err = a.client.Update(ctx, live)
	}
	if err != nil {
		return fmt.Errorf("keeping ConfigMap %s: %w", key, err)
	}
	return nil
}

// witness gives Leases that were renewed under this replica's eyes the time of that, so that a replica whose clock is behind
// is not taken for dead.
func (a *announcer) witness(leases []coordinationv1.Lease, now time.Time) {
	seen := make(map[string]renewal, len(leases))
	for i := range leases {
		lease := &leases[i]
		if lease.Spec.RenewTime == nil {
			continue
		}
		last, known := a.seen[lease.Name]
		if known && !last.was.Equal(lease.Spec.RenewTime.Time) {
			last.at = now
		}
		last.was = lease.Spec.RenewTime.Time
		seen[lease.Name] = last
		if last.at.After(last.was) {
			lease.Spec.RenewTime = &metav1.MicroTime{Time: last.at}
		}
	}
	a.seen = seen
}

// living returns the Leases of replicas that live, and those of replicas long gone.
func living(leases []coordinationv1.Lease, now time.Time) (alive, gone []coordinationv1.Lease) {
	for i := range leases {
		var age time.Duration
		if renewed := leases[i].Spec.RenewTime; renewed != nil {
			age = now.Sub(renewed.Time)
		}
		switch {
		case age > replicaForgotten:
			gone = append(gone, leases[i])
		case age <= replicaLifetime:
			alive = append(alive, leases[i])
		}
	}
	return alive, gone
}

// addresses returns those that Leases note, sorted and each once.
func addresses(leases []coordinationv1.Lease, note string) []string {
	var found []string
	for i := range leases {
		if address := leases[i].Annotations[note]; address != "" {
			found = append(found, address)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
