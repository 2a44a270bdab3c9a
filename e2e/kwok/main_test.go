package main_test

import (
	"context"
	"encoding/json"
	"testing"

	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/config"
	"sigs.k8s.io/kwok/pkg/utils/gotpl"
	"sigs.k8s.io/kwok/pkg/utils/lifecycle"
	"sigs.k8s.io/yaml"
)

// configuration is what the lab gives kwok; it belongs to a module that knows nothing of kwok.
const configuration = "../lab/addons/kwok.yaml"

func TestConfigurationSaysWhichNodesAreFake(t *testing.T) {
	options := load[*internalversion.KwokConfiguration](t)
	if len(options) != 1 {
		t.Fatalf("%d configurations, want 1", len(options))
	}
	o := options[0].Options
	if o.ManageAllNodes || o.ManageNodesWithLabelSelector != "hansa-lab/fake=true" {
		t.Errorf("all nodes: %t, selector %q; want those with a label", o.ManageAllNodes, o.ManageNodesWithLabelSelector)
	}
	if o.NodeLeaseDurationSeconds != 0 {
		t.Errorf("leases of %d s; nobody watches them", o.NodeLeaseDurationSeconds)
	}
}

// TestStages plays the next stage of objects, and says what it makes of their status.
func TestStages(t *testing.T) {
	stages := load[*internalversion.Stage](t)
	if len(stages) != 4 {
		t.Errorf("%d stages, want 4", len(stages))
	}
	const node, pod, deployment = "Node", "Pod", "Deployment"
	for _, test := range []struct {
		reason string
		kind   string
		object string
		stage  string         // "" means none
		status map[string]any // fields of the status that it sets
	}{
		{
			"a new node is ready, and has room", node,
			`{metadata: {name: f1}}`, "node-ready",
			map[string]any{"capacity": map[string]any{"cpu": "64", "memory": "256Gi", "pods": "250"}},
		},
		{
			"a node keeps the room that it says it has", node,
			`{metadata: {name: f1}, status: {capacity: {cpu: "2"}}}`, "node-ready",
			map[string]any{"capacity": map[string]any{"cpu": "2"}},
		},
		{
			"a node that is ready stays so", node,
			`{metadata: {name: f1}, status: {conditions: [{type: Ready, status: "True"}]}}`, "", nil,
		},
		{
			"a node that says that it is not ready is made ready", node,
			`{metadata: {name: f1}, status: {conditions: [{type: Ready, status: "False"}]}}`, "node-ready", nil,
		},
		{
			"a Pod that is bound runs at once", pod,
			`{metadata: {name: p, namespace: shop, uid: u}, spec: {nodeName: f1, containers: [{name: c, image: i}]}, status: {phase: Pending}}`, "pod-runs",
			map[string]any{"phase": "Running", "podIP": "10.0.0.7"},
		},
		{
			"a Pod that runs is left alone", pod,
			`{metadata: {name: p}, status: {phase: Running}}`, "", nil,
		},
		{
			"a Pod that is to go goes", pod,
			`{metadata: {name: p, deletionTimestamp: "2026-01-01T00:00:00Z"}, status: {phase: Running}}`, "pod-ends", nil,
		},
		{
			"a Pod that is to go does not run first", pod,
			`{metadata: {name: p, deletionTimestamp: "2026-01-01T00:00:00Z"}, status: {phase: Pending}}`, "pod-ends", nil,
		},
		{
			"a new Deployment has its replicas", deployment,
			`{metadata: {name: d, generation: 1}, spec: {replicas: 3}, status: {}}`, "deployment-is-available",
			map[string]any{"readyReplicas": 3.0, "availableReplicas": 3.0, "updatedReplicas": 3.0, "replicas": 3.0, "observedGeneration": 1.0},
		},
		{
			"a Deployment that was scaled follows", deployment,
			`{metadata: {name: d, generation: 2}, spec: {replicas: 0}, status: {observedGeneration: 1, readyReplicas: 3}}`, "deployment-is-available",
			map[string]any{"readyReplicas": 0.0, "observedGeneration": 2.0},
		},
		{
			"a Deployment that was not changed is left alone", deployment,
			`{metadata: {name: d, generation: 2}, spec: {replicas: 3}, status: {observedGeneration: 2}}`, "", nil,
		},
	} {
		t.Run(test.reason, func(t *testing.T) {
			var object map[string]any
			if err := yaml.Unmarshal([]byte(test.object), &object); err != nil {
				t.Fatal(err)
			}
			stage := next(t, stages, test.kind, object)
			if stage == nil || test.stage == "" {
				if stage != nil || test.stage != "" {
					t.Fatalf("stage %v, want %q", stage, test.stage)
				}
				return
			}
			if stage.Name != test.stage {
				t.Fatalf("stage %s, want %s", stage.Name, test.stage)
			}
			if stage.Name == "pod-ends" {
				return // it sets no status
			}
			status := render(t, stage, object)
			for field, want := range test.status {
				if got := status[field]; asJSON(t, got) != asJSON(t, want) {
					t.Errorf("%s is %v, want %v", field, got, want)
				}
			}
		})
	}
}

// load returns the objects of one type in the configuration.
func load[T config.InternalObject](t *testing.T) []T {
	t.Helper()
	objects, err := config.Load(t.Context(), configuration)
	if err != nil {
		t.Fatal(err)
	}
	var found []T
	for _, object := range objects {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// next is the one stage that matches an object, nil if none does.
func next(t *testing.T, stages []*internalversion.Stage, kind string, object map[string]any) *internalversion.Stage {
	t.Helper()
	var found *internalversion.Stage
	for _, stage := range stages {
		if stage.Spec.ResourceRef.Kind != kind {
			continue
		}
		cycle, err := lifecycle.NewLifecycle([]*internalversion.Stage{stage})
		if err != nil {
			t.Fatalf("stage %s: %v", stage.Name, err)
		}
		matched, err := cycle.Match(context.WithoutCancel(t.Context()), &lifecycle.Event{Data: object})
		if err != nil {
			t.Fatalf("stage %s: %v", stage.Name, err)
		}
		if matched == nil {
			continue
		}
		if found != nil {
			t.Fatalf("stages %s and %s both match: which one is played would be left to chance", found.Name, stage.Name)
		}
		found = stage
	}
	return found
}

// render is the status that a stage sets.
func render(t *testing.T, stage *internalversion.Stage, object map[string]any) map[string]any {
	t.Helper()
	renderer := gotpl.NewRenderer(gotpl.FuncMap{
		"PodIPWith": func(_ string, _ bool, _, _, _ string) (string, error) { return "10.0.0.7", nil },
	})
	data, err := renderer.ToJSON(stage.Spec.Steps[0].Patch.Template, object)
	if err != nil {
		t.Fatalf("stage %s: %v", stage.Name, err)
	}
	var status map[string]any
	if err := json.Unmarshal(data, &status); err != nil {
		t.Fatalf("stage %s made %s: %v", stage.Name, data, err)
	}
	return status
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
