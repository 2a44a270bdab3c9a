package exports_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/exports"
)

// info is a ClusterInfo with an id that somebody wrote, and one that the leader wrote.
func info(claimed, has string) *v1alpha1.ClusterInfo {
	return &v1alpha1.ClusterInfo{Spec: v1alpha1.ClusterInfoSpec{ClusterID: claimed}, Status: v1alpha1.ClusterInfoStatus{ClusterID: has}}
}

// TestClaims decides who has an id. Members are c1, c2 and c3.
func TestClaims(t *testing.T) {
	day := func(n int) time.Time { return born.AddDate(0, 0, n) }
	type says = map[string]*v1alpha1.ClusterInfo
	cases := []struct {
		reason string
		infos  says
		born   map[string]time.Time
		want   string            // the ids of c1, c2 and c3; - for none
		flaws  map[string]string // a part of what is said of a member
	}{
		{"everybody has an id of their own", nil, nil, "c1 c2 c3", nil},
		{"the oldest registration has it", says{"c1": info("eu", ""), "c2": info("eu", "")}, map[string]time.Time{"c1": day(2), "c2": day(1)}, "- eu c3", map[string]string{"c1": `"eu" is taken by "c2", so nothing of this cluster is used: set spec.clusterID of ClusterInfo "c1"`}},
		{"of one age, the first by name", says{"c1": info("eu", ""), "c2": info("eu", "")}, map[string]time.Time{"c1": day(1), "c2": day(1)}, "eu - c3", map[string]string{"c2": `taken by "c1"`}},
		{"an age that is not known yet is none", says{"c1": info("eu", ""), "c2": info("eu", "")}, map[string]time.Time{"c2": day(9)}, "- eu c3", map[string]string{"c1": `taken by "c2"`}},
		{"who has it keeps it, however young", says{"c1": info("eu", ""), "c2": info("eu", "eu")}, map[string]time.Time{"c1": day(1), "c2": day(2)}, "- eu c3", map[string]string{"c1": `taken by "c2"`}},
		{"a late claim costs nobody the id that it has", says{"c1": info("", "c1"), "c2": info("c1", "c2")}, map[string]time.Time{"c1": day(2), "c2": day(1)}, "c1 c2 c3", map[string]string{"c2": `"c1" is taken by "c1", so this cluster keeps the id "c2"`}},
		{"nor does one for an id that is about to be left", says{"c1": info("", "c1"), "c2": info("c1", "eu"), "c3": info("eu", "c3")}, map[string]time.Time{"c3": day(1)}, "c1 eu c3", map[string]string{"c2": `keeps the id "eu"`, "c3": `"eu" is taken by "c2", so this cluster keeps the id "c3"`}},
		{"two may change places", says{"c1": info("c2", "c1"), "c2": info("c1", "c2")}, nil, "c2 c1 c3", nil},
		{"three for one", says{"c1": info("eu", ""), "c2": info("eu", ""), "c3": info("eu", "c3")}, map[string]time.Time{"c3": day(3), "c2": day(2), "c1": day(1)}, "eu - c3", map[string]string{"c2": "nothing of this cluster", "c3": `keeps the id "c3"`}},
		{"what is no id is not used", says{"c1": info("Not An Id", "")}, nil, "c1 c2 c3", map[string]string{"c1": "is no cluster id"}},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			for _, order := range [][]string{{"c1", "c2", "c3"}, {"c3", "c2", "c1"}} { // the order of what is heard makes no difference
				p := exports.NewPlay(logr.Discard(), time.Now, order...)
				for _, member := range order {
					p.Put(member, exports.Services, service("web"))
					p.Put(member, exports.Exports, export("web"))
					p.Born(member, tc.born[member])
					p.Info(member, tc.infos[member])
				}
				snapshot := p.Publish()
				var ids []string
				for _, member := range []string{"c1", "c2", "c3"} {
					state := p.State(member)
					id := "-"
					if state.ID != "" {
						id = state.ID
					}
					ids = append(ids, id)
					if part := tc.flaws[member]; !strings.Contains(state.Flaw, part) || (part == "") != (state.Flaw == "") {
						t.Errorf("of %s it is said: %q, want %q", member, state.Flaw, part)
					}
				}
				if got := strings.Join(ids, " "); got != tc.want {
					t.Errorf("the ids are %s, want %s", got, tc.want)
				}
				used := strings.Count(tc.want, " ") + 1 - strings.Count(tc.want, "-")
				if got := len(snapshot.Clusters()); got != used || len(snapshot.Service(web).Sources) != used {
					t.Errorf("the table has %d clusters and %d sources, want %d", got, len(snapshot.Service(web).Sources), used)
				}
			}
		})
	}
}

