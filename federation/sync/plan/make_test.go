package plan_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/status"
	"github.com/hansa-dev/hansa/federation/sync/plan"
)

// Objects as seen in the member m1, at version rv:7.
const (
	managed     = `{metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7", labels: {kubefed.io/managed: "true"}}, data: {k: v}}`
	drifted     = `{metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7", labels: {kubefed.io/managed: "true"}}, data: {k: other}}`
	unlabelled  = `{metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7"}, data: {k: v}}`
	refused     = `{metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7", labels: {kubefed.io/managed: "false"}}}`
	terminating = `{metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7", deletionTimestamp: "2025-01-01T00:00:00Z", labels: {kubefed.io/managed: "true"}}}`
	template    = `{template: {data: {k: v}}}`
)

func TestMake(t *testing.T) {
	ready := plan.Have{Ready: true, Synced: true}
	away := func(w *plan.Want) { w.Placed = []string{"m2"} }
	mode := func(m plan.Mode) func(*plan.Want) { return func(w *plan.Want) { w.Mode = m } }
	host := func(w *plan.Want) {
		w.Target, w.Namespace, w.HostNamespaceUID = namespace, "", "u"
	}
	tests := map[string]struct {
		reason string
		spec   string // template if empty
		change []func(*plan.Want)
		have   plan.Have
		object string
		verb   plan.Verb
		code   status.Code
		report bool
		say    string
		vers   string
	}{
		"create":                 {reason: "placed and not there", have: ready, verb: plan.Create, report: true},
		"not ready":              {reason: "nothing can be done, and it is reported", have: plan.Have{Synced: true}, object: managed, verb: plan.None, code: status.ClusterNotReady, report: true, say: `cluster "m1" is not ready`},
		"not synced":             {reason: "what is there is not known", have: plan.Have{Ready: true, SyncError: "forbidden"}, verb: plan.None, code: status.CachedRetrievalFailed, report: true, say: "forbidden"},
		"not synced yet":         {reason: "there is a message even if nobody gave one", have: plan.Have{Ready: true}, verb: plan.None, code: status.CachedRetrievalFailed, report: true, say: `ConfigMap objects of cluster "m1"`},
		"recorded":               {reason: "at the recorded version nothing is to be done", have: plan.Have{Ready: true, Synced: true, Recorded: "rv:7"}, object: managed, verb: plan.None, report: true, vers: "rv:7"},
		"recorded, drifted":      {reason: "an equal resourceVersion is proof enough", have: plan.Have{Ready: true, Synced: true, Recorded: "rv:7"}, object: drifted, verb: plan.None, report: true, vers: "rv:7"},
		"not recorded, equal":    {reason: "the version is remembered without a write", have: ready, object: managed, verb: plan.Record, report: true, vers: "rv:7"},
		"older, equal":           {reason: "somebody changed what does not count", have: plan.Have{Ready: true, Synced: true, Recorded: "rv:6"}, object: managed, verb: plan.Record, report: true, vers: "rv:7"},
		"older, drifted":         {reason: "drift is repaired", have: plan.Have{Ready: true, Synced: true, Recorded: "rv:6"}, object: drifted, verb: plan.Update, report: true},
		"refused":                {reason: "the label says no", have: ready, object: refused, verb: plan.None, code: status.ManagedLabelFalse, report: true, say: "kubefed.io/managed=false"},
		"terminating":            {reason: "created again when it is gone", have: ready, object: terminating, verb: plan.Wait, code: status.WaitingForRemoval, report: true, say: "ConfigMap ns/a"},
		"unlabelled":             {reason: "adoption is off", have: ready, object: unlabelled, verb: plan.None, code: status.AlreadyExists, report: true, say: "adoptResources"},
		"adopted":                {reason: "adoption is on", change: []func(*plan.Want){func(w *plan.Want) { w.Adopt = true }}, have: plan.Have{Ready: true, Synced: true, Recorded: "rv:7"}, object: unlabelled, verb: plan.Update, report: true},
		"bad override":           {reason: "nothing is created from half an answer", spec: `{template: {}, ` + patches(`[{path: /spec/x, value: 1}]`) + `}`, have: ready, verb: plan.None, code: status.ApplyOverridesFailed, report: true, say: `"m1"`},
		"bad override, existing": {reason: "nothing is updated either", spec: `{template: {}, ` + patches(`[{path: /spec/x, value: 1}]`) + `}`, have: ready, object: managed, verb: plan.None, code: status.ApplyOverridesFailed, report: true, say: `"m1"`},
		"bad overrides":          {reason: "even at the recorded version the user hears of it", change: []func(*plan.Want){func(w *plan.Want) { w.OverridesError = errors.New("boom") }}, have: plan.Have{Ready: true, Synced: true, Recorded: "rv:7"}, object: managed, verb: plan.None, code: status.ApplyOverridesFailed, report: true, say: "boom"},
		"bad template":           {reason: "no object can be made", spec: `{template: x}`, have: ready, verb: plan.None, code: status.ComputeResourceFailed, report: true, say: "spec.template"},

		"away, none":        {reason: "nothing there, nothing to do", change: []func(*plan.Want){away}, have: ready, verb: plan.None},
		"away, managed":     {reason: "removed when placement moves", change: []func(*plan.Want){away}, have: ready, object: managed, verb: plan.Delete, code: status.WaitingForRemoval, report: true},
		"away, bad parse":   {reason: "broken overrides do not keep it", change: []func(*plan.Want){away, func(w *plan.Want) { w.OverridesError = errors.New("boom") }}, have: ready, object: managed, verb: plan.Delete, code: status.WaitingForRemoval, report: true},
		"away, unlabelled":  {reason: "an unlabelled object is never deleted", change: []func(*plan.Want){away}, have: ready, object: unlabelled, verb: plan.None},
		"away, refused":     {reason: "nor one that refuses", change: []func(*plan.Want){away}, have: ready, object: refused, verb: plan.None},
		"away, terminating": {reason: "it is on its way", change: []func(*plan.Want){away}, have: ready, object: terminating, verb: plan.Wait, code: status.WaitingForRemoval, report: true, say: "finalizers"},
		"away, not ready":   {reason: "what is left in a cluster that is down is told of, so that it is not forgotten", change: []func(*plan.Want){away}, have: plan.Have{Synced: true}, object: managed, verb: plan.Wait, code: status.ClusterNotReady, report: true, say: `"m1"`},
		"away, not synced":  {reason: "not placed, so not reported", change: []func(*plan.Want){away}, have: plan.Have{Ready: true}, verb: plan.None},
		"away, host":        {reason: "the host's own namespace is let go", change: []func(*plan.Want){away, host}, have: ready, object: managed, verb: plan.Unlabel},
		"away, host going":  {reason: "nothing to wait for", change: []func(*plan.Want){away, host}, have: ready, object: terminating, verb: plan.None},
		"away, other ns":    {reason: "a namespace of the same name elsewhere is not the host's", change: []func(*plan.Want){away, host, func(w *plan.Want) { w.HostNamespaceUID = "v" }}, have: ready, object: managed, verb: plan.Delete, code: status.WaitingForRemoval, report: true},
		"host, unlabelled":  {reason: "the host's own namespace is taken over even without adoption", change: []func(*plan.Want){host}, have: ready, object: unlabelled, verb: plan.Update, report: true},

		"delete":                   {reason: "placed objects go", change: []func(*plan.Want){mode(plan.Remove)}, have: ready, object: managed, verb: plan.Delete, code: status.WaitingForRemoval, report: true},
		"delete, none":             {reason: "gone", change: []func(*plan.Want){mode(plan.Remove)}, have: ready, verb: plan.None},
		"delete, away":             {reason: "managed objects outside of the placement go as well", change: []func(*plan.Want){mode(plan.Remove), away}, have: ready, object: managed, verb: plan.Delete, code: status.WaitingForRemoval, report: true},
		"delete, terminating":      {reason: "waits until it is gone", change: []func(*plan.Want){mode(plan.Remove)}, have: ready, object: terminating, verb: plan.Wait, code: status.WaitingForRemoval, report: true},
		"delete, unlabelled":       {reason: "an unlabelled object is never deleted, nor waited for", change: []func(*plan.Want){mode(plan.Remove)}, have: ready, object: unlabelled, verb: plan.None},
		"delete, not ready":        {reason: "a placed cluster that is down holds the deletion up", change: []func(*plan.Want){mode(plan.Remove)}, have: plan.Have{Synced: true}, verb: plan.Wait, code: status.ClusterNotReady, report: true, say: `"m1"`},
		"delete, not synced":       {reason: "what is there has to be known", change: []func(*plan.Want){mode(plan.Remove)}, have: plan.Have{Ready: true, SyncError: "forbidden"}, verb: plan.Wait, code: status.CachedRetrievalFailed, report: true, say: "forbidden"},
		"delete, away, down":       {reason: "an object last seen in a cluster that is down is waited for", change: []func(*plan.Want){mode(plan.Remove), away}, have: plan.Have{Synced: true}, object: managed, verb: plan.Wait, code: status.ClusterNotReady, report: true, say: `"m1"`},
		"delete, away, down, none": {reason: "a cluster that is down and never had it is not", change: []func(*plan.Want){mode(plan.Remove), away}, have: plan.Have{Synced: true}, verb: plan.None},
		"delete, host":             {reason: "the host's own namespace is let go", change: []func(*plan.Want){mode(plan.Remove), host}, have: ready, object: managed, verb: plan.Unlabel},
		"delete, host going":       {reason: "waiting for it would be waiting for itself", change: []func(*plan.Want){mode(plan.Remove), host}, have: ready, object: terminating, verb: plan.None},

		"orphan":              {reason: "let go", change: []func(*plan.Want){mode(plan.Orphan)}, have: ready, object: managed, verb: plan.Unlabel},
		"orphan, terminating": {reason: "too late", change: []func(*plan.Want){mode(plan.Orphan)}, have: ready, object: terminating, verb: plan.None},
		"orphan, unlabelled":  {reason: "never ours", change: []func(*plan.Want){mode(plan.Orphan)}, have: ready, object: unlabelled, verb: plan.None},
		"orphan, not ready":   {reason: "orphaning never waits", change: []func(*plan.Want){mode(plan.Orphan)}, have: plan.Have{Synced: true}, object: managed, verb: plan.None},
		"no object":           {reason: "without a federated object nothing is deleted, whatever the mode", change: []func(*plan.Want){mode(plan.Remove), func(w *plan.Want) { w.Object = nil }}, have: ready, object: managed, verb: plan.Unlabel},
		"no mode":             {reason: "an unknown mode does nothing", change: []func(*plan.Want){mode("")}, have: ready, object: managed, verb: plan.None},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := tt.spec
			if spec == "" {
				spec = template
			}
			w := want(t, configMap, spec)
			for _, change := range tt.change {
				change(&w)
			}
			tt.have.Cluster, tt.have.Object = "m1", member(t, tt.object)
			steps := plan.Make(w, []plan.Have{tt.have})
			if len(steps) != 1 {
				t.Fatalf("%s: %d steps", tt.reason, len(steps))
			}
			step := steps[0]
			if step.Cluster != "m1" || step.Verb != tt.verb || step.Status != tt.code || step.Report != tt.report || step.Version != tt.vers || !strings.Contains(step.Message, tt.say) {
				t.Errorf("%s: %+v", tt.reason, step)
			}
			if (tt.code != status.OK && tt.verb != plan.Delete) != (step.Message != "") {
				t.Errorf("%s: message %q", tt.reason, step.Message)
			}
			checkStep(t, step, tt.have)
		})
	}
}

