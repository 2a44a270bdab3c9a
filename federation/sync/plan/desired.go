package plan

import (
	"bytes"
	"crypto/md5" //nolint:gosec // KubeFed's hash, stored in PropagatedVersion objects; nothing is protected by it
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/status"
)

// Error is why there is no desired object. Code is ComputeResourceFailed, FieldRetentionFailed or ApplyOverridesFailed.
type Error struct {
	Code status.Code
	Err  error
}

// Error names the field and what to do about it.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of an error of Desired, and ComputeResourceFailed for any other error.
func CodeOf(err error) status.Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return status.ComputeResourceFailed
}

// TemplateVersion returns the hash of spec.template that KubeFed stores in a PropagatedVersion: hexadecimal MD5 of its
// JSON as encoding/json's Encoder writes it. It is empty when the object has no template.
func TemplateVersion(object map[string]any) (string, error) {
	template, found, err := templateOf(object)
	if err != nil || !found {
		return "", err
	}
	var buffer bytes.Buffer
	if err := json.NewEncoder(&buffer).Encode(template); err != nil {
		return "", fmt.Errorf("hashing spec.template: %w", err)
	}
	sum := md5.Sum(buffer.Bytes()) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:]), nil
}

// templateOf returns spec.template; a kind such as Namespace does without.
func templateOf(object map[string]any) (map[string]any, bool, error) {
	if object["spec"] == nil {
		return nil, false, nil
	}
	spec, ok := object["spec"].(map[string]any)
	if !ok {
		return nil, false, errors.New("spec has to be an object")
	}
	if spec["template"] == nil {
		return nil, false, nil
	}
	template, ok := spec["template"].(map[string]any)
	if !ok {
		return nil, false, errors.New("spec.template has to be an object of the target kind")
	}
	return template, true, nil
}

// Desired returns the object that a cluster should have: the template, then what the existing object keeps, then the
// cluster's overrides, then identity and the managed label. existing is nil for an object that is to be created; else
// the result carries its UID and resourceVersion, so that writing it fails if the object has changed meanwhile.
//
// The result shares nothing with its inputs. An error is an *Error.
//
// The template's finalizers and ownerReferences do not count: they mean something in one cluster only. Its annotations
// count for a new object; those of an existing one belong to the member, and overrides may change them.
func Desired(want Want, cluster string, existing *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if want.OverridesError != nil {
		return nil, &Error{Code: status.ApplyOverridesFailed, Err: want.OverridesError}
	}
	content, err := fromTemplate(want, existing == nil)
	if err != nil {
		return nil, &Error{Code: status.ComputeResourceFailed, Err: err}
	}
	if existing != nil {
		if err := retain(want, content, existing.Object); err != nil {
			return nil, &Error{Code: status.FieldRetentionFailed, Err: err}
		}
	}
	if len(want.Overrides[cluster]) > 0 {
		if err := override(want, cluster, content, existing); err != nil {
			return nil, &Error{Code: status.ApplyOverridesFailed, Err: err}
		}
	}
	identify(want, content, existing)
	return &unstructured.Unstructured{Object: content}, nil
}

// serverOwned are the fields of metadata that an API server sets; they never come from a template or an override.
// generateName is among them because the name is always given.
var serverOwned = []string{
	"uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
	"managedFields", "selfLink", "generateName",
}

// fromTemplate copies the template's content without what cannot come from it.
func fromTemplate(want Want, withAnnotations bool) (map[string]any, error) {
	if want.Object == nil {
		return nil, errors.New("there is no federated object to take the template from")
	}
	template, _, err := templateOf(want.Object)
	if err != nil {
		return nil, err
	}
	metadata, err := checkMetadata(template["metadata"], "spec.template.metadata")
	if err != nil {
		return nil, err
	}
	if _, ok := template["apiVersion"].(string); !ok && template["apiVersion"] != nil {
		return nil, errors.New("spec.template.apiVersion has to be a string")
	}
	content := copyFields(template, "metadata", "status")
	if stringOr(content["apiVersion"], "") == "" {
		content["apiVersion"] = want.Target.GVK.GroupVersion().String()
	}
	dropped := []string{"finalizers", "ownerReferences"}
	if !withAnnotations {
		dropped = append(dropped, "annotations")
	}
	copied := copyFields(metadata, dropped...)
	for _, key := range serverOwned {
		delete(copied, key)
	}
	content["metadata"] = copied
	setIdentity(want, content, copied)
	return content, nil
}

// copyFields makes a deep copy of an object but for the fields named, with room for a few more.
func copyFields(object map[string]any, except ...string) map[string]any {
	copied := make(map[string]any, len(object)+5)
	for key, value := range object {
		if !slices.Contains(except, key) {
			copied[key] = runtime.DeepCopyJSONValue(value)
		}
	}
	return copied
}

