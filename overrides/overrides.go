// Package overrides changes an object for one cluster: it reads spec.overrides of a federated object, applies a
// cluster's patches to an object, and computes the hash that KubeFed records of them.
//
// It is pure. Patches have the semantics of RFC 6902 for add, remove and replace, with two relaxations, both for the
// examples in KubeFed's user guide: add creates the object or list that directly holds the path, and remove of an
// annotation that is not there succeeds.
package overrides

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hansa-dev/hansa/federation/api"
)

// The operations of a Patch.
const (
	Add     = "add"
	Remove  = "remove"
	Replace = "replace"
)

// Patch is one entry of spec.overrides[].clusterOverrides.
type Patch struct {
	// Op is Add, Remove or Replace; empty means Replace.
	Op string `json:"op,omitempty"`
	// Path is a JSON pointer (RFC 6901) into the object, such as /spec/replicas.
	Path string `json:"path"`
	// Value is what to add or to replace with, as unstructured content; nil is null. Remove ignores it.
	Value any `json:"value,omitempty"`
}

// Overrides holds the patches of a federated object by cluster name, in the order in which they apply.
type Overrides map[string][]Patch

// Touches reports whether a patch for the cluster may change the top-level field, such as "metadata".
func (o Overrides) Touches(cluster, field string) bool {
	for _, patch := range o[cluster] {
		rest, found := strings.CutPrefix(patch.Path, "/"+field)
		if found && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// Parse reads spec.overrides from the content of a federated object. The result shares the patches' values with it:
// treat both as read-only.
//
// An error names the cluster, the patch and what is allowed: each cluster appears once, and each path once for a
// cluster; kind, metadata.name, metadata.namespace and metadata.generateName stay as they are, since they tie the
// object to its federated object.
func Parse(object map[string]any) (Overrides, error) {
	spec, ok := object["spec"].(map[string]any)
	if !ok {
		if object["spec"] == nil {
			return Overrides{}, nil
		}
		return nil, fmt.Errorf("spec has to be an object, but is %s", api.KindOfJSON(object["spec"]))
	}
	if spec["overrides"] == nil {
		return Overrides{}, nil
	}
	items, ok := spec["overrides"].([]any)
	if !ok {
		return nil, fmt.Errorf("spec.overrides has to be a list of {clusterName, clusterOverrides}, but is %s", api.KindOfJSON(spec["overrides"]))
	}

	result := make(Overrides, len(items))
	for i, item := range items {
		entry, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("spec.overrides[%d] has to be an object with clusterName and clusterOverrides, but is %s", i, api.KindOfJSON(item))
		}
		cluster, ok := entry["clusterName"].(string)
		if !ok || cluster == "" {
			return nil, fmt.Errorf("spec.overrides[%d].clusterName has to be the name of a KubeFedCluster, but is %s", i, api.KindOfJSON(entry["clusterName"]))
		}
		if _, seen := result[cluster]; seen {
			return nil, fmt.Errorf("spec.overrides[%d]: cluster %q appears more than once: put all its patches into one entry", i, cluster)
		}
		patches, err := parsePatches(cluster, entry["clusterOverrides"])
		if err != nil {
			return nil, err
		}
		result[cluster] = patches
	}
	return result, nil
}

func parsePatches(cluster string, field any) ([]Patch, error) {
	if field == nil {
		return nil, nil
	}
	items, ok := field.([]any)
	if !ok {
		return nil, fmt.Errorf("spec.overrides for cluster %q: clusterOverrides has to be a list of {op, path, value}, but is %s", cluster, api.KindOfJSON(field))
	}
	patches := make([]Patch, 0, len(items))
	seen := make(map[string]bool, len(items))
	for i, item := range items {
		patch, err := parsePatch(item)
		if err == nil && seen[patch.Path] {
			err = fmt.Errorf("path %q appears more than once for this cluster: keep one patch per path", patch.Path)
		}
		if err != nil {
			return nil, fmt.Errorf("spec.overrides for cluster %q: clusterOverrides[%d]: %w", cluster, i, err)
		}
		seen[patch.Path] = true
		patches = append(patches, patch)
	}
	return patches, nil
}

func parsePatch(item any) (Patch, error) {
	fields, ok := item.(map[string]any)
	if !ok {
		return Patch{}, fmt.Errorf("it has to be an object with op, path and value, but is %s", api.KindOfJSON(item))
	}
	op, ok := fields["op"].(string)
	if !ok && fields["op"] != nil {
		return Patch{}, fmt.Errorf("op has to be %s, %s or %s, but is %s", Add, Remove, Replace, api.KindOfJSON(fields["op"]))
	}
	path, ok := fields["path"].(string)
	if !ok {
		return Patch{}, fmt.Errorf("path has to be a JSON pointer such as /spec/replicas, but is %s", api.KindOfJSON(fields["path"]))
	}
	patch := Patch{Op: op, Path: path, Value: fields["value"]}
	return patch, patch.validate()
}

// validate checks what can be said without the object.
func (p Patch) validate() error {
	switch p.Op {
	case "", Add, Remove, Replace:
	default:
		return fmt.Errorf("op %q is not supported: use %s, %s or %s", p.Op, Add, Remove, Replace)
	}
	switch p.Path {
	case "":
		return errors.New("path is empty: name a field, such as /spec/replicas")
	case "/kind", "/metadata/name", "/metadata/namespace", "/metadata/generateName":
		return fmt.Errorf("path %q may not be overridden: it ties the object to its federated object", p.Path)
	}
	if p.Path[0] != '/' {
		return fmt.Errorf("path %q has to start with a slash: write %q", p.Path, "/"+p.Path)
	}
	for i := range len(p.Path) {
		if p.Path[i] == '~' && (i+1 == len(p.Path) || p.Path[i+1] != '0' && p.Path[i+1] != '1') {
			return fmt.Errorf("path %q has a bare '~': write ~0 for '~' and ~1 for '/' within a name", p.Path)
		}
	}
	return nil
}

// tokens splits the path into its unescaped segments.
func (p Patch) tokens() []string {
	segments := strings.Split(p.Path[1:], "/")
	for i, segment := range segments {
		if strings.Contains(segment, "~") {
			// In this order: ~01 is the name ~1, not a slash.
			segments[i] = strings.ReplaceAll(strings.ReplaceAll(segment, "~1", "/"), "~0", "~")
		}
	}
	return segments
}
