package cli

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/typeconfig"
)

func someKinds() kindList {
	all := metav1.Verbs{"create", "delete", "get", "list", "watch"}
	return newKindList([]*metav1.APIResourceList{
		{GroupVersion: "apps/v1", APIResources: []metav1.APIResource{
			{Name: "deployments", SingularName: "deployment", Kind: "Deployment", Namespaced: true, ShortNames: []string{"deploy"}, Verbs: all},
			{Name: "deployments/status", Kind: "Deployment", Namespaced: true},
		}},
		{GroupVersion: "v1", APIResources: []metav1.APIResource{
			{Name: "nodes", SingularName: "node", Kind: "Node", ShortNames: []string{"no"}, Verbs: all},
			{Name: "services", SingularName: "service", Kind: "Service", Namespaced: true, ShortNames: []string{"svc"}, Verbs: all},
			{Name: "bindings", Kind: "Binding", Namespaced: true, Verbs: metav1.Verbs{"create"}},
		}},
		{GroupVersion: "metrics.k8s.io/v1beta1", APIResources: []metav1.APIResource{{Name: "nodes", Kind: "NodeMetrics"}}},
		{GroupVersion: "serving.knative.dev/v1", APIResources: []metav1.APIResource{{Name: "services", SingularName: "service", Kind: "Service", Namespaced: true, Verbs: all}}},
		{GroupVersion: "a.example.com/v1", APIResources: []metav1.APIResource{{Name: "bars", SingularName: "bar", Kind: "Bar", Namespaced: true, Verbs: all}}},
		{GroupVersion: "b.example.com/v2", APIResources: []metav1.APIResource{{Name: "bars", SingularName: "bar", Kind: "Bar", Namespaced: true, Verbs: all}}},
		{GroupVersion: "types.kubefed.io/v1beta1", APIResources: []metav1.APIResource{{Name: "federatedservices", Kind: "FederatedService", Namespaced: true, Verbs: all}}},
	}, "")
}

func TestFind(t *testing.T) {
	tests := map[string]struct {
		reason, name string
		want         string // group/version kind
		err          string
	}{
		"Plural":         {reason: "As kubectl.", name: "deployments", want: "apps/v1 Deployment"},
		"Kind":           {reason: "KubeFed's guide enables by kind.", name: "Deployment", want: "apps/v1 Deployment"},
		"Short":          {reason: "Short names are kubectl's.", name: "deploy", want: "apps/v1 Deployment"},
		"Qualified":      {reason: "The name of the FederatedTypeConfig.", name: "deployments.apps", want: "apps/v1 Deployment"},
		"SingularGroup":  {reason: "KubeFed's guide writes deployment.apps.", name: "deployment.apps", want: "apps/v1 Deployment"},
		"CoreWins":       {reason: "Core kinds have no group to tell them by.", name: "services", want: "/v1 Service"},
		"OtherGroup":     {reason: "The group says which.", name: "services.serving.knative.dev", want: "serving.knative.dev/v1 Service"},
		"Ambiguous":      {reason: "Two groups: the person decides.", name: "bar", err: "bars.a.example.com, bars.b.example.com"},
		"AmbiguousGroup": {reason: "And says so with the group.", name: "bars.b.example.com", want: "b.example.com/v2 Bar"},
		"Typo":           {reason: "A letter is missing.", name: "deploymnts", err: "Did you mean deployments.apps?"},
		"Part":           {reason: "Half a name.", name: "deploym", err: "Did you mean deployments.apps?"},
		"Unknown":        {reason: "Nothing like it.", name: "xyz", err: "kubectl api-resources"},
		"Subresource":    {reason: "Subresources are no types.", name: "deployments/status", err: "unknown type"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := someKinds().find(tc.name)
			switch {
			case tc.err == "" && err != nil:
				t.Errorf("%s\nunexpected error: %v", tc.reason, err)
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("%s\nerror %v does not contain %q", tc.reason, err, tc.err)
			case tc.err == "" && got.Group+"/"+got.Version+" "+got.Kind != tc.want:
				t.Errorf("%s\nfound %s/%s %s, want %s", tc.reason, got.Group, got.Version, got.Kind, tc.want)
			}
		})
	}
	if _, err := someKinds().find("xyz"); !errors.Is(err, errUnknownType) {
		t.Errorf("an unknown type is told by identity; got %v", err)
	}
}

