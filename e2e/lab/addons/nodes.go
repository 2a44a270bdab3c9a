package addons

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	rbacGroup  = "rbac.authorization.k8s.io"
	nodesRole  = "hansa-lab:nodes"
	nodesGroup = "system:nodes"
)

// nodeObjects grant the lab's nodes what they do. The package's documentation compares it with a kubelet's rights.
func nodeObjects() []client.Object {
	subjects := []rbacv1.Subject{{APIGroup: rbacGroup, Kind: rbacv1.GroupKind, Name: nodesGroup}}
	return []client.Object{
		&rbacv1.ClusterRole{
			TypeMeta:   kind("rbac.authorization.k8s.io/v1", "ClusterRole"),
			ObjectMeta: metav1.ObjectMeta{Name: nodesRole},
			Rules: []rbacv1.PolicyRule{
				allow("", []string{"pods"}, "get", "list", "watch", "delete"), // the last step of a Pod's end is the node's
				allow("", []string{"pods/status"}, "patch"),
				allow("", []string{"nodes"}, "get", "list", "watch", "create"),
				allow("", []string{"nodes/status"}, "patch"),
				allow("", []string{"services"}, "list", "watch"),    // environments mention them
				allow("", []string{"configmaps", "secrets"}, "get"), // by the names that Pods mention
				allow("", []string{"serviceaccounts/token"}, "create"),
				allow("", []string{"events"}, "create", "patch"),
			},
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta:   kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
			ObjectMeta: metav1.ObjectMeta{Name: nodesRole},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacGroup, Kind: "ClusterRole", Name: nodesRole},
			Subjects:   subjects,
		},
		&rbacv1.Role{
			TypeMeta:   kind("rbac.authorization.k8s.io/v1", "Role"),
			ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: nodesRole},
			Rules: []rbacv1.PolicyRule{
				allow("coordination.k8s.io", []string{"leases"}, "get", "create", "update"),
			},
		},
		&rbacv1.RoleBinding{
			TypeMeta:   kind("rbac.authorization.k8s.io/v1", "RoleBinding"),
			ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: nodesRole},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacGroup, Kind: "Role", Name: nodesRole},
			Subjects:   subjects,
		},
	}
}

// allow is the rule that allows verbs on resources of one API group.
func allow(group string, resources []string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
}