// checkStep checks what holds for every step.
func checkStep(t *testing.T, step plan.Step, have plan.Have) {
	t.Helper()
	if (step.Object != nil) != (step.Verb == plan.Create || step.Verb == plan.Update) {
		t.Errorf("%s with object %v", step.Verb, step.Object)
	}
	switch step.Verb {
	case plan.Update, plan.Unlabel, plan.Delete:
		if step.UID != have.Object.GetUID() || step.ResourceVersion != have.Object.GetResourceVersion() {
			t.Errorf("%s without preconditions: %+v", step.Verb, step)
		}
	}
	if step.Verb == plan.Update && (step.Object.GetUID() != step.UID || step.Object.GetResourceVersion() != step.ResourceVersion) {
		t.Errorf("the object of an update lacks preconditions: %v", step.Object)
	}
	if step.Verb == plan.Delete && *step.Options.Preconditions.UID != have.Object.GetUID() {
		t.Errorf("a delete without a UID: %+v", step.Options)
	}
	if step.Verb == plan.Delete || step.Verb == plan.Unlabel {
		if have.Object.GetLabels()["kubefed.io/managed"] != "true" {
			t.Errorf("%s of an object that is not managed: %v", step.Verb, have.Object)
		}
	}
}

// TestMakeGenerations: kinds that count generations do not count a change of labels or annotations.
func TestMakeGenerations(t *testing.T) {
	tests := map[string]struct {
		reason string
		spec   string
		meta   string            // of the object in the member
		before map[string]string // labels when it was last written
		verb   plan.Verb
	}{
		"as wanted":            {reason: "labels as in the template", spec: `{template: {metadata: {labels: {x: "y"}}}}`, meta: `labels: {x: "y", kubefed.io/managed: "true"}`, verb: plan.None},
		"managed in template":  {reason: "the template may carry the label itself", spec: `{template: {metadata: {labels: {kubefed.io/managed: "false"}}}}`, meta: `labels: {kubefed.io/managed: "true"}`, verb: plan.None},
		"label changed":        {reason: "drift of a label is repaired", spec: `{template: {metadata: {labels: {x: "y"}}}}`, meta: `labels: {x: z, kubefed.io/managed: "true"}`, verb: plan.Update},
		"label missing":        {reason: "drift of a label is repaired", spec: `{template: {metadata: {labels: {x: "y"}}}}`, meta: `labels: {kubefed.io/managed: "true"}`, verb: plan.Update},
		"label added":          {reason: "labels that came after the last write are drift", spec: `{template: {}}`, meta: `labels: {x: z, kubefed.io/managed: "true"}`, before: map[string]string{"kubefed.io/managed": "true"}, verb: plan.Update},
		"label of a webhook":   {reason: "labels that the member added at the last write stay", spec: `{template: {}}`, meta: `labels: {x: z, kubefed.io/managed: "true"}`, before: map[string]string{"kubefed.io/managed": "true", "x": "z"}, verb: plan.None},
		"label of the past":    {reason: "without memory, as after a restart, added labels are taken as they are", spec: `{template: {}}`, meta: `labels: {x: z, kubefed.io/managed: "true"}`, verb: plan.None},
		"label lost":           {reason: "labels of a webhook that went are drift as well", spec: `{template: {}}`, meta: `labels: {kubefed.io/managed: "true"}`, before: map[string]string{"kubefed.io/managed": "true", "x": "z"}, verb: plan.Update},
		"annotation added":     {reason: "annotations are the member's", spec: `{template: {metadata: {annotations: {a: b}}}}`, meta: `annotations: {x: z}, labels: {kubefed.io/managed: "true"}`, verb: plan.None},
		"overridden":           {reason: "an override of an annotation holds", spec: `{template: {}, ` + patches(`[{op: add, path: /metadata/annotations/x, value: "y"}]`) + `}`, meta: `annotations: {x: "y", z: z}, labels: {kubefed.io/managed: "true"}`, verb: plan.None},
		"overridden, drift":    {reason: "an override of an annotation is enforced", spec: `{template: {}, ` + patches(`[{op: add, path: /metadata/annotations/x, value: "y"}]`) + `}`, meta: `annotations: {x: z}, labels: {kubefed.io/managed: "true"}`, verb: plan.Update},
		"overridden elsewhere": {reason: "an override of spec has nothing to do with metadata", spec: `{template: {spec: {}}, ` + patches(`[{op: add, path: /spec/replicas, value: 2}]`) + `}`, meta: `labels: {kubefed.io/managed: "true"}`, verb: plan.None},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			object := member(t, `{metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7", generation: 2, `+tt.meta+`}, spec: {defaulted: true}}`)
			steps := plan.Make(want(t, deployment, tt.spec), []plan.Have{{Cluster: "m1", Ready: true, Synced: true, Object: object, Recorded: "gen:2", Labels: tt.before}})
			if steps[0].Verb != tt.verb || tt.verb == plan.None && steps[0].Version != "gen:2" {
				t.Errorf("%s: %+v", tt.reason, steps[0])
			}
		})
	}
}

