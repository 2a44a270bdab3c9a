package hub_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/hansa-dev/hansa/cmd/internal/hub"
)

func TestAdvertised(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, flag, bound, want, err string
	}{
		"Bound":       {reason: "An address of its own is where it is reached.", bound: "127.0.0.1:15010", want: "127.0.0.1:15010"},
		"Host":        {reason: "Without a port the listener's counts.", flag: "hub.example.org", bound: "[::]:15010", want: "hub.example.org:15010"},
		"HostPort":    {reason: "A load balancer may have another port.", flag: "hub.example.org:443", bound: "[::]:15010", want: "hub.example.org:443"},
		"IPv6":        {reason: "An IPv6 address is no HOST:PORT.", flag: "2001:db8::1", bound: "[::]:15010", want: "[2001:db8::1]:15010"},
		"PortOnly":    {reason: "Nobody reaches a port alone.", flag: ":443", bound: "[::]:15010", err: "want HOST or HOST:PORT"},
		"Zero":        {reason: "Nobody reaches port 0.", flag: "hub:0", bound: "[::]:15010", err: "want HOST or HOST:PORT"},
		"NotANumber":  {reason: "A service name is no port.", flag: "hub:https", bound: "[::]:15010", err: "want HOST or HOST:PORT"},
		"URL":         {reason: "A URL is no address.", flag: "https://hub", bound: "[::]:15010", err: "want HOST or HOST:PORT"},
		"SpaceInName": {reason: "No name has spaces.", flag: "my hub", bound: "[::]:15010", err: "want HOST or HOST:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			bound, err := net.ResolveTCPAddr("tcp", tc.bound)
			if err != nil {
				t.Fatal(err)
			}
			got, err := hub.Advertised(tc.flag, bound)
			if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s\nadvertised %q, %v; want %q, %q", tc.reason, got, err, tc.want, tc.err)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	lease := func(name, address string, age time.Duration) coordinationv1.Lease {
		made := coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"hansa.dev/xds-address": address}}}
		made.Spec.RenewTime = &metav1.MicroTime{Time: now.Add(-age)}
		return made
	}
	alive, gone := hub.Addresses([]coordinationv1.Lease{
		lease("b", "10.0.0.2:15010", 3*time.Second),
		lease("a", "10.0.0.1:15010", 19*time.Second),
		lease("same", "10.0.0.1:15010", 0),                // two replicas behind one load balancer
		lease("silent", "10.0.0.3:15010", 21*time.Second), // killed a moment ago
		lease("dead", "10.0.0.4:15010", 6*time.Minute),
		lease("ahead", "10.0.0.5:15010", -time.Minute), // its clock is ahead of ours
		lease("blank", "", 0),
	}, now)
	if want := []string{"10.0.0.1:15010", "10.0.0.2:15010", "10.0.0.5:15010"}; !cmp.Equal(alive, want) {
		t.Errorf("alive: %v; want %v", alive, want)
	}
	if want := []string{"dead"}; !cmp.Equal(gone, want) {
		t.Errorf("gone: %v; want %v", gone, want)
	}
}

// A replica whose clock is ten minutes behind lives as long as it renews its Lease.
func TestClockBehind(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	lease := func(renewed time.Time) []coordinationv1.Lease {
		made := coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "behind", Annotations: map[string]string{"hansa.dev/xds-address": "10.0.0.1:15010"}}}
		made.Spec.RenewTime = &metav1.MicroTime{Time: renewed}
		return []coordinationv1.Lease{made}
	}
	behind := now.Add(-10 * time.Minute)
	looks := []time.Time{now, now.Add(5 * time.Second), now.Add(10 * time.Second)}
	alive, gone := hub.Witness(looks, [][]coordinationv1.Lease{lease(behind), lease(behind.Add(5 * time.Second)), lease(behind.Add(5 * time.Second))})
	if !cmp.Equal(alive, []string{"10.0.0.1:15010"}) || gone != nil {
		t.Errorf("alive: %v, gone: %v", alive, gone)
	}
	looks[2] = now.Add(time.Minute)
	alive, _ = hub.Witness(looks, [][]coordinationv1.Lease{lease(behind), lease(behind.Add(5 * time.Second)), lease(behind.Add(5 * time.Second))})
	if alive != nil {
		t.Errorf("it renews no more, and is alive: %v", alive)
	}
}

// Two replicas announce themselves; the leader's ConfigMap has both, and one less when a replica ends.
func TestAnnounce(t *testing.T) {
	const namespace = "kube-federation-system"
	host := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).Build()
	told := func() map[string]string {
		t.Helper()
		if _, err := hub.Announce(t.Context(), host, namespace, "leader", "10.0.0.1:15010", true); err != nil {
			t.Fatal(err)
		}
		var live corev1.ConfigMap
		if err := host.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: hub.Announcement}, &live); err != nil {
			t.Fatal(err)
		}
		return live.Data
	}
	leave, err := hub.Announce(t.Context(), host, namespace, "standby", "10.0.0.2:15010 10.0.0.2:15012", false)
	if err != nil {
		t.Fatal(err)
	}
	both := map[string]string{hub.AddressKey: "10.0.0.1:15010,10.0.0.2:15010", hub.EnrolmentKey: "10.0.0.2:15012", hub.RootsKey: "roots"}
	if diff := cmp.Diff(both, told()); diff != "" {
		t.Errorf("with a standby (-want +got):\n%s", diff)
	}
	if err := leave(); err != nil {
		t.Fatal(err)
	}
	alone := map[string]string{hub.AddressKey: "10.0.0.1:15010", hub.RootsKey: "roots"}
	if diff := cmp.Diff(alone, told()); diff != "" {
		t.Errorf("without it (-want +got):\n%s", diff)
	}
}
