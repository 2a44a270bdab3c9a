package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// TestSince checks what is shown of a member that was not watched for a while.
func TestSince(t *testing.T) {
	object := func(name, uid, version string) unstructured.Unstructured {
		return unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": name, "uid": uid, "resourceVersion": version}}}
	}
	tests := map[string]struct {
		reason       string
		before, then []unstructured.Unstructured
		want         []string
	}{
		"Same":      {reason: "A restart of a member changes nothing by itself.", before: []unstructured.Unstructured{object("a", "1", "1")}, then: []unstructured.Unstructured{object("a", "1", "1")}},
		"Changed":   {reason: "Only what changed is shown.", before: []unstructured.Unstructured{object("a", "1", "1"), object("b", "2", "1")}, then: []unstructured.Unstructured{object("a", "1", "1"), object("b", "2", "5")}, want: []string{"b 5"}},
		"New":       {reason: "What came meanwhile, also in a member that did not answer at first.", then: []unstructured.Unstructured{object("a", "1", "1")}, want: []string{"a 1"}},
		"Gone":      {reason: "What went meanwhile, in the order of names.", before: []unstructured.Unstructured{object("b", "2", "1"), object("a", "1", "1")}, want: []string{"a 1 deleted", "b 1 deleted"}},
		"MadeAgain": {reason: "The same name with another UID is another object.", before: []unstructured.Unstructured{object("a", "1", "1")}, then: []unstructured.Unstructured{object("a", "2", "3")}, want: []string{"a 1 deleted", "a 3"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			seen := map[types.UID]*unstructured.Unstructured{}
			for i := range tc.before {
				seen[tc.before[i].GetUID()] = &tc.before[i]
			}
			var got []string
			for _, c := range since(seen, tc.then) {
				line := c.object.GetName() + " " + c.object.GetResourceVersion()
				if c.deleted {
					line += " deleted"
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
