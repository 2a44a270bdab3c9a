package join_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/join"
)

var hub = join.Account{Namespace: "kube-federation-system", Name: "m1-hub"}

func TestSharedRoles(t *testing.T) {
	roles := join.SharedRoles([]schema.GroupResource{
		{Group: "apps", Resource: "replicasets"}, {Resource: "secrets"}, {Group: "apps", Resource: "deployments"},
	}, true)
	byName := map[string]*rbacv1.ClusterRole{}
	for _, role := range roles {
		byName[role.Name] = role
	}
	verbs := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	want := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: verbs},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments", "replicasets"}, Verbs: verbs},
	}
	if diff := cmp.Diff(want, byName[join.DefaultTypesRole].Rules); diff != "" {
		t.Errorf("rules are grouped and sorted (-want +got):\n%s", diff)
	}
	aggregated := byName[api.MemberRole]
	if aggregated.AggregationRule == nil || len(aggregated.Rules) != 0 {
		t.Errorf("the role that is bound gathers its rules, so that an admin can add to them: %+v", aggregated)
	}
	selector := aggregated.AggregationRule.ClusterRoleSelectors[0].MatchLabels
	for _, name := range []string{join.HubRole, join.DefaultTypesRole, join.ServicesRole} {
		for key, value := range selector {
			if byName[name].Labels[key] != value {
				t.Errorf("%s does not carry the label %s=%s that the aggregated role gathers", name, key, value)
			}
		}
		for _, rule := range byName[name].Rules {
			if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.Resources, "*") || slices.Contains(rule.APIGroups, "*") || slices.Contains(rule.Verbs, "escalate") {
				t.Errorf("%s grants more than is needed: %+v", name, rule)
			}
		}
	}
}

func TestGrants(t *testing.T) {
	tests := map[string]struct {
		reason string
		grant  []client.Object
		want   []string
	}{
		"LeastPrivilege": {
			reason: "The shared role is bound per hub, and the ServiceAccount may ask for its own tokens only.",
			grant:  join.MemberGrant(hub),
			want: []string{
				"ClusterRoleBinding hansa-member:kube-federation-system:m1-hub -> hansa-member",
				"Role kube-federation-system/hansa-token:m1-hub: create serviceaccounts/token m1-hub",
				"RoleBinding kube-federation-system/hansa-token:m1-hub -> hansa-token:m1-hub",
			},
		},
		"Guard": {
			reason: "What limits the hub goes with it.",
			grant:  join.Guard(hub),
			want: []string{
				"ValidatingAdmissionPolicyBinding hansa-member.kube-federation-system.m1-hub",
				"ValidatingAdmissionPolicy hansa-member.kube-federation-system.m1-hub",
			},
		},
		"ClusterAdmin": {
			reason: "KubeFed's names and rules: everything, and get on all non-resource URLs.",
			grant:  join.AdminGrant(hub),
			want: []string{
				"ClusterRole kubefed-controller-manager:m1-hub: * *; get *",
				"ClusterRoleBinding kubefed-controller-manager:m1-hub -> kubefed-controller-manager:m1-hub",
			},
		},
		"Namespaced": {
			reason: "KubeFed's grant for a hub of scope Namespaced: everything in its namespace; nodes and health of the cluster.",
			grant:  join.NamespacedGrant(hub),
			want: []string{
				"Role kube-federation-system/kubefed-controller-manager:m1-hub: * *",
				"RoleBinding kube-federation-system/kubefed-controller-manager:m1-hub -> kubefed-controller-manager:m1-hub",
				"ClusterRole kubefed-controller-manager:kube-federation-system:healthcheck-m1-hub: get,list nodes; get /readyz,/version,/api,/api/*,/apis,/apis/*",
				"ClusterRoleBinding kubefed-controller-manager:kube-federation-system:healthcheck-m1-hub -> kubefed-controller-manager:kube-federation-system:healthcheck-m1-hub",
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, object := range tc.grant {
				got = append(got, story(object))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
			for _, object := range tc.grant {
				if !slices.ContainsFunc(join.PersonalGrants(hub), func(o client.Object) bool { return identity(o) == identity(object) }) {
					t.Errorf("%s\nunjoin does not remove %s", tc.reason, identity(object))
				}
			}
		})
	}
}

func identity(o client.Object) string {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", o), "*v1.")
	if o.GetNamespace() == "" {
		return kind + " " + o.GetName()
	}
	return kind + " " + o.GetNamespace() + "/" + o.GetName()
}

// story tells an RBAC object in one line.
func story(o client.Object) string {
	rules := func(list []rbacv1.PolicyRule) string {
		var parts []string
		for _, rule := range list {
			objects := append(append([]string{}, rule.Resources...), rule.NonResourceURLs...)
			part := strings.Join(rule.Verbs, ",") + " " + strings.Join(objects, ",")
			if len(rule.ResourceNames) > 0 {
				part += " " + strings.Join(rule.ResourceNames, ",")
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, "; ")
	}
	switch object := o.(type) {
	case *rbacv1.ClusterRole:
		return identity(o) + ": " + rules(object.Rules)
	case *rbacv1.Role:
		return identity(o) + ": " + rules(object.Rules)
	case *rbacv1.ClusterRoleBinding:
		return identity(o) + " -> " + object.RoleRef.Name
	case *rbacv1.RoleBinding:
		return identity(o) + " -> " + object.RoleRef.Name
	}
	return identity(o)
}

func TestDiffers(t *testing.T) {
	role := func(edit func(*rbacv1.ClusterRole)) *rbacv1.ClusterRole {
		made := &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: "r", Labels: map[string]string{"a": "b"}},
			Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, Resources: []string{"pods"}, APIGroups: []string{""}}},
		}
		edit(made)
		return made
	}
	same := func(*rbacv1.ClusterRole) {}
	aggregate := func(r *rbacv1.ClusterRole) { r.AggregationRule = &rbacv1.AggregationRule{} }
	tests := map[string]struct {
		reason       string
		wanted, live client.Object
		want         bool
	}{
		"Same":       {reason: "Nothing to write.", wanted: role(same), live: role(same)},
		"MoreLabels": {reason: "Labels that others added are theirs.", wanted: role(same), live: role(func(r *rbacv1.ClusterRole) { r.Labels["c"] = "d" })},
		"LabelLost":  {reason: "A label of ours is put back.", wanted: role(same), live: role(func(r *rbacv1.ClusterRole) { r.Labels = nil }), want: true},
		"Rules":      {reason: "Other rules.", wanted: role(same), live: role(func(r *rbacv1.ClusterRole) { r.Rules = nil }), want: true},
		"Aggregated": {
			reason: "The rules of an aggregated role are the controller's.",
			wanted: role(func(r *rbacv1.ClusterRole) { aggregate(r); r.Rules = nil }), live: role(aggregate),
		},
		"Subjects": {
			reason: "A binding to somebody else.",
			wanted: &rbacv1.RoleBinding{Subjects: []rbacv1.Subject{{Name: "a"}}}, live: &rbacv1.RoleBinding{Subjects: []rbacv1.Subject{{Name: "b"}}}, want: true,
		},
		"RoleRef": {
			reason: "A binding of something else.",
			wanted: &rbacv1.ClusterRoleBinding{RoleRef: rbacv1.RoleRef{Name: "a"}}, live: &rbacv1.ClusterRoleBinding{RoleRef: rbacv1.RoleRef{Name: "b"}}, want: true,
		},
		"Namespace": {reason: "A namespace is as wanted when it exists.", wanted: &corev1.Namespace{}, live: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{UID: "1"}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := join.Differs(tc.wanted, tc.live); got != tc.want {
				t.Errorf("%s\ndiffers: %t, want %t", tc.reason, got, tc.want)
			}
			roleRef := name == "RoleRef" // cannot be changed in place: such a binding is replaced
			join.CopyContent(tc.wanted, tc.live)
			if join.Differs(tc.wanted, tc.live) && !roleRef {
				t.Errorf("%s\nstill differs after being made as wanted", tc.reason)
			}
		})
	}
}

