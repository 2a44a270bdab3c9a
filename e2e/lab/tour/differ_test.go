package tour_test

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/e2e/lab/tour"
	"github.com/hansa-dev/hansa/overrides"
)

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func TestDifferences(t *testing.T) {
	patches := func(paths ...string) overrides.Overrides {
		o := overrides.Overrides{}
		for _, path := range paths {
			o["m2"] = append(o["m2"], overrides.Patch{Path: path})
		}
		return o
	}
	tests := map[string]struct {
		reason  string
		kind    string
		object  string
		patches overrides.Overrides
		want    string
	}{
		"None": {
			reason: "without overrides nothing differs",
			object: "spec: {replicas: 3}",
		},
		"Scalars": {
			reason:  "a value is named by the end of its path that is no index",
			object:  "spec: {replicas: 5, containers: [{image: 'nginx:1'}]}",
			patches: patches("/spec/replicas", "/spec/containers/0/image"),
			want:    "replicas 5, image nginx:1",
		},
		"Map": {
			reason:  "keys of a map are sorted",
			object:  "data: {foo: bar, a: b}",
			patches: patches("/data"),
			want:    "data a=b foo=bar",
		},
		"Labels": {
			reason:  "labels and annotations are told with their key, whose slash is escaped in the path",
			object:  "metadata: {labels: {track: canary}, annotations: {x/y: z}}",
			patches: patches("/metadata/labels/track", "/metadata/annotations/x~1y", "/metadata/labels/team"),
			want:    "label track=canary, annotation x/y=z, no label team",
		},
		"Twice": {
			reason:  "a path that is patched twice is shown once",
			object:  "spec: {replicas: 5}",
			patches: patches("/spec/replicas", "/spec/replicas"),
			want:    "replicas 5",
		},
		"Index": {
			reason:  "an element of a list is named by the list",
			object:  "spec: {args: [a, b]}",
			patches: patches("/spec/args/1", "/spec/args/7"),
			want:    "args b, no args",
		},
		"Long": {
			reason:  "a table has no room for long values",
			object:  "data: " + strings.Repeat("x", 100),
			patches: patches("/data"),
			want:    "data " + strings.Repeat("x", 47) + "…",
		},
		"Secret": {
			reason:  "values of Secrets are not shown",
			kind:    "Secret",
			object:  "data: {password: b25seQ==, pin: '?'}",
			patches: patches("/data", "/data/password", "/data/none"),
			want:    "data password=(4 bytes) pin=(hidden), password (4 bytes), no none",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tour.Differences(tc.kind, parse(t, tc.object), tc.patches); got != tc.want {
				t.Errorf("%s: Differences:\n got %q\nwant %q", tc.reason, got, tc.want)
			}
		})
	}
}

func TestMismatch(t *testing.T) {
	tests := map[string]struct {
		reason  string
		object  string
		patches []overrides.Patch
		want    string
	}{
		"AsWanted": {
			reason:  "all values are there",
			object:  "spec: {replicas: 5}",
			patches: []overrides.Patch{{Path: "/spec/replicas", Value: float64(5)}},
		},
		"Other": {
			reason:  "the old value is still there",
			object:  "spec: {replicas: 3}",
			patches: []overrides.Patch{{Path: "/spec/replicas", Value: float64(5)}},
			want:    "/spec/replicas has another value",
		},
		"Missing": {
			reason:  "nothing is there yet",
			object:  "spec: {}",
			patches: []overrides.Patch{{Path: "/spec/replicas", Value: float64(5)}},
			want:    "/spec/replicas is missing",
		},
		"NotRemoved": {
			reason:  "what is to be removed is still there",
			object:  "metadata: {labels: {team: shop}}",
			patches: []overrides.Patch{{Op: "remove", Path: "/metadata/labels/team"}},
			want:    "/metadata/labels/team is still there",
		},
		"LaterWins": {
			reason: "what is added and then removed is not there",
			object: "metadata: {labels: {}}",
			patches: []overrides.Patch{
				{Op: "add", Path: "/metadata/labels/team", Value: "shop"},
				{Op: "remove", Path: "/metadata/labels/team"},
			},
		},
		"Null": {
			reason:  "null in a map of strings is stored as the empty string",
			object:  "data: {password: ''}",
			patches: []overrides.Patch{{Path: "/data", Value: map[string]any{"password": nil}}},
		},
		"Empty": {
			reason:  "what is empty is not stored",
			object:  "kind: Secret",
			patches: []overrides.Patch{{Path: "/data", Value: map[string]any{}}},
		},
		"More": {
			reason:  "a map is replaced as a whole",
			object:  "data: {foo: bar, greeting: hello}",
			patches: []overrides.Patch{{Path: "/data", Value: map[string]any{"foo": "bar"}}},
			want:    "/data has another value",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tour.Mismatch(parse(t, tc.object), tc.patches); got != tc.want {
				t.Errorf("%s: Mismatch: %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}

func TestPropagation(t *testing.T) {
	tests := map[string]struct {
		reason string
		object map[string]any
		want   string
	}{
		"Done": {
			reason: "the cluster is listed without a status, and all is propagated",
			object: federated(2, 2, "True", map[string]any{"name": "m1"}),
		},
		"Old": {
			reason: "the status is about an earlier generation",
			object: federated(2, 1, "True", map[string]any{"name": "m1"}),
			want:   "the hub has not looked at it yet",
		},
		"Elsewhere": {
			reason: "only other clusters are listed",
			object: federated(1, 1, "True", map[string]any{"name": "m2"}),
			want:   "the hub has not placed it there",
		},
		"Failed": {
			reason: "the hub says what went wrong",
			object: federated(1, 1, "False", map[string]any{"name": "m1", "status": "CreationFailed", "message": "quota"}),
			want:   "CreationFailed: quota",
		},
		"FailedWithout": {
			reason: "KubeFed's statuses have no message",
			object: federated(1, 1, "False", map[string]any{"name": "m1", "status": "CreationFailed"}),
			want:   "CreationFailed",
		},
		"Others": {
			reason: "another cluster is not done",
			object: federated(1, 1, "False", map[string]any{"name": "m1"}),
			want:   "the hub has not finished it",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tour.Propagation(tc.object, "m1"); got != tc.want {
				t.Errorf("%s: Propagation: %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}

// federated is a federated object with a status.
func federated(generation, observed int64, propagated string, clusters ...any) map[string]any {
	return map[string]any{
		"metadata": map[string]any{"generation": generation},
		"status": map[string]any{
			"observedGeneration": observed,
			"conditions":         []any{map[string]any{"type": "Propagation", "status": propagated}},
			"clusters":           clusters,
		},
	}
}

func TestIndented(t *testing.T) {
	var out strings.Builder
	err := tour.Indented(&out, "namespace created\ncrd unchan", "ged\ntype exists, kept as it is\n", "the ", "end")
	if err != nil {
		t.Fatal(err)
	}
	want := "      namespace created\n      the end\n      2 objects were there already\n"
	if out.String() != want {
		t.Errorf("output:\n%s\nwant:\n%s", out.String(), want)
	}
}
