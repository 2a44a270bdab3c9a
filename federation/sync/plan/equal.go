package plan

import (
	"maps"
	"slices"

	"github.com/hansa-dev/hansa/federation/api"
)

// same reports whether writing desired would change nothing of what Hansa sends: everything but status and what API
// servers keep in metadata. apiVersion does not count, since the member's objects are read in one version whatever was
// written. Defaults that a member has filled in do count, because they cannot be told from fields that the template
// has lost.
func same(desired, existing map[string]any) bool {
	return equalObjects(desired, existing, "metadata", "status", "apiVersion", "kind") &&
		equalMetadata(field(desired, "metadata"), field(existing, "metadata"))
}

func equalMetadata(a, b map[string]any) bool {
	for _, key := range []string{"labels", "annotations", "finalizers", "ownerReferences"} {
		if !isEmpty(a[key]) || !isEmpty(b[key]) {
			if !equal(a[key], b[key]) {
				return false
			}
		}
	}
	return a["name"] == b["name"] && stringOr(a["namespace"], "") == stringOr(b["namespace"], "")
}

func isEmpty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	default:
		return false
	}
}

// equal compares JSON values. A member that is null equals one that is absent, and numbers are compared by value.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && equalObjects(a, b)
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case int64:
		if b, ok := b.(float64); ok {
			return float64(a) == b
		}
	case float64:
		if b, ok := b.(int64); ok {
			return a == float64(b)
		}
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	default:
		return a == b
	}
}

// equalObjects compares two objects but for the fields named.
func equalObjects(a, b map[string]any, except ...string) bool {
	for key, value := range a {
		if !slices.Contains(except, key) && !equal(value, b[key]) {
			return false
		}
	}
	for key, value := range b {
		if value != nil && a[key] == nil && !slices.Contains(except, key) {
			return false
		}
	}
	return true
}

// metadataAsWanted reports whether the labels and annotations of an object whose generation is the recorded one are
// still as wanted: they change without a new generation. Labels that the member added on the way, when the object was
// last written, stay; labels that came later are drift. Annotations are the member's own, so only overrides of metadata
// need the desired object.
func metadataAsWanted(want Want, h Have) bool {
	actual := field(field(h.Object.Object, "metadata"), "labels")
	if h.Labels != nil && !sameLabels(h.Labels, actual) {
		return false
	}
	if want.Overrides.Touches(h.Cluster, "metadata") {
		desired, err := Desired(want, h.Cluster, h.Object)
		if err != nil {
			return false
		}
		metadata := field(desired.Object, "metadata")
		return within(field(metadata, "labels"), actual) && equalStrings(metadata, field(h.Object.Object, "metadata"), "annotations")
	}
	template, _, err := templateOf(want.Object)
	if err != nil || actual[api.ManagedLabel] != api.Managed {
		return false
	}
	wanted := maps.Clone(field(field(template, "metadata"), "labels"))
	delete(wanted, api.ManagedLabel) // the template has no say in it
	return within(wanted, actual)
}

// within reports whether all of a is in b.
func within(a, b map[string]any) bool {
	for key, value := range a {
		if other, found := b[key]; !found || !equal(value, other) {
			return false
		}
	}
	return true
}

func sameLabels(a map[string]string, b map[string]any) bool {
	if len(a) != len(b) {
		return false
	}
	for key, value := range a {
		if other, found := b[key]; !found || other != value {
			return false
		}
	}
	return true
}

func equalStrings(a, b map[string]any, key string) bool {
	return isEmpty(a[key]) && isEmpty(b[key]) || equal(a[key], b[key])
}