func TestAdvice(t *testing.T) {
	group := schema.GroupResource{Resource: "namespaces"}
	tests := map[string]struct {
		reason string
		err    error
		want   string
	}{
		"WrongCA":      {reason: "The commonest mistake after a cluster was made anew.", err: &url.Error{Err: x509.UnknownAuthorityError{}}, want: "certificate-authority-data"},
		"WrongName":    {reason: "Reached through an address that the certificate does not name.", err: &url.Error{Err: x509.HostnameError{Certificate: &x509.Certificate{}}}, want: "another name"},
		"Expired":      {reason: "Certificates end.", err: &url.Error{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, want: "expired"},
		"Unauthorized": {reason: "So do credentials.", err: apierrors.NewUnauthorized("no"), want: "credentials"},
		"Forbidden":    {reason: "Joining takes an admin.", err: apierrors.NewForbidden(group, "x", errors.New("no")), want: "admin"},
		"Other":        {reason: "Anything else: is it running, is it the right one?", err: errors.New("connection refused"), want: "get-contexts"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := join.Advice(fmt.Errorf("asking: %w", tc.err)); !strings.Contains(got, tc.want) {
				t.Errorf("%s\nadvice %q does not contain %q", tc.reason, got, tc.want)
			}
		})
	}
}

func TestProxyOf(t *testing.T) {
	proxy, err := url.Parse("socks5://proxy.example.com:1080")
	if err != nil {
		t.Fatal(err)
	}
	got, err := join.ProxyOf(&rest.Config{Host: "https://m1:6443", Proxy: http.ProxyURL(proxy)})
	if err != nil || got != "socks5://proxy.example.com:1080" {
		t.Errorf("the kubeconfig's proxy-url is handed to the hub; got %q, %v", got, err)
	}
	if got, err := join.ProxyOf(&rest.Config{Host: "https://m1:6443"}); err != nil || got != "" {
		t.Errorf("without proxy-url there is none, whatever this machine's environment says; got %q, %v", got, err)
	}
}
