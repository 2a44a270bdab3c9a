package imports

import (
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// maxNote bounds what is added to the message of a condition: together they fit what the API takes.
const maxNote = 2000

// ExportStatus returns a ServiceExport with the conditions that the service table has for it, or nil when it has them
// already. The note is added to the message of Ready; it says where the service could not be imported.
//
// Nothing is written while the table speaks of another ServiceExport than the live one: of one that was deleted since, or of
// this one before a change.
func ExportStatus(service *clusterset.Service, cluster string, live *unstructured.Unstructured, note string, now time.Time) (*unstructured.Unstructured, error) {
	if service == nil || leaving(live) {
		return nil, nil
	}
	conditions := service.Conditions(cluster)
	if conditions == nil || !describes(service, cluster, live) {
		return nil, nil
	}
	var status mcsv1beta1.ServiceExportStatus
	if fields, ok := live.Object["status"].(map[string]any); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &status); err != nil {
			return nil, fmt.Errorf("reading the status of ServiceExport %s in cluster %q: %w", service.Key, cluster, err)
		}
	}
	before := status.DeepCopy()
	for _, c := range conditions {
		if c.Type == clusterset.ConditionReady && note != "" {
			c.Message += "; " + note[:min(len(note), maxNote)]
		}
		apimeta.SetStatusCondition(&status.Conditions, metav1.Condition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message,
			ObservedGeneration: live.GetGeneration(), LastTransitionTime: metav1.NewTime(now.UTC().Truncate(time.Second)),
		})
	}
	if equality.Semantic.DeepEqual(before, &status) {
		return nil, nil
	}
	fields, err := plain(&status)
	if err != nil {
		return nil, err
	}
	wanted := live.DeepCopy()
	wanted.Object["status"] = fields
	return wanted, nil
}

// describes tells whether what the table knows is the live ServiceExport: made at the same time, exporting the same.
func describes(service *clusterset.Service, cluster string, live *unstructured.Unstructured) bool {
	for i := range service.Sources {
		source := &service.Sources[i]
		if source.Cluster != cluster {
			continue
		}
		if !source.Created.Equal(live.GetCreationTimestamp().Time) {
			return false
		}
		if source.Properties == nil {
			return true
		}
		labels, _, _ := unstructured.NestedStringMap(live.Object, "spec", "exportedLabels")
		annotations, _, _ := unstructured.NestedStringMap(live.Object, "spec", "exportedAnnotations")
		return maps.Equal(source.Properties.Labels, labels) && maps.Equal(source.Properties.Annotations, annotations)
	}
	return false
}
