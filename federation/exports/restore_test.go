package exports_test

import (
	"testing"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/exports"
)

// written is a ClusterInfo whose status says that the hub was in step, or since when it was not.
func written(inStep metav1.ConditionStatus, since *metav1.Time) *v1alpha1.ClusterInfo {
	return &v1alpha1.ClusterInfo{Status: v1alpha1.ClusterInfoStatus{
		LastKnown: since, Conditions: []metav1.Condition{{Type: exports.ConditionInStep, Status: inStep}},
	}}
}

// TestLastKnown gives times in seconds after that of the record.
func TestLastKnown(t *testing.T) {
	at := func(seconds int) time.Time { return born.Add(time.Duration(seconds) * time.Second) }
	since := func(seconds int) *metav1.Time { return new(metav1.NewTime(at(seconds))) }
	yes, no := metav1.ConditionTrue, metav1.ConditionFalse
	cases := []struct {
		reason string
		info   *v1alpha1.ClusterInfo
		led    time.Time
		want   int
	}{
		{"nobody says more than the record", nil, at(100), 0},
		{"nobody has looked at the member yet", &v1alpha1.ClusterInfo{}, at(100), 0},
		{"in step until the hub ended", written(yes, nil), at(290), 290},
		{"in step, and the record is newer than the last hub", written(yes, nil), at(-50), 0},
		{"in step, and no hub ever led", written(yes, nil), time.Time{}, 0},
		{"out of step since before the hub ended", written(no, since(120)), at(290), 120},
		{"out of step since before the record changed", written(no, since(-60)), at(290), 0},
		{"hubs that led without looking say nothing: the record would be newer", written(yes, nil), at(86400), 360},
		{"nor does a status from elsewhere", written(no, since(86400)), at(0), 360},
	}
	for _, tc := range cases {
		record := &exports.Record{Time: at(0)}
		if got := exports.LastKnown(record, tc.info, tc.led); !got.Equal(at(tc.want)) {
			t.Errorf("%s: %s after the record, want %d s", tc.reason, got.Sub(at(0)), tc.want)
		}
	}
}

// TestAgeAfterRestart restores a member, whatever is heard first.
func TestAgeAfterRestart(t *testing.T) {
	const lag = 280 * time.Second
	for _, first := range []string{"record", "info"} {
		p := exports.NewPlay(logr.Discard(), time.Now)
		p.NewMember("c1")
		record := exports.Record{Member: "c1", ID: "c1", Time: born.Time, Known: known(1)}
		if first == "record" {
			p.Restore(record, born.Add(lag))
			p.Info("c1", written(metav1.ConditionTrue, nil))
		} else {
			p.Info("c1", written(metav1.ConditionTrue, nil))
			p.Restore(record, born.Add(lag))
		}
		p.Publish()
		if got := p.State("c1").LastKnown.Sub(born.Time); got != lag {
			t.Errorf("the %s first: it was in step until %s after the record, want %s", first, got, lag)
		}
		// The leader's own status changes nothing.
		status := written(metav1.ConditionFalse, new(metav1.NewTime(born.Add(lag))))
		p.Info("c1", status)
		p.Publish()
		if got := p.State("c1").LastKnown.Sub(born.Time); got != lag {
			t.Errorf("the %s first: the hub's own status moved the time to %s", first, got)
		}
	}
}

// TestLookBack reads when a hub led last.
func TestLookBack(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := coordinationv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "hub", Name: "hansa-hub"}}
	renewed := lease.DeepCopy()
	renewed.Spec.RenewTime = new(metav1.NewMicroTime(born.Time))
	for reason, c := range map[string]struct {
		objects []client.Object
		scheme  *runtime.Scheme
		want    time.Time
	}{
		"a hub has led":         {[]client.Object{renewed}, scheme, born.Time},
		"none did yet":          {nil, scheme, time.Time{}},
		"the Lease says little": {[]client.Object{lease}, scheme, time.Time{}},
		"it cannot be read":     {nil, runtime.NewScheme(), time.Time{}},
	} {
		host := fake.NewClientBuilder().WithScheme(c.scheme).WithObjects(c.objects...).Build()
		watcher := exports.NewWatcher(exports.Options{Log: logr.Discard()})
		controllers := &exports.Controllers{Watcher: watcher, Namespace: "hub", Log: logr.Discard()}
		if led := controllers.LookBack(host); !led.Equal(c.want) {
			t.Errorf("%s: a hub led at %s, want %s", reason, led, c.want)
		}
	}
}
