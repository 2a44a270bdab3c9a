package cli

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// The states of a hub.
const (
	hubRunning = "Running"
	hubStopped = "Stopped"
	hubUnknown = "Unknown" // it left no Lease, or the Leases cannot be read
)

const (
	// leaseSlack is for how long a Lease counts beyond its duration: clocks differ, and a renewal may be on its way.
	leaseSlack = 5 * time.Second
	// recordSlack is how much later than its last Lease a hub can have written something down. What wrote later has no
	// Leases (--leader-elect=false without xDS), and nothing is known of it.
	recordSlack = time.Minute
	// longSilence is for how long a hub that runs writes nothing at most, and as much again: it writes every five minutes,
	// were it only that nothing has changed.
	longSilence = 10 * time.Minute
)

// hubState is whether a hub runs, as -o json shows it.
type hubState struct {
	State    string     `json:"state"`
	Leader   string     `json:"leader,omitempty"`   // who leads, while one does
	LastSeen *time.Time `json:"lastSeen,omitempty"` // when one gave a sign of life last
	Age      string     `json:"age,omitempty"`      // of the last sign of life of one that has stopped
}

// judgeHub tells from the Leases of a hub's namespace whether one runs. recorded is when one wrote something down last.
func judgeHub(leases []coordinationv1.Lease, recorded, now time.Time) hubState {
	state := hubState{State: hubUnknown}
	var last time.Time
	for i := range leases {
		lease := &leases[i]
		if _, replica := lease.Labels[api.XDSReplicaLabel]; lease.Name != api.HubLease && !replica || lease.Spec.RenewTime == nil {
			continue
		}
		if state.State == hubUnknown {
			state.State = hubStopped
		}
		if lease.Spec.RenewTime.After(last) {
			last = lease.Spec.RenewTime.Time
		}
		if held(lease, now) {
			state.State = hubRunning
			if lease.Name == api.HubLease {
				state.Leader = *lease.Spec.HolderIdentity
			}
		}
	}
	if state.State == hubStopped && recorded.After(last.Add(recordSlack)) {
		return hubState{State: hubUnknown, LastSeen: &recorded}
	}
	if !last.IsZero() {
		state.LastSeen = &last
	}
	if state.State == hubStopped {
		state.Age = max(0, now.Sub(last)).Truncate(time.Second).String()
	}
	return state
}

// held tells whether somebody lives who holds a Lease. A hub that ends in order gives its Lease back.
func held(lease *coordinationv1.Lease, now time.Time) bool {
	spec := &lease.Spec
	if spec.HolderIdentity == nil || *spec.HolderIdentity == "" || spec.LeaseDurationSeconds == nil {
		return false
	}
	lifetime := time.Duration(*spec.LeaseDurationSeconds) * time.Second
	return now.Before(spec.RenewTime.Add(lifetime + leaseSlack))
}

// aged notes of a cluster that what is known of it is as old as the last sign of a hub, when none runs.
func (s *hubState) aged(facts clusterset.Cluster) clusterset.Cluster {
	if s.State == hubStopped && (facts.LastKnown.IsZero() || facts.LastKnown.After(*s.LastSeen)) {
		facts.LastKnown = *s.LastSeen
	}
	return facts
}

// leases lists the Leases of the hub's namespace.
func (h *host) leases(ctx context.Context) ([]coordinationv1.Lease, error) {
	list := &coordinationv1.LeaseList{}
	if err := h.client.List(ctx, list, client.InNamespace(h.namespace)); err != nil {
		return nil, h.explain("listing the Leases of the hub", err)
	}
	return list.Items, nil
}

// warning says what is wrong with the hub that a table comes from; empty if nothing is.
func (t *serviceTable) warning() string {
	start := "Start one: hansa hub --kubeconfig FILE --kubefed-namespace=" + t.namespace
	var recorded time.Time
	for _, at := range t.recorded {
		if at.After(recorded) {
			recorded = at
		}
	}
	silence := t.now.Sub(recorded)
	switch {
	case t.hub.State == hubStopped:
		return fmt.Sprintf("no hub is running: the last sign of one is %s old (leases in namespace %s of the host cluster). What is shown is as of then. %s",
			duration.HumanDuration(t.now.Sub(*t.hub.LastSeen)), t.namespace, start)
	case len(t.recorded) == 0 && t.hub.State == hubUnknown:
		return fmt.Sprintf("there is no sign of a hub in namespace %s of the host cluster. %s", t.namespace, start)
	case len(t.recorded) > 0 && silence > longSilence:
		return fmt.Sprintf("the hub has written nothing down for %s. Does one run, and lead? See: kubectl -n %s get leases", duration.HumanDuration(silence), t.namespace)
	}
	return ""
}
