package cluster

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
)

// objects holds objects by namespace and name, so that a namespace can be listed without a look at all others.
type objects map[string]map[string]held

// held is one object. What is compared all the time stands beside it, so that text is read only for who wants the object.
type held struct {
	version uint64
	uid     types.UID
	object  *unstructured.Unstructured // nil where there is text
	text    []byte                     // JSON: a quarter of what the same object takes as maps, and nothing that a collector looks into
}

// hold keeps an object, as text if it is to be packed. One that cannot be written as text is kept as it is.
func hold(obj *unstructured.Unstructured, pack bool) held {
	kept := held{version: VersionOf(obj), uid: obj.GetUID()}
	if pack {
		if text, err := json.Marshal(obj.Object); err == nil {
			kept.text = append(make([]byte, 0, len(text)), text...)
			return kept
		}
	}
	kept.object = obj
	return kept
}

// read returns the object, nil for none.
func (h held) read() *unstructured.Unstructured {
	if h.text == nil {
		return h.object
	}
	obj := &unstructured.Unstructured{}
	if err := json.Unmarshal(h.text, &obj.Object); err != nil {
		panic("cluster: an object that was written as text cannot be read: " + err.Error())
	}
	return obj
}

// find returns what is held under a name.
func (o objects) find(key types.NamespacedName) (held, bool) {
	found, ok := o[key.Namespace][key.Name]
	return found, ok
}

func (o objects) put(key types.NamespacedName, kept held) {
	names := o[key.Namespace]
	if names == nil {
		names = map[string]held{}
		o[key.Namespace] = names
	}
	names[key.Name] = kept
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