func TestMakeSame(t *testing.T) {
	tests := map[string]struct {
		reason   string
		spec     string
		existing string
		verb     plan.Verb
	}{
		"null":           {reason: "null is as good as absent", spec: `{template: {data: {k: v, l: null}, x: null}}`, existing: `data: {k: v}`, verb: plan.Record},
		"numbers":        {reason: "2.0 is 2", spec: `{template: {data: {k: 2.0}}}`, existing: `data: {k: 2}`, verb: plan.Record},
		"status":         {reason: "status is the member's", spec: `{template: {data: {}, status: {a: b}}}`, existing: `data: {}, status: {x: "y"}`, verb: plan.Record},
		"field gone":     {reason: "a field that left the template is removed", spec: `{template: {}}`, existing: `data: {k: v}`, verb: plan.Update},
		"field added":    {reason: "a new field is written", spec: `{template: {data: {k: v}}}`, existing: `x: "y"`, verb: plan.Update},
		"list order":     {reason: "lists are ordered", spec: `{template: {l: [1, 2]}}`, existing: `l: [2, 1]`, verb: plan.Update},
		"list length":    {reason: "lists have a length", spec: `{template: {l: [1]}}`, existing: `l: [1, 2]`, verb: plan.Update},
		"type":           {reason: "a string is not an object", spec: `{template: {l: {}}}`, existing: `l: x`, verb: plan.Update},
		"type the other": {reason: "an object is not a string", spec: `{template: {l: x}}`, existing: `l: {}`, verb: plan.Update},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			object := member(t, `{metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7", creationTimestamp: "2025-01-01T00:00:00Z", managedFields: [{}], labels: {kubefed.io/managed: "true"}}, `+tt.existing+`}`)
			steps := plan.Make(want(t, configMap, tt.spec), []plan.Have{{Cluster: "m1", Ready: true, Synced: true, Object: object}})
			if steps[0].Verb != tt.verb {
				t.Errorf("%s: %+v", tt.reason, steps[0])
			}
		})
	}
}

