package join

import (
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
)

// Cluster roles that all hubs of a member share. The aggregated one is api.MemberRole.
const (
	// HubRole is what a hub itself needs in a member: health, versions, nodes.
	HubRole = "hansa-member-hub"
	// DefaultTypesRole is what the propagation of the default types needs.
	DefaultTypesRole = "hansa-member-default-types"
	// ServicesRole is what global services need: to read what is exported, and to write what is imported.
	ServicesRole = "hansa-member-services"
)

// TypeVerbs are what the propagation of a type needs in a member.
func TypeVerbs() []string {
	return []string{"get", "list", "watch", "create", "update", "patch", "delete"}
}

// account is the hub's identity in a member.
type account struct {
	Namespace, Name string
}

func (a account) subjects() []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: a.Namespace, Name: a.Name}}
}

// owns tells whether an object in the hub's namespace is one of those that a join of this hub makes.
func (a account) owns(kind, name string) bool {
	switch kind {
	case "ServiceAccount":
		return name == a.Name
	case "Role", "RoleBinding":
		return name == adminRoleName(a.Name) || name == tokenRoleName(a.Name)
	case "Endpoints":
		return name == AgentDNS // which goes a moment after its Service
	}
	return false
}

// user is the name under which the member's API server knows the account.
func (a account) user() string {
	return "system:serviceaccount:" + a.Namespace + ":" + a.Name
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{ManagedByLabel: ManagedBy}}
}

// sharedRoles returns the cluster roles that every hub of a member shares: the aggregated one, and the two whose rules
// it gathers. An admin adds a type by adding one more ClusterRole with api.AggregateToMemberLabel.
//
// The default types are no small grant: who may write Secrets can get any ServiceAccount's token, and who may write
// Deployments can run Pods under any ServiceAccount.
// What is left out on purpose is "escalate" and "bind": a propagated ClusterRole may only grant what the hub holds.
func sharedRoles(types []schema.GroupResource, services bool) []*rbacv1.ClusterRole {
	aggregated := func(name string, rules []rbacv1.PolicyRule) *rbacv1.ClusterRole {
		role := &rbacv1.ClusterRole{ObjectMeta: meta("", name), Rules: rules}
		role.Labels[api.AggregateToMemberLabel] = "true"
		return role
	}
	roles := []*rbacv1.ClusterRole{aggregated(HubRole, hubRules())}
	if services {
		roles = append(roles, aggregated(ServicesRole, serviceRules()))
	}
	if len(types) > 0 {
		roles = append(roles, aggregated(DefaultTypesRole, typeRules(types)))
	}
	return append(roles, &rbacv1.ClusterRole{
		ObjectMeta: meta("", api.MemberRole),
		AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
			{MatchLabels: map[string]string{api.AggregateToMemberLabel: "true"}},
		}},
	})
}

func hubRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "list"}},
		{
			// system:discovery has these too, in most clusters; the probe and discovery cannot do without.
			NonResourceURLs: []string{"/readyz", "/version", "/api", "/api/*", "/apis", "/apis/*"},
			Verbs:           []string{"get"},
		},
	}
}

// serviceRules are what global services need. RBAC cannot tell derived Services and EndpointSlices from others; the hub
// writes those that carry its label, and no others.
func serviceRules() []rbacv1.PolicyRule {
	read := []string{"get", "list", "watch"}
	write := []string{"get", "list", "watch", "create", "update", "delete"}
	mcs := []string{mcsv1beta1.GroupName}
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces", "nodes"}, Verbs: read},
		{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: write},
		{APIGroups: []string{"about.k8s.io"}, Resources: []string{"clusterproperties"}, Verbs: read},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: write},
		// Exports are written where they are federated, by themselves or with a FederatedService.
		{APIGroups: mcs, Resources: []string{"serviceexports"}, Verbs: TypeVerbs()},
		{APIGroups: mcs, Resources: []string{"serviceimports"}, Verbs: write},
		{APIGroups: mcs, Resources: []string{"serviceexports/status", "serviceimports/status"}, Verbs: []string{"update"}},
		// To ask whose token it is that an agent of the member shows when it asks for a certificate.
		{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
	}
}

