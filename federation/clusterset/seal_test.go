package clusterset_test

import (
	"strings"
	"testing"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestSeal covers that the checked build finds every kind of modification, and that the normal one does not look.
func TestSeal(t *testing.T) {
	modifications := map[string]func(*clusterset.Snapshot){
		"a source": func(s *clusterset.Snapshot) { s.Service(web).Sources[0].Cluster = "other" },
		"an endpoint": func(s *clusterset.Snapshot) {
			s.Service(web).Sources[0].Endpoints.Groups[0].Endpoints[0].Conditions = 0
		},
		"properties": func(s *clusterset.Snapshot) { s.Service(web).Properties.Ports[0].Port = 9 },
		"the policy": func(s *clusterset.Snapshot) { s.Service(web).Policy.MinHealthyPercent = 9 },
		"a cluster":  func(s *clusterset.Snapshot) { s.Cluster("m1").State = clusterset.Draining },
	}
	for name, modify := range modifications {
		w := newWorld()
		w.serve("m1", "10.1.0.1")
		w.SetPolicy(web, clusterset.Policy{MinHealthyPercent: 5, L7: func() {}})
		snapshot := w.Publish()
		modify(snapshot)
		if found := caught(func() { snapshot.Services(); snapshot.Clusters() }); found != clusterset.Checked {
			t.Errorf("%s was modified, and found: %t", name, found)
		}
	}
}

// caught tells whether f panics about a modification.
func caught(f func()) (found bool) {
	defer func() {
		if text, ok := recover().(string); ok {
			found = strings.Contains(text, "modified after it had been published")
		}
	}()
	f()
	return false
}
