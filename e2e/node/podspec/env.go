package podspec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Objects are what a Pod refers to, by name, in its namespace. An object that does not exist is missing.
type Objects struct {
	ConfigMaps map[string]*corev1.ConfigMap
	Secrets    map[string]*corev1.Secret
	Node       corev1.ResourceList // what the node has for Pods
}

// References returns the names of the ConfigMaps and Secrets that the environment of a container refers to.
func References(c *corev1.Container) (configMaps, secrets []string) {
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef != nil {
			configMaps = append(configMaps, from.ConfigMapRef.Name)
		}
		if from.SecretRef != nil {
			secrets = append(secrets, from.SecretRef.Name)
		}
	}
	for _, env := range c.Env {
		if env.ValueFrom == nil {
			continue
		}
		if ref := env.ValueFrom.ConfigMapKeyRef; ref != nil {
			configMaps = append(configMaps, ref.Name)
		}
		if ref := env.ValueFrom.SecretKeyRef; ref != nil {
			secrets = append(secrets, ref.Name)
		}
	}
	return configMaps, secrets
}

// Variables is an environment: names in the order in which they were first set.
type Variables struct {
	names  []string
	values map[string]string
}

// Set sets a variable.
func (v *Variables) Set(name, value string) {
	if _, known := v.values[name]; !known {
		v.names = append(v.names, name)
	}
	if v.values == nil {
		v.values = map[string]string{}
	}
	v.values[name] = value
}

// Lookup returns the value of a variable and whether it is set.
func (v *Variables) Lookup(name string) (string, bool) {
	value, ok := v.values[name]
	return value, ok
}

// List returns the environment as NAME=VALUE.
func (v *Variables) List() []string {
	var list []string
	for _, name := range v.names {
		list = append(list, name+"="+v.values[name])
	}
	return list
}

// Environment resolves the environment of a container. The pod must have its addresses in its status already. What
// services tell comes first and can be overridden by envFrom, and that by env; variables refer to those before them.
// The error is meant for CreateContainerConfigError.
func Environment(pod *corev1.Pod, c *corev1.Container, objects Objects, services []*corev1.Service) (*Variables, error) {
	v := &Variables{}
	for name, value := range sorted(ServiceVariables(pod, services)) {
		v.Set(name, value)
	}
	for _, from := range c.EnvFrom {
		data, err := envFrom(from, objects)
		if err != nil {
			return nil, err
		}
		for key, value := range sorted(data) {
			if name := from.Prefix + key; len(validation.IsEnvVarName(name)) == 0 {
				v.Set(name, value)
			}
		}
	}
	for _, env := range c.Env {
		value, set, err := envValue(pod, c, env, v, objects)
		if err != nil {
			return nil, err
		}
		if set {
			v.Set(env.Name, value)
		}
	}
	return v, nil
}

func envFrom(from corev1.EnvFromSource, objects Objects) (map[string]string, error) {
	if ref := from.ConfigMapRef; ref != nil {
		object, ok := objects.ConfigMaps[ref.Name]
		if !ok {
			return nil, missing("configmap", ref.Name, ref.Optional)
		}
		return object.Data, nil
	}
	if ref := from.SecretRef; ref != nil {
		object, ok := objects.Secrets[ref.Name]
		if !ok {
			return nil, missing("secret", ref.Name, ref.Optional)
		}
		data := map[string]string{}
		for key, value := range object.Data {
			data[key] = string(value)
		}
		return data, nil
	}
	return nil, nil
}

// missing is nil if the reference is optional.
func missing(kind, name string, optional *bool) error {
	if optional != nil && *optional {
		return nil
	}
	return fmt.Errorf("%s %q not found", kind, name)
}

func envValue(pod *corev1.Pod, c *corev1.Container, env corev1.EnvVar, v *Variables, objects Objects) (value string, set bool, err error) {
	from := env.ValueFrom
	switch {
	case from == nil:
		return Expand(env.Value, v.Lookup), true, nil
	case from.FieldRef != nil:
		value, err = Field(pod, from.FieldRef.FieldPath)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err = Resource(pod, c, from.ResourceFieldRef, objects.Node)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		object, ok := objects.ConfigMaps[ref.Name]
		if !ok {
			return "", false, missing("configmap", ref.Name, ref.Optional)
		}
		if value, ok = object.Data[ref.Key]; !ok {
			return "", false, missingKey(ref.Key, "ConfigMap", pod.Namespace, ref.Name, ref.Optional)
		}
		return value, true, nil
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		object, ok := objects.Secrets[ref.Name]
		if !ok {
			return "", false, missing("secret", ref.Name, ref.Optional)
		}
		data, ok := object.Data[ref.Key]
		if !ok {
			return "", false, missingKey(ref.Key, "Secret", pod.Namespace, ref.Name, ref.Optional)
		}
		return string(data), true, nil
	}
	return "", false, fmt.Errorf("the value of variable %s comes from something that the lab does not know", env.Name)
}

