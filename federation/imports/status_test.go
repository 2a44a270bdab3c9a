package imports_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/imports"
)

// serviceExport returns a ServiceExport as it is in a member, made the given minutes after the epoch.
func serviceExport(age int, edit ...func(map[string]any)) *unstructured.Unstructured {
	object := map[string]any{
		"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
		"metadata": map[string]any{
			"namespace": "shop", "name": "web", "generation": int64(3), "resourceVersion": "9",
			"creationTimestamp": epoch.Add(time.Duration(age) * time.Minute).Format(time.RFC3339),
		},
	}
	for _, e := range edit {
		e(object)
	}
	return &unstructured.Unstructured{Object: object}
}

// conditions tells the conditions in lines, the messages cut short.
func conditions(object *unstructured.Unstructured) []string {
	var lines []string
	all, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, entry := range all {
		c, _ := entry.(map[string]any)
		lines = append(lines, fmt.Sprintf("%v=%v %v", c["type"], c["status"], c["reason"]))
	}
	return lines
}

// TestConflicts is KEP-1645's table of conflicts, as shown on the export of either cluster: a has the older one.
func TestConflicts(t *testing.T) {
	fine := []string{"Valid=True Valid", "Ready=True Exported", "Conflict=False NoConflicts"}
	conflict := func(reasons ...string) []string {
		return []string{fine[0], fine[1], "Conflict=True " + strings.Join(reasons, ",")}
	}
	labelled := func(p *clusterset.Properties) { p.Labels = map[string]string{"l": "1"} }
	tests := map[string]struct {
		reason string
		a, b   *clusterset.Properties
		onA    []string
		onB    []string
	}{
		"None":     {"equal exports do not conflict", properties(), properties(), fine, fine},
		"Ports":    {"other ports: the union counts", properties(), properties(func(p *clusterset.Properties) { p.Ports[0].Port = 81 }), conflict("PortConflict"), conflict("PortConflict")},
		"Type":     {"headless or not: the oldest counts", properties(), properties(func(p *clusterset.Properties) { p.Headless = true }), conflict("TypeConflict"), conflict("TypeConflict")},
		"Affinity": {"session affinity", properties(), properties(func(p *clusterset.Properties) { p.SessionAffinity = corev1.ServiceAffinityClientIP }), conflict("SessionAffinityConflict"), conflict("SessionAffinityConflict")},
		"AffinityConfig": {
			"its configuration, where the affinity agrees",
			properties(func(p *clusterset.Properties) { p.SessionAffinity = corev1.ServiceAffinityClientIP }),
			properties(func(p *clusterset.Properties) {
				p.SessionAffinity, p.AffinityTimeout = corev1.ServiceAffinityClientIP, 60
			}), conflict("SessionAffinityConfigConflict"), conflict("SessionAffinityConfigConflict"),
		},
		"Labels":       {"exported labels", properties(), properties(labelled), conflict("LabelsConflict"), conflict("LabelsConflict")},
		"Annotations":  {"exported annotations", properties(), properties(func(p *clusterset.Properties) { p.Annotations = map[string]string{"l": "1"} }), conflict("AnnotationsConflict"), conflict("AnnotationsConflict")},
		"Internal":     {"internal traffic policy", properties(), properties(func(p *clusterset.Properties) { p.InternalTrafficPolicy = "Local" }), conflict("InternalTrafficPolicyConflict"), conflict("InternalTrafficPolicyConflict")},
		"Distribution": {"traffic distribution", properties(), properties(func(p *clusterset.Properties) { p.TrafficDistribution = "PreferClose" }), conflict("TrafficDistributionConflict"), conflict("TrafficDistributionConflict")},
		"Families":     {"IP families", properties(), properties(func(p *clusterset.Properties) { p.IPFamilies = []corev1.IPFamily{"IPv6"} }), conflict("IPFamilyConflict"), conflict("IPFamilyConflict")},
		"Several":      {"all reasons are told", properties(), properties(labelled, func(p *clusterset.Properties) { p.Headless = true }), conflict("TypeConflict", "LabelsConflict"), conflict("TypeConflict", "LabelsConflict")},
		"ExternalName": {
			"an export that is not valid takes no part", properties(), properties(func(p *clusterset.Properties) { p.Type = corev1.ServiceTypeExternalName }),
			fine,
			[]string{"Valid=False InvalidServiceType", "Ready=False Failed", "Conflict=False NoConflicts"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			builder := clusterset.NewBuilder(0)
			facts(builder, "a@n", "b@n")
			export(builder, "a", 1, tc.a, "10.0.0.1")
			export(builder, "b", 2, tc.b, "10.1.0.1")
			service := builder.Publish().Service(web)
			for i, want := range [][]string{tc.onA, tc.onB} {
				id, p := []string{"a", "b"}[i], []*clusterset.Properties{tc.a, tc.b}[i]
				live := serviceExport(i+1, func(o map[string]any) {
					o["spec"] = map[string]any{"exportedLabels": texts(p.Labels), "exportedAnnotations": texts(p.Annotations)}
				})
				got, err := imports.ExportStatus(service, id, live, "", epoch)
				if err != nil || got == nil {
					t.Fatalf("%s\n%v, %v", tc.reason, got, err)
				}
				if diff := cmp.Diff(want, conditions(got)); diff != "" {
					t.Errorf("%s\non the export of %s (-want +got):\n%s", tc.reason, id, diff)
				}
				if again, err := imports.ExportStatus(service, id, got, "", epoch.Add(time.Hour)); again != nil || err != nil {
					t.Errorf("%s\nwritten again: %v, %v", tc.reason, again, err)
				}
			}
		})
	}
}

