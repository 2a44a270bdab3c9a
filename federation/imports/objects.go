package imports

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	// ManagedByLabel with the value api.Controller marks the ServiceImports that Hansa made. No other is ever changed.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ExportedAnnotation on a ServiceImport lists the labels and annotations that came from exports, so that they can be
	// taken away again, and those of others stay.
	ExportedAnnotation = "hansa.dev/exported"
)

// plain turns a typed object into what clients without types send: numbers as int64, nothing that is not set.
func plain(object any) (map[string]any, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", object, err)
	}
	return fields, nil
}

// importSpec is the spec of the ServiceImport, but for what the derived Service decides: addresses and families.
func (w *Wanted) importSpec() (map[string]any, error) {
	p := w.Properties
	spec := &mcsv1beta1.ServiceImportSpec{
		Type: mcsv1beta1.ClusterSetIP, Ports: []mcsv1beta1.ServicePort{},
		SessionAffinity: p.SessionAffinity, SessionAffinityConfig: affinityConfig(p),
		InternalTrafficPolicy: new(p.InternalTrafficPolicy),
	}
	if p.Headless {
		spec.Type, spec.SessionAffinity, spec.SessionAffinityConfig = mcsv1beta1.Headless, corev1.ServiceAffinityNone, nil
	}
	if p.TrafficDistribution != "" {
		spec.TrafficDistribution = new(p.TrafficDistribution)
	}
	for _, port := range namedPorts(p) {
		spec.Ports = append(spec.Ports, mcsv1beta1.ServicePort{Name: port.Name, Protocol: port.Protocol, AppProtocol: appProtocol(port), Port: port.Port})
	}
	return plain(spec)
}

func affinityConfig(p *clusterset.Properties) *corev1.SessionAffinityConfig {
	if p.SessionAffinity != corev1.ServiceAffinityClientIP {
		return nil
	}
	return &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(p.AffinityTimeout)}}
}

func appProtocol(port clusterset.Port) *string {
	if port.AppProtocol == "" {
		return nil
	}
	return new(port.AppProtocol)
}

// namedPorts returns the ports with the names that they have in members. A port may do without a name only where it is the
// only one, and exports of which each has one port, or names, may come to several with one that has none.
func namedPorts(p *clusterset.Properties) []clusterset.Port {
	nameless := slices.IndexFunc(p.Ports, func(port clusterset.Port) bool { return port.Name == "" })
	if len(p.Ports) < 2 || nameless < 0 {
		return p.Ports
	}
	ports := slices.Clone(p.Ports)
	name := fmt.Sprintf("%s-%d", strings.ToLower(string(ports[nameless].Protocol)), ports[nameless].Port)
	for slices.ContainsFunc(p.Ports, func(port clusterset.Port) bool { return port.Name == name }) {
		name += "x"
	}
	ports[nameless].Name = name
	return ports
}

// serviceSpec is what the derived Service is to say; the API server adds addresses, families and defaults.
func (w *Wanted) serviceSpec() (map[string]any, error) {
	p := w.Properties
	spec := &corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, SessionAffinity: corev1.ServiceAffinityNone,
		InternalTrafficPolicy: new(p.InternalTrafficPolicy),
	}
	if p.Headless {
		spec.ClusterIP = corev1.ClusterIPNone
	} else {
		spec.SessionAffinity, spec.SessionAffinityConfig = p.SessionAffinity, affinityConfig(p)
	}
	for _, port := range namedPorts(p) {
		spec.Ports = append(spec.Ports, corev1.ServicePort{
			Name: port.Name, Protocol: port.Protocol, AppProtocol: appProtocol(port), Port: port.Port, TargetPort: intstr.FromInt32(port.Port),
		})
	}
	switch len(p.IPFamilies) {
	case 0:
	case 1:
		spec.IPFamilies, spec.IPFamilyPolicy = slices.Clone(p.IPFamilies), new(corev1.IPFamilyPolicySingleStack)
	default: // as far as the importing cluster has both, and in its order
		spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyPreferDualStack)
	}
	return plain(spec)
}

// newImport returns the ServiceImport to create.
func (w *Wanted) newImport() (*unstructured.Unstructured, error) {
	spec, err := w.importSpec()
	if err != nil {
		return nil, err
	}
	made := object(mcsv1beta1.GroupVersion.String(), mcsv1beta1.ServiceImportKindName, w.Key.Namespace, w.Key.Name)
	made.Object["spec"] = spec
	return made, w.labelImport(made)
}

