package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
)

func TestTables(t *testing.T) {
	created := "2026-01-01T00:00:00Z"
	now := func() time.Time { return time.Date(2026, 1, 1, 0, 5, 0, 0, time.UTC) }
	deployments := metav1.APIResource{Group: "apps", Version: "v1", Kind: "Deployment", Name: "deployments", Namespaced: true}
	federated := metav1.APIResource{Group: "types.kubefed.io", Version: "v1beta1", Kind: "FederatedDeployment", Name: "federateddeployments", Namespaced: true}
	web := `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop, creationTimestamp: "` + created + `", labels: {kubefed.io/managed: "true"}}, spec: {replicas: 3, template: {spec: {containers: [{image: "nginx:1"}]}}}, status: {readyReplicas: 2}}`
	fweb := `{metadata: {name: web, namespace: shop, creationTimestamp: "` + created + `"}, status: {conditions: [{type: Propagation, status: "False", reason: CheckClusters}], clusters: [{name: m1}, {name: m2, status: CreationFailed, message: quota}, {name: m3, status: ClusterNotReady}]}}`
	tests := map[string]struct {
		reason  string
		query   query
		columns []column
		results map[string][]string
		want    string
	}{
		"Members": {
			reason:  "One row per cluster, wanted and ready beside each other.",
			query:   query{kind: deployments, namespace: "shop"},
			columns: memberColumns(deployments),
			results: map[string][]string{"m1": {web}, "m2": {strings.Replace(web, "replicas: 3", "replicas: 5", 1)}},
			want:    "NAME   CLUSTER   WANTED   READY   AGE\nweb    m1        3        2       5m\nweb    m2        5        2       5m\n",
		},
		"AllNamespacesWide": {
			reason:  "Namespaces come first, details last.",
			query:   query{kind: deployments, getFlags: getFlags{output: "wide"}},
			columns: memberColumns(deployments),
			results: map[string][]string{"m1": {web}},
			want:    "NAMESPACE   NAME   CLUSTER   WANTED   READY   IMAGES    MANAGED   AGE\nshop        web    m1        3        2       nginx:1   true      5m\n",
		},
		"Federated": {
			reason:  "The state of propagation at a glance.",
			query:   query{kind: federated, namespace: "shop"},
			columns: federatedColumns(),
			results: map[string][]string{"": {fweb}},
			want:    "NAME   PROPAGATED   REASON          OK    AGE\nweb    False        CheckClusters   1/3   5m\n",
		},
		"FederatedWide": {
			reason:  "And what is wrong where.",
			query:   query{kind: federated, namespace: "shop", getFlags: getFlags{output: "wide", noHeaders: true}},
			columns: federatedColumns(),
			results: map[string][]string{"": {fweb}},
			want:    "web   False   CheckClusters   1/3   m2: CreationFailed (quota), m3: ClusterNotReady   5m\n",
		},
		"Names": {
			reason:  "For scripts: the cluster, then kubectl's name.",
			query:   query{kind: deployments, namespace: "shop", getFlags: getFlags{output: "name"}},
			columns: memberColumns(deployments),
			results: map[string][]string{"m2": {web}, "m1": {web}},
			want:    "m1/deployments.apps/web\nm2/deployments.apps/web\n",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			streams, _, out, _ := genericiooptions.NewTestIOStreams()
			p := &program{name: Hansa, streams: streams}
			q := tc.query
			q.now, q.rows = now, printers.GetNewTabWriter(streams.Out)
			var results []listed
			for _, cluster := range sortedKeys(tc.results) {
				var objects []unstructured.Unstructured
				for _, text := range tc.results[cluster] {
					objects = append(objects, *object(t, text))
				}
				results = append(results, listed{source: source{name: cluster}, objects: objects})
			}
			if err := p.print(&q, results, tc.columns); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestCells(t *testing.T) {
	tests := map[string]struct {
		reason string
		kind   string // group/Kind
		object string
		want   []string // without name and age
	}{
		"Job":          {reason: "Jobs count what succeeded.", kind: "batch/Job", object: `{spec: {completions: 2}, status: {succeeded: 1}}`, want: []string{"2", "1"}},
		"Defaults":     {reason: "What is absent is the API's default.", kind: "apps/Deployment", object: `{}`, want: []string{"1", "0"}},
		"DaemonSet":    {reason: "As many as there are nodes.", kind: "apps/DaemonSet", object: `{status: {desiredNumberScheduled: 3, numberReady: 2}}`, want: []string{"3", "2"}},
		"Service":      {reason: "Ports as kubectl shows them.", kind: "/Service", object: `{spec: {type: NodePort, clusterIP: 10.0.0.1, ports: [{port: 80, nodePort: 30080, protocol: TCP}, {port: 53, protocol: UDP}]}}`, want: []string{"NodePort", "10.0.0.1", "80:30080/TCP,53/UDP"}},
		"ConfigMap":    {reason: "Keys of both kinds of data.", kind: "/ConfigMap", object: `{data: {a: b}, binaryData: {c: d}}`, want: []string{"2"}},
		"Namespace":    {reason: "Active or going.", kind: "/Namespace", object: `{status: {phase: Active}}`, want: []string{"Active"}},
		"AnythingElse": {reason: "Other kinds have their age only.", kind: "example.com/Bar", object: `{spec: {}}`, want: []string{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			group, kind, _ := strings.Cut(tc.kind, "/")
			q := &query{kind: metav1.APIResource{Group: group, Kind: kind}, now: time.Now}
			row := cells(q, memberColumns(q.kind), "m1", object(t, tc.object))
			if diff := cmp.Diff(tc.want, row[2:len(row)-1]); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestAnnotated(t *testing.T) {
	in := object(t, `{metadata: {name: a}}`)
	got := annotated("m1", in)
	if diff := cmp.Diff(object(t, `{metadata: {name: a, annotations: {hansa.dev/cluster: m1}}}`).Object, got); diff != "" {
		t.Errorf("an object of a member says which (-want +got):\n%s", diff)
	}
	if len(in.GetAnnotations()) != 0 {
		t.Error("the object given was changed")
	}
}
