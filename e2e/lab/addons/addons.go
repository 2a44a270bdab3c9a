package addons

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Objects are the objects for the cluster with that index in its lab (0 is the hub), in an order in which they can be
// made. Each is a fresh copy with its kind filled in. Their namespaces are those that an API server makes by itself,
// shortly after it says that it is ready.
func Objects(cluster int) []client.Object {
	return slices.Concat(nodeObjects(), dnsObjects(cluster))
}

// kind is the type of an object, for its TypeMeta.
func kind(apiVersion, name string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: name}
}