func TestDeleteOptions(t *testing.T) {
	grace, orphanPods, user := int64(0), metav1.DeletePropagationOrphan, types.UID("user")
	tests := map[string]struct {
		reason string
		given  metav1.DeleteOptions
		want   metav1.DeleteOptions
	}{
		"none": {
			reason: "the object as it was seen, and dependents go too",
			want:   metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: new(types.UID("u")), ResourceVersion: new("7")}, PropagationPolicy: new(metav1.DeletePropagationBackground)},
		},
		"given": {
			reason: "grace period and policy are the user's",
			given:  metav1.DeleteOptions{GracePeriodSeconds: &grace, PropagationPolicy: &orphanPods},
			want:   metav1.DeleteOptions{GracePeriodSeconds: &grace, PropagationPolicy: &orphanPods, Preconditions: &metav1.Preconditions{UID: new(types.UID("u")), ResourceVersion: new("7")}},
		},
		"precondition": {
			reason: "a user's precondition is not weakened, and a dry run would never end",
			given:  metav1.DeleteOptions{DryRun: []string{"All"}, Preconditions: &metav1.Preconditions{UID: &user, ResourceVersion: new("1")}},
			want:   metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &user, ResourceVersion: new("1")}, PropagationPolicy: new(metav1.DeletePropagationBackground)},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := want(t, job, `{}`)
			w.Mode, w.DeleteOptions = plan.Remove, tt.given
			untouched := *tt.given.DeepCopy()
			steps := plan.Make(w, []plan.Have{{Cluster: "m1", Ready: true, Synced: true, Object: member(t, managed)}})
			if diff := cmp.Diff(tt.want, steps[0].Options); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
			if diff := cmp.Diff(untouched, w.DeleteOptions); diff != "" {
				t.Errorf("%s: the options were changed:\n%s", tt.reason, diff)
			}
		})
	}
}

func TestAdopt(t *testing.T) {
	tests := map[string]struct {
		reason string
		adopt  bool
		live   string
		verb   plan.Verb
		code   status.Code
	}{
		"off":             {reason: "an object of somebody else stays", live: unlabelled, verb: plan.None, code: status.AlreadyExists},
		"on":              {reason: "it is taken over", adopt: true, live: unlabelled, verb: plan.Update},
		"ours":            {reason: "the watch was behind: it is managed already", live: drifted, verb: plan.Update},
		"ours, as wanted": {reason: "nothing to write", live: managed, verb: plan.Record},
		"refused":         {reason: "the label says no, adoption or not", adopt: true, live: refused, verb: plan.None, code: status.ManagedLabelFalse},
		"terminating":     {reason: "created again when it is gone", adopt: true, live: terminating, verb: plan.Wait, code: status.WaitingForRemoval},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, live := want(t, configMap, template), member(t, tt.live)
			w.Adopt = tt.adopt
			step := plan.Adopt(w, "m1", live)
			if step.Cluster != "m1" || step.Verb != tt.verb || step.Status != tt.code || !step.Report {
				t.Errorf("%s: %+v", tt.reason, step)
			}
			checkStep(t, step, plan.Have{Object: live})
		})
	}
}