// checkMetadata makes sure that metadata, its labels and its annotations are what the rest of this package and every
// API server take them for. It returns nil when there is none.
func checkMetadata(value any, path string) (map[string]any, error) {
	if value == nil {
		return nil, nil
	}
	metadata, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s has to be an object", path)
	}
	for _, field := range []string{"labels", "annotations"} {
		if metadata[field] == nil {
			continue
		}
		entries, ok := metadata[field].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s.%s has to be an object of strings", path, field)
		}
		// The smallest key is named, so that the message does not depend on the order of the map.
		wrong, found := "", false
		for key, entry := range entries {
			if _, ok := entry.(string); !ok && (!found || key < wrong) {
				wrong, found = key, true
			}
		}
		if found {
			return nil, fmt.Errorf("%s.%s[%q] has to be a string: put quotes around its value", path, field, wrong)
		}
	}
	return metadata, nil
}

// override applies the cluster's patches to content, which the caller owns.
func override(want Want, cluster string, content map[string]any, existing *unstructured.Unstructured) error {
	if err := want.Overrides.ApplyTo(cluster, content); err != nil {
		return err
	}
	metadata, err := checkMetadata(content["metadata"], "metadata")
	if err != nil {
		return fmt.Errorf("spec.overrides for cluster %q: afterwards, %w", cluster, err)
	}
	if _, ok := content["apiVersion"].(string); !ok {
		return fmt.Errorf("spec.overrides for cluster %q: afterwards, apiVersion has to be a string", cluster)
	}
	if metadata == nil {
		metadata = map[string]any{}
		content["metadata"] = metadata
	}
	delete(content, "status")
	for _, key := range serverOwned {
		delete(metadata, key)
	}
	if existing != nil {
		keepSystemAnnotations(want, cluster, metadata, existing)
		// An override that appends to a retained list meets its own earlier result.
		unique(metadata, "finalizers")
		unique(metadata, "ownerReferences")
		if isServiceAccount(want.Target) {
			unique(content, "secrets")
		}
	}
	return nil
}

// keepSystemAnnotations puts back annotations of Kubernetes' own controllers that an override of all annotations has
// removed. Such a controller writes its annotation again at once (deployment.kubernetes.io/revision), and the two would
// never come to rest. An override that names the annotation itself wins.
func keepSystemAnnotations(want Want, cluster string, metadata map[string]any, existing *unstructured.Unstructured) {
	kept, _ := field(existing.Object, "metadata")["annotations"].(map[string]any)
	for key, value := range kept {
		if !isSystemKey(key) || namesAnnotation(want, cluster, key) {
			continue
		}
		annotations, _ := metadata["annotations"].(map[string]any)
		if annotations == nil {
			annotations = map[string]any{}
			metadata["annotations"] = annotations
		}
		if _, found := annotations[key]; !found {
			annotations[key] = value
		}
	}
}

func isSystemKey(key string) bool {
	domain, _, found := strings.Cut(key, "/")
	return found && (domain == "kubernetes.io" || domain == "k8s.io" ||
		strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io"))
}

func namesAnnotation(want Want, cluster, key string) bool {
	path := "/metadata/annotations/" + strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
	for _, patch := range want.Overrides[cluster] {
		if patch.Path == path {
			return true
		}
	}
	return false
}

// setIdentity makes the object the one that the federated object stands for.
func setIdentity(want Want, content, metadata map[string]any) {
	content["kind"] = want.Target.GVK.Kind
	metadata["name"] = want.Name
	if want.Target.Namespaced && want.Namespace != "" {
		metadata["namespace"] = want.Namespace
	} else {
		delete(metadata, "namespace")
	}
}

// identify has the last word on content: identity, the preconditions of an update, and the managed label.
func identify(want Want, content map[string]any, existing *unstructured.Unstructured) {
	metadata := field(content, "metadata")
	setIdentity(want, content, metadata)
	if existing != nil {
		setString(metadata, "uid", string(existing.GetUID()))
		setString(metadata, "resourceVersion", existing.GetResourceVersion())
	}
	labels, _ := metadata["labels"].(map[string]any)
	if labels == nil {
		labels = make(map[string]any, 1)
		metadata["labels"] = labels
	}
	labels[api.ManagedLabel] = api.Managed
}

func setString(m map[string]any, key, value string) {
	if value != "" {
		m[key] = value
	}
}

// field returns the object in a field; nil when there is none.
func field(parent map[string]any, key string) map[string]any {
	value, _ := parent[key].(map[string]any)
	return value
}