func texts(pairs map[string]string) map[string]any {
	out := map[string]any{}
	for key, value := range pairs {
		out[key] = value
	}
	return out
}

// TestExportStatusTimes holds when conditions are written, and what of them changes.
func TestExportStatusTimes(t *testing.T) {
	builder := clusterset.NewBuilder(0)
	facts(builder, "a@n")
	export(builder, "a", 1, properties(), "10.0.0.1")
	service := builder.Publish().Service(web)
	later := epoch.Add(time.Hour)
	first, err := imports.ExportStatus(service, "a", serviceExport(1), "", epoch)
	if err != nil {
		t.Fatal(err)
	}
	status := first.Object["status"]
	foreign := map[string]any{
		"type": "Theirs", "status": "True", "reason": "Theirs", "message": "", "lastTransitionTime": epoch.Format(time.RFC3339),
	}
	tests := map[string]struct {
		reason string
		live   *unstructured.Unstructured
		note   string
		want   string // of the condition Ready: generation, time, message; empty: no write
	}{
		"New":     {reason: "a new export", live: serviceExport(1), want: "3 04:04 the Service is known to the clusterset"},
		"Other":   {reason: "an export that was made anew is not the one that the table knows yet", live: serviceExport(2)},
		"Leaving": {reason: "one that is being deleted", live: serviceExport(1, func(o map[string]any) { metadata(o)["deletionTimestamp"] = later.Format(time.RFC3339) })},
		"Spec": {
			reason: "what it exports has changed, and the table does not know yet",
			live:   serviceExport(1, func(o map[string]any) { o["spec"] = map[string]any{"exportedLabels": map[string]any{"l": "1"}} }),
		},
		"Generation": {
			reason: "the conditions say of which generation they are; the time stays",
			live:   serviceExport(1, func(o map[string]any) { o["status"] = status; metadata(o)["generation"] = int64(4) }),
			want:   "4 03:04 the Service is known to the clusterset",
		},
		"Note": {
			reason: "a message changes without the time",
			live:   serviceExport(1, func(o map[string]any) { o["status"] = status }), note: "not imported in b: why",
			want: "3 03:04 the Service is known to the clusterset; not imported in b: why",
		},
		"Foreign": {
			reason: "conditions of others stay",
			live:   serviceExport(1, func(o map[string]any) { o["status"] = map[string]any{"conditions": []any{foreign}} }),
			want:   "3 04:04 the Service is known to the clusterset",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			written, err := imports.ExportStatus(service, "a", tc.live, tc.note, later)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if written != nil {
				all, _, _ := unstructured.NestedSlice(written.Object, "status", "conditions")
				for _, entry := range all {
					if c, _ := entry.(map[string]any); c["type"] == "Ready" {
						at, _ := time.Parse(time.RFC3339, c["lastTransitionTime"].(string))
						got = fmt.Sprintf("%v %s %v", c["observedGeneration"], at.UTC().Format("15:04"), c["message"])
					}
				}
				if want := 3; name == "Foreign" && len(all) != want+1 {
					t.Errorf("%s\n%d conditions", tc.reason, len(all))
				}
			}
			want := strings.Replace(strings.Replace(tc.want, " 04:04 ", " "+later.Format("15:04")+" ", 1), " 03:04 ", " "+epoch.Format("15:04")+" ", 1)
			if got != want {
				t.Errorf("%s\ngot  %q\nwant %q", tc.reason, got, want)
			}
		})
	}
}

func metadata(o map[string]any) map[string]any {
	m, _ := o["metadata"].(map[string]any)
	return m
}

// TestReady is the table of the condition of a ServiceImport.
func TestReady(t *testing.T) {
	tests := map[string]struct {
		reason string
		edit   func(*imports.Have)
		want   string
	}{
		"Addresses": {"the derived Service has an address", func(*imports.Have) {}, "Ready=True Ready"},
		"Leaving": {"it is being deleted, and has none that lasts", func(h *imports.Have) {
			h.Service.SetDeletionTimestamp(&metav1.Time{Time: epoch})
			unstructured.RemoveNestedField(h.Service.Object, "spec", "clusterIP")
			unstructured.RemoveNestedField(h.Service.Object, "spec", "clusterIPs")
		}, "Ready=False Pending"},
		"Refused": {"the cluster lacks the IP family", func(h *imports.Have) { h.Service, h.Refused = nil, "no IPv6" }, "Ready=False IPFamilyNotSupported"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			builder, s := clusterset.NewBuilder(0), newStore()
			facts(builder, "a@n")
			export(builder, "a", 1, properties(), "10.0.0.1")
			settle(t, s, builder.Publish(), "a")
			have := look(s)
			tc.edit(&have)
			unstructured.RemoveNestedField(have.Import.Object, "spec", "ips")
			if name != "Addresses" {
				have.Import.Object["status"] = nil
			}
			got := conditions(have.Import)
			plan, err := imports.Make(imports.For(builder.Publish(), "a", web, whole), have, epoch)
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range plan.Steps {
				if step.Verb == imports.UpdateStatus {
					got = conditions(step.Object)
				}
			}
			if diff := cmp.Diff([]string{tc.want}, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
