package cluster

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// objects holds objects by namespace and name, so that a namespace can be listed without a look at all others.
type objects map[string]map[string]*unstructured.Unstructured

func (o objects) get(key types.NamespacedName) *unstructured.Unstructured {
	return o[key.Namespace][key.Name]
}

func (o objects) put(key types.NamespacedName, obj *unstructured.Unstructured) {
	names := o[key.Namespace]
	if names == nil {
		names = map[string]*unstructured.Unstructured{}
		o[key.Namespace] = names
	}
	names[key.Name] = obj
}

func (o objects) drop(key types.NamespacedName) {
	names := o[key.Namespace]
	delete(names, key.Name)
	if len(names) == 0 {
		delete(o, key.Namespace)
	}
}

// keysIn returns the names of a namespace's objects, in no particular order.
func (o objects) keysIn(namespace string) []types.NamespacedName {
	keys := make([]types.NamespacedName, 0, len(o[namespace]))
	for name := range o[namespace] {
		keys = append(keys, types.NamespacedName{Namespace: namespace, Name: name})
	}
	return keys
}

// keys returns the names of all objects, in no particular order.
func (o objects) keys() []types.NamespacedName {
	var keys []types.NamespacedName
	for namespace := range o {
		keys = append(keys, o.keysIn(namespace)...)
	}
	return keys
}
