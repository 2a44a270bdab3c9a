package plan_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/sync/plan"
	"github.com/hansa-dev/hansa/overrides"
)

// toyMember is one object's worth of an API server: it defaults fields, counts versions, keeps terminating objects that
// have finalizers, and enforces preconditions.
type toyMember struct {
	object      *unstructured.Unstructured
	recorded    string
	generations bool
	version     int
}

func (m *toyMember) store(t *testing.T, sent *unstructured.Unstructured) {
	t.Helper()
	stored := sent.DeepCopy()
	if stored.Object["defaulted"] == nil {
		stored.Object["defaulted"] = "yes"
	}
	if m.object == nil {
		m.version++
		stored.SetUID(types.UID("uid-" + strconv.Itoa(m.version)))
		if m.generations {
			stored.SetGeneration(1)
		}
		stored.SetResourceVersion(strconv.Itoa(m.version))
		m.object = stored
		return
	}
	if stored.GetUID() != m.object.GetUID() || stored.GetResourceVersion() != m.object.GetResourceVersion() {
		t.Fatalf("conflict: %v over %v", stored, m.object)
	}
	stored.SetGeneration(m.object.GetGeneration())
	if reflect.DeepEqual(stored.Object, m.object.Object) {
		return // an update without a difference leaves the version alone
	}
	if m.generations && !reflect.DeepEqual(stored.Object["spec"], m.object.Object["spec"]) {
		stored.SetGeneration(m.object.GetGeneration() + 1)
	}
	m.version++
	stored.SetResourceVersion(strconv.Itoa(m.version))
	m.object = stored
}

func (m *toyMember) execute(t *testing.T, w plan.Want, step plan.Step) {
	t.Helper()
	switch step.Verb {
	case plan.Create:
		if m.object != nil {
			m.execute(t, w, plan.Adopt(w, step.Cluster, m.object))
			return
		}
		m.store(t, step.Object)
		m.recorded = plan.Version(m.object)
	case plan.Update:
		m.store(t, step.Object)
		m.recorded = plan.Version(m.object)
	case plan.Record:
		m.recorded = step.Version
	case plan.Delete:
		m.checkManaged(t, step)
		m.object = nil
	case plan.Unlabel:
		m.checkManaged(t, step)
		labels := m.object.GetLabels()
		delete(labels, "kubefed.io/managed")
		m.object.SetLabels(labels)
	}
}

func (m *toyMember) checkManaged(t *testing.T, step plan.Step) {
	t.Helper()
	if m.object == nil || m.object.GetLabels()["kubefed.io/managed"] != "true" || m.object.GetUID() != step.UID {
		t.Fatalf("%s of %v", step.Verb, m.object)
	}
}

// have is what a watch of managed objects sees, and now and then of others.
func (m *toyMember) have(cluster string, ready bool) plan.Have {
	return plan.Have{Cluster: cluster, Ready: ready, Synced: true, Object: m.object, Recorded: m.recorded}
}

func randomWant(rng *rand.Rand) plan.Want {
	kind := []plan.Target{configMap, service, serviceAccount, namespace, deployment, job}[rng.IntN(6)]
	template := map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"l": strconv.Itoa(rng.IntN(2))}, "annotations": map[string]any{"a": "b"}},
		"spec":     map[string]any{"replicas": int64(rng.IntN(3))},
	}
	spec := map[string]any{"template": template, "retainReplicas": rng.IntN(2) == 0}
	all := []overrides.Patch{
		{Path: "/spec/replicas", Value: int64(9)},
		{Op: overrides.Add, Path: "/metadata/annotations/x", Value: "y"},
		{Op: overrides.Add, Path: "/metadata/annotations", Value: map[string]any{"only": "this"}},
		{Op: overrides.Remove, Path: "/metadata/annotations/a"},
		{Op: overrides.Add, Path: "/metadata/finalizers/-", Value: "f"},
		{Op: overrides.Add, Path: "/spec/args/0", Value: "-q"},
		{Op: overrides.Add, Path: "/secrets/-", Value: map[string]any{"name": "s"}},
		{Op: overrides.Add, Path: "/spec/broken/very/deep", Value: "x"},
	}
	patches := overrides.Overrides{}
	for _, cluster := range []string{"m1", "m2"} {
		for _, patch := range all {
			if rng.IntN(5) == 0 {
				patches[cluster] = append(patches[cluster], patch)
			}
		}
	}
	w := plan.Want{
		Target: kind, Object: map[string]any{"spec": spec}, Name: "a", Namespace: "ns", Overrides: patches, Adopt: rng.IntN(2) == 0,
		Mode: []plan.Mode{plan.Sync, plan.Sync, plan.Sync, plan.Remove, plan.Orphan}[rng.IntN(5)],
	}
	for _, cluster := range []string{"m1", "m2", "m3"} {
		if rng.IntN(3) > 0 {
			w.Placed = append(w.Placed, cluster)
		}
	}
	return w
}

// randomExisting is an object that the hub finds, of any origin.
func randomExisting(rng *rand.Rand) *unstructured.Unstructured {
	metadata := map[string]any{"name": "a", "uid": "found", "resourceVersion": "0", "annotations": map[string]any{"deployment.kubernetes.io/revision": "1"}}
	if label := []string{"true", "true", "false", ""}[rng.IntN(4)]; label != "" {
		metadata["labels"] = map[string]any{"kubefed.io/managed": label}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"metadata": metadata,
		"spec":     map[string]any{"replicas": int64(7), "selector": map[string]any{"a": "b"}, "clusterIP": "10.0.0.1"},
	}}
}

