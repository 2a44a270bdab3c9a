package typeconfig_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/federation/typeconfig"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestCRDForGolden(t *testing.T) {
	for _, config := range typeconfig.Defaults("kube-federation-system") {
		if config.Name != "deployments.apps" {
			continue
		}
		got, err := yaml.Marshal(typeconfig.CRDFor(&config))
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", "federateddeployments.yaml")
		if *update {
			if err := os.WriteFile(golden, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("CRD of deployments.apps differs from %s (run with -update to accept) (-want +got):\n%s", golden, diff)
		}
		return
	}
	t.Fatal("deployments.apps is not among the default types")
}

func TestCRDForNames(t *testing.T) {
	type names struct {
		CRD, Kind  string
		Scope      apiextv1.ResourceScope
		ShortNames []string
	}
	// The table is the list of CRDs in KubeFed's chart.
	want := map[string]names{
		"clusterroles.rbac.authorization.k8s.io": {"federatedclusterroles.types.kubefed.io", "FederatedClusterRole", "Cluster", nil},
		"configmaps":                             {"federatedconfigmaps.types.kubefed.io", "FederatedConfigMap", "Namespaced", []string{"fcm"}},
		"deployments.apps":                       {"federateddeployments.types.kubefed.io", "FederatedDeployment", "Namespaced", []string{"fdeploy"}},
		"ingresses.networking.k8s.io":            {"federatedingresses.types.kubefed.io", "FederatedIngress", "Namespaced", []string{"fing"}},
		"jobs.batch":                             {"federatedjobs.types.kubefed.io", "FederatedJob", "Namespaced", nil},
		"namespaces":                             {"federatednamespaces.types.kubefed.io", "FederatedNamespace", "Namespaced", []string{"fns"}},
		"replicasets.apps":                       {"federatedreplicasets.types.kubefed.io", "FederatedReplicaSet", "Namespaced", []string{"frs"}},
		"secrets":                                {"federatedsecrets.types.kubefed.io", "FederatedSecret", "Namespaced", nil},
		"serviceaccounts":                        {"federatedserviceaccounts.types.kubefed.io", "FederatedServiceAccount", "Namespaced", []string{"fsa"}},
		"services":                               {"federatedservices.types.kubefed.io", "FederatedService", "Namespaced", []string{"fsvc"}},
	}
	got := map[string]names{}
	for _, config := range typeconfig.Defaults("ns") {
		if config.Namespace != "ns" {
			t.Errorf("%s: namespace %q, want ns", config.Name, config.Namespace)
		}
		crd := typeconfig.CRDFor(&config)
		got[config.Name] = names{crd.Name, crd.Spec.Names.Kind, crd.Spec.Scope, crd.Spec.Names.ShortNames}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names of the default types differ from KubeFed's chart (-want +got):\n%s", diff)
	}
}

func TestForTarget(t *testing.T) {
	tests := map[string]struct {
		reason         string
		target         metav1.APIResource
		group, version string
		want           string // what a user would see of it: name, federated type, scopes
	}{
		"CustomResource": {
			reason: "A kind of any group keeps its group in the name only; the federated kind is in KubeFed's group.",
			target: metav1.APIResource{Group: "example.com", Version: "v2", Kind: "Bar", Name: "bars", Namespaced: true},
			want:   "bars.example.com: example.com/v2 Bar bars Namespaced -> types.kubefed.io/v1beta1 FederatedBar federatedbars Namespaced",
		},
		"OtherGroup": {
			reason: "--federated-group and --federated-version tell kinds of the same name in two groups apart.",
			target: metav1.APIResource{Group: "example.com", Version: "v1", Kind: "Deployment", Name: "deployments", Namespaced: true},
			group:  "kubefed.example.com", version: "v1",
			want: "deployments.example.com: example.com/v1 Deployment deployments Namespaced -> kubefed.example.com/v1 FederatedDeployment federateddeployments Namespaced",
		},
		"CustomResourceDefinition": {
			reason: "Federated cluster-scoped kinds are cluster-scoped.",
			target: metav1.APIResource{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition", Name: "customresourcedefinitions"},
			want:   "customresourcedefinitions.apiextensions.k8s.io: apiextensions.k8s.io/v1 CustomResourceDefinition customresourcedefinitions Cluster -> types.kubefed.io/v1beta1 FederatedCustomResourceDefinition federatedcustomresourcedefinitions Cluster",
		},
		"Namespace": {
			reason: "FederatedNamespace is the one federated kind whose scope is not that of its target.",
			target: metav1.APIResource{Version: "v1", Kind: "Namespace", Name: "namespaces"},
			want:   "namespaces: /v1 Namespace namespaces Cluster -> types.kubefed.io/v1beta1 FederatedNamespace federatednamespaces Namespaced",
		},
		"NamespacesOfAnotherGroup": {
			reason: "Only core namespaces are special; a cluster-scoped kind of the same plural in another group is not.",
			target: metav1.APIResource{Group: "example.com", Version: "v1", Kind: "Namespace", Name: "namespaces"},
			want:   "namespaces.example.com: example.com/v1 Namespace namespaces Cluster -> types.kubefed.io/v1beta1 FederatedNamespace federatednamespaces Cluster",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			config := typeconfig.ForTarget(tc.target, tc.group, tc.version)
			target, federated := config.Spec.TargetType, config.Spec.FederatedType
			got := config.Name + ": " + target.Group + "/" + target.Version + " " + target.Kind + " " + target.PluralName + " " + string(target.Scope) +
				" -> " + federated.Group + "/" + federated.Version + " " + federated.Kind + " " + federated.PluralName + " " + string(federated.Scope)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
			if crd := typeconfig.CRDFor(config); crd.Spec.Scope != federated.Scope {
				t.Errorf("%s\nscope of the CRD is %s, want %s", tc.reason, crd.Spec.Scope, federated.Scope)
			}
		})
	}
}

func TestShortNames(t *testing.T) {
	got := typeconfig.ShortNames(metav1.APIResource{ShortNames: []string{"crds", "crd", "crd"}})
	if diff := cmp.Diff([]string{"fcrd", "fcrds"}, got); diff != "" {
		t.Errorf("short names are sorted, once each, behind an f (-want +got):\n%s", diff)
	}
}
