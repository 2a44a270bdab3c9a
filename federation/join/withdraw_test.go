package join_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/imports"
	"github.com/hansa-dev/hansa/federation/join"
)

// verdict is a condition of a ServiceExport as a writer leaves it in the status, and in managedFields if the API server notes
// writers.
type verdict struct{ kind, reason, by string }

// byHub are the conditions that the hub writes.
func byHub(noted string) []verdict {
	return []verdict{{"Valid", "Valid", noted}, {"Ready", "Exported", noted}, {"Conflict", "PortConflict,LabelsConflict", noted}}
}

func exported(name string, verdicts ...verdict) *unstructured.Unstructured {
	made := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": mcsv1beta1.GroupVersion.String(), "kind": "ServiceExport",
		"metadata": map[string]any{"namespace": "shop", "name": name},
	}}
	var conditions []any
	var fields []metav1.ManagedFieldsEntry
	for _, v := range verdicts {
		conditions = append(conditions, map[string]any{"type": v.kind, "status": "True", "reason": v.reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
		if v.by == "" {
			continue
		}
		text := fmt.Sprintf(`{"f:status":{"f:conditions":{"k:{\"type\":\"%s\"}":{".":{},"f:status":{},"f:type":{}}}}}`, v.kind)
		fields = append(fields, metav1.ManagedFieldsEntry{
			Manager: v.by, Operation: metav1.ManagedFieldsOperationUpdate, Subresource: "status", APIVersion: mcsv1beta1.GroupVersion.String(),
			FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(text),
		})
	}
	if conditions != nil {
		made.Object["status"] = map[string]any{"conditions": conditions}
	}
	made.SetManagedFields(fields)
	return made
}

func kindsOf(export *unstructured.Unstructured) []string {
	conditions, _, _ := unstructured.NestedSlice(export.Object, "status", "conditions")
	var kinds []string
	for _, entry := range conditions {
		condition, _ := entry.(map[string]any)
		kinds = append(kinds, fmt.Sprint(condition["type"]))
	}
	return kinds
}

func TestWithoutVerdicts(t *testing.T) {
	tests := map[string]struct {
		reason  string
		export  *unstructured.Unstructured
		want    []string // conditions that are left
		changed bool
	}{
		"Ours":    {reason: "nobody takes the export any more", export: exported("web", byHub("")...), changed: true},
		"Noted":   {reason: "so says the API server", export: exported("web", byHub("hansa-hub")...), changed: true},
		"Theirs":  {reason: "another implementation has the cluster too, and the same words", export: exported("web", byHub("other")...), want: []string{"Valid", "Ready", "Conflict"}},
		"Some":    {reason: "the hub writes all three", export: exported("web", byHub("")[:2]...), want: []string{"Valid", "Ready"}},
		"Reasons": {reason: "the hub gives no such reason", export: exported("web", append(byHub("")[:2], verdict{"Conflict", "Because", ""})...), want: []string{"Valid", "Ready", "Conflict"}},
		"Beside":  {reason: "what others add stays", export: exported("web", append(byHub(""), verdict{"Mine", "Valid", ""})...), want: []string{"Mine"}, changed: true},
		"Nothing": {reason: "nobody has looked at it yet", export: exported("web")},
		"Odd": {reason: "what no API server wrote is left alone", export: &unstructured.Unstructured{Object: map[string]any{
			"status": map[string]any{"conditions": "odd"},
		}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if changed := join.WithoutVerdicts(tc.export); changed != tc.changed {
				t.Errorf("%s\nchanged %t, want %t", tc.reason, changed, tc.changed)
			}
			if diff := cmp.Diff(tc.want, kindsOf(tc.export)); diff != "" {
				t.Errorf("%s\nleft (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestUnjoinWithdrawsServices holds that a member that left keeps nothing of the clusterset's services, and what others made.
func TestUnjoinWithdrawsServices(t *testing.T) {
	meta := func(name string, labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: labels}
	}
	binding := func(name string) client.Object {
		return &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: api.MemberRole}}
	}
	ours, derived := map[string]string{imports.ManagedByLabel: api.Controller}, map[string]string{api.SliceManagedByLabel: api.Controller}
	other := map[string]string{imports.ManagedByLabel: "other", api.SliceManagedByLabel: "other"}
	objects := func() []client.Object {
		return []client.Object{
			&mcsv1beta1.ServiceImport{ObjectMeta: meta("web", ours)},
			&mcsv1beta1.ServiceImport{ObjectMeta: meta("theirs", other)},
			&mcsv1beta1.ServiceImport{ObjectMeta: meta("bare", nil)},
			&corev1.Service{ObjectMeta: meta("derived-web", derived)},
			&corev1.Service{ObjectMeta: meta("web", nil)},
			&discoveryv1.EndpointSlice{ObjectMeta: meta("derived-web-m2", derived)},
			&discoveryv1.EndpointSlice{ObjectMeta: meta("web-1", other)},
			exported("web", byHub("hansa-hub")...),
			exported("theirs", byHub("other")...),
		}
	}
	everything := []string{"import bare", "import theirs", "import web", "service derived-web", "service web", "slice derived-web-m2", "slice web-1", "export theirs [Valid Ready Conflict]", "export web [Valid Ready Conflict]"}
	tests := map[string]struct {
		binding client.Object
		dry     bool
		want    []string
	}{
		"Alone":     {want: []string{"import bare", "import theirs", "service web", "slice web-1", "export theirs [Valid Ready Conflict]", "export web []"}},
		"Rehearsal": {dry: true, want: everything},
		"OwnBinding": {
			binding: binding("hansa-member:" + hub.Namespace + ":" + hub.Name),
			want:    []string{"import bare", "import theirs", "service web", "slice web-1", "export theirs [Valid Ready Conflict]", "export web []"},
		},
		"OtherHub": {binding: binding("hansa-member:" + hub.Namespace + ":m1-other"), want: everything},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			member := memberWith(t, objects(), tc.binding)
			joiner := join.Reaching(member)
			if tc.dry {
				joiner = join.Rehearsing(member)
			}
			if err := joiner.WithdrawServices(t.Context(), hub); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, inventory(t, member)); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
		})
	}
}

// A member that never had global services has nothing to withdraw.
func TestUnjoinWithoutServices(t *testing.T) {
	scheme, err := join.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	if err := join.Reaching(fake.NewClientBuilder().WithScheme(scheme).Build()).WithdrawServices(t.Context(), hub); err != nil {
		t.Error(err)
	}
}

func memberWith(t *testing.T, objects []client.Object, binding client.Object) client.Client {
	t.Helper()
	scheme, err := join.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	if err := mcsv1beta1.Install(scheme); err != nil {
		t.Fatal(err)
	}
	if err := discoveryv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if binding != nil {
		objects = append(objects, binding)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&mcsv1beta1.ServiceExport{}).WithReturnManagedFields().
		WithObjects(objects...).Build()
}

// inventory lists what a member has of services: the exports with the types of their conditions.
func inventory(t *testing.T, member client.Client) []string {
	t.Helper()
	var found []string
	for _, kind := range []struct{ name, group, kind string }{
		{"import", mcsv1beta1.GroupVersion.String(), "ServiceImport"},
		{"service", "v1", "Service"},
		{"slice", "discovery.k8s.io/v1", "EndpointSlice"},
		{"export", mcsv1beta1.GroupVersion.String(), "ServiceExport"},
	} {
		list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": kind.group, "kind": kind.kind + "List"}}
		if err := member.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for i := range list.Items {
			name := kind.name + " " + list.Items[i].GetName()
			if kind.name == "export" {
				name += fmt.Sprint(" ", kindsOf(&list.Items[i]))
			}
			names = append(names, name)
		}
		slices.Sort(names)
		found = append(found, names...)
	}
	return found
}
