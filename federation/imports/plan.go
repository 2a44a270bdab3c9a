package imports

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// The resources that are written.
var (
	importResource  = mcs(mcsv1beta1.ServiceImportPluralName)
	exportResource  = mcs(mcsv1beta1.ServiceExportPluralName)
	serviceResource = corev1.SchemeGroupVersion.WithResource("services")
	sliceResource   = discoveryv1.SchemeGroupVersion.WithResource("endpointslices")
)

func mcs(plural string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: mcsv1beta1.GroupVersion.Group, Version: mcsv1beta1.GroupVersion.Version, Resource: plural}
}

// Verb is what is done to an object.
type Verb string

// The verbs. Updates carry the resource version of what they replace, deletes its UID.
const (
	Create       Verb = "create"
	Update       Verb = "update"
	UpdateStatus Verb = "updateStatus"
	Delete       Verb = "delete"
)

// Step is one write.
type Step struct {
	Verb     Verb
	Resource schema.GroupVersionResource
	Object   *unstructured.Unstructured // for Delete: what is to go
}

// Have is what is there of one service in one importing cluster.
type Have struct {
	// Namespace tells whether the namespace exists and is not being deleted.
	Namespace bool
	// Import is the ServiceImport, whoever made it.
	Import *unstructured.Unstructured
	// Service and Slices are ours.
	Service *unstructured.Unstructured
	Slices  []*unstructured.Unstructured
	// Refused is what the API server said when it refused the derived Service for good; empty when it did not.
	Refused string
}

// Plan is what to do next.
type Plan struct {
	// Steps may be carried out in their order; what they lead to may ask for more.
	Steps []Step
	// Foreign tells that there is a ServiceImport which somebody else made.
	Foreign bool
	// Held tells that something stays only because the hub is out of step with the cluster that it came from.
	Held bool
}

// Make compares what is wanted with what is there.
//
//	namespace    ServiceImport       wanted      steps
//	missing      any                 any         none: everything goes and comes with the namespace
//	there        somebody else's     any         what is left of ours goes
//	there        none                yes         it is created, the rest follows when it has a UID
//	there        being deleted       yes         none until it is gone
//	there        ours                yes         what differs is written: service, slices, status
//	there        ours or none        no          all goes, unless it came from a cluster that the hub is out of step with
//
// Endpoints are added before others are taken away.
func Make(w *Wanted, have Have, now time.Time) (Plan, error) {
	var plan Plan
	if !have.Namespace {
		return plan, nil
	}
	if have.Import != nil && !Ours(have.Import) {
		plan.Foreign = w.Properties != nil
		plan.remove(have.Service, have.Slices)
		return plan, nil
	}
	if w.Properties == nil {
		if plan.Held = slices.ContainsFunc(origins(have), w.lost); plan.Held {
			return plan, nil
		}
		if have.Import != nil {
			plan.delete(importResource, have.Import)
		}
		plan.remove(have.Service, have.Slices)
		return plan, nil
	}
	if have.Import == nil {
		made, err := w.newImport()
		plan.add(Create, importResource, made)
		return plan, err
	}
	if leaving(have.Import) {
		return plan, nil
	}
	for _, write := range []func(*Wanted, Have) error{plan.writeImport, plan.writeService, plan.writeSlices} {
		if err := write(w, have); err != nil {
			return plan, err
		}
	}
	return plan, plan.writeStatus(w, have, now)
}

func (p *Plan) add(verb Verb, resource schema.GroupVersionResource, object *unstructured.Unstructured) {
	p.Steps = append(p.Steps, Step{verb, resource, object})
}

func (p *Plan) delete(resource schema.GroupVersionResource, object *unstructured.Unstructured) {
	if !leaving(object) {
		p.add(Delete, resource, object)
	}
}

func (p *Plan) remove(service *unstructured.Unstructured, slices []*unstructured.Unstructured) {
	if service != nil {
		p.delete(serviceResource, service)
	}
	for _, slice := range slices {
		p.delete(sliceResource, slice)
	}
}

