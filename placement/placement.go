// Package placement decides which clusters a federated object goes to.
//
// It is pure: it reads the content of a federated object and a list of clusters, and returns names. The rules are
// KubeFed's (user guide, "Using Cluster Selector"):
//
//	spec.placement.clusters   spec.placement.clusterSelector   selected
//	absent                    absent                           none
//	[]                        anything                         none
//	[{name: a}]               anything                         a
//	absent                    {}                               all
//	absent                    {matchLabels: ...}               those that match
//
// A field that is null counts as absent.
package placement

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/hansa-dev/hansa/federation/api"
)

// Cluster is what placement needs to know of a joined cluster: the name and the labels of its KubeFedCluster.
type Cluster struct {
	Name   string
	Labels map[string]string
}

// Placement is the parsed spec.placement of a federated object. Its zero value selects nothing.
type Placement struct {
	// Names are spec.placement.clusters[].name as written, with repetitions. nil means that the field was not given,
	// empty that it was given as an empty list; both differ once a Selector is present.
	Names []string
	// Selector is spec.placement.clusterSelector; nil means that it was not given. Next to Names it does not count for
	// Select, and a selector that does not parse is then kept as one that matches nothing.
	Selector labels.Selector
}

// Parse reads spec.placement from the content of a federated object, which it does not modify. An error names the field
// that has the wrong shape and says what is allowed there.
func Parse(object map[string]any) (Placement, error) {
	spec, err := child(object, "spec", "spec")
	if spec == nil || err != nil {
		return Placement{}, err
	}
	fields, err := child(spec, "placement", "spec.placement")
	if fields == nil || err != nil {
		return Placement{}, err
	}

	var p Placement
	if p.Names, err = names(fields["clusters"]); err != nil {
		return Placement{}, err
	}
	p.Selector, err = selector(fields["clusterSelector"])
	if err != nil && p.Names == nil {
		return Placement{}, err
	}
	if err != nil {
		// KubeFed never looks at the selector of an object that lists its clusters.
		p.Selector = labels.Nothing()
	}
	return p, nil
}

// Select returns the names of the clusters that the object belongs in: a sorted subset of the given ones, without
// repetitions.
func (p Placement) Select(clusters []Cluster) []string {
	selected := make([]string, 0, len(clusters))
	for _, cluster := range clusters {
		if p.selects(cluster) {
			selected = append(selected, cluster.Name)
		}
	}
	slices.Sort(selected)
	return slices.Compact(selected)
}

func (p Placement) selects(cluster Cluster) bool {
	if p.Names != nil {
		return slices.Contains(p.Names, cluster.Name)
	}
	return p.Selector != nil && p.Selector.Matches(labels.Set(cluster.Labels))
}

// Unknown returns the names that the object lists although no such cluster is joined, sorted and without repetitions.
// They are no error: the object follows as soon as the cluster joins.
func (p Placement) Unknown(clusters []Cluster) []string {
	var unknown []string
	for _, name := range p.Names {
		if !slices.ContainsFunc(clusters, func(c Cluster) bool { return c.Name == name }) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return slices.Compact(unknown)
}

// Intersect returns the names that are in both lists. Both have to be sorted; so is the result. A namespaced object
// exists where both its own placement and that of its FederatedNamespace say so.
func Intersect(a, b []string) []string {
	both := make([]string, 0, min(len(a), len(b)))
	for _, name := range a {
		if _, found := slices.BinarySearch(b, name); found {
			both = append(both, name)
		}
	}
	return slices.Compact(both)
}

// child returns the object in a field; nil when the field is absent or null.
func child(parent map[string]any, key, path string) (map[string]any, error) {
	switch value := parent[key].(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return value, nil
	default:
		return nil, fmt.Errorf("%s is %s: it has to be an object", path, api.KindOfJSON(value))
	}
}

func names(field any) ([]string, error) {
	const path = "spec.placement.clusters"
	if field == nil {
		return nil, nil
	}
	items, ok := field.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is %s: it has to be a list of objects with a name, such as [{name: cluster1}]", path, api.KindOfJSON(field))
	}
	result := make([]string, 0, len(items))
	for i, item := range items {
		entry, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s[%d] is %s: it has to be an object with a name, such as {name: cluster1}", path, i, api.KindOfJSON(item))
		}
		name, ok := entry["name"].(string)
		if !ok || name == "" {
			return nil, fmt.Errorf("%s[%d].name is %s: it has to be the name of a KubeFedCluster", path, i, api.KindOfJSON(entry["name"]))
		}
		result = append(result, name)
	}
	return result, nil
}

func selector(field any) (labels.Selector, error) {
	const path = "spec.placement.clusterSelector"
	if field == nil {
		return nil, nil
	}
	content, ok := field.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is %s: it has to be an object with matchLabels or matchExpressions", path, api.KindOfJSON(field))
	}
	for _, key := range slices.Sorted(maps.Keys(content)) {
		// An unknown key must not read as the empty selector, which selects every cluster.
		if key != "matchLabels" && key != "matchExpressions" {
			return nil, fmt.Errorf("%s.%s is not a field: matchLabels and matchExpressions are allowed", path, key)
		}
	}
	parsed := &metav1.LabelSelector{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, parsed); err != nil {
		return nil, fmt.Errorf("%s: matchLabels has to be an object of strings, and matchExpressions a list of {key, operator, values}: %w", path, err)
	}
	result, err := metav1.LabelSelectorAsSelector(parsed)
	if err != nil {
		return nil, fmt.Errorf("%s does not parse (operators are In, NotIn, Exists and DoesNotExist; keys and values are those of Kubernetes labels): %w", path, err)
	}
	return result, nil
}
