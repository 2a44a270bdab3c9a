package hub_test

import (
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/hansa-dev/hansa/cmd/internal/hub"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// A drill is ended when its time is over, and not before; what is no drill is left alone.
func TestDrillsEnd(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	info := func(name string, until time.Duration) *v1alpha1.ClusterInfo {
		made := &v1alpha1.ClusterInfo{ObjectMeta: metav1.ObjectMeta{Namespace: "hub", Name: name}}
		if err := made.BeginDrill(now.Add(until)); err != nil {
			t.Fatal(err)
		}
		return made
	}
	byHand := &v1alpha1.ClusterInfo{ObjectMeta: metav1.ObjectMeta{Namespace: "hub", Name: "by-hand"}, Spec: v1alpha1.ClusterInfoSpec{DataPlane: v1alpha1.Down}}
	elsewhere := info("over", -time.Minute)
	elsewhere.Namespace = "elsewhere"
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(info("over", -time.Minute), info("going-on", time.Minute), byHand, elsewhere).Build()
	if err := hub.EndDrills(t.Context(), c, "hub", now, logr.Discard()); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[client.ObjectKey]v1alpha1.Health{
		{Namespace: "hub", Name: "over"}:       "",
		{Namespace: "hub", Name: "going-on"}:   v1alpha1.Down,
		{Namespace: "hub", Name: "by-hand"}:    v1alpha1.Down,
		{Namespace: "elsewhere", Name: "over"}: v1alpha1.Down,
	} {
		got := &v1alpha1.ClusterInfo{}
		if err := c.Get(t.Context(), key, got); err != nil {
			t.Fatal(err)
		}
		if got.Spec.DataPlane != want {
			t.Errorf("%s: dataPlane %q, want %q", key, got.Spec.DataPlane, want)
		}
	}
}
