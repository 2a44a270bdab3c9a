package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/federation/api"
)

func TestJudgeHub(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	lease := func(name, holder string, seconds int32, age time.Duration) coordinationv1.Lease {
		made := coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &metav1.MicroTime{Time: now.Add(-age)},
		}}
		if name != api.HubLease {
			made.Labels = map[string]string{api.XDSReplicaLabel: "true"}
		}
		return made
	}
	at := func(age time.Duration) *time.Time { return new(now.Add(-age)) }
	tests := map[string]struct {
		reason   string
		leases   []coordinationv1.Lease
		recorded time.Duration // ago; 0: nothing
		want     hubState
	}{
		"None":   {reason: "Where no Lease is, nothing can be said.", want: hubState{State: hubUnknown}},
		"Leader": {reason: "The plain case.", leases: []coordinationv1.Lease{lease(api.HubLease, "a", 15, time.Second)}, want: hubState{State: hubRunning, Leader: "a", LastSeen: at(time.Second)}},
		"Slack":  {reason: "A renewal may be on its way, and clocks differ a little.", leases: []coordinationv1.Lease{lease(api.HubLease, "a", 15, 19*time.Second)}, want: hubState{State: hubRunning, Leader: "a", LastSeen: at(19 * time.Second)}},
		"Ahead":  {reason: "A hub whose clock is ahead lives.", leases: []coordinationv1.Lease{lease(api.HubLease, "a", 15, -time.Minute)}, want: hubState{State: hubRunning, Leader: "a", LastSeen: at(-time.Minute)}},
		"Killed": {reason: "What is not renewed has ended.", leases: []coordinationv1.Lease{lease(api.HubLease, "a", 15, 21*time.Second)}, want: hubState{State: hubStopped, LastSeen: at(21 * time.Second), Age: "21s"}},
		"Ended":  {reason: "A Lease that was given back ends at once.", leases: []coordinationv1.Lease{lease(api.HubLease, "", 1, time.Second)}, want: hubState{State: hubStopped, LastSeen: at(time.Second), Age: "1s"}},
		"EndedAhead": {
			reason: "An age is never negative.", leases: []coordinationv1.Lease{lease(api.HubLease, "", 1, -time.Second)},
			want: hubState{State: hubStopped, LastSeen: at(-time.Second), Age: "0s"},
		},
		"Replica": {
			reason: "One that serves without leading keeps clients in step.", leases: []coordinationv1.Lease{lease(api.HubLease, "a", 15, time.Hour), lease("hansa-xds-b", "b", 20, time.Second)},
			want: hubState{State: hubRunning, LastSeen: at(time.Second)},
		},
		"LastOfAll": {
			reason: "The last sign of any is the last sign.", leases: []coordinationv1.Lease{lease(api.HubLease, "", 1, time.Hour), lease("hansa-xds-b", "b", 20, time.Minute)},
			want: hubState{State: hubStopped, LastSeen: at(time.Minute), Age: "1m0s"},
		},
		"Leaseless": {
			reason: "Something without Leases wrote after the last one.", leases: []coordinationv1.Lease{lease(api.HubLease, "a", 15, time.Hour)}, recorded: time.Minute,
			want: hubState{State: hubUnknown, LastSeen: at(time.Minute)},
		},
		"LastWords": {
			reason: "A hub writes until it ends.", leases: []coordinationv1.Lease{lease(api.HubLease, "", 1, time.Minute)}, recorded: 50 * time.Second,
			want: hubState{State: hubStopped, LastSeen: at(time.Minute), Age: "1m0s"},
		},
		"Bare": {
			reason: "A Lease that says nothing is none.", leases: []coordinationv1.Lease{{ObjectMeta: metav1.ObjectMeta{Name: api.HubLease}}},
			want: hubState{State: hubUnknown},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var recorded time.Time
			if tc.recorded > 0 {
				recorded = now.Add(-tc.recorded)
			}
			if diff := cmp.Diff(tc.want, judgeHub(tc.leases, recorded, now)); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
		})
	}
}
