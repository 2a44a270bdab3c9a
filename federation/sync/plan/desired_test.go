package plan_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/hansa-dev/hansa/federation/status"
	"github.com/hansa-dev/hansa/federation/sync/plan"
	"github.com/hansa-dev/hansa/overrides"
)

// The kinds that the tests are about.
var (
	configMap      = target("", "v1", "ConfigMap")
	service        = target("", "v1", "Service")
	serviceAccount = target("", "v1", "ServiceAccount")
	namespace      = plan.Target{GVK: schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}}
	deployment     = target("apps", "v1", "Deployment")
	job            = target("batch", "v1", "Job")
)

func target(group, version, kind string) plan.Target {
	return plan.Target{GVK: schema.GroupVersionKind{Group: group, Version: version, Kind: kind}, Namespaced: true}
}

func content(tb testing.TB, text string) map[string]any {
	tb.Helper()
	if text == "" {
		return nil
	}
	var result map[string]any
	if err := utilyaml.Unmarshal([]byte(text), &result); err != nil {
		tb.Fatal(err)
	}
	return result
}

func member(tb testing.TB, text string) *unstructured.Unstructured {
	tb.Helper()
	if text == "" {
		return nil
	}
	return &unstructured.Unstructured{Object: content(tb, text)}
}

// want is what a federated object named a in the namespace ns asks for, placed in m1.
func want(tb testing.TB, kind plan.Target, spec string) plan.Want {
	tb.Helper()
	object := map[string]any{"spec": content(tb, spec)}
	parsed, err := overrides.Parse(object)
	w := plan.Want{Target: kind, Object: object, Name: "a", Namespace: "ns", Placed: []string{"m1"}, Overrides: parsed, OverridesError: err, Mode: plan.Sync}
	if !kind.Namespaced {
		w.Namespace = ""
	}
	return w
}

// patches is spec.overrides for the cluster m1.
func patches(list string) string {
	return "overrides: [{clusterName: m1, clusterOverrides: " + list + "}]"
}

