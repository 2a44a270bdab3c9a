package join_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/hansa-dev/hansa/federation/join"
)

// worker is a node that is ready, in a zone, with labels.
func worker(name, zone string, labels ...string) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		n.Labels[key] = value
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

func TestGateways(t *testing.T) {
	t.Parallel()
	control := "node-role.kubernetes.io/control-plane="
	broken, closed := worker("a", "z1"), worker("b", "z1")
	broken.Status.Conditions[0].Status = corev1.ConditionFalse
	closed.Spec.Unschedulable = true
	cases := map[string]struct {
		reason string
		nodes  []corev1.Node
		named  []string
		want   []string
		bad    string
	}{
		"two zones": {
			reason: "A zone that fails takes one gateway with it, not both.",
			nodes:  []corev1.Node{worker("a", "z1"), worker("b", "z1"), worker("c", "z2")}, want: []string{"a", "c"},
		},
		"one zone": {reason: "Two nodes are better than one.", nodes: []corev1.Node{worker("b", "z"), worker("a", "z"), worker("c", "z")}, want: []string{"a", "b"}},
		"one node": {reason: "One is better than none.", nodes: []corev1.Node{worker("a", "z")}, want: []string{"a"}},
		"control plane": {
			reason: "A control plane has other things to do, and others may not be let to it.",
			nodes:  []corev1.Node{worker("a", "z1", control), worker("b", "z2"), worker("c", "z2")}, want: []string{"b", "c"},
		},
		"control plane only": {reason: "Small clusters have nothing else.", nodes: []corev1.Node{worker("a", "z1", control)}, want: []string{"a"}},
		"unusable":           {reason: "A Pod would stay Pending there.", nodes: []corev1.Node{broken, closed, worker("c", "z2")}, want: []string{"c"}},
		"labelled":           {reason: "Somebody has chosen already.", nodes: []corev1.Node{worker("a", "z1"), worker("b", "z1", "hansa.dev/gateway=true")}},
		"labelled otherwise": {reason: "Only true is a choice.", nodes: []corev1.Node{worker("a", "z1", "hansa.dev/gateway=no")}, want: []string{"a"}},
		"named": {
			reason: "What is named is labelled, beside what is labelled already.",
			nodes:  []corev1.Node{worker("a", "z1"), worker("b", "z1", "hansa.dev/gateway=true")}, named: []string{"a", "b"}, want: []string{"a"},
		},
		"named wrongly": {reason: "A slip is told, not skipped.", nodes: []corev1.Node{worker("a", "z1")}, named: []string{"x"}, bad: `there is no node "x"`},
		"none":          {reason: "Nobody would find out why no gateway runs.", nodes: []corev1.Node{broken}, bad: "there is no node for an agent"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := join.Gateways(c.nodes, c.named)
			if c.bad != "" {
				if err == nil || err.Error() != c.bad {
					t.Errorf("%s\ngot %v, want %q", c.reason, err, c.bad)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
				t.Errorf("%s\n%v -want +got:\n%s", c.reason, err, diff)
			}
		})
	}
}

// read returns the object of a kind, and whether all of it is known to the API.
func read(t *testing.T, objects []*unstructured.Unstructured, kind string, into any) {
	t.Helper()
	i := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind })
	if i < 0 {
		t.Fatalf("there is no %s", kind)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(objects[i].Object, into, true); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
}

func TestAgentObjects(t *testing.T) {
	t.Parallel()
	objects, err := join.AgentObjects(join.AgentOptions{
		Name: "m1", Namespace: "fed", Image: "registry.example/hansa:1", Hubs: []string{"h1:15010", "h2:15010"}, Enrolment: []string{"h1:15012"},
		StateDir: "/data/hansa", Args: []string{"--v=1"},
	}, "ROOTS")
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if object.GetLabels()["app.kubernetes.io/managed-by"] != "hansa" {
			t.Errorf("%s/%s does not say whose it is, so unjoin leaves it", object.GetKind(), object.GetName())
		}
		if ns := object.GetNamespace(); ns != "" && ns != "fed" {
			t.Errorf("%s/%s is in namespace %s", object.GetKind(), object.GetName(), ns)
		}
	}
	var roots corev1.ConfigMap
	read(t, objects, "ConfigMap", &roots)
	if roots.Data["ca.crt"] != "ROOTS" {
		t.Errorf("the roots are %q", roots.Data)
	}
	var binding rbacv1.ClusterRoleBinding
	read(t, objects, "ClusterRoleBinding", &binding)
	if binding.Subjects[0].Namespace != "fed" {
		t.Errorf("the rights go to %v", binding.Subjects)
	}
	var role rbacv1.ClusterRole
	read(t, objects, "ClusterRole", &role)
	for _, rule := range role.Rules {
		if !slices.Equal(rule.Verbs, []string{"get", "list", "watch"}) {
			t.Errorf("an agent may %v %v; it has nothing to write", rule.Verbs, rule.Resources)
		}
	}
	var set appsv1.DaemonSet
	read(t, objects, "DaemonSet", &set)
	checkPods(t, &set)
	var service corev1.Service
	read(t, objects, "Service", &service)
	if diff := cmp.Diff(set.Spec.Template.Labels, service.Spec.Selector); diff != "" {
		t.Errorf("the Service of DNS selects others: %s", diff)
	}
}

func checkPods(t *testing.T, set *appsv1.DaemonSet) {
	t.Helper()
	spec := set.Spec.Template.Spec
	agent := spec.Containers[0]
	if agent.Image != "registry.example/hansa:1" {
		t.Errorf("the image is %s", agent.Image)
	}
	for _, want := range []string{"--cluster=m1", "--hub=h1:15010,h2:15010", "--enrol=h1:15012", "--v=1", "--ca-file=/etc/hansa/ca/ca.crt"} {
		if !slices.Contains(agent.Args, want) {
			t.Errorf("the agent is not told %s: %v", want, agent.Args)
		}
	}
	if agent.SecurityContext == nil || len(agent.SecurityContext.Capabilities.Drop) == 0 || !spec.HostNetwork {
		t.Errorf("want the node's network, and no capabilities: %+v", agent.SecurityContext)
	}
	mounted := map[string]bool{}
	for _, mount := range agent.VolumeMounts {
		mounted[mount.Name] = true
	}
	for _, volume := range spec.Volumes {
		if !mounted[volume.Name] {
			t.Errorf("volume %s is of no use", volume.Name)
		}
		if volume.Name == "state" && (volume.HostPath == nil || volume.HostPath.Path != "/data/hansa") {
			t.Errorf("the state is kept in %+v", volume.VolumeSource)
		}
		if volume.Projected != nil && volume.Projected.Sources[0].ServiceAccountToken.Audience != "hansa-hub" {
			t.Errorf("the token is for %q; one for the API server would be good there, too", volume.Projected.Sources[0].ServiceAccountToken.Audience)
		}
	}
}
