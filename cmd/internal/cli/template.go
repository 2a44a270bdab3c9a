package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/typeconfig"
)

// federatedFrom returns the federated object whose template is a given object, placed in all clusters. The template
// has what a person would have written: of the metadata the labels only, no status, and nothing that a controller or
// the API server filled in for one cluster. It is KubeFed's `federate`, and beyond it drops the selector and labels
// that a Job gets, keeps a Service headless, and drops the managed label.
func federatedFrom(config *corev1b1.FederatedTypeConfig, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if object.GetName() == "" {
		return nil, fmt.Errorf("%s without a name cannot be federated", object.GetKind())
	}
	template := object.DeepCopy().Object
	if err := stripKind(object.GetKind(), template); err != nil {
		return nil, fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
	}
	for _, field := range []string{"apiVersion", "kind", "status", "metadata"} {
		delete(template, field)
	}
	labels := object.GetLabels()
	dropLabels(object.GetKind(), labels)
	if len(labels) > 0 {
		kept := map[string]any{}
		for key, value := range labels {
			kept[key] = value
		}
		template["metadata"] = map[string]any{"labels": kept}
	}
	federated := config.Spec.FederatedType
	made := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": federated.Group + "/" + federated.Version,
		"kind":       federated.Kind,
		"metadata":   map[string]any{"name": object.GetName()},
		"spec": map[string]any{
			"template":  template,
			"placement": map[string]any{"clusterSelector": map[string]any{}},
		},
	}}
	switch {
	case config.IsNamespace():
		made.SetNamespace(object.GetName())
	case config.GetFederatedNamespaced():
		made.SetNamespace(object.GetNamespace())
	}
	return made, nil
}

// stripKind takes away what belongs to the one cluster that an object was read from.
func stripKind(kind string, content map[string]any) error {
	switch kind {
	case "Namespace":
		unstructured.RemoveNestedField(content, "spec", "finalizers")
	case "ServiceAccount":
		unstructured.RemoveNestedField(content, "secrets")
	case "Service":
		return stripService(content)
	case "Job":
		stripJob(content)
	}
	return nil
}

// stripService drops the addresses and ports that a cluster gave a Service. One without addresses (None) stays so.
func stripService(content map[string]any) error {
	if address, _, _ := unstructured.NestedString(content, "spec", "clusterIP"); address != "None" {
		unstructured.RemoveNestedField(content, "spec", "clusterIP")
		unstructured.RemoveNestedField(content, "spec", "clusterIPs")
	}
	unstructured.RemoveNestedField(content, "spec", "healthCheckNodePort")
	ports, found, err := unstructured.NestedSlice(content, "spec", "ports")
	if err != nil || !found {
		return err
	}
	for _, entry := range ports {
		if port, ok := entry.(map[string]any); ok {
			delete(port, "nodePort")
		}
	}
	return unstructured.SetNestedSlice(content, ports, "spec", "ports")
}

// stripJob drops the selector that the API server generates, and its labels on the pods: each member generates its own
// and refuses any other. A Job that selects by hand keeps both.
func stripJob(content map[string]any) {
	if manual, _, _ := unstructured.NestedBool(content, "spec", "manualSelector"); manual {
		return
	}
	unstructured.RemoveNestedField(content, "spec", "selector")
	labels, found, err := unstructured.NestedStringMap(content, "spec", "template", "metadata", "labels")
	if err != nil || !found {
		return
	}
	dropLabels("Job", labels)
	if len(labels) == 0 {
		unstructured.RemoveNestedField(content, "spec", "template", "metadata", "labels")
		return
	}
	must(unstructured.SetNestedStringMap(content, labels, "spec", "template", "metadata", "labels"))
}

// dropLabels drops labels that a controller put on an object.
func dropLabels(kind string, labels map[string]string) {
	own := []string{api.ManagedLabel}
	switch kind {
	case "Job":
		own = append(own, "controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")
	case "Namespace":
		own = append(own, "kubernetes.io/metadata.name")
	}
	maps.DeleteFunc(labels, func(key, _ string) bool { return slices.Contains(own, key) })
}

// guessTypeConfig returns the FederatedTypeConfig that an object's type would have, without asking a cluster: the
// plural follows from the kind, and an object with a namespace is of a namespaced type.
func guessTypeConfig(object *unstructured.Unstructured) *corev1b1.FederatedTypeConfig {
	gvk := object.GroupVersionKind()
	plural, _ := apimeta.UnsafeGuessKindToResource(gvk)
	return typeconfig.ForTarget(metav1.APIResource{
		Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Name: plural.Resource, Namespaced: object.GetNamespace() != "",
	}, "", "")
}

// parseContent reads one YAML or JSON document, whole numbers as int64, as unstructured objects have them.
func parseContent(data []byte) (map[string]any, error) {
	asJSON, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, fmt.Errorf("no YAML: %w", err)
	}
	content := map[string]any{}
	if err := json.Unmarshal(asJSON, &content); err != nil {
		return nil, fmt.Errorf("no object: %w", err)
	}
	return content, nil
}

// errNoObjects marks an input without any object.
var errNoObjects = errors.New("there are no objects in it")

// readObjects reads the objects of a YAML or JSON stream; lists are unpacked, empty documents skipped.
func readObjects(r io.Reader) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(r))
	for document := 1; ; document++ {
		data, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", document, err)
		}
		content, err := parseContent(data)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", document, err)
		}
		if len(content) == 0 {
			continue
		}
		object := &unstructured.Unstructured{Object: content}
		if object.GetKind() == "" || object.GetAPIVersion() == "" {
			return nil, fmt.Errorf("document %d: an object has apiVersion and kind", document)
		}
		if !object.IsList() {
			objects = append(objects, object)
			continue
		}
		err = object.EachListItem(func(item runtime.Object) error {
			if u, ok := item.(*unstructured.Unstructured); ok {
				objects = append(objects, u)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", document, err)
		}
	}
	if len(objects) == 0 {
		return nil, errNoObjects
	}
	return objects, nil
}