// labelImport puts the exported labels and annotations on a ServiceImport, takes those away that are exported no more, and
// adds our own, which win.
func (w *Wanted) labelImport(made *unstructured.Unstructured) error {
	labels, annotations := made.GetLabels(), made.GetAnnotations()
	var before, now exported
	if text, ok := annotations[ExportedAnnotation]; ok {
		if json.Unmarshal([]byte(text), &before) != nil {
			before = exported{} // somebody's doing: what it said can no longer be known
		}
	}
	labels, now.Labels = replaced(labels, before.Labels, acceptable(w.Properties.Labels, isLabel, maxLabels))
	annotations, now.Annotations = replaced(annotations, before.Annotations, acceptable(w.Properties.Annotations, isAnnotation, maxAnnotations))
	labels[ManagedByLabel] = api.Controller
	annotations[api.DerivedServiceAnnotation] = DerivedName(w.Key.Name)
	delete(annotations, ExportedAnnotation)
	if len(now.Labels)+len(now.Annotations) > 0 {
		text, err := json.Marshal(now)
		if err != nil {
			return fmt.Errorf("encoding the names of exported labels: %w", err)
		}
		annotations[ExportedAnnotation] = string(text)
	}
	made.SetLabels(labels)
	made.SetAnnotations(annotations)
	return nil
}

// exported is the content of ExportedAnnotation: sorted keys.
type exported struct {
	Labels      []string `json:"labels,omitempty"`
	Annotations []string `json:"annotations,omitempty"`
}

// replaced returns the pairs without those of the old keys and with the new ones, and the new keys.
func replaced(pairs map[string]string, old []string, with map[string]string) (map[string]string, []string) {
	if pairs == nil {
		pairs = map[string]string{}
	}
	for _, key := range old {
		delete(pairs, key)
	}
	maps.Copy(pairs, with)
	return pairs, slices.Sorted(maps.Keys(with))
}

// maxLabels and maxAnnotations bound the bytes of what is taken over from exports, each key counted twice: all are in
// ExportedAnnotation too. API servers take 256 KiB of annotations.
const (
	maxLabels      = 32 << 10
	maxAnnotations = 192 << 10
)

// acceptable leaves out what an API server would refuse: the definition of ServiceExport takes any text of any size. Of too
// much, those stay that sort first.
func acceptable(pairs map[string]string, takes func(key, value string) bool, size int) map[string]string {
	out := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		n := 2*len(key) + len(`"",`) + len(pairs[key])
		if n <= size && takes(key, pairs[key]) {
			out[key] = pairs[key]
			size -= n
		}
	}
	return out
}

func isLabel(key, value string) bool {
	return len(validation.IsQualifiedName(key)) == 0 && len(validation.IsValidLabelValue(value)) == 0
}

// isAnnotation is like the API server, which takes keys in any case.
func isAnnotation(key, _ string) bool {
	return len(validation.IsQualifiedName(strings.ToLower(key))) == 0
}

// newService returns the derived Service to create.
func (w *Wanted) newService(owner *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	spec, err := w.serviceSpec()
	if err != nil {
		return nil, err
	}
	made := object("v1", "Service", w.Key.Namespace, DerivedName(w.Key.Name))
	made.Object["spec"] = spec
	made.SetLabels(w.serviceLabels())
	if text := clusterset.FormatGatewayPorts(w.GatewayPorts); text != "" {
		made.SetAnnotations(map[string]string{api.GatewayPortsAnnotation: text})
	}
	made.SetOwnerReferences(ownedBy(owner))
	return made, nil
}

func (w *Wanted) serviceLabels() map[string]string {
	return map[string]string{api.ServiceNameLabel: w.Key.Name, api.SliceManagedByLabel: api.Controller}
}

// newSlice returns the EndpointSlice to create.
func (w *Wanted) newSlice(slice *Slice, owner *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	fields, err := plain(&discoveryv1.EndpointSlice{AddressType: slice.AddressType, Ports: slice.Ports, Endpoints: slice.Endpoints})
	if err != nil {
		return nil, err
	}
	made := w.sliceFrame(slice, owner)
	for _, field := range []string{"addressType", "endpoints", "ports"} {
		if value, set := fields[field]; set && value != nil {
			made.Object[field] = value
		}
	}
	return made, nil
}

