package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// hubWriter is how the hub signs what it writes into members (metadata.managedFields): its user agent.
const hubWriter = "hansa-hub"

// withdrawServices takes from the member what the hub wrote there of global services: a cluster that left hears no more of
// the endpoints of others, and would send traffic to addresses that are somebody else's by then; and nobody takes its
// exports any more, whatever their conditions say. With another hub in the member all that may be its, and stays.
func (j *Joiner) withdrawServices(ctx context.Context, hub account) error {
	other, err := j.otherHub(ctx, hub)
	if err != nil {
		return err
	}
	if other != "" {
		j.report("serviceimports kept in %s: clusterrolebinding/%s is of another hub", j.member.Name, other)
		return nil
	}
	derived := client.MatchingLabels{api.SliceManagedByLabel: api.Controller}
	return errors.Join(
		// ServiceImports own the others, and are the last: what the hub may have written meanwhile goes with them.
		j.deleteLabelled(ctx, schema.GroupVersionKind{Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"}, derived),
		j.deleteLabelled(ctx, schema.GroupVersionKind{Version: "v1", Kind: "Service"}, derived),
		j.deleteLabelled(ctx, mcsKind(mcsv1beta1.ServiceImportKindName), client.MatchingLabels{ManagedByLabel: api.Controller}),
		j.clearExports(ctx),
	)
}

func mcsKind(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: mcsv1beta1.GroupName, Version: mcsv1beta1.GroupVersion.Version, Kind: kind}
}

// clearExports takes the hub's conditions off all ServiceExports, which are people's and stay.
func (j *Joiner) clearExports(ctx context.Context) error {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(mcsKind("ServiceExportList"))
	err := j.member.client.List(ctx, list)
	if apimeta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing ServiceExports in %s: %w", j.member.Name, err)
	}
	var problems []error
	for i := range list.Items {
		problems = append(problems, j.clearExport(ctx, &list.Items[i]))
	}
	return errors.Join(problems...)
}

func (j *Joiner) clearExport(ctx context.Context, export *unstructured.Unstructured) error {
	what := describe(j.member.client, export)
	cleared := false
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if cleared = withoutVerdicts(export); !cleared || j.dry {
			return nil
		}
		err := j.member.client.Status().Update(ctx, export)
		if apierrors.IsConflict(err) {
			if gone := j.member.client.Get(ctx, client.ObjectKeyFromObject(export), export); gone != nil {
				return gone
			}
		}
		return err
	})
	switch {
	case apierrors.IsNotFound(err): // deleted meanwhile
	case err != nil:
		return fmt.Errorf("taking the conditions off %s in %s: %w", what, j.member.Name, err)
	case cleared:
		j.did("cleared of the hub's conditions in", what, j.member)
	}
	return nil
}

// verdicts are the conditions that the hub writes, always all of them, with the reasons that it gives.
func verdicts() map[string][]string {
	return map[string][]string{
		clusterset.ConditionValid: {clusterset.ReasonValid, clusterset.ReasonNoService, clusterset.ReasonInvalidServiceType},
		clusterset.ConditionReady: {clusterset.ReasonExported, clusterset.ReasonPending, clusterset.ReasonFailed},
		clusterset.ConditionConflict: {
			clusterset.ReasonNoConflicts, clusterset.PortConflict, clusterset.TypeConflict, clusterset.SessionAffinityConflict,
			clusterset.SessionAffinityConfigConflict, clusterset.LabelsConflict, clusterset.AnnotationsConflict,
			clusterset.InternalTrafficPolicyConflict, clusterset.TrafficDistributionConflict, clusterset.IPFamilyConflict,
		},
	}
}

// withoutVerdicts takes from a ServiceExport the conditions that the hub wrote, and tells whether there were any. Without
// conditions an export is one that nobody has looked at, which is what it is from now on. API servers do not always note who
// wrote what, so the hub's are told by what they say: all of them are there, with reasons that the hub gives, and none is
// noted as somebody else's.
func withoutVerdicts(export *unstructured.Unstructured) bool {
	conditions, _, err := unstructured.NestedSlice(export.Object, "status", "conditions")
	if err != nil {
		return false
	}
	ours := verdicts()
	theirs := slices.DeleteFunc(slices.Clone(conditions), func(entry any) bool {
		condition, _ := entry.(map[string]any)
		kind, _ := condition["type"].(string)
		reason, _ := condition["reason"].(string)
		first, _, _ := strings.Cut(reason, ",") // those of several conflicts are joined
		return slices.Contains(ours[kind], first) && !byOther(export.GetManagedFields(), kind)
	})
	if len(conditions)-len(theirs) != len(ours) {
		return false
	}
	if len(theirs) == 0 {
		unstructured.RemoveNestedField(export.Object, "status", "conditions")
		return true
	}
	return unstructured.SetNestedSlice(export.Object, theirs, "status", "conditions") == nil
}

// byOther tells whether the API server has noted that somebody else than the hub wrote the status of a condition last.
func byOther(entries []metav1.ManagedFieldsEntry, condition string) bool {
	type fields struct {
		Status struct {
			Conditions map[string]struct {
				Status *struct{} `json:"f:status"`
			} `json:"f:conditions"`
		} `json:"f:status"`
	}
	key, err := json.Marshal(map[string]string{"type": condition})
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(entry metav1.ManagedFieldsEntry) bool {
		if entry.Manager == hubWriter || entry.FieldsV1 == nil {
			return false
		}
		var owned fields
		return json.Unmarshal(entry.FieldsV1.GetRawBytes(), &owned) == nil && owned.Status.Conditions["k:"+string(key)].Status != nil
	})
}
