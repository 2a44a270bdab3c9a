package propagation

import (
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/hansa-dev/hansa/e2e/bench/rig"
	"github.com/hansa-dev/hansa/e2e/bench/writer"
	"github.com/hansa-dev/hansa/federation/api"
)

// Namespaces of the objects that the hub spreads and of those that the reference writes.
const (
	hubNamespace  = "bench-hub"
	bareNamespace = "bench-bare"
)

// origin is the value that every object is created with.
const origin = "first"

// kind is one kind of objects, as members hold it and as it is federated.
type kind struct {
	name      string // of the target kind
	target    schema.GroupVersionResource
	federated schema.GroupVersionResource
	content   map[string]any // of an object, without apiVersion, kind and metadata
}

func configMaps() kind {
	return kind{
		name:      "ConfigMap",
		target:    schema.GroupVersionResource{Version: "v1", Resource: "configmaps"},
		federated: federated("federatedconfigmaps"),
		content: map[string]any{"data": map[string]any{
			"value":    origin,
			"settings": strings.Repeat("key = some ordinary value\n", 10),
		}},
	}
}

func deployments() kind {
	labels := map[string]any{"app": "bench"}
	return kind{
		name:      "Deployment",
		target:    schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"},
		federated: federated("federateddeployments"),
		content: map[string]any{"spec": map[string]any{
			"replicas": int64(1),
			"selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{
				"metadata": map[string]any{"labels": labels},
				"spec":     map[string]any{"containers": []any{map[string]any{"name": "main", "image": "registry.example/bench:1"}}},
			},
		}},
	}
}

func federated(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: api.FederatedGroup, Version: api.FederatedVersion, Resource: resource}
}

// plain is an object of the kind for a member.
func (k kind) plain() map[string]any {
	object := map[string]any{"apiVersion": k.target.GroupVersion().String(), "kind": k.name}
	maps.Copy(object, k.content)
	return object
}

// federate is a federated object of the kind, placed in members by name.
func (k kind) federate(members []string) map[string]any {
	return map[string]any{
		"apiVersion": k.federated.GroupVersion().String(),
		"kind":       "Federated" + k.name,
		"spec":       map[string]any{"template": k.content, "placement": placement(members)},
	}
}

func placement(members []string) map[string]any {
	clusters := make([]any, len(members))
	for i, member := range members {
		clusters[i] = map[string]any{"name": member}
	}
	return map[string]any{"clusters": clusters}
}

// data is a merge patch of a ConfigMap's value.
func data(value string) map[string]any {
	return map[string]any{"data": map[string]any{"value": value}}
}

// template is a merge patch of the value in a FederatedConfigMap's template.
func template(value string) map[string]any {
	return map[string]any{"spec": map[string]any{"template": data(value)}}
}

func added(e rig.Event) bool   { return e.Type == watch.Added && ours(e.Object) }
func deleted(e rig.Event) bool { return e.Type == watch.Deleted && ours(e.Object) }

func ours(object *unstructured.Unstructured) bool {
	return strings.HasPrefix(object.GetName(), strings.TrimRight(writer.Name(0), "0"))
}

func finalized(e rig.Event) bool { return ours(e.Object) && len(e.Object.GetFinalizers()) > 0 }

// holds matches an object of that name that has come to hold a value.
func holds(name, value string) func(rig.Event) bool {
	return func(e rig.Event) bool {
		found, _, _ := unstructured.NestedString(e.Object.Object, "data", "value")
		return e.Type != watch.Deleted && e.Object.GetName() == name && found == value
	}
}

// propagated matches federated objects whose status says that their present generation is in so many clusters.
func propagated(clusters int) func(rig.Event) bool {
	return func(e rig.Event) bool {
		if e.Type == watch.Deleted || !ours(e.Object) {
			return false
		}
		content := e.Object.Object
		observed, _, _ := unstructured.NestedInt64(content, "status", "observedGeneration")
		listed, _, _ := unstructured.NestedSlice(content, "status", "clusters")
		conditions, _, _ := unstructured.NestedSlice(content, "status", "conditions")
		if observed != e.Object.GetGeneration() || len(listed) != clusters {
			return false
		}
		for _, item := range conditions {
			if c, ok := item.(map[string]any); ok && c["type"] == "Propagation" {
				return c["status"] == "True"
			}
		}
		return false
	}
}