// sliceFrame is an EndpointSlice without its content.
func (w *Wanted) sliceFrame(slice *Slice, owner *unstructured.Unstructured) *unstructured.Unstructured {
	made := object(discoveryv1.SchemeGroupVersion.String(), "EndpointSlice", w.Key.Namespace, slice.Name)
	labels := w.serviceLabels()
	labels[discoveryv1.LabelServiceName] = DerivedName(w.Key.Name)
	labels[api.SourceClusterLabel] = slice.Source
	if w.Properties.Headless {
		labels[corev1.IsHeadlessService] = ""
	}
	made.SetLabels(labels)
	made.SetOwnerReferences(ownedBy(owner))
	return made
}

func object(apiVersion, kind, namespace, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"namespace": namespace, "name": name},
	}}
}

func ownedBy(owner *unstructured.Unstructured) []metav1.OwnerReference {
	return []metav1.OwnerReference{{
		APIVersion: mcsv1beta1.GroupVersion.String(), Kind: mcsv1beta1.ServiceImportKindName,
		Name: owner.GetName(), UID: owner.GetUID(), Controller: new(true),
	}}
}

// mend returns a live object as it should be, and whether that is something else: with the fields of the wanted one, and
// its labels and owners. What others added stays.
func mend(live, wanted *unstructured.Unstructured, fields ...[]string) (*unstructured.Unstructured, bool) {
	mended, changed := live, false
	edit := func() *unstructured.Unstructured {
		if !changed {
			mended, changed = live.DeepCopy(), true
		}
		return mended
	}
	for _, path := range fields {
		want, set, _ := unstructured.NestedFieldNoCopy(wanted.Object, path...)
		have, there, _ := unstructured.NestedFieldNoCopy(live.Object, path...)
		switch {
		case !set && there && have != nil:
			unstructured.RemoveNestedField(edit().Object, path...)
		case set && !equality.Semantic.DeepEqual(have, want):
			// The only error is that something on the way is no map, which the API server does not let happen.
			_ = unstructured.SetNestedField(edit().Object, runtime.DeepCopyJSONValue(want), path...)
		}
	}
	if labels := wanted.GetLabels(); !contains(live.GetLabels(), labels) {
		edit().SetLabels(merged(live.GetLabels(), labels))
	}
	if owners := wanted.GetOwnerReferences(); owners != nil && !equality.Semantic.DeepEqual(live.GetOwnerReferences(), owners) {
		edit().SetOwnerReferences(owners)
	}
	return mended, changed
}

func contains(all, some map[string]string) bool {
	for key, value := range some {
		if have, ok := all[key]; !ok || have != value {
			return false
		}
	}
	return true
}

func merged(base, over map[string]string) map[string]string {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, over)
	return out
}

// addresses returns the ClusterIPs and the families of a derived Service, none while there are none.
func addresses(service *unstructured.Unstructured) (ips, families []string) {
	if service == nil {
		return nil, nil
	}
	ips, _, _ = unstructured.NestedStringSlice(service.Object, "spec", "clusterIPs")
	families, _, _ = unstructured.NestedStringSlice(service.Object, "spec", "ipFamilies")
	if len(ips) == 0 {
		if ip, _, _ := unstructured.NestedString(service.Object, "spec", "clusterIP"); ip != "" {
			ips = []string{ip}
		}
	}
	ips = slices.DeleteFunc(ips, func(ip string) bool { return ip == corev1.ClusterIPNone })
	return ips, families
}

func headless(service *unstructured.Unstructured) bool {
	ip, _, _ := unstructured.NestedString(service.Object, "spec", "clusterIP")
	return ip == corev1.ClusterIPNone
}

// Ours tells whether Hansa made a ServiceImport, a derived Service or an EndpointSlice.
func Ours(object *unstructured.Unstructured) bool {
	label := api.SliceManagedByLabel
	if object.GetKind() == mcsv1beta1.ServiceImportKindName {
		label = ManagedByLabel
	}
	return object.GetLabels()[label] == api.Controller
}

// leaving tells whether an object is being deleted.
func leaving(object *unstructured.Unstructured) bool { return object.GetDeletionTimestamp() != nil }

func sourceOf(slice *unstructured.Unstructured) string {
	return slice.GetLabels()[api.SourceClusterLabel]
}
