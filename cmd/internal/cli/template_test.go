package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hansa-dev/hansa/federation/typeconfig"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	content, err := parseContent([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: content}
}

func TestFederatedFrom(t *testing.T) {
	tests := map[string]struct {
		reason   string
		in       string
		template string // expected spec.template
		name     string // expected kind, namespace and name
	}{
		"ConfigMap": {
			reason:   "Of the metadata, a template has the labels only; annotations are of one cluster.",
			in:       `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: shop, uid: "1", resourceVersion: "2", creationTimestamp: x, labels: {app: web}, annotations: {x: z}, managedFields: []}, data: {k: v}}`,
			template: `{metadata: {labels: {app: web}}, data: {k: v}}`,
			name:     "FederatedConfigMap shop/a",
		},
		"ManagedLabel": {
			reason:   "An object in a host that is a member carries the managed label; in a template it would be noise.",
			in:       `{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: shop, labels: {kubefed.io/managed: "true"}}, type: Opaque}`,
			template: `{type: Opaque}`,
			name:     "FederatedSecret shop/a",
		},
		"Deployment": {
			reason:   "The status is each member's own.",
			in:       `{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: shop, generation: 3}, spec: {replicas: 3}, status: {readyReplicas: 3}}`,
			template: `{spec: {replicas: 3}}`,
			name:     "FederatedDeployment shop/a",
		},
		"Namespace": {
			reason:   "A FederatedNamespace lives in the namespace itself; finalizers are the API server's.",
			in:       `{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop, team: a}}, spec: {finalizers: [kubernetes]}}`,
			template: `{metadata: {labels: {team: a}}, spec: {}}`,
			name:     "FederatedNamespace shop/shop",
		},
		"Service": {
			reason:   "Addresses and node ports are given by each cluster.",
			in:       `{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], healthCheckNodePort: 31000, ports: [{port: 80, nodePort: 30080, protocol: TCP}]}}`,
			template: `{spec: {ports: [{port: 80, protocol: TCP}]}}`,
			name:     "FederatedService shop/s",
		},
		"HeadlessService": {
			reason:   "clusterIP None is a decision of the author, not an address.",
			in:       `{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {clusterIP: None, clusterIPs: [None], ports: [{port: 80}]}}`,
			template: `{spec: {clusterIP: None, clusterIPs: [None], ports: [{port: 80}]}}`,
			name:     "FederatedService shop/s",
		},
		"ServiceAccount": {
			reason:   "The token Secrets of an account are each cluster's own.",
			in:       `{apiVersion: v1, kind: ServiceAccount, metadata: {name: s, namespace: shop}, secrets: [{name: s-token-1}], imagePullSecrets: [{name: r}]}`,
			template: `{imagePullSecrets: [{name: r}]}`,
			name:     "FederatedServiceAccount shop/s",
		},
		"Job": {
			reason:   "Each API server generates the selector and its label, and refuses another's.",
			in:       `{apiVersion: batch/v1, kind: Job, metadata: {name: j, namespace: shop, labels: {batch.kubernetes.io/job-name: j, x: z}}, spec: {selector: {matchLabels: {batch.kubernetes.io/controller-uid: u}}, template: {metadata: {labels: {batch.kubernetes.io/controller-uid: u, controller-uid: u, job-name: j, app: a}}, spec: {}}}}`,
			template: `{metadata: {labels: {x: z}}, spec: {template: {metadata: {labels: {app: a}}, spec: {}}}}`,
			name:     "FederatedJob shop/j",
		},
		"JobManualSelector": {
			reason:   "A selector that the author wrote stays.",
			in:       `{apiVersion: batch/v1, kind: Job, metadata: {name: j, namespace: shop}, spec: {manualSelector: true, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}}}}`,
			template: `{spec: {manualSelector: true, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}}}}`,
			name:     "FederatedJob shop/j",
		},
		"ClusterScoped": {
			reason:   "A cluster-scoped object has a cluster-scoped federated object.",
			in:       `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: r}, rules: [{verbs: [get]}]}`,
			template: `{rules: [{verbs: [get]}]}`,
			name:     "FederatedClusterRole /r",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := object(t, tc.in)
			before := in.DeepCopy()
			got, err := federatedFrom(guessTypeConfig(in), in)
			if err != nil {
				t.Fatalf("%s\n%v", tc.reason, err)
			}
			want := object(t, tc.template).Object
			if diff := cmp.Diff(want, got.Object["spec"].(map[string]any)["template"]); diff != "" {
				t.Errorf("%s\ntemplate (-want +got):\n%s", tc.reason, diff)
			}
			placement := map[string]any{"clusterSelector": map[string]any{}}
			if diff := cmp.Diff(placement, got.Object["spec"].(map[string]any)["placement"]); diff != "" {
				t.Errorf("%s\nplacement selects all clusters (-want +got):\n%s", tc.reason, diff)
			}
			if name := got.GetKind() + " " + got.GetNamespace() + "/" + got.GetName(); name != tc.name {
				t.Errorf("%s\nmade %q, want %q", tc.reason, name, tc.name)
			}
			if diff := cmp.Diff(before.Object, in.Object); diff != "" {
				t.Errorf("the object given was changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestFederatedFromConfigured(t *testing.T) {
	config := typeconfig.ForTarget(metav1.APIResource{Group: "example.com", Version: "v1", Kind: "Bar", Name: "bars", Namespaced: true}, "fed.example.com", "v1")
	got, err := federatedFrom(config, object(t, `{apiVersion: example.com/v1, kind: Bar, metadata: {name: b, namespace: shop}, size: 3}`))
	if err != nil {
		t.Fatal(err)
	}
	if got.GetAPIVersion() != "fed.example.com/v1" || got.GetKind() != "FederatedBar" {
		t.Errorf("the federated kind is the one that the type was enabled with; got %s %s", got.GetAPIVersion(), got.GetKind())
	}
	if _, err := federatedFrom(config, object(t, `{apiVersion: example.com/v1, kind: Bar, metadata: {generateName: b-}}`)); err == nil {
		t.Error("an object without a name has no federated object: its name has to be the same in every cluster")
	}
}

func TestReadObjects(t *testing.T) {
	got, err := readObjects(strings.NewReader("# nothing here\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range got {
		names = append(names, o.GetKind()+"/"+o.GetName())
	}
	if diff := cmp.Diff([]string{"ConfigMap/a", "Secret/b"}, names); diff != "" {
		t.Errorf("documents and items of lists, in order (-want +got):\n%s", diff)
	}
	if _, err := readObjects(strings.NewReader("---\n# nothing\n")); !errors.Is(err, errNoObjects) {
		t.Errorf("an input without objects is a mistake; got %v", err)
	}
	if _, err := readObjects(strings.NewReader("a: b\n")); err == nil || !strings.Contains(err.Error(), "document 1") {
		t.Errorf("what is no object is named by its place; got %v", err)
	}
}