// TestClaimsOverTime has a member wait for an id until its holder leaves.
func TestClaimsOverTime(t *testing.T) {
	p := exports.NewPlay(logr.Discard(), time.Now, "c1", "c2")
	p.Born("c1", born.Time)
	p.Info("c1", info("", "c1"))
	p.Info("c2", info("", "c2"))
	p.Publish()
	p.Info("c2", info("c1", "c2"))
	if p.Publish(); p.State("c2").ID != "c2" || p.State("c1").ID != "c1" {
		t.Fatalf("a claim moved somebody: %+v, %+v", p.State("c1"), p.State("c2"))
	}
	p.Info("c2", info("c3", "c2")) // another one, which is free
	if p.Publish(); p.State("c2").ID != "c3" || p.State("c2").Flaw != "" {
		t.Errorf("the free id was not given: %+v", p.State("c2"))
	}
	p.Info("c2", info("c1", "c3"))
	p.Publish()
	p.Leave("c1")
	if p.Publish(); p.State("c2").ID != "c1" || p.State("c2").Flaw != "" {
		t.Errorf("the id was not given when it became free: %+v", p.State("c2"))
	}
}

// TestOrphan tells of a ClusterInfo that belongs to no member.
func TestOrphan(t *testing.T) {
	orphan := &v1alpha1.ClusterInfo{ObjectMeta: metav1.ObjectMeta{Name: "typo"}}
	former := exports.InfoStatus(orphan, &exports.ClusterState{ID: "typo", Exports: 7}, metav1.Now())
	for reason, status := range map[string]v1alpha1.ClusterInfoStatus{"it never belonged to one": {}, "the member has left": former} {
		orphan.Status = status
		now := exports.OrphanStatus(orphan, metav1.Now())
		if len(now.Conditions) != 1 || now.Conditions[0].Reason != exports.ReasonNoMember || now.Conditions[0].Status != metav1.ConditionFalse ||
			!strings.Contains(now.Conditions[0].Message, "hansa join typo") {
			t.Errorf("%s: the conditions are %+v", reason, now.Conditions)
		}
		if now.ClusterID != "" || now.Exports != 0 {
			t.Errorf("%s: it still says what it was: %+v", reason, now)
		}
	}
}

// TestOrphanIsWritten lets the leader look at a ClusterInfo without a member, and at one whose member is being removed.
func TestOrphanIsWritten(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1b1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "hub", Name: name} }
	going := &corev1b1.KubeFedCluster{ObjectMeta: named("going")}
	going.Finalizers, going.DeletionTimestamp = []string{"example.com/wait"}, new(metav1.Now())
	host := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.ClusterInfo{}).
		WithObjects(&v1alpha1.ClusterInfo{ObjectMeta: named("typo")}, &v1alpha1.ClusterInfo{ObjectMeta: named("going")}, going).Build()
	c := &exports.Controllers{Client: host, Watcher: exports.NewWatcher(exports.Options{}), Namespace: "hub", Log: logr.Discard()}
	for name, want := range map[string]int{"typo": 1, "going": 0, "nobody": 0} {
		key := types.NamespacedName{Namespace: "hub", Name: name}
		if err := c.WriteInfo(t.Context(), reconcile.Request{NamespacedName: key}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var info v1alpha1.ClusterInfo
		if err := host.Get(t.Context(), key, &info); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		if len(info.Status.Conditions) != want {
			t.Errorf("%s: the conditions are %+v", name, info.Status.Conditions)
		}
	}
}
