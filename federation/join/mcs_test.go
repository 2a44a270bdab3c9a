package join_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	mcscrd "sigs.k8s.io/mcs-api/config/crd"

	"github.com/hansa-dev/hansa/federation/join"
)

func TestServiceDefinitions(t *testing.T) {
	definitions, err := join.ServiceDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, definition := range definitions {
		names = append(names, definition.Name)
		stored := ""
		for _, v := range definition.Spec.Versions {
			if v.Storage {
				stored = v.Name
			}
		}
		if stored != "v1beta1" {
			t.Errorf("%s stores %s; the hub reads and writes v1beta1", definition.Name, stored)
		}
		if definition.Labels[join.ManagedByLabel] != join.ManagedBy {
			t.Errorf("%s does not say that Hansa brought it, so a later join would leave it", definition.Name)
		}
	}
	if diff := cmp.Diff([]string{"serviceexports.multicluster.x-k8s.io", "serviceimports.multicluster.x-k8s.io"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestServiceDefinition is the table of who owns a definition and what joining does to it.
func TestServiceDefinition(t *testing.T) {
	definitions, err := join.ServiceDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	wanted := definitions[0]
	live := func(edit func(*apiextv1.CustomResourceDefinition)) *apiextv1.CustomResourceDefinition {
		made := wanted.DeepCopy()
		made.ResourceVersion = "7"
		edit(made)
		return made
	}
	release := func(version, revision string) func(*apiextv1.CustomResourceDefinition) {
		return func(d *apiextv1.CustomResourceDefinition) {
			d.Labels[mcscrd.ReleaseVersionLabel], d.Labels[mcscrd.CustomResourceDefinitionSchemaRevisionLabel] = version, revision
			d.Spec.Versions = d.Spec.Versions[:1]
		}
	}
	foreign := func(d *apiextv1.CustomResourceDefinition) { delete(d.Labels, join.ManagedByLabel) }
	tests := map[string]struct {
		reason string
		live   *apiextv1.CustomResourceDefinition
		write  bool
		kept   string
	}{
		"None":          {reason: "a member that has none gets ours", write: true},
		"Same":          {reason: "a repeated join writes nothing", live: live(func(*apiextv1.CustomResourceDefinition) {})},
		"Older":         {reason: "one of ours that an earlier Hansa brought is brought up to date", live: live(release("v0.4.0", "3")), write: true},
		"OlderRevision": {reason: "revisions count within a release", live: live(release("v0.5.2", "-1")), write: true},
		"Newer":         {reason: "another hub of the cluster may be newer: never a step back", live: live(release("v0.6.0", "0")), kept: "newer release v0.6.0"},
		"NewerRevision": {reason: "nor within a release", live: live(release("v0.5.2", "1")), kept: "newer release"},
		"Unlabelled":    {reason: "ours, but somebody took the release off: made as it should be", live: live(release("", "")), write: true},
		"Foreign":       {reason: "who else brought it decides about it", live: live(foreign), kept: "is not Hansa's; kept as it is"},
		"ForeignOld": {
			reason: "one without v1beta1 is kept too, with a warning that says what to do",
			live:   live(func(d *apiextv1.CustomResourceDefinition) { foreign(d); release("v0.1.0", "0")(d) }),
			kept:   "warning: is not Hansa's; kept as it is. It does not serve multicluster.x-k8s.io/v1beta1",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			write, kept := join.ServiceDefinition(tc.live, wanted)
			if (write != nil) != tc.write || !strings.Contains(kept, tc.kept) || (kept == "") != (tc.kept == "") {
				t.Fatalf("%s\nwrite %t, kept %q; want %t, %q", tc.reason, write != nil, kept, tc.write, tc.kept)
			}
			if write == nil {
				return
			}
			if diff := cmp.Diff(wanted.Spec.Versions, write.Spec.Versions); diff != "" {
				t.Errorf("%s\nversions (-want +got):\n%s", tc.reason, diff)
			}
			if again, kept := join.ServiceDefinition(write, wanted); again != nil || kept != "" {
				t.Errorf("%s\nwhat was written is not final: %q", tc.reason, kept)
			}
		})
	}
}

// TestServicesRole holds that global services get their rights by a role of their own, and no more than they need.
func TestServicesRole(t *testing.T) {
	has := func(roles []*rbacv1.ClusterRole) *rbacv1.ClusterRole {
		at := slices.IndexFunc(roles, func(r *rbacv1.ClusterRole) bool { return r.Name == join.ServicesRole })
		if at < 0 {
			return nil
		}
		return roles[at]
	}
	if has(join.SharedRoles(nil, false)) != nil {
		t.Error("a member joined without global services gets no role for them")
	}
	role := has(join.SharedRoles(nil, true))
	if role == nil {
		t.Fatal("no role for global services")
	}
	want := []string{
		"get,list,watch namespaces,nodes",
		"get,list,watch,create,update,delete services",
		"get,list,watch clusterproperties",
		"get,list,watch,create,update,delete endpointslices",
		"get,list,watch,create,update,patch,delete serviceexports",
		"get,list,watch,create,update,delete serviceimports",
		"update serviceexports/status,serviceimports/status",
		"create tokenreviews",
	}
	_, rules, _ := strings.Cut(story(role), ": ")
	if diff := cmp.Diff(want, strings.Split(rules, "; ")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