func TestMayFederate(t *testing.T) {
	// A federated kind may be of any group: what is one, the FederatedTypeConfigs say.
	configs := []corev1b1.FederatedTypeConfig{{Spec: corev1b1.FederatedTypeConfigSpec{
		FederatedType: corev1b1.APIResource{Group: "example.com", Kind: "FederatedBar"},
	}}}
	bar := metav1.APIResource{Group: "example.com", Kind: "FederatedBar", Name: "federatedbars", Verbs: []string{"create", "list", "watch", "delete"}}
	if err := mayFederate(configs, bar); err == nil {
		t.Error("the federated kind of another group is not federated again")
	}
	if err := mayFederate(nil, bar); err != nil {
		t.Errorf("a kind that is called so and is none is a kind like others: %v", err)
	}
	for name, want := range map[string]string{
		"deployments": "", "federatedservices": "federated kind itself", "bindings": "does not support",
	} {
		kind, err := someKinds().find(name)
		if err != nil {
			t.Fatal(err)
		}
		err = mayFederate(configs, kind)
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("mayFederate(%s) = %v, want %q", name, err, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"pods", "pods", 0}, {"pods", "pod", 1}, {"deployments", "deploymnts", 1}, {"kitten", "sitting", 3}} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestConflicts(t *testing.T) {
	bar := func(group, federatedGroup, version string) *corev1b1.FederatedTypeConfig {
		return typeconfig.ForTarget(metav1.APIResource{Group: group, Version: "v1", Kind: "Bar", Name: "bars", Namespaced: true}, federatedGroup, version)
	}
	tests := map[string]struct {
		reason string
		wanted *corev1b1.FederatedTypeConfig
		have   *corev1b1.FederatedTypeConfig
		live   bool
		err    string
	}{
		"First":        {reason: "Another type is in nobody's way.", wanted: bar("a", "", ""), have: bar("b", "x.example.com", "")},
		"Again":        {reason: "Enabling again brings up to date.", wanted: bar("a", "", ""), have: bar("a", "", ""), live: true},
		"SharedKind":   {reason: "Two types must not share a federated kind.", wanted: bar("a", "", ""), have: bar("b", "", ""), err: "--federated-group"},
		"OtherGroup":   {reason: "A federated kind cannot move to another group: objects of it may exist.", wanted: bar("a", "x.example.com", ""), have: bar("a", "", ""), err: "enabled already"},
		"OtherVersion": {reason: "Nor to another version.", wanted: bar("a", "", "v2"), have: bar("a", "", ""), err: "enabled already"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			live, err := conflicts(Hansa, tc.wanted, []corev1b1.FederatedTypeConfig{*tc.have})
			if (tc.err == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("%s\nerror %v, want %q", tc.reason, err, tc.err)
			}
			if (live != nil) != tc.live {
				t.Errorf("%s\nlive FederatedTypeConfig %v, want one: %t", tc.reason, live, tc.live)
			}
		})
	}
}

func TestParseDirective(t *testing.T) {
	got, err := parseDirective([]byte("apiVersion: v1\nkind: EnableTypeDirective\nmetadata: {name: deployments.apps}\nspec: {targetVersion: v1, federatedGroup: g.example.com}\n"))
	want := typeRequest{name: "deployments.apps", version: "v1", federatedGroup: "g.example.com"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for text, want := range map[string]string{
		"kind: EnableTypeDirective": "metadata.name", "kind: Deployment\nmetadata: {name: x}": "holds a Deployment",
		"spec: {foo: bar}\nmetadata: {name: x}": "foo", "metadata: {name: x}\n---\n": "",
	} {
		_, err := parseDirective([]byte(text))
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("parseDirective(%q): error %v does not contain %q", text, err, want)
		}
	}
}

func TestStopped(t *testing.T) {
	config := &corev1b1.FederatedTypeConfig{}
	if !stopped(config, 2) {
		t.Error("a type that no hub ever took up is stopped")
	}
	config.Finalizers = []string{"core.kubefed.io/federated-type-config"}
	if stopped(config, 2) {
		t.Error("a type with the hub's finalizer is not, until the hub says so")
	}
	config.Status = corev1b1.FederatedTypeConfigStatus{ObservedGeneration: 1, PropagationController: corev1b1.ControllerStatusNotRunning}
	if stopped(config, 2) {
		t.Error("what the hub said of an earlier generation does not count")
	}
	config.Status.ObservedGeneration = 2
	if !stopped(config, 2) {
		t.Error("the hub has seen the generation and says that the type is not running")
	}
}
