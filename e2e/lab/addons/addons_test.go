package addons_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/hansa-dev/hansa/e2e/lab/addons"
)

func TestObjectsAreListedInTheOrderOfTheirMaking(t *testing.T) {
	want := []string{
		"ClusterRole /hansa-lab:nodes",
		"ClusterRoleBinding /hansa-lab:nodes",
		"Role kube-node-lease/hansa-lab:nodes",
		"RoleBinding kube-node-lease/hansa-lab:nodes",
		"ServiceAccount kube-system/coredns",
		"ClusterRole /system:coredns",
		"ClusterRoleBinding /system:coredns",
		"ConfigMap kube-system/coredns",
		"Service kube-system/kube-dns",
		"Deployment kube-system/coredns",
	}
	var got []string
	for _, object := range addons.Objects(0) {
		got = append(got, object.GetObjectKind().GroupVersionKind().Kind+" "+object.GetNamespace()+"/"+object.GetName())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}

func TestObjectsAreNobodyElses(t *testing.T) {
	for _, object := range addons.Objects(0) {
		object.SetName("changed")
		object.SetLabels(map[string]string{"changed": "yes"})
	}
	if diff := cmp.Diff(addons.Objects(0), addons.Objects(0)); diff != "" {
		t.Errorf("two calls differ (-first +second):\n%s", diff)
	}
	for _, object := range addons.Objects(0) {
		if object.GetName() == "changed" || object.GetLabels()["changed"] != "" {
			t.Errorf("%T is shared with an earlier caller", object)
		}
	}
}

func TestObjectsSayTheirKind(t *testing.T) {
	for _, object := range addons.Objects(0) {
		want, err := apiutil.GVKForObject(object, scheme.Scheme)
		if err != nil {
			t.Fatal(err)
		}
		if got := object.GetObjectKind().GroupVersionKind(); got != want {
			t.Errorf("%s says that it is a %s, and is a %s", object.GetName(), got, want)
		}
		for name := range strings.SplitSeq(object.GetName(), ":") {
			if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
				t.Errorf("%s: %v", object.GetName(), problems)
			}
		}
	}
}

func TestBindingsGrantWhatExists(t *testing.T) {
	objects := addons.Objects(0)
	var roles, accounts []string
	for _, object := range objects {
		switch o := object.(type) {
		case *rbacv1.ClusterRole:
			roles = append(roles, "ClusterRole /"+o.Name)
		case *rbacv1.Role:
			roles = append(roles, "Role "+o.Namespace+"/"+o.Name)
		case *corev1.ServiceAccount:
			accounts = append(accounts, o.Namespace+"/"+o.Name)
		}
	}
	check := func(role string, subjects []rbacv1.Subject) {
		t.Helper()
		if !slices.Contains(roles, role) {
			t.Errorf("a binding grants %s; there are %v", role, roles)
		}
		for _, s := range subjects {
			group := s.Kind == rbacv1.GroupKind && s.Name == "system:nodes" && s.APIGroup == rbacv1.GroupName
			account := s.Kind == rbacv1.ServiceAccountKind && slices.Contains(accounts, s.Namespace+"/"+s.Name) && s.APIGroup == ""
			if !group && !account {
				t.Errorf("%s is granted to %+v, which is neither the nodes nor one of %v", role, s, accounts)
			}
		}
	}
	for _, object := range objects {
		switch o := object.(type) {
		case *rbacv1.ClusterRoleBinding:
			check(o.RoleRef.Kind+" /"+o.RoleRef.Name, o.Subjects)
		case *rbacv1.RoleBinding:
			check(o.RoleRef.Kind+" "+o.Namespace+"/"+o.RoleRef.Name, o.Subjects)
		}
	}
}

// TestRights is the list of what nodes and the DNS may do, so that a change of it is seen.
func TestRights(t *testing.T) {
	want := map[string][]string{
		"hansa-lab:nodes": {
			"/pods get list watch delete",
			"/pods/status patch",
			"/nodes get list watch create",
			"/nodes/status patch",
			"/services list watch",
			"/configmaps get", "/secrets get",
			"/serviceaccounts/token create",
			"/events create patch",
		},
		"kube-node-lease/hansa-lab:nodes": {"coordination.k8s.io/leases get create update"},
		"system:coredns":                  {"/namespaces list watch", "/services list watch", "discovery.k8s.io/endpointslices list watch"},
	}
	got := map[string][]string{}
	for _, object := range addons.Objects(0) {
		switch o := object.(type) {
		case *rbacv1.ClusterRole:
			got[o.Name] = rights(o.Rules)
		case *rbacv1.Role:
			got[o.Namespace+"/"+o.Name] = rights(o.Rules)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rights (-want +got):\n%s", diff)
	}
}

func rights(rules []rbacv1.PolicyRule) []string {
	var lines []string
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				lines = append(lines, group+"/"+resource+" "+strings.Join(rule.Verbs, " "))
			}
		}
	}
	return lines
}

