package exports_test

import (
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
)

// The first snapshot of a hub that starts keeps a service from those that its policy keeps it from, and knows what is revoked.
func TestPrimer(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1b1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	host := fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		&v1alpha1.ServicePolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
			Spec:       v1alpha1.ServicePolicySpec{Consumers: &v1alpha1.Consumers{Clusters: []string{"c1"}}},
		},
		&v1alpha1.ClusterInfo{
			ObjectMeta: metav1.ObjectMeta{Namespace: "hub", Name: "c1"}, Spec: v1alpha1.ClusterInfoSpec{Network: "dc1"},
		},
		&v1alpha1.Revocation{
			ObjectMeta: metav1.ObjectMeta{Namespace: "hub", Name: "c9"}, Spec: v1alpha1.RevocationSpec{Before: metav1.Now()},
		},
		&v1alpha1.Revocation{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "c1"}, Spec: v1alpha1.RevocationSpec{Before: metav1.Now()},
		},
	).Build()

	told, complete := make(chan struct{}), make(chan struct{})
	w := newWorld(t, exports.Options{Complete: told})
	offer(w.serve("c1"), "web", "10.1.0.1")
	w.roll.set(w.member("c1", up))
	w.run()
	primer := &exports.Primer{
		Controllers: &exports.Controllers{Client: host, Watcher: w.watcher, Namespace: "hub", Log: logr.Discard()},
		Complete:    complete, Done: told,
	}
	ended := make(chan error, 1)
	go func() { ended <- primer.Start(t.Context()) }()
	w.eventually("c1 is read", func() bool { return w.state("c1").LastKnown.IsZero() && w.state("c1").ID != "" })
	select {
	case <-w.watcher.Ready():
		t.Fatal("there is a snapshot before the list of members is whole")
	default:
	}
	close(complete)
	select {
	case <-w.watcher.Ready():
	case <-time.After(patience):
		t.Fatal("there is no snapshot")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	snapshot, _ := w.watcher.Current()
	for consumer, want := range map[string]clusterset.Reason{"c1": clusterset.Used, "c2": clusterset.NotAllowed} {
		if got := snapshot.View(web, clusterset.Consumer{Cluster: consumer}).Reason; got != want {
			t.Errorf("%s may not use it because %q; want %q", consumer, got, want)
		}
	}
	if issued := born.Time; !snapshot.Revoked("c9", issued) || snapshot.Revoked("c1", issued) {
		t.Errorf("revoked is %v, want what the hub's namespace says and nothing else", snapshot.Revocations())
	}
	if c := snapshot.Cluster("c1"); c == nil || c.Network != "dc1" {
		t.Errorf("the cluster is %+v; its network is missing", c)
	}
}
