package join_test

import (
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/hansa-dev/hansa/federation/join"
)

const hubNamespace = "kube-federation-system"

func schemeOf(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme, err := join.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	if err := appsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}

// announcement is what a hub says of itself.
func announcement(data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: join.Announcement}, Data: data}
}

// An agent is installed, installed again, and removed.
func TestInstallAgent(t *testing.T) {
	t.Parallel()
	scheme := schemeOf(t)
	host := fake.NewClientBuilder().WithScheme(scheme).WithObjects(announcement(map[string]string{
		"address": "hub:15010", "enrolment": "hub:15012", "ca.crt": "ROOTS",
	})).Build()
	node := worker("n1", "z1")
	member := fake.NewClientBuilder().WithScheme(scheme).WithObjects(&node).Build()
	joiner := join.Between(host, member)
	o := join.AgentOptions{Name: "m1", Namespace: hubNamespace, Image: "hansa:1"}
	if err := joiner.InstallAgent(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o.Image = "hansa:2"
	if err := joiner.InstallAgent(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	set := &appsv1.DaemonSet{}
	key := client.ObjectKey{Namespace: hubNamespace, Name: join.AgentName}
	if err := member.Get(t.Context(), key, set); err != nil {
		t.Fatal(err)
	}
	if image := set.Spec.Template.Spec.Containers[0].Image; image != "hansa:2" {
		t.Errorf("installing again left the image at %s", image)
	}
	if err := member.Get(t.Context(), client.ObjectKey{Name: "n1"}, &node); err != nil || node.Labels[join.GatewayLabel] != "true" {
		t.Errorf("the only node is labelled %v (%v)", node.Labels, err)
	}
	for range 2 { // an unjoin may be repeated
		if err := joiner.RemoveAgent(t.Context(), hubNamespace); err != nil {
			t.Fatal(err)
		}
	}
	if err := member.Get(t.Context(), key, set); !apierrors.IsNotFound(err) {
		t.Errorf("the agents are still there: %v", err)
	}
}

func TestInstallAgentWithoutAHub(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason string
		host   []client.Object
	}{
		"silent":       {reason: "Nobody has said where the hub is."},
		"no roots":     {reason: "An agent trusts nobody at first sight.", host: []client.Object{announcement(map[string]string{"address": "h:1", "enrolment": "h:2"})}},
		"no enrolment": {reason: "An agent could not get a certificate.", host: []client.Object{announcement(map[string]string{"address": "h:1", "ca.crt": "ROOTS"})}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scheme := schemeOf(t)
			host := fake.NewClientBuilder().WithScheme(scheme).WithObjects(c.host...).Build()
			member := fake.NewClientBuilder().WithScheme(scheme).Build()
			err := join.Between(host, member).InstallAgent(t.Context(), join.AgentOptions{Name: "m1", Namespace: hubNamespace})
			if !errors.Is(err, join.ErrNoHub) {
				t.Errorf("%s\ngot %v", c.reason, err)
			}
		})
	}
}