// TestConvergence: after the steps are carried out, the next plan has nothing to do; no step touches an object that is
// not managed; the plan depends neither on the order of its input nor changes it.
func TestConvergence(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 3000 {
		w := randomWant(rng)
		members := map[string]*toyMember{}
		var have []plan.Have
		for _, cluster := range []string{"m1", "m2", "m3"} {
			m := &toyMember{generations: rng.IntN(2) == 0}
			if rng.IntN(2) == 0 {
				m.object = randomExisting(rng)
				if m.generations {
					m.object.SetGeneration(1)
				}
				m.recorded = []string{"", "gen:1", "rv:0"}[rng.IntN(3)]
			}
			members[cluster] = m
			have = append(have, m.have(cluster, rng.IntN(5) > 0))
		}
		steps := makePure(t, rng, w, have)
		for i, step := range steps {
			if have[i].Object != nil && step.Verb == plan.Create {
				t.Fatalf("create over %v", have[i].Object)
			}
			checkStep(t, step, have[i])
			members[step.Cluster].execute(t, w, step)
		}
		var again []plan.Have
		for i, step := range steps {
			again = append(again, members[step.Cluster].have(step.Cluster, have[i].Ready))
		}
		for i, step := range plan.Make(w, again) {
			if step.Verb != plan.None && step.Verb != plan.Wait {
				t.Fatalf("after %s of %v in %+v, still %s: %v", steps[i].Verb, steps[i].Object, w, step.Verb, step.Object)
			}
		}
	}
}

// makePure makes a plan and checks that it is a function of its input.
func makePure(t *testing.T, rng *rand.Rand, w plan.Want, have []plan.Have) []plan.Step {
	t.Helper()
	objectBefore, haveBefore := runtime.DeepCopyJSON(w.Object), copyHave(have)
	steps := plan.Make(w, have)
	if !reflect.DeepEqual(objectBefore, w.Object) || !reflect.DeepEqual(haveBefore, have) {
		t.Fatal("the inputs were changed")
	}
	shuffled := slices.Clone(have)
	rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	if diff := cmp.Diff(steps, plan.Make(w, shuffled)); diff != "" {
		t.Fatalf("the order of clusters shows:\n%s", diff)
	}
	return steps
}

func copyHave(have []plan.Have) []plan.Have {
	copied := slices.Clone(have)
	for i := range copied {
		copied[i].Object = copied[i].Object.DeepCopy()
	}
	return copied
}

// benchmarkObjects are a federated object and what is seen of it in a member, as the hub meets them most.
func benchmarkObjects(b *testing.B, kind string) (plan.Want, map[string]*unstructured.Unstructured) {
	b.Helper()
	objects := map[string]*unstructured.Unstructured{}
	var w plan.Want
	switch kind {
	case "ConfigMap":
		w = want(b, configMap, `{template: {metadata: {labels: {app: web}}, data: {a: "1", b: "2", c: "3"}}}`)
		objects["seen"] = member(b, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7", creationTimestamp: "2025-01-01T00:00:00Z", labels: {app: web, kubefed.io/managed: "true"}}, data: {a: "1", b: "2", c: "3"}}`)
	case "Deployment":
		const pod = `{metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: "nginx:1.17", ports: [{containerPort: 80, name: http}], env: [{name: A, value: b}, {name: C, value: d}], resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 128Mi}}}]}}`
		w = want(b, deployment, `{template: {metadata: {labels: {app: web}}, spec: {replicas: 3, selector: {matchLabels: {app: web}}, template: `+pod+`}}, `+
			patches(`[{path: /spec/replicas, value: 5}, {path: /spec/template/spec/containers/0/image, value: "nginx:1.18"}]`)+`}`)
		objects["seen"] = member(b, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7", generation: 2, annotations: {deployment.kubernetes.io/revision: "1"}, labels: {app: web, kubefed.io/managed: "true"}},
			spec: {replicas: 3, progressDeadlineSeconds: 600, selector: {matchLabels: {app: web}}, template: `+pod+`}, status: {observedGeneration: 2, replicas: 3}}`)
	}
	return w, objects
}

// BenchmarkMake plans for three clusters: nothing to do, everything to create, everything to compare with what is there.
func BenchmarkMake(b *testing.B) {
	for _, kind := range []string{"ConfigMap", "Deployment"} {
		w, objects := benchmarkObjects(b, kind)
		w.Placed = []string{"m1", "m2", "m3"}
		for _, situation := range []string{"unchanged", "create", "compare"} {
			var have []plan.Have
			for i := range 3 {
				h := plan.Have{Cluster: fmt.Sprintf("m%d", i+1), Ready: true, Synced: true}
				if situation != "create" {
					h.Object = objects["seen"]
					h.Recorded = "rv:6"
				}
				if situation == "unchanged" {
					h.Recorded = plan.Version(h.Object)
				}
				have = append(have, h)
			}
			b.Run(kind+"/"+situation, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					plan.Make(w, have)
				}
			})
		}
	}
}

func BenchmarkTemplateVersion(b *testing.B) {
	w, _ := benchmarkObjects(b, "Deployment")
	for b.Loop() {
		if _, err := plan.TemplateVersion(w.Object); err != nil {
			b.Fatal(err)
		}
	}
}
