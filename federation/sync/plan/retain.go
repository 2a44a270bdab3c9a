package plan

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
)

// retain carries over to desired what belongs to the member's object. The rules are KubeFed's (user guide, "Local Value
// Retention"), and beyond them: ownerReferences, what the API server adds to a Job and to a Namespace, and a port
// without a protocol is a TCP port.
func retain(want Want, desired, existing map[string]any) error {
	from, to := field(existing, "metadata"), field(desired, "metadata")
	for _, key := range []string{"finalizers", "annotations", "ownerReferences"} {
		retainField(to, from, key)
	}
	switch {
	case isCore(want.Target, "Service"):
		return retainService(desired, existing)
	case isServiceAccount(want.Target):
		if secrets, _ := desired["secrets"].([]any); len(secrets) == 0 {
			retainField(desired, existing, "secrets")
		}
		return nil
	case want.Target.IsNamespace():
		retainNamespace(desired, existing)
		return nil
	case want.Target.GVK.Group == "batch" && want.Target.GVK.Kind == "Job":
		return retainJob(desired, existing)
	default:
		return retainReplicas(want, desired, existing)
	}
}

func isCore(target Target, kind string) bool {
	return target.GVK.Group == "" && target.GVK.Kind == kind
}

func isServiceAccount(target Target) bool { return isCore(target, "ServiceAccount") }

// retainField copies a field that has a value in from.
func retainField(to, from map[string]any, key string) {
	if value := from[key]; value != nil {
		to[key] = runtime.DeepCopyJSONValue(value)
	}
}

// specOf returns the field spec of the template's content, made if it is not there.
func specOf(content map[string]any) (map[string]any, error) {
	return objectIn(content, "spec", "spec.template.spec")
}

func objectIn(parent map[string]any, key, path string) (map[string]any, error) {
	if parent[key] == nil {
		parent[key] = map[string]any{}
	}
	object, ok := parent[key].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s has to be an object", path)
	}
	return object, nil
}

// retainService keeps what the cluster has allocated: addresses and node ports cannot change or must not without need.
func retainService(desired, existing map[string]any) error {
	from := field(existing, "spec")
	spec, err := specOf(desired)
	if err != nil {
		return err
	}
	for _, key := range []string{"healthCheckNodePort", "clusterIP", "clusterIPs"} {
		if isSet(from[key]) {
			retainField(spec, from, key)
		}
	}
	if spec["ports"] == nil {
		return nil
	}
	ports, ok := spec["ports"].([]any)
	if !ok {
		return errors.New("spec.template.spec.ports has to be a list of ports")
	}
	known, _ := from["ports"].([]any)
	for i, item := range ports {
		port, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("spec.template.spec.ports[%d] has to be an object with a port", i)
		}
		for _, other := range known {
			if seen, ok := other.(map[string]any); ok && samePort(port, seen) && isSet(seen["nodePort"]) {
				port["nodePort"] = seen["nodePort"]
				break
			}
		}
	}
	return nil
}

// isSet reports whether a field holds more than the zero value that stands for "not allocated".
func isSet(value any) bool {
	switch v := value.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case int64:
		return v != 0
	case float64:
		return v != 0
	case []any:
		return len(v) > 0
	default:
		return false
	}
}

func samePort(a, b map[string]any) bool {
	return equal(a["port"], b["port"]) && stringOr(a["name"], "") == stringOr(b["name"], "") &&
		stringOr(a["protocol"], "TCP") == stringOr(b["protocol"], "TCP")
}

func stringOr(value any, fallback string) string {
	if s, _ := value.(string); s != "" {
		return s
	}
	return fallback
}

// jobLabels are the labels that the API server adds to the pod template of a Job whose selector it generates.
var jobLabels = []string{"controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"}

// retainJob keeps the generated selector and the labels that it selects. They are immutable and hold the UID of the
// Job in its cluster, so no template can have them, and without them every update of a Job is refused. KubeFed does not
// keep them.
func retainJob(desired, existing map[string]any) error {
	spec, err := specOf(desired)
	if err != nil {
		return err
	}
	from := field(existing, "spec")
	if spec["manualSelector"] == true || spec["selector"] != nil || from["selector"] == nil {
		return nil
	}
	retainField(spec, from, "selector")
	kept := field(field(field(from, "template"), "metadata"), "labels")
	labels, path := spec, "spec.template.spec"
	for _, key := range []string{"template", "metadata", "labels"} {
		path += "." + key
		if labels, err = objectIn(labels, key, path); err != nil {
			return err
		}
	}
	for _, key := range jobLabels {
		retainField(labels, kept, key)
	}
	return nil
}

// retainNamespace keeps what the API server adds to every namespace, so that an untouched one is not written to.
func retainNamespace(desired, existing map[string]any) {
	if desired["spec"] == nil {
		retainField(desired, existing, "spec")
	}
	const nameLabel = "kubernetes.io/metadata.name"
	metadata := field(desired, "metadata")
	if metadata["labels"] == nil {
		metadata["labels"] = map[string]any{}
	}
	if labels := field(metadata, "labels"); labels[nameLabel] == nil {
		retainField(labels, field(field(existing, "metadata"), "labels"), nameLabel)
	}
}

// retainReplicas leaves the number of replicas to the member if spec.retainReplicas says so.
func retainReplicas(want Want, desired, existing map[string]any) error {
	retained := field(want.Object, "spec")["retainReplicas"]
	if retained == nil || retained == false {
		return nil
	}
	if retained != true {
		return errors.New("spec.retainReplicas has to be true or false")
	}
	replicas := field(existing, "spec")["replicas"]
	if replicas == nil {
		return nil
	}
	spec, err := specOf(desired)
	if err != nil {
		return err
	}
	spec["replicas"] = replicas
	return nil
}

// unique drops repetitions from a list, if the field is one.
func unique(parent map[string]any, key string) {
	list, ok := parent[key].([]any)
	if !ok {
		return
	}
	kept := list[:0]
	for _, item := range list {
		repeated := false
		for _, other := range kept {
			repeated = repeated || equal(item, other)
		}
		if !repeated {
			kept = append(kept, item)
		}
	}
	parent[key] = kept
}
