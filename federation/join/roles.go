package join

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api"
)

// ensureSharedRoles makes the cluster roles that hubs share. The role of the default types is the member's admin's to
// narrow or to delete once the aggregated role exists: a later join does not undo that unless it is asked to.
func (j *Joiner) ensureSharedRoles(ctx context.Context, o Options) error {
	known, err := j.hasRole(ctx, api.MemberRole)
	if err != nil {
		return err
	}
	for _, role := range sharedRoles(o.Types, !o.WithoutServices) {
		existing := overwrite
		if o.ErrorOnExisting {
			existing = keep
		}
		if role.Name == DefaultTypesRole && !o.RestoreTypes {
			existing = keepTypes
			there, err := j.hasRole(ctx, role.Name)
			if err != nil {
				return err
			}
			if known && !there {
				j.report("clusterrole/%s is not in %s, where hubs have been joined before; it is left out (--default-types makes it again)", role.Name, j.member.Name)
				continue
			}
		}
		if err := j.ensure(ctx, j.member, role, existing); err != nil {
			return err
		}
	}
	return nil
}

func (j *Joiner) hasRole(ctx context.Context, name string) (bool, error) {
	err := j.member.client.Get(ctx, client.ObjectKey{Name: name}, &rbacv1.ClusterRole{})
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading clusterrole/%s in %s: %w\n%s", name, j.member.Name, err, Advice(err))
	}
	return err == nil, nil
}

// awaitGathered waits until the member's controller manager has gathered the rules of the hub's own roles in the
// aggregated one. Asking what the hub may do instead would be answered by rights that an earlier join gave it.
func (j *Joiner) awaitGathered(ctx context.Context) error {
	started, told := time.Now(), false
	err := wait.PollUntilContextTimeout(ctx, grantPoll, grantTimeout, true, func(ctx context.Context) (bool, error) {
		var aggregated, own, services rbacv1.ClusterRole
		for name, role := range map[string]*rbacv1.ClusterRole{api.MemberRole: &aggregated, HubRole: &own, ServicesRole: &services} {
			err := j.member.client.Get(ctx, client.ObjectKey{Name: name}, role)
			if err != nil && (name != ServicesRole || !apierrors.IsNotFound(err)) {
				return false, fmt.Errorf("reading clusterrole/%s in %s: %w", name, j.member.Name, err)
			}
		}
		done := gathered(aggregated.Rules, slices.Concat(own.Rules, services.Rules))
		if !done && !told && time.Since(started) > quiet {
			told = true
			j.report("waiting until the controller manager of %s gathers the rules of clusterrole/%s", j.member.Name, api.MemberRole)
		}
		return done, nil
	})
	if timedOut(ctx, err) {
		return fmt.Errorf("%s has not gathered the rules of clusterrole/%s within %s. That is the work of the cluster's controller manager: check that it runs, then repeat the join. What the hub could do before, it still can",
			j.member.Name, api.MemberRole, grantTimeout)
	}
	return err
}

// gathered tells whether an aggregated role has the rules of one of its parts.
func gathered(all, part []rbacv1.PolicyRule) bool {
	for _, rule := range part {
		if !slices.ContainsFunc(all, func(have rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(have, rule) }) {
			return false
		}
	}
	return len(all) > 0
}

// deleteSharedRoles removes the cluster roles that hubs share once no other hub is bound to them. Roles that an admin
// labelled for aggregation are the admin's and stay.
func (j *Joiner) deleteSharedRoles(ctx context.Context, hub account) error {
	other, err := j.otherHub(ctx, hub)
	if err != nil {
		return err
	}
	if other != "" {
		j.report("clusterrole/%s kept in %s: clusterrolebinding/%s uses it", api.MemberRole, j.member.Name, other)
		return nil
	}
	var problems []error
	for _, name := range []string{api.MemberRole, HubRole, DefaultTypesRole, ServicesRole} {
		live := &rbacv1.ClusterRole{}
		err := j.member.client.Get(ctx, client.ObjectKey{Name: name}, live)
		if apierrors.IsNotFound(err) || (err == nil && live.Labels[ManagedByLabel] != ManagedBy) {
			continue
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("reading clusterrole/%s in %s: %w", name, j.member.Name, err))
			continue
		}
		problems = append(problems, j.delete(ctx, j.member, live))
	}
	return errors.Join(problems...)
}

// otherHub returns the binding of another hub of the member; empty when there is none.
func (j *Joiner) otherHub(ctx context.Context, hub account) (string, error) {
	bindings := &rbacv1.ClusterRoleBindingList{}
	if err := j.member.client.List(ctx, bindings); err != nil {
		return "", fmt.Errorf("listing ClusterRoleBindings in %s: %w", j.member.Name, err)
	}
	for _, other := range bindings.Items {
		uses := other.RoleRef.Kind == "ClusterRole" && other.RoleRef.Name == api.MemberRole
		if uses && other.Name != memberBindingName(hub.Namespace, hub.Name) {
			return other.Name, nil
		}
	}
	return "", nil
}