func missingKey(key, kind, namespace, name string, optional *bool) error {
	if optional != nil && *optional {
		return nil
	}
	return fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, namespace, name)
}

// ErrField is the error of a field that the downward API does not offer.
var ErrField = errors.New("field is not offered")

// Field returns the value of a field that the downward API offers.
func Field(pod *corev1.Pod, path string) (string, error) {
	if name, key, ok := strings.Cut(strings.TrimSuffix(path, "']"), "['"); ok {
		switch name {
		case "metadata.labels":
			return pod.Labels[key], nil
		case "metadata.annotations":
			return pod.Annotations[key], nil
		}
	}
	fields := map[string]func() string{
		"metadata.name":           func() string { return pod.Name },
		"metadata.namespace":      func() string { return pod.Namespace },
		"metadata.uid":            func() string { return string(pod.UID) },
		"metadata.labels":         func() string { return quoted(pod.Labels) },
		"metadata.annotations":    func() string { return quoted(pod.Annotations) },
		"spec.nodeName":           func() string { return pod.Spec.NodeName },
		"spec.serviceAccountName": func() string { return pod.Spec.ServiceAccountName },
		"status.hostIP":           func() string { return pod.Status.HostIP },
		"status.hostIPs":          func() string { return pod.Status.HostIP },
		"status.podIP":            func() string { return pod.Status.PodIP },
		"status.podIPs":           func() string { return pod.Status.PodIP },
	}
	field, ok := fields[path]
	if !ok {
		return "", fmt.Errorf("fieldPath %q: %w", path, ErrField)
	}
	return field(), nil
}

// quoted lists a map as the downward API writes it: a line of KEY="VALUE" for each.
func quoted(values map[string]string) string {
	var lines []string
	for key, value := range sorted(values) {
		lines = append(lines, key+"="+strconv.Quote(value))
	}
	return strings.Join(lines, "\n")
}

// Resource returns a container's request or limit, divided by the divisor and rounded up. Without a limit, all that the
// node has is the limit.
func Resource(pod *corev1.Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector, node corev1.ResourceList) (string, error) {
	if ref.ContainerName != "" {
		of := slices.IndexFunc(pod.Spec.Containers, func(o corev1.Container) bool { return o.Name == ref.ContainerName })
		if of < 0 {
			return "", fmt.Errorf("resource %s: there is no container %q", ref.Resource, ref.ContainerName)
		}
		c = &pod.Spec.Containers[of]
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	quantity, limited := c.Resources.Limits[corev1.ResourceName(name)]
	if kind == "requests" {
		quantity = c.Resources.Requests[corev1.ResourceName(name)]
	} else if !limited {
		quantity = node[corev1.ResourceName(name)]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == string(corev1.ResourceCPU) { // which is divided in thousandths
		return ceiling(quantity.MilliValue(), divisor.MilliValue()), nil
	}
	return ceiling(quantity.Value(), divisor.Value()), nil
}

func ceiling(value, divisor int64) string {
	return strconv.FormatInt((value+divisor-1)/divisor, 10)
}

// ServiceVariables are the variables that tell a container where the services of its namespace are, in the form that
// Docker once gave links. The service of the API server is always among them.
func ServiceVariables(pod *corev1.Pod, services []*corev1.Service) map[string]string {
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	v := map[string]string{}
	for _, s := range services {
		api := s.Namespace == corev1.NamespaceDefault && s.Name == "kubernetes"
		if !api && (!links || s.Namespace != pod.Namespace) || s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			continue
		}
		serviceVariables(v, s)
	}
	return v
}

func serviceVariables(v map[string]string, s *corev1.Service) {
	upper := strings.NewReplacer("-", "_")
	prefix := upper.Replace(strings.ToUpper(s.Name))
	ip := s.Spec.ClusterIP
	v[prefix+"_SERVICE_HOST"] = ip
	v[prefix+"_SERVICE_PORT"] = strconv.Itoa(int(s.Spec.Ports[0].Port))
	for i, port := range s.Spec.Ports {
		number := strconv.Itoa(int(port.Port))
		protocol := strings.ToLower(string(port.Protocol))
		if protocol == "" {
			protocol = "tcp"
		}
		if port.Name != "" {
			v[prefix+"_SERVICE_PORT_"+upper.Replace(strings.ToUpper(port.Name))] = number
		}
		url := protocol + "://" + ip + ":" + number
		if i == 0 {
			v[prefix+"_PORT"] = url
		}
		link := prefix + "_PORT_" + number + "_" + strings.ToUpper(protocol)
		v[link], v[link+"_PROTO"], v[link+"_PORT"], v[link+"_ADDR"] = url, protocol, number, ip
	}
}

// sorted goes through a map in the order of its keys.
func sorted[V any](m map[string]V) func(yield func(string, V) bool) {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// Add sets the variables of another environment.
func (v *Variables) Add(other *Variables) {
	for _, name := range other.names {
		v.Set(name, other.values[name])
	}
}