func TestDesired(t *testing.T) {
	tests := map[string]struct {
		reason   string
		kind     plan.Target
		spec     string
		existing string
		want     string
	}{
		"new": {
			reason: "kind, apiVersion, name, namespace and the managed label are set", kind: configMap,
			spec: `{template: {data: {k: v}}}`,
			want: `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: ns, labels: {kubefed.io/managed: "true"}}, data: {k: v}}`,
		},
		"no template": {
			reason: "a namespace needs none, and has no namespace itself", kind: namespace,
			spec: `{}`,
			want: `{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {kubefed.io/managed: "true"}}}`,
		},
		"template identity": {
			reason: "the template cannot be another object; its apiVersion counts", kind: deployment,
			spec: `{template: {apiVersion: apps/v1beta2, kind: Pod, metadata: {name: b, namespace: c, generateName: d, labels: {x: "y", kubefed.io/managed: "false"}}}}`,
			want: `{apiVersion: apps/v1beta2, kind: Deployment, metadata: {name: a, namespace: ns, labels: {x: "y", kubefed.io/managed: "true"}}}`,
		},
		"template of an export": {
			reason: "what a server owns, finalizers and owners are dropped; annotations count for a new object", kind: configMap,
			spec: `{template: {status: {x: 1}, metadata: {uid: u, resourceVersion: "7", generation: 2, creationTimestamp: null, deletionTimestamp: x, deletionGracePeriodSeconds: 1, managedFields: [], selfLink: x, finalizers: [f], ownerReferences: [{uid: o}], annotations: {k: v}}}}`,
			want: `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: ns, annotations: {k: v}, labels: {kubefed.io/managed: "true"}}}`,
		},
		"update": {
			reason: "resourceVersion, finalizers, annotations and owners are the member's; labels the template's", kind: configMap,
			spec:     `{template: {metadata: {labels: {x: "y"}, annotations: {k: template}}, data: {k: new}}}`,
			existing: `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7", generation: 3, creationTimestamp: x, finalizers: [f], ownerReferences: [{uid: o}], annotations: {k: member}, labels: {z: z}}, data: {k: old, l: old}}`,
			want:     `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7", finalizers: [f], ownerReferences: [{uid: o}], annotations: {k: member}, labels: {x: "y", kubefed.io/managed: "true"}}, data: {k: new}}`,
		},
		"service": {
			reason: "addresses and ports that the member allocated stay; ports match by name, protocol and port, and no protocol is TCP", kind: service,
			spec: `{template: {spec: {ports: [{name: web, port: 80}, {name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}, {name: new, port: 81}]}}}`,
			existing: `{metadata: {resourceVersion: "7"}, spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], healthCheckNodePort: 30000, ipFamilies: [IPv4],
				ports: [{name: dns-tcp, port: 53, protocol: TCP, nodePort: 3}, {name: dns, port: 53, protocol: UDP, nodePort: 2}, {name: web, port: 80, protocol: TCP, nodePort: 1}, {name: new, port: 82, protocol: TCP, nodePort: 4}]}}`,
			want: `{apiVersion: v1, kind: Service, metadata: {name: a, namespace: ns, resourceVersion: "7", labels: {kubefed.io/managed: "true"}}, spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], healthCheckNodePort: 30000,
				ports: [{name: web, port: 80, nodePort: 1}, {name: dns, port: 53, protocol: UDP, nodePort: 2}, {name: dns-tcp, port: 53, protocol: TCP, nodePort: 3}, {name: new, port: 81}]}}`,
		},
		"service without allocations": {
			reason: "zero values are not carried over", kind: service,
			spec:     `{template: {spec: {type: ExternalName, externalName: x}}}`,
			existing: `{spec: {clusterIP: "", clusterIPs: [], healthCheckNodePort: 0}}`,
			want:     `{apiVersion: v1, kind: Service, metadata: {name: a, namespace: ns, labels: {kubefed.io/managed: "true"}}, spec: {type: ExternalName, externalName: x}}`,
		},
		"override after retention": {
			reason: "an override of a retained field wins", kind: service,
			spec:     `{template: {spec: {ports: [{port: 80}]}}, ` + patches(`[{path: /spec/ports/0/nodePort, value: 31000}]`) + `}`,
			existing: `{spec: {ports: [{port: 80, protocol: TCP, nodePort: 30000}]}}`,
			want:     `{apiVersion: v1, kind: Service, metadata: {name: a, namespace: ns, labels: {kubefed.io/managed: "true"}}, spec: {ports: [{port: 80, nodePort: 31000}]}}`,
		},
		"service account": {
			reason: "generated secrets stay when the template has none", kind: serviceAccount,
			spec: `{template: {secrets: []}}`, existing: `{secrets: [{name: s}]}`,
			want: `{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, namespace: ns, labels: {kubefed.io/managed: "true"}}, secrets: [{name: s}]}`,
		},
		"service account with secrets": {
			reason: "the template's secrets win", kind: serviceAccount,
			spec: `{template: {secrets: [{name: t}]}}`, existing: `{secrets: [{name: s}]}`,
			want: `{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, namespace: ns, labels: {kubefed.io/managed: "true"}}, secrets: [{name: t}]}`,
		},
		"appended secrets": {
			reason: "an override that appends to a retained list does so once", kind: serviceAccount,
			spec:     `{template: {}, ` + patches(`[{op: add, path: /secrets/-, value: {name: t}}, {op: add, path: /metadata/finalizers/-, value: f}]`) + `}`,
			existing: `{metadata: {finalizers: [f]}, secrets: [{name: s}, {name: t}]}`,
			want:     `{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, namespace: ns, finalizers: [f], labels: {kubefed.io/managed: "true"}}, secrets: [{name: s}, {name: t}]}`,
		},
		"replicas": {
			reason: "the template decides unless told otherwise", kind: deployment,
			spec: `{template: {spec: {replicas: 3}}}`, existing: `{spec: {replicas: 7}}`,
			want: `{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: ns, labels: {kubefed.io/managed: "true"}}, spec: {replicas: 3}}`,
		},
		"retained replicas": {
			reason: "retainReplicas leaves them to the member", kind: deployment,
			spec: `{retainReplicas: true, template: {spec: {replicas: 3}}}`, existing: `{spec: {replicas: 7}}`,
			want: `{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: ns, labels: {kubefed.io/managed: "true"}}, spec: {replicas: 7}}`,
		},
		"job": {
			reason: "the selector and the labels that the server generated are immutable", kind: job,
			spec: `{template: {spec: {parallelism: 2, template: {spec: {x: 1}}}}}`,
			existing: `{spec: {selector: {matchLabels: {batch.kubernetes.io/controller-uid: u}}, template: {metadata: {labels: {controller-uid: u, job-name: a,
				batch.kubernetes.io/controller-uid: u, batch.kubernetes.io/job-name: a, other: x}}, spec: {x: 1}}}}`,
			want: `{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: ns, labels: {kubefed.io/managed: "true"}}, spec: {parallelism: 2, selector: {matchLabels: {batch.kubernetes.io/controller-uid: u}},
				template: {metadata: {labels: {controller-uid: u, job-name: a, batch.kubernetes.io/controller-uid: u, batch.kubernetes.io/job-name: a}}, spec: {x: 1}}}}`,
		},
		"job with its own selector": {
			reason: "manualSelector leaves both to the template", kind: job,
			spec:     `{template: {spec: {manualSelector: true, template: {}}}}`,
			existing: `{spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {controller-uid: u}}}}}`,
			want:     `{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: ns, labels: {kubefed.io/managed: "true"}}, spec: {manualSelector: true, template: {}}}`,
		},
		"namespace": {
			reason: "what every namespace has by itself stays", kind: namespace,
			spec: `{}`, existing: `{metadata: {labels: {kubernetes.io/metadata.name: a, x: "y"}}, spec: {finalizers: [kubernetes]}}`,
			want: `{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {kubernetes.io/metadata.name: a, kubefed.io/managed: "true"}}, spec: {finalizers: [kubernetes]}}`,
		},
		"override of metadata": {
			reason: "identity, preconditions and the managed label survive; what a server owns cannot be overridden", kind: configMap,
			spec:     `{template: {}, ` + patches(`[{path: /metadata, value: {name: b, namespace: c, uid: v, resourceVersion: "1", labels: {kubefed.io/managed: "false"}}}, {op: add, path: /apiVersion, value: v2}, {op: add, path: /status, value: {}}]`) + `}`,
			existing: `{metadata: {uid: u, resourceVersion: "7", annotations: {k: v}}}`,
			want:     `{apiVersion: v2, kind: ConfigMap, metadata: {name: a, namespace: ns, uid: u, resourceVersion: "7", labels: {kubefed.io/managed: "true"}}}`,
		},
		"override removes metadata": {
			reason: "identity is made again", kind: configMap,
			spec: `{template: {}, ` + patches(`[{op: remove, path: /metadata}]`) + `}`,
			want: `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: ns, labels: {kubefed.io/managed: "true"}}}`,
		},
		"override of all annotations": {
			reason: "those of Kubernetes' controllers stay, or two controllers would never come to rest; others go", kind: deployment,
			spec:     `{template: {}, ` + patches(`[{op: add, path: /metadata/annotations, value: {foo: bar}}, {op: remove, path: /metadata/annotations/foo}]`) + `}`,
			existing: `{metadata: {annotations: {deployment.kubernetes.io/revision: "1", mine: x}}}`,
			want:     `{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: ns, annotations: {deployment.kubernetes.io/revision: "1"}, labels: {kubefed.io/managed: "true"}}}`,
		},
		"override of one system annotation": {
			reason: "naming it wins", kind: deployment,
			spec:     `{template: {}, ` + patches(`[{op: remove, path: /metadata/annotations/deployment.kubernetes.io~1revision}]`) + `}`,
			existing: `{metadata: {annotations: {deployment.kubernetes.io/revision: "1", mine: x}}}`,
			want:     `{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: ns, annotations: {mine: x}, labels: {kubefed.io/managed: "true"}}}`,
		},
		"other cluster": {
			reason: "another cluster's overrides do not count", kind: configMap,
			spec: `{template: {}, overrides: [{clusterName: m2, clusterOverrides: [{op: add, path: /data, value: {}}]}]}`,
			want: `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: ns, labels: {kubefed.io/managed: "true"}}}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, existing := want(t, tt.kind, tt.spec), member(t, tt.existing)
			got, err := plan.Desired(w, "m1", existing)
			if err != nil {
				t.Fatalf("%s: %v", tt.reason, err)
			}
			if diff := cmp.Diff(content(t, tt.want), got.Object); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
			if diff := cmp.Diff(map[string]any{"spec": content(t, tt.spec)}, w.Object); diff != "" {
				t.Errorf("%s: the federated object was changed:\n%s", tt.reason, diff)
			}
			if diff := cmp.Diff(member(t, tt.existing), existing); diff != "" {
				t.Errorf("%s: the existing object was changed:\n%s", tt.reason, diff)
			}
			again, err := plan.Desired(w, "m1", existing)
			if err != nil || !cmp.Equal(got, again) {
				t.Errorf("%s: twice is not the same: %v", tt.reason, err)
			}
		})
	}
}

func TestDesiredErrors(t *testing.T) {
	tests := map[string]struct {
		reason   string
		kind     plan.Target
		spec     string
		existing string
		code     status.Code
		want     []string
	}{
		"template":        {reason: "a template is an object", kind: configMap, spec: `{template: [x]}`, code: status.ComputeResourceFailed, want: []string{"spec.template", "object"}},
		"metadata":        {reason: "metadata is an object", kind: configMap, spec: `{template: {metadata: x}}`, code: status.ComputeResourceFailed, want: []string{"spec.template.metadata"}},
		"labels":          {reason: "labels are strings, and the first wrong one is named", kind: configMap, spec: `{template: {metadata: {labels: {c: 3, b: 2, a: x}}}}`, code: status.ComputeResourceFailed, want: []string{`labels["b"]`, "quotes"}},
		"annotations":     {reason: "annotations are an object", kind: configMap, spec: `{template: {metadata: {annotations: [x]}}}`, code: status.ComputeResourceFailed, want: []string{"spec.template.metadata.annotations"}},
		"apiVersion":      {reason: "apiVersion is a string", kind: configMap, spec: `{template: {apiVersion: 1}}`, code: status.ComputeResourceFailed, want: []string{"apiVersion"}},
		"service spec":    {reason: "nothing can be kept in a spec that is a string", kind: service, spec: `{template: {spec: x}}`, existing: `{}`, code: status.FieldRetentionFailed, want: []string{"spec.template.spec", "object"}},
		"service ports":   {reason: "ports are a list", kind: service, spec: `{template: {spec: {ports: x}}}`, existing: `{}`, code: status.FieldRetentionFailed, want: []string{"ports"}},
		"service port":    {reason: "a port is an object", kind: service, spec: `{template: {spec: {ports: [80]}}}`, existing: `{}`, code: status.FieldRetentionFailed, want: []string{"ports[0]"}},
		"retain replicas": {reason: "retainReplicas is a boolean", kind: deployment, spec: `{retainReplicas: "yes", template: {}}`, existing: `{}`, code: status.FieldRetentionFailed, want: []string{"retainReplicas"}},
		"job template":    {reason: "labels cannot be kept in a list", kind: job, spec: `{template: {spec: {template: []}}}`, existing: `{spec: {selector: {a: b}}}`, code: status.FieldRetentionFailed, want: []string{"spec.template.spec.template"}},
		"override path":   {reason: "a path that leads nowhere", kind: configMap, spec: `{template: {}, ` + patches(`[{path: /data/k/l, value: v}]`) + `}`, code: status.ApplyOverridesFailed, want: []string{`"m1"`, "[0]", "/data is missing"}},
		"override parse":  {reason: "a forbidden path", kind: configMap, spec: `{template: {}, ` + patches(`[{path: /kind, value: v}]`) + `}`, code: status.ApplyOverridesFailed, want: []string{`"m1"`, "/kind"}},
		"override labels": {reason: "labels stay strings", kind: configMap, spec: `{template: {}, ` + patches(`[{op: add, path: /metadata/labels, value: {a: 1}}]`) + `}`, code: status.ApplyOverridesFailed, want: []string{`"m1"`, `metadata.labels["a"]`}},
		"override meta":   {reason: "metadata stays an object", kind: configMap, spec: `{template: {}, ` + patches(`[{op: add, path: /metadata, value: x}]`) + `}`, code: status.ApplyOverridesFailed, want: []string{`"m1"`, `metadata has to be an object`}},
		"override gv":     {reason: "apiVersion stays a string", kind: configMap, spec: `{template: {}, ` + patches(`[{op: remove, path: /apiVersion}]`) + `}`, code: status.ApplyOverridesFailed, want: []string{`"m1"`, `apiVersion`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := plan.Desired(want(t, tt.kind, tt.spec), "m1", member(t, tt.existing))
			var coded *plan.Error
			if !errors.As(err, &coded) || coded.Code != tt.code || plan.CodeOf(err) != tt.code || got != nil {
				t.Fatalf("%s: got %v, %v", tt.reason, got, err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %q does not say %q", tt.reason, err, part)
				}
			}
		})
	}
	if code := plan.CodeOf(errors.New("x")); code != status.ComputeResourceFailed {
		t.Errorf("an error without a code has %q", code)
	}
}

func TestTemplateVersion(t *testing.T) {
	// The hashes were made with md5sum from the JSON that KubeFed writes: sorted keys, HTML escaped, a newline at the end.
	tests := map[string]struct {
		reason string
		object string
		want   string
	}{
		"no spec":     {reason: "nothing is hashed", object: `{}`},
		"no template": {reason: "nothing is hashed", object: `{spec: {placement: {}}}`},
		"empty":       {reason: "{} and a newline", object: `{spec: {template: {}}}`, want: "8a80554c91d9fca8acb82f023de02f11"},
		"config map":  {reason: "sorted, escaped; numbers as they are", object: `{spec: {template: {metadata: {labels: {b: "1"}}, data: {z: "<&>", a: x}, num: 9007199254740993}}}`, want: "9e56c3953952d8e2ce712770275498e0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := plan.TemplateVersion(content(t, tt.object))
			if err != nil || got != tt.want {
				t.Errorf("%s: %q, %v; want %q", tt.reason, got, err, tt.want)
			}
		})
	}
	for _, text := range []string{`{spec: x}`, `{spec: {template: x}}`} {
		if _, err := plan.TemplateVersion(content(t, text)); err == nil || !strings.Contains(err.Error(), "spec") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestVersion(t *testing.T) {
	for text, want := range map[string]string{
		`{metadata: {resourceVersion: "12"}}`:                `rv:12`,
		`{metadata: {generation: 3, resourceVersion: "12"}}`: `gen:3`,
		`{metadata: {generation: 0, resourceVersion: "12"}}`: `rv:12`,
	} {
		if got := plan.Version(member(t, text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func FuzzDesired(f *testing.F) {
	f.Add([]byte(`{"spec":{"template":{"spec":{"ports":[{"port":80}]}},"overrides":[{"clusterName":"m1","clusterOverrides":[{"op":"add","path":"/metadata/annotations/a","value":"b"}]}]}}`), []byte(`{"metadata":{"labels":{"kubefed.io/managed":"true"}},"spec":{"ports":[{"port":80,"protocol":"TCP","nodePort":1}]}}`), uint8(0))
	f.Add([]byte(`{"spec":{"retainReplicas":true,"template":{"spec":{"replicas":1}}}}`), []byte(`{"spec":{"replicas":2}}`), uint8(4))
	f.Add([]byte(`{"spec":{"template":{"spec":{"template":{}}}}}`), []byte(`{"spec":{"selector":{},"template":{"metadata":{"labels":{"job-name":"a"}}}}}`), uint8(5))
	kinds := []plan.Target{service, serviceAccount, configMap, namespace, deployment, job}
	f.Fuzz(func(t *testing.T, federated, existing []byte, kind uint8) {
		var object, seen map[string]any
		if utilyaml.Unmarshal(federated, &object) != nil || utilyaml.Unmarshal(existing, &seen) != nil || object == nil {
			return
		}
		parsed, err := overrides.Parse(object)
		w := plan.Want{Target: kinds[int(kind)%len(kinds)], Object: object, Name: "a", Namespace: "ns", Placed: []string{"m1"}, Overrides: parsed, OverridesError: err, Mode: plan.Sync}
		var live *unstructured.Unstructured
		if seen != nil {
			live = &unstructured.Unstructured{Object: seen}
		}
		objectBefore, seenBefore := runtime.DeepCopyJSON(object), runtime.DeepCopyJSON(seen)
		_, desiredErr := plan.Desired(w, "m1", live)
		steps := plan.Make(w, []plan.Have{{Cluster: "m1", Ready: true, Synced: true, Object: live}})
		if !cmp.Equal(objectBefore, object) || !cmp.Equal(seenBefore, seen) {
			t.Fatal("the inputs were changed")
		}
		if len(steps) != 1 || steps[0].Verb == plan.Delete || steps[0].Verb == plan.Unlabel {
			t.Fatalf("steps %+v for a placed cluster", steps)
		}
		if desiredErr != nil && steps[0].Object != nil {
			t.Fatalf("%v, and yet %+v", desiredErr, steps[0])
		}
	})
}
