package v1alpha1_test

import (
	"maps"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

func TestDrill(t *testing.T) {
	until := time.Date(2030, 1, 1, 0, 1, 0, 0, time.UTC)
	for _, before := range []v1alpha1.Health{"", v1alpha1.Up} {
		info := &v1alpha1.ClusterInfo{ObjectMeta: metav1.ObjectMeta{Name: "m1", Annotations: map[string]string{"a": "b"}}}
		info.Spec.DataPlane = before
		if info.EndDrill() {
			t.Error("a drill ended that never began")
		}
		if err := info.BeginDrill(until); err != nil {
			t.Fatal(err)
		}
		if end, drilling := info.Drill(); !drilling || !end.Equal(until) || info.Spec.DataPlane != v1alpha1.Down {
			t.Errorf("after the beginning: %v, %v, %q", end, drilling, info.Spec.DataPlane)
		}
		if err := info.BeginDrill(until); err == nil {
			t.Error("a second drill began")
		}
		if !info.EndDrill() || info.Spec.DataPlane != before || !maps.Equal(info.Annotations, map[string]string{"a": "b"}) {
			t.Errorf("after the end: %q %v, want %q", info.Spec.DataPlane, info.Annotations, before)
		}
	}
}

func TestDrillLeavesWhatPeopleSay(t *testing.T) {
	info := &v1alpha1.ClusterInfo{}
	info.Spec.DataPlane = v1alpha1.Down
	if err := info.BeginDrill(time.Now()); err == nil {
		t.Error("a cluster that is Down by hand was drilled: its end would bring it back")
	}
	info.Spec.DataPlane = ""
	if err := info.BeginDrill(time.Now()); err != nil {
		t.Fatal(err)
	}
	info.Spec.DataPlane = v1alpha1.Up
	if !info.EndDrill() || info.Spec.DataPlane != v1alpha1.Up {
		t.Errorf("what somebody wrote during the drill is %q now", info.Spec.DataPlane)
	}
	info.Annotations = map[string]string{v1alpha1.DrillUntilAnnotation: "soon"}
	if end, drilling := info.Drill(); !drilling || !end.IsZero() {
		t.Errorf("a time that cannot be read: %v, %v; it has to be over", end, drilling)
	}
}
