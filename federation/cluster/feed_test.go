package cluster_test

import (
	"context"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/cluster"
)

// A member that leaves while all members are registered at the start is not registered for ever.
func TestFeedForgetsWhoLeavesMeanwhile(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, corev1b1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	member := &corev1b1.KubeFedCluster{ObjectMeta: metav1.ObjectMeta{Namespace: "hub", Name: "c1"}}
	feed := &cluster.Feed{Registry: cluster.NewRegistry(logr.Discard()), Namespace: "hub"}
	feed.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(member).WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if err := c.List(ctx, list, options...); err != nil {
				return err
			}
			if err := c.Delete(ctx, member.DeepCopy()); err != nil {
				return err
			}
			_, err := feed.Reconcile(ctx, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "hub", Name: "c1"}})
			return err
		},
	}).Build()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- feed.Registry.Run(ctx) }()
	if _, err := feed.Reconcile(ctx, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "hub"}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-feed.Registry.Complete():
	default:
		t.Error("the registry does not know that it is complete")
	}
	if members, _ := feed.Registry.Current(); len(members) != 0 {
		t.Errorf("%q is still registered", members[0].Name)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
