package placement_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/placement"
)

var joined = []placement.Cluster{
	{Name: "m2", Labels: map[string]string{"region": "eu"}},
	{Name: "m1", Labels: map[string]string{"region": "eu", "tier": "gold"}},
	{Name: "m3"},
}

func parse(tb testing.TB, text string) map[string]any {
	tb.Helper()
	var object map[string]any
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		tb.Fatal(err)
	}
	return object
}

func TestSelect(t *testing.T) {
	tests := map[string]struct {
		reason string
		object string
		want   []string
		absent []string // listed, not joined
	}{
		"no spec":           {reason: "neither clusters nor selector: nowhere", object: `{}`},
		"null spec":         {reason: "null counts as absent", object: `{spec: null}`},
		"no placement":      {reason: "neither clusters nor selector: nowhere", object: `{spec: {}}`},
		"null placement":    {reason: "null counts as absent", object: `{spec: {placement: null}}`},
		"empty placement":   {reason: "neither clusters nor selector: nowhere", object: `{spec: {placement: {}}}`},
		"null fields":       {reason: "null counts as absent", object: `{spec: {placement: {clusters: null, clusterSelector: null}}}`},
		"names":             {reason: "the result is sorted", object: `{spec: {placement: {clusters: [{name: m3}, {name: m1}]}}}`, want: []string{"m1", "m3"}},
		"repeated names":    {reason: "a name counts once", object: `{spec: {placement: {clusters: [{name: m1}, {name: m1}]}}}`, want: []string{"m1"}},
		"unknown names":     {reason: "only joined clusters are selected", object: `{spec: {placement: {clusters: [{name: x}, {name: m1}, {name: a}, {name: x}]}}}`, want: []string{"m1"}, absent: []string{"a", "x"}},
		"names and select":  {reason: "clusters beat the selector", object: `{spec: {placement: {clusters: [{name: m3}], clusterSelector: {matchLabels: {region: eu}}}}}`, want: []string{"m3"}},
		"no names, select":  {reason: "an empty list is a list: nowhere", object: `{spec: {placement: {clusters: [], clusterSelector: {}}}}`},
		"names, bad select": {reason: "a selector that does not count may be wrong", object: `{spec: {placement: {clusters: [{name: m3}], clusterSelector: {matchExpressions: [{key: a, operator: Near}]}}}}`, want: []string{"m3"}},
		"empty selector":    {reason: "the empty selector selects all", object: `{spec: {placement: {clusterSelector: {}}}}`, want: []string{"m1", "m2", "m3"}},
		"match labels":      {reason: "by label", object: `{spec: {placement: {clusterSelector: {matchLabels: {region: eu}}}}}`, want: []string{"m1", "m2"}},
		"match expressions": {reason: "by expression", object: `{spec: {placement: {clusterSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}}}}`, want: []string{"m2", "m3"}},
		"both matches":      {reason: "labels and expressions are joined by and", object: `{spec: {placement: {clusterSelector: {matchLabels: {region: eu}, matchExpressions: [{key: tier, operator: In, values: [gold]}]}}}}`, want: []string{"m1"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := placement.Parse(parse(t, tt.object))
			if err != nil {
				t.Fatalf("%s: Parse: %v", tt.reason, err)
			}
			if diff := cmp.Diff(slices.Clip(tt.want), p.Select(joined), equateEmpty); diff != "" {
				t.Errorf("%s: Select (-want +got):\n%s", tt.reason, diff)
			}
			if diff := cmp.Diff(tt.absent, p.Unknown(joined), equateEmpty); diff != "" {
				t.Errorf("%s: Unknown (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

var equateEmpty = cmp.Transformer("nilIsEmpty", func(s []string) string { return strings.Join(s, ",") })

func TestParseErrors(t *testing.T) {
	tests := map[string]struct {
		reason string
		object string
		want   []string // parts of the message
	}{
		"spec":              {reason: "a spec is an object", object: `{spec: 1}`, want: []string{"spec is a number", "object"}},
		"placement":         {reason: "a placement is an object", object: `{spec: {placement: [m1]}}`, want: []string{"spec.placement is a list", "object"}},
		"clusters":          {reason: "clusters is a list", object: `{spec: {placement: {clusters: m1}}}`, want: []string{"spec.placement.clusters is a string", "[{name: cluster1}]"}},
		"cluster string":    {reason: "the usual slip: names without name:", object: `{spec: {placement: {clusters: [m1]}}}`, want: []string{"clusters[0] is a string", "{name: cluster1}"}},
		"cluster no name":   {reason: "a name is needed", object: `{spec: {placement: {clusters: [{name: a}, {}]}}}`, want: []string{"clusters[1].name is missing"}},
		"cluster empty":     {reason: "a name is not empty", object: `{spec: {placement: {clusters: [{name: ""}]}}}`, want: []string{"clusters[0].name is empty"}},
		"selector list":     {reason: "a selector is an object", object: `{spec: {placement: {clusterSelector: [a]}}}`, want: []string{"clusterSelector is a list", "matchLabels"}},
		"selector field":    {reason: "labels without matchLabels would select every cluster", object: `{spec: {placement: {clusterSelector: {region: eu}}}}`, want: []string{"clusterSelector.region", "matchLabels and matchExpressions"}},
		"selector value":    {reason: "label values are strings", object: `{spec: {placement: {clusterSelector: {matchLabels: {a: 1}}}}}`, want: []string{"clusterSelector", "object of strings"}},
		"selector operator": {reason: "operators are known", object: `{spec: {placement: {clusterSelector: {matchExpressions: [{key: a, operator: Near}]}}}}`, want: []string{"clusterSelector", "Near", "NotIn"}},
		"selector key":      {reason: "label values have a syntax", object: `{spec: {placement: {clusterSelector: {matchLabels: {a: "b c"}}}}}`, want: []string{"clusterSelector", "b c"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := placement.Parse(parse(t, tt.object))
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

func TestIntersect(t *testing.T) {
	tests := map[string]struct {
		reason  string
		a, b, w []string
	}{
		"none":    {reason: "nothing in common with nothing", a: []string{"a"}},
		"some":    {reason: "what both have", a: []string{"a", "b", "d"}, b: []string{"b", "c", "d"}, w: []string{"b", "d"}},
		"subset":  {reason: "a subset is the intersection", a: []string{"b"}, b: []string{"a", "b"}, w: []string{"b"}},
		"foreign": {reason: "disjoint", a: []string{"a"}, b: []string{"b"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.w, placement.Intersect(tt.a, tt.b), equateEmpty); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

// TestSelectProperties: whatever the placement, the selection is a sorted subset of the clusters, and does not depend
// on their order.
func TestSelectProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		clusters := make([]placement.Cluster, rng.IntN(6))
		for i := range clusters {
			clusters[i] = placement.Cluster{Name: fmt.Sprintf("m%d", rng.IntN(6)), Labels: map[string]string{"n": strconv.Itoa(rng.IntN(3))}}
		}
		fields := map[string]any{}
		if rng.IntN(2) == 0 {
			names := make([]any, rng.IntN(5))
			for i := range names {
				names[i] = map[string]any{"name": fmt.Sprintf("m%d", rng.IntN(8))}
			}
			fields["clusters"] = names
		}
		if rng.IntN(2) == 0 {
			fields["clusterSelector"] = map[string]any{"matchLabels": map[string]any{"n": strconv.Itoa(rng.IntN(3))}}
		}
		p, err := placement.Parse(map[string]any{"spec": map[string]any{"placement": fields}})
		if err != nil {
			t.Fatal(err)
		}
		got := p.Select(clusters)
		checkSelection(t, p, clusters, got)
		rng.Shuffle(len(clusters), func(i, j int) { clusters[i], clusters[j] = clusters[j], clusters[i] })
		if p.Names != nil && !slices.Equal(got, p.Select(clusters)) {
			t.Fatalf("%v selects %v or %v by the order of the clusters", fields, got, p.Select(clusters))
		}
	}
}

func checkSelection(t *testing.T, p placement.Placement, clusters []placement.Cluster, got []string) {
	t.Helper()
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Fatalf("%v is not sorted or repeats itself", got)
	}
	for _, name := range got {
		if !slices.ContainsFunc(clusters, func(c placement.Cluster) bool { return c.Name == name }) {
			t.Fatalf("%q is selected and not joined", name)
		}
		if slices.Contains(p.Unknown(clusters), name) {
			t.Fatalf("%q is selected and unknown", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"spec":{"placement":{"clusters":[{"name":"m1"}],"clusterSelector":{"matchLabels":{"a":"b"}}}}}`))
	f.Add([]byte(`{"spec":{"placement":{"clusterSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]}}}}`))
	f.Add([]byte(`{"spec":{"placement":{"clusters":[],"clusterSelector":{}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var object map[string]any
		if json.Unmarshal(data, &object) != nil {
			return
		}
		before, _ := json.Marshal(object)
		p, err := placement.Parse(object)
		if after, _ := json.Marshal(object); string(before) != string(after) {
			t.Fatalf("Parse changed %s into %s", before, after)
		}
		if err != nil {
			if p.Names != nil || p.Selector != nil {
				t.Fatalf("Parse returned both a placement and %v", err)
			}
			return
		}
		checkSelection(t, p, joined, p.Select(joined))
	})
}