// origins returns the clusters that an import came from, as far as it says, sorted.
func origins(have Have) []string {
	ids := map[string]bool{}
	for _, slice := range have.Slices {
		ids[sourceOf(slice)] = true
	}
	if have.Import != nil {
		for _, id := range importedFrom(have.Import) {
			ids[id] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// importedFrom returns the clusters that the status of a ServiceImport names.
func importedFrom(live *unstructured.Unstructured) []string {
	var ids []string
	entries, _, _ := unstructured.NestedSlice(live.Object, "status", "clusters")
	for _, entry := range entries {
		if fields, ok := entry.(map[string]any); ok {
			if id, ok := fields["cluster"].(string); ok {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// writeImport brings the ServiceImport up to date. Its addresses are those of the derived Service; while there is none,
// they stay.
func (p *Plan) writeImport(w *Wanted, have Have) error {
	spec, err := w.importSpec()
	if err != nil {
		return err
	}
	service := have.Service
	if service != nil && headless(service) != w.Properties.Headless {
		service = nil // it is about to go
	}
	ips, families := addresses(service)
	if service == nil {
		families, _, _ = unstructured.NestedStringSlice(have.Import.Object, "spec", "ipFamilies")
		if !w.Properties.Headless {
			ips, _, _ = unstructured.NestedStringSlice(have.Import.Object, "spec", "ips")
		}
	}
	for field, values := range map[string][]string{"ips": ips, "ipFamilies": families} {
		if len(values) > 0 {
			spec[field] = list(values)
		}
	}
	wanted := have.Import.DeepCopy()
	wanted.Object["spec"] = spec
	if err := w.labelImport(wanted); err != nil {
		return err
	}
	if !equality.Semantic.DeepEqual(wanted.Object, have.Import.Object) {
		p.add(Update, importResource, wanted)
	}
	return nil
}

func list(values []string) []any {
	out := make([]any, len(values))
	for i, value := range values {
		out[i] = value
	}
	return out
}

// writeService brings the derived Service up to date. What cannot change in place is made anew: whether it is headless, and
// its first IP family.
func (p *Plan) writeService(w *Wanted, have Have) error {
	wanted, err := w.newService(have.Import)
	if err != nil {
		return err
	}
	live := have.Service
	switch {
	case live == nil && have.Refused != "":
		return nil
	case live == nil:
		p.add(Create, serviceResource, wanted)
		return nil
	case leaving(live):
		return nil
	}
	_, first := addresses(wanted)
	_, has := addresses(live)
	if headless(live) != w.Properties.Headless || len(first) > 0 && len(has) > 0 && first[0] != has[0] {
		p.delete(serviceResource, live)
		return nil
	}
	fields := [][]string{{"spec", "ports"}, {"spec", "sessionAffinity"}, {"spec", "sessionAffinityConfig"}, {"spec", "internalTrafficPolicy"}}
	if _, set, _ := unstructured.NestedString(wanted.Object, "spec", "ipFamilyPolicy"); set {
		fields = append(fields, []string{"spec", "ipFamilyPolicy"})
	}
	mended, changed := mend(live, wanted, fields...)
	if mended, changed = annotate(mended, changed, w); changed {
		p.add(Update, serviceResource, mended)
	}
	return nil
}

// annotate has a live derived Service say which ports of the gateways are its own.
func annotate(service *unstructured.Unstructured, copied bool, w *Wanted) (*unstructured.Unstructured, bool) {
	annotations := service.GetAnnotations()
	text := clusterset.FormatGatewayPorts(w.GatewayPorts)
	if annotations[api.GatewayPortsAnnotation] == text {
		return service, copied
	}
	if !copied {
		service = service.DeepCopy()
	}
	if text == "" {
		delete(annotations, api.GatewayPortsAnnotation)
	} else {
		annotations = merged(annotations, map[string]string{api.GatewayPortsAnnotation: text})
	}
	service.SetAnnotations(annotations)
	return service, true
}

// writeSlices brings the EndpointSlices up to date. What is not wanted goes last, and stays when it is of a cluster of which
// it is not known what it has now.
func (p *Plan) writeSlices(w *Wanted, have Have) error {
	live := map[string]*unstructured.Unstructured{}
	for _, slice := range have.Slices {
		live[slice.GetName()] = slice
	}
	for i := range w.Slices {
		there := live[w.Slices[i].Name]
		delete(live, w.Slices[i].Name)
		if there != nil && w.inStep(&w.Slices[i], have.Import, there) {
			continue
		}
		wanted, err := w.newSlice(&w.Slices[i], have.Import)
		if err != nil {
			return err
		}
		if there == nil {
			p.add(Create, sliceResource, wanted)
			continue
		}
		mended, changed, err := mendSlice(there, wanted)
		if err != nil {
			return err
		}
		if changed && !leaving(there) {
			p.add(Update, sliceResource, mended)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(live)) {
		source := sourceOf(live[name])
		if w.keeps(source) {
			p.Held = p.Held || !w.unread[source]
			continue
		}
		p.delete(sliceResource, live[name])
	}
	return nil
}

// inStep tells whether a live slice is as it should be.
func (w *Wanted) inStep(slice *Slice, owner, there *unstructured.Unstructured) bool {
	if content, err := contentOf(there); err != nil || content != slice.content() {
		return false
	}
	_, changed := mend(there, w.sliceFrame(slice, owner))
	return !changed
}

// writeStatus brings the status of the ServiceImport up to date, once its spec and the derived Service are.
func (p *Plan) writeStatus(w *Wanted, have Have, now time.Time) error {
	for _, step := range p.Steps {
		if step.Resource != sliceResource {
			return nil // that makes a newer one
		}
	}
	var status mcsv1beta1.ServiceImportStatus
	if fields, ok := have.Import.Object["status"].(map[string]any); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &status); err != nil {
			return fmt.Errorf("reading the status of ServiceImport %s in cluster %q: %w", w.Key, w.Cluster, err)
		}
	}
	before := status.DeepCopy()
	status.EndpointSliceObjects = mcsv1beta1.EndpointSliceObjectsAbsent
	if len(w.Slices) > 0 || p.keptSlices(have) {
		status.EndpointSliceObjects = mcsv1beta1.EndpointSliceObjectsPresent
	}
	status.Clusters = nil
	sources := slices.Clone(w.Sources)
	for _, id := range origins(have) {
		if !slices.Contains(sources, id) && w.lost(id) {
			sources = append(sources, id)
			p.Held = true
		}
	}
	slices.Sort(sources)
	for _, id := range sources {
		status.Clusters = append(status.Clusters, mcsv1beta1.ClusterStatus{Cluster: id})
	}
	ready := w.ready(have)
	ready.LastTransitionTime, ready.ObservedGeneration = metav1.NewTime(now.UTC().Truncate(time.Second)), have.Import.GetGeneration()
	apimeta.SetStatusCondition(&status.Conditions, ready)
	if equality.Semantic.DeepEqual(before, &status) {
		return nil
	}
	fields, err := plain(&status)
	if err != nil {
		return err
	}
	wanted := have.Import.DeepCopy()
	wanted.Object["status"] = fields
	p.add(UpdateStatus, importResource, wanted)
	return nil
}

// keptSlices tells whether slices stay that are not wanted.
func (p *Plan) keptSlices(have Have) bool {
	gone := map[string]bool{}
	for _, step := range p.Steps {
		if step.Verb == Delete {
			gone[step.Object.GetName()] = true
		}
	}
	return slices.ContainsFunc(have.Slices, func(s *unstructured.Unstructured) bool { return !gone[s.GetName()] && !leaving(s) })
}

// ready is the condition Ready of the ServiceImport.
func (w *Wanted) ready(have Have) metav1.Condition {
	ips, _ := addresses(have.Service)
	condition := metav1.Condition{Type: string(mcsv1beta1.ServiceImportConditionReady), Status: metav1.ConditionFalse}
	switch {
	case have.Service == nil && have.Refused != "":
		condition.Reason = string(mcsv1beta1.ServiceImportReasonIPFamilyNotSupported)
		condition.Message = "the cluster cannot give the service an address: " + have.Refused
		return condition
	case have.Service == nil || !w.Properties.Headless && len(ips) == 0:
		condition.Reason, condition.Message = string(mcsv1beta1.ServiceImportReasonPending), "waiting for the addresses of Service "+DerivedName(w.Key.Name)
		return condition
	}
	condition.Status, condition.Reason = metav1.ConditionTrue, string(mcsv1beta1.ServiceImportReasonReady)
	condition.Message = "the service can be used"
	if len(w.Beyond) > 0 {
		condition.Message += "; the endpoints in " + strings.Join(brief(w.Beyond), ", ") + " are in other networks: without a gateway in this cluster, its Services do not reach them"
	}
	return condition
}

// brief bounds how many clusters a message names.
func brief(ids []string) []string {
	const most = 8
	if len(ids) <= most {
		return ids
	}
	return append(slices.Clone(ids[:most]), fmt.Sprintf("%d more clusters", len(ids)-most))
}

// derivedFrom returns the name of the service that a derived Service or an EndpointSlice of ours belongs to.
func derivedFrom(object *unstructured.Unstructured) string {
	return object.GetLabels()[api.ServiceNameLabel]
}