func TestServiceAddress(t *testing.T) {
	for _, test := range []struct {
		cluster int
		want    string
		reason  string
	}{
		{0, "10.96.0.10", "the hub's range of Services is 10.96.0.0/16"},
		{1, "10.97.0.10", "each cluster has a range of its own"},
		{50, "10.146.0.10", "the last member of the largest lab"},
	} {
		service := find[*corev1.Service](t, addons.Objects(test.cluster), addons.DNSService)
		if got := netip.MustParseAddr(service.Spec.ClusterIP); got.String() != test.want {
			t.Errorf("cluster %d: address %s, want %s: %s", test.cluster, got, test.want, test.reason)
		}
	}
}

func TestServiceFindsThePods(t *testing.T) {
	objects := addons.Objects(0)
	service := find[*corev1.Service](t, objects, addons.DNSService)
	deployment := find[*appsv1.Deployment](t, objects, addons.DNSName)
	pod := deployment.Spec.Template
	for name, selector := range map[string]map[string]string{
		"Service": service.Spec.Selector, "Deployment": deployment.Spec.Selector.MatchLabels,
	} {
		if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
			t.Errorf("the selector of the %s, %v, does not match the Pods' labels %v", name, selector, pod.Labels)
		}
	}
	open := map[string]bool{}
	for _, port := range pod.Spec.Containers[0].Ports {
		open[string(port.Protocol)+"/"+port.Name] = true
	}
	for _, port := range service.Spec.Ports {
		if !open[string(port.Protocol)+"/"+port.Name] {
			t.Errorf("port %s of the Service is none of the Pods' %v", port.Name, slices.Sorted(maps.Keys(open)))
		}
	}
}

func TestPodReadsItsCorefile(t *testing.T) {
	objects := addons.Objects(0)
	config := find[*corev1.ConfigMap](t, objects, addons.DNSName)
	account := find[*corev1.ServiceAccount](t, objects, addons.DNSName)
	pod := find[*appsv1.Deployment](t, objects, addons.DNSName).Spec.Template.Spec
	volume := pod.Volumes[0].ConfigMap
	if volume.Name != config.Name || config.Data[volume.Items[0].Key] != addons.Corefile {
		t.Errorf("the volume shows %v of ConfigMap %s, not the Corefile", volume.Items, volume.Name)
	}
	c := pod.Containers[0]
	path := c.VolumeMounts[0].MountPath + "/" + volume.Items[0].Path
	if diff := cmp.Diff([]string{"-conf", path}, c.Args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	if pod.ServiceAccountName != account.Name {
		t.Errorf("the Pods are %q, not %q", pod.ServiceAccountName, account.Name)
	}
	if pod.DNSPolicy != corev1.DNSDefault {
		t.Errorf("DNS policy %s: the DNS would ask itself", pod.DNSPolicy)
	}
}

func TestPodKnowsWhoAnswersForTheClusterSet(t *testing.T) {
	for _, test := range []struct {
		cluster int
		want    string
		reason  string
	}{
		{0, "172.20.0.11:15053", "the first node of the hub"},
		{3, "172.20.3.11:15053", "each cluster has a server of its own"},
	} {
		var got string
		for _, variable := range find[*appsv1.Deployment](t, addons.Objects(test.cluster), addons.DNSName).Spec.Template.Spec.Containers[0].Env {
			if strings.Contains(addons.Corefile, "{$"+variable.Name+"}") {
				got = variable.Value
			}
		}
		if got != test.want || addons.ClusterSetDNS(test.cluster).String() != test.want {
			t.Errorf("cluster %d: the Corefile's variable is %q, and the address %s; want %s: %s",
				test.cluster, got, addons.ClusterSetDNS(test.cluster), test.want, test.reason)
		}
	}
}

// find returns the object of a type by its name.
func find[T client.Object](t *testing.T, objects []client.Object, name string) T {
	t.Helper()
	for _, object := range objects {
		if o, ok := object.(T); ok && o.GetName() == name {
			return o
		}
	}
	t.Fatalf("no %T named %s", *new(T), name)
	panic("unreachable")
}