// typeRules has one rule per API group of the types, sorted.
func typeRules(types []schema.GroupResource) []rbacv1.PolicyRule {
	resources := map[string][]string{}
	for _, target := range types {
		resources[target.Group] = append(resources[target.Group], target.Resource)
	}
	rules := make([]rbacv1.PolicyRule, 0, len(resources))
	for _, group := range slices.Sorted(maps.Keys(resources)) {
		slices.Sort(resources[group])
		rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources[group], Verbs: TypeVerbs()})
	}
	return rules
}

// memberGrant returns what binds a hub to the shared roles, and lets it renew its own token.
func memberGrant(hub account) []client.Object {
	tokenRole := tokenRoleName(hub.Name)
	return []client.Object{
		clusterBinding(hub, memberBindingName(hub.Namespace, hub.Name), api.MemberRole),
		&rbacv1.Role{
			ObjectMeta: meta(hub.Namespace, tokenRole),
			Rules: []rbacv1.PolicyRule{{
				APIGroups:     []string{""},
				Resources:     []string{"serviceaccounts/token"},
				ResourceNames: []string{hub.Name},
				Verbs:         []string{"create"},
			}},
		},
		binding(hub, tokenRole),
	}
}

// adminGrant returns what KubeFed's join grants: everything.
func adminGrant(hub account) []client.Object {
	name := adminRoleName(hub.Name)
	return []client.Object{
		&rbacv1.ClusterRole{
			ObjectMeta: meta("", name),
			Rules: []rbacv1.PolicyRule{
				everything(),
				{NonResourceURLs: []string{rbacv1.NonResourceAll}, Verbs: []string{"get"}},
			},
		},
		clusterBinding(hub, name, name),
	}
}

// namespacedGrant returns what KubeFed's join grants a hub of scope Namespaced: everything in the hub's namespace, and
// health and nodes of the cluster.
func namespacedGrant(hub account) []client.Object {
	name, health := adminRoleName(hub.Name), healthRoleName(hub.Namespace, hub.Name)
	return []client.Object{
		&rbacv1.Role{ObjectMeta: meta(hub.Namespace, name), Rules: []rbacv1.PolicyRule{everything()}},
		binding(hub, name),
		&rbacv1.ClusterRole{ObjectMeta: meta("", health), Rules: hubRules()},
		clusterBinding(hub, health, health),
	}
}

func everything() rbacv1.PolicyRule {
	return rbacv1.PolicyRule{
		APIGroups: []string{rbacv1.APIGroupAll}, Resources: []string{rbacv1.ResourceAll}, Verbs: []string{rbacv1.VerbAll},
	}
}

func clusterBinding(hub account, name, role string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta("", name),
		Subjects:   hub.subjects(),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
	}
}

// binding binds a hub to the Role of the same name in its namespace.
func binding(hub account, name string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: meta(hub.Namespace, name),
		Subjects:   hub.subjects(),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
	}
}

// personalGrants returns the identities of everything that any kind of join may have granted one hub, bindings before
// roles, and what limits it last, so that taking it away never leaves a moment with more than before.
func personalGrants(hub account) []client.Object {
	admin, health, token := adminRoleName(hub.Name), healthRoleName(hub.Namespace, hub.Name), tokenRoleName(hub.Name)
	grants := []client.Object{
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: memberBindingName(hub.Namespace, hub.Name)}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: admin}},
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: admin}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: health}},
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: health}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: hub.Namespace, Name: admin}},
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: hub.Namespace, Name: admin}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: hub.Namespace, Name: token}},
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: hub.Namespace, Name: token}},
	}
	return append(grants, guard(hub)...)
}
