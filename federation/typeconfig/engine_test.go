package typeconfig_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/federation/typeconfig"
)

// propagating is a type that says of itself what a test wants.
type propagating struct {
	ready  bool
	states []typeconfig.ClusterState
}

func (p *propagating) Stop()                               {}
func (p *propagating) Ready() (bool, string)               { return p.ready, "" }
func (p *propagating) Clusters() []typeconfig.ClusterState { return p.states }

// TestSettling tells the story of a type: a start, a broken connection that comes back, one that does not.
func TestSettling(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := &propagating{}
	settles := typeconfig.Settling(p, began)
	const patience = 3 * time.Second
	steps := []struct {
		reason string
		after  time.Duration // since it began
		ready  bool
		state  string
		report bool
	}{
		{"nothing is listed yet", 0, false, typeconfig.StateWaiting, false},
		{"the federated objects are, the member is not", time.Second, true, typeconfig.StateWaiting, false},
		{"all is listed: report at once", 2 * time.Second, true, typeconfig.StateRunning, true},
		{"a connection breaks: it may come back", 60 * time.Second, true, typeconfig.StateUnreachable, false},
		{"it is back", 61 * time.Second, true, typeconfig.StateRunning, true},
		{"it breaks again, and the count begins anew", 90 * time.Second, true, typeconfig.StateUnreachable, false},
		{"still broken", 92 * time.Second, true, typeconfig.StateUnreachable, false},
		{"it stays broken: say so", 93 * time.Second, true, typeconfig.StateUnreachable, true},
		{"a refusal is an answer, not a passing state", 94 * time.Second, true, typeconfig.StateForbidden, true},
	}
	for _, step := range steps {
		p.ready, p.states = step.ready, []typeconfig.ClusterState{{Name: "m1", State: step.state}}
		if wait := settles(patience, began.Add(step.after)); (wait <= 0) != step.report {
			t.Errorf("%s: to wait %v, want report=%v", step.reason, wait, step.report)
		}
	}
}

func TestGrantCommand(t *testing.T) {
	tc := typeconfig.ForTarget(metav1.APIResource{Group: "example.com", Version: "v1", Kind: "Widget", Name: "widgets", Namespaced: true}, "", "")
	got := typeconfig.GrantCommand(tc, "m1")
	for _, part := range []string{"--context m1 ", "--resource=widgets.example.com", "--verb=get,list,watch,create,update,patch,delete", "hansa.dev/aggregate-to-member=true"} {
		if !strings.Contains(got, part) {
			t.Errorf("the command to copy lacks %q: %s", part, got)
		}
	}
}
