package overrides_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/hansa-dev/hansa/overrides"
)

// object decodes YAML the way objects of an API server are decoded: whole numbers become int64.
func object(tb testing.TB, text string) map[string]any {
	tb.Helper()
	var content map[string]any
	if err := utilyaml.Unmarshal([]byte(text), &content); err != nil {
		tb.Fatal(err)
	}
	return content
}

func federated(tb testing.TB, patches string) overrides.Overrides {
	tb.Helper()
	parsed, err := overrides.Parse(object(tb, "{spec: {overrides: [{clusterName: m1, clusterOverrides: "+patches+"}]}}"))
	if err != nil {
		tb.Fatal(err)
	}
	return parsed
}

func TestParse(t *testing.T) {
	tests := map[string]struct {
		reason string
		object string
		want   overrides.Overrides
	}{
		"no spec":      {reason: "nothing to override", object: `{}`, want: overrides.Overrides{}},
		"no overrides": {reason: "nothing to override", object: `{spec: {overrides: null}}`, want: overrides.Overrides{}},
		"no patches":   {reason: "a cluster without patches is fine", object: `{spec: {overrides: [{clusterName: m1}]}}`, want: overrides.Overrides{"m1": nil}},
		"patches": {
			reason: "order, op and value are kept, and apiVersion may be overridden",
			object: `{spec: {overrides: [{clusterName: m1, clusterOverrides: [{path: /spec/replicas, value: 5}, {op: remove, path: /a}]}, {clusterName: m2, clusterOverrides: [{op: add, path: /apiVersion, value: v2}]}]}}`,
			want: overrides.Overrides{
				"m1": {{Path: "/spec/replicas", Value: int64(5)}, {Op: overrides.Remove, Path: "/a"}},
				"m2": {{Op: overrides.Add, Path: "/apiVersion", Value: "v2"}},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := overrides.Parse(object(t, tt.object))
			if err != nil {
				t.Fatalf("%s: %v", tt.reason, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	one := func(patch string) string {
		return `{spec: {overrides: [{clusterName: m1, clusterOverrides: [{path: /x}, ` + patch + `]}]}}`
	}
	tests := map[string]struct {
		reason string
		object string
		want   []string
	}{
		"spec":           {reason: "a spec is an object", object: `{spec: 1}`, want: []string{"spec", "object"}},
		"overrides":      {reason: "overrides are a list", object: `{spec: {overrides: {m1: []}}}`, want: []string{"spec.overrides", "list", "an object"}},
		"entry":          {reason: "an entry is an object", object: `{spec: {overrides: [m1]}}`, want: []string{"spec.overrides[0]", "clusterName"}},
		"cluster":        {reason: "an entry names its cluster", object: `{spec: {overrides: [{}]}}`, want: []string{"spec.overrides[0].clusterName", "missing"}},
		"cluster twice":  {reason: "as in KubeFed", object: `{spec: {overrides: [{clusterName: m1}, {clusterName: m1}]}}`, want: []string{`cluster "m1"`, "more than once", "one entry"}},
		"patches":        {reason: "patches are a list", object: `{spec: {overrides: [{clusterName: m1, clusterOverrides: {}}]}}`, want: []string{`cluster "m1"`, "list"}},
		"patch":          {reason: "a patch is an object", object: one(`/spec`), want: []string{`cluster "m1"`, "clusterOverrides[1]", "object"}},
		"op":             {reason: "three operations are known", object: one(`{op: move, path: /a}`), want: []string{`cluster "m1"`, "clusterOverrides[1]", `"move"`, "add, remove or replace"}},
		"op type":        {reason: "an operation is a string", object: one(`{op: 1, path: /a}`), want: []string{"op", "a number"}},
		"no path":        {reason: "a patch needs a path", object: one(`{op: add}`), want: []string{"clusterOverrides[1]", "path", "missing"}},
		"empty path":     {reason: "the whole object may not be replaced", object: one(`{path: ""}`), want: []string{"path is empty"}},
		"relative path":  {reason: "a pointer starts with a slash", object: one(`{path: spec/replicas}`), want: []string{`"spec/replicas"`, `"/spec/replicas"`}},
		"bare tilde":     {reason: "a tilde is escaped", object: one(`{path: /a/~2}`), want: []string{"~0", "~1"}},
		"tilde at end":   {reason: "a tilde is escaped", object: one(`{path: /a/~}`), want: []string{"~0", "~1"}},
		"path twice":     {reason: "as in KubeFed", object: one(`{op: add, path: /x}`), want: []string{`"/x"`, "more than once"}},
		"kind":           {reason: "identity", object: one(`{path: /kind}`), want: []string{`"/kind"`, "may not"}},
		"name":           {reason: "identity", object: one(`{path: /metadata/name}`), want: []string{"may not"}},
		"namespace":      {reason: "identity", object: one(`{path: /metadata/namespace}`), want: []string{"may not"}},
		"generated name": {reason: "identity", object: one(`{path: /metadata/generateName}`), want: []string{"may not"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := overrides.Parse(object(t, tt.object))
			if err == nil {
				t.Fatalf("%s: no error", tt.reason)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %q does not say %q", tt.reason, err, part)
				}
			}
		})
	}
}

func TestApply(t *testing.T) {
	// guide is the example of KubeFed's user guide, word for word.
	const guide = `
- path: "/spec/replicas"
  value: 5
- path: "/spec/template/spec/containers/0/image"
  value: "nginx:1.17.0-alpine"
- path: "/metadata/annotations"
  op: "add"
  value:
    foo: bar
- path: "/metadata/annotations/foo"
  op: "remove"
- path: "/spec/template/spec/containers/0/args/0"
  op: "add"
  value: "-q"
`
	tests := map[string]struct {
		reason  string
		patches string
		target  string
		want    string
	}{
		"guide with args": {
			reason: "existing arguments are shifted", patches: "[" + flow(t, guide) + "]",
			target: `{metadata: {name: a}, spec: {replicas: 3, template: {spec: {containers: [{image: nginx, args: [-v]}]}}}}`,
			want:   `{metadata: {name: a, annotations: {}}, spec: {replicas: 5, template: {spec: {containers: [{image: "nginx:1.17.0-alpine", args: [-q, -v]}]}}}}`,
		},
		"guide without args": {
			reason: "existing arguments, if any", patches: "[" + flow(t, guide) + "]",
			target: `{metadata: {name: a, annotations: {x: y}}, spec: {replicas: 3, template: {spec: {containers: [{image: nginx}]}}}}`,
			want:   `{metadata: {name: a, annotations: {}}, spec: {replicas: 5, template: {spec: {containers: [{image: "nginx:1.17.0-alpine", args: [-q]}]}}}}`,
		},
		"replace is the default":  {reason: "user guide", patches: `[{path: /a, value: 2}]`, target: `{a: 1}`, want: `{a: 2}`},
		"add replaces a member":   {reason: "RFC 6902, 4.1", patches: `[{op: add, path: /a, value: 2}]`, target: `{a: 1}`, want: `{a: 2}`},
		"add inserts":             {reason: "RFC 6902, 4.1", patches: `[{op: add, path: /a/1, value: x}]`, target: `{a: [1, 2]}`, want: `{a: [1, x, 2]}`},
		"add at the end":          {reason: "an index may equal the length", patches: `[{op: add, path: /a/2, value: x}]`, target: `{a: [1, 2]}`, want: `{a: [1, 2, x]}`},
		"add with dash":           {reason: "RFC 6902, A.16", patches: `[{op: add, path: /a/-, value: x}]`, target: `{a: [1, 2]}`, want: `{a: [1, 2, x]}`},
		"remove an element":       {reason: "RFC 6902, 4.2", patches: `[{op: remove, path: /a/0}]`, target: `{a: [1, 2]}`, want: `{a: [2]}`},
		"replace an element":      {reason: "RFC 6902, 4.3", patches: `[{path: /a/1, value: x}]`, target: `{a: [1, 2]}`, want: `{a: [1, x]}`},
		"below an element":        {reason: "paths go through lists", patches: `[{path: /a/1/b, value: x}]`, target: `{a: [1, {b: 2}]}`, want: `{a: [1, {b: x}]}`},
		"in order":                {reason: "a patch sees what the one before it did", patches: `[{op: add, path: /a, value: {}}, {op: add, path: /a/b, value: 1}]`, target: `{}`, want: `{a: {b: 1}}`},
		"escapes":                 {reason: "RFC 6901: ~1 is a slash, ~0 a tilde, ~01 is ~1", patches: `[{path: "/a/b~1c", value: 1}, {path: /a/d~0e, value: 2}, {path: /a/f~01, value: 3}]`, target: `{a: {b/c: 0, d~e: 0, f~1: 0}}`, want: `{a: {b/c: 1, d~e: 2, f~1: 3}}`},
		"empty key":               {reason: "RFC 6901: /a/ is the member with the empty name", patches: `[{path: /a/, value: 1}]`, target: `{a: {"": 0}}`, want: `{a: {"": 1}}`},
		"null value":              {reason: "a missing value is null", patches: `[{op: add, path: /a}, {path: /b, value: null}]`, target: `{b: 1}`, want: `{a: null, b: null}`},
		"value of remove":         {reason: "user guide: value is ignored for remove", patches: `[{op: remove, path: /a, value: 7}]`, target: `{a: 1}`, want: `{}`},
		"makes a list":            {reason: "the direct parent is made", patches: `[{op: add, path: /spec/args/-, value: x}]`, target: `{spec: {}}`, want: `{spec: {args: [x]}}`},
		"makes an object":         {reason: "the direct parent is made", patches: `[{op: add, path: /spec/nodeSelector/disk, value: ssd}]`, target: `{spec: {}}`, want: `{spec: {nodeSelector: {disk: ssd}}}`},
		"makes up for null":       {reason: "null is as good as absent", patches: `[{op: add, path: /spec/args/0, value: x}]`, target: `{spec: {args: null}}`, want: `{spec: {args: [x]}}`},
		"makes annotations":       {reason: "the commonest patch", patches: `[{op: add, path: /metadata/annotations/a.b~1c, value: x}, {op: add, path: /metadata/labels/0, value: y}]`, target: `{metadata: {}}`, want: `{metadata: {annotations: {a.b/c: x}, labels: {"0": y}}}`},
		"makes data":              {reason: "data is an object though its key is a number", patches: `[{op: add, path: /data/0, value: x}]`, target: `{}`, want: `{data: {"0": x}}`},
		"annotation gone already": {reason: "annotations are the member's: what is to be gone may be gone", patches: `[{op: remove, path: /metadata/annotations/foo}]`, target: `{metadata: {annotations: {a: b}}}`, want: `{metadata: {annotations: {a: b}}}`},
		"other cluster":           {reason: "only this cluster's patches apply", patches: `[]`, target: `{a: 1}`, want: `{a: 1}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			target := object(t, tt.target)
			got, err := federated(t, tt.patches).Apply("m1", target)
			if err != nil {
				t.Fatalf("%s: %v", tt.reason, err)
			}
			if diff := cmp.Diff(object(t, tt.want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
			if diff := cmp.Diff(object(t, tt.target), target); diff != "" {
				t.Errorf("%s: the target was changed (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

// flow turns a YAML list into the elements of a flow list.
func flow(t *testing.T, list string) string {
	t.Helper()
	raw, err := utilyaml.ToJSON([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(string(raw)), "["), "]")
}

func TestApplyErrors(t *testing.T) {
	tests := map[string]struct {
		reason string
		patch  string
		want   []string
	}{
		"replace missing":   {reason: "replace needs a target", patch: `{path: /spec/size, value: 1}`, want: []string{"replace /spec/size", "/spec/size is missing", "use op add"}},
		"remove missing":    {reason: "remove needs a target", patch: `{op: remove, path: /spec/size}`, want: []string{"remove /spec/size", "/spec/size is missing", "nothing to remove"}},
		"remove label":      {reason: "labels come from the template", patch: `{op: remove, path: /metadata/labels/x}`, want: []string{"/metadata/labels is missing"}},
		"deeper missing":    {reason: "only the direct parent is made; the first missing segment is named", patch: `{op: add, path: /spec/a/b/c, value: 1}`, want: []string{"add /spec/a/b/c", "/spec/a is missing"}},
		"replace no parent": {reason: "only add makes a parent", patch: `{path: /spec/a/b, value: 1}`, want: []string{"/spec/a is missing", "use op add"}},
		"list end":          {reason: "add goes up to the length", patch: `{op: add, path: /spec/list/3, value: 1}`, want: []string{"/spec/list/3 is missing", "2 elements"}},
		"list beyond":       {reason: "replace stays within", patch: `{path: /spec/list/2, value: 1}`, want: []string{"/spec/list/2 is missing", "2 elements"}},
		"list huge":         {reason: "an index need not fit a number", patch: `{path: /spec/list/99999999999999999999, value: 1}`, want: []string{"is missing", "2 elements"}},
		"list negative":     {reason: "RFC 6901 has no negative index", patch: `{path: /spec/list/-1, value: 1}`, want: []string{"/spec/list is a list", `"-1"`}},
		"list name":         {reason: "a list has numbers", patch: `{path: /spec/list/x, value: 1}`, want: []string{"/spec/list is a list", `"x"`}},
		"list zero":         {reason: "RFC 6901 has no leading zeros", patch: `{path: /spec/list/01, value: 1}`, want: []string{`"01"`}},
		"dash to remove":    {reason: "- is the element after the last", patch: `{op: remove, path: /spec/list/-}`, want: []string{`"-"`}},
		"new list from 1":   {reason: "an empty list has no element before 1", patch: `{op: add, path: /spec/args/1, value: 1}`, want: []string{"/spec/args is missing", "element 0"}},
		"below a string":    {reason: "a string holds nothing", patch: `{op: add, path: /spec/text/a, value: 1}`, want: []string{"/spec/text is a string"}},
		"below a null":      {reason: "an element that is null holds nothing", patch: `{op: add, path: /spec/list/1/a, value: 1}`, want: []string{"/spec/list/1 is null"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			target := object(t, `{metadata: {}, spec: {list: [1, null], text: abc}}`)
			patches := federated(t, `[{op: add, path: /spec/first, value: 1}, `+tt.patch+`]`)
			got, err := patches.Apply("m1", target)
			if err == nil {
				t.Fatalf("%s: no error but %v", tt.reason, got)
			}
			for _, part := range append(tt.want, `cluster "m1"`, "clusterOverrides[1]") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %q does not say %q", tt.reason, err, part)
				}
			}
			if diff := cmp.Diff(object(t, `{metadata: {}, spec: {list: [1, null], text: abc}}`), target); diff != "" {
				t.Errorf("%s: the target was changed (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

func TestApplySharesNothing(t *testing.T) {
	target := object(t, `{a: {b: [1]}}`)
	patches := federated(t, `[{op: add, path: /c, value: {d: [1]}}]`)
	first, err := patches.Apply("m1", target)
	if err != nil {
		t.Fatal(err)
	}
	first["a"].(map[string]any)["b"].([]any)[0] = "changed"
	first["c"].(map[string]any)["d"].([]any)[0] = "changed"
	second, err := patches.Apply("m1", target)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(object(t, `{a: {b: [1]}, c: {d: [1]}}`), second); diff != "" {
		t.Errorf("a change to the first result shows in the second (-want +got):\n%s", diff)
	}
}

func TestTouches(t *testing.T) {
	patches := federated(t, `[{op: add, path: /metadata/labels/a, value: b}, {path: /metadatax}, {path: /spec}]`)
	for field, want := range map[string]bool{"metadata": true, "spec": true, "status": false, "meta": false} {
		if got := patches.Touches("m1", field); got != want {
			t.Errorf("Touches(%q) = %v", field, got)
		}
	}
	if patches.Touches("m2", "metadata") {
		t.Error("another cluster's patches count")
	}
}
