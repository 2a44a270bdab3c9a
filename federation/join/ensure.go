package join

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// policy says what to do with an object that is there already.
type policy int

const (
	overwrite policy = iota // make it as wanted
	keep                    // leave it as it is
	keepTypes               // leave it as it is: the rights of types are the member's admin's to choose
)

// ensure makes an object exist in a cluster, and reports what it did. Objects that are as wanted are not written.
func (j *Joiner) ensure(ctx context.Context, in *Cluster, wanted client.Object, existing policy) error {
	what := describe(in.client, wanted)
	live, ok := wanted.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%s is no API object", what)
	}
	err := in.client.Get(ctx, client.ObjectKeyFromObject(wanted), live)
	switch {
	case apierrors.IsNotFound(err):
		return j.create(ctx, in, wanted)
	case err != nil:
		return fmt.Errorf("reading %s in %s: %w", what, in.Name, err)
	case !differs(wanted, live):
		j.report("%s unchanged in %s", what, in.Name)
		return nil
	case existing == keep:
		j.report("%s in %s is not as Hansa makes it; kept (--error-on-existing=false rewrites it)", what, in.Name)
		return nil
	case existing == keepTypes:
		j.report("%s in %s is not as Hansa makes it; kept (--default-types rewrites it)", what, in.Name)
		return nil
	}
	return j.rewrite(ctx, in, wanted, live)
}

// create creates an object; one that somebody else created meanwhile is an error, since its content is unknown.
func (j *Joiner) create(ctx context.Context, in *Cluster, wanted client.Object) error {
	what := describe(in.client, wanted)
	if j.dry {
		j.did("created in", what, in)
		return nil
	}
	created, ok := wanted.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%s is no API object", what)
	}
	if err := in.client.Create(ctx, created); err != nil {
		return fmt.Errorf("creating %s in %s: %w", what, in.Name, err)
	}
	j.did("created in", what, in)
	return nil
}

// rewrite makes a live object as wanted. A binding's roleRef cannot change, so a binding to another role is replaced.
func (j *Joiner) rewrite(ctx context.Context, in *Cluster, wanted, live client.Object) error {
	what := describe(in.client, wanted)
	if j.dry {
		j.did("updated in", what, in)
		return nil
	}
	if roleRefDiffers(wanted, live) {
		uid := live.GetUID()
		if err := in.client.Delete(ctx, live, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("replacing %s in %s, which refers to another role: %w", what, in.Name, err)
		}
		return j.create(ctx, in, wanted)
	}
	copyContent(wanted, live)
	if err := in.client.Update(ctx, live); err != nil {
		return fmt.Errorf("updating %s in %s: %w", what, in.Name, err)
	}
	j.did("updated in", what, in)
	return nil
}

// differs tells whether a live object lacks something that is wanted. Rules of an aggregated role are not ours.
func differs(wanted, live client.Object) bool {
	if !contains(live.GetLabels(), wanted.GetLabels()) || !contains(live.GetAnnotations(), wanted.GetAnnotations()) {
		return true
	}
	switch want := wanted.(type) {
	case *rbacv1.ClusterRole:
		have, ok := live.(*rbacv1.ClusterRole)
		if !ok || !equality.Semantic.DeepEqual(want.AggregationRule, have.AggregationRule) {
			return true
		}
		return want.AggregationRule == nil && !equality.Semantic.DeepEqual(want.Rules, have.Rules)
	case *rbacv1.Role:
		have, ok := live.(*rbacv1.Role)
		return !ok || !equality.Semantic.DeepEqual(want.Rules, have.Rules)
	case *rbacv1.ClusterRoleBinding:
		have, ok := live.(*rbacv1.ClusterRoleBinding)
		return !ok || want.RoleRef != have.RoleRef || !equality.Semantic.DeepEqual(want.Subjects, have.Subjects)
	case *rbacv1.RoleBinding:
		have, ok := live.(*rbacv1.RoleBinding)
		return !ok || want.RoleRef != have.RoleRef || !equality.Semantic.DeepEqual(want.Subjects, have.Subjects)
	}
	return guardDiffers(wanted, live)
}

func roleRefDiffers(wanted, live client.Object) bool {
	switch want := wanted.(type) {
	case *rbacv1.ClusterRoleBinding:
		have, ok := live.(*rbacv1.ClusterRoleBinding)
		return ok && want.RoleRef != have.RoleRef
	case *rbacv1.RoleBinding:
		have, ok := live.(*rbacv1.RoleBinding)
		return ok && want.RoleRef != have.RoleRef
	}
	return false
}

// copyContent makes live as wanted, and leaves what others added to its metadata.
func copyContent(wanted, live client.Object) {
	live.SetLabels(merge(live.GetLabels(), wanted.GetLabels()))
	live.SetAnnotations(merge(live.GetAnnotations(), wanted.GetAnnotations()))
	switch want := wanted.(type) {
	case *rbacv1.ClusterRole:
		if have, ok := live.(*rbacv1.ClusterRole); ok {
			have.AggregationRule = want.AggregationRule
			if want.AggregationRule == nil {
				have.Rules = want.Rules
			}
		}
	case *rbacv1.Role:
		if have, ok := live.(*rbacv1.Role); ok {
			have.Rules = want.Rules
		}
	case *rbacv1.ClusterRoleBinding:
		if have, ok := live.(*rbacv1.ClusterRoleBinding); ok {
			have.Subjects = want.Subjects
		}
	case *rbacv1.RoleBinding:
		if have, ok := live.(*rbacv1.RoleBinding); ok {
			have.Subjects = want.Subjects
		}
	case *corev1.ServiceAccount:
		if have, ok := live.(*corev1.ServiceAccount); ok {
			have.AutomountServiceAccountToken = want.AutomountServiceAccountToken
		}
	default:
		copyGuard(wanted, live)
	}
}

func contains(all, some map[string]string) bool {
	for key, value := range some {
		if have, ok := all[key]; !ok || have != value {
			return false
		}
	}
	return true
}

func merge(base, over map[string]string) map[string]string {
	if len(base)+len(over) == 0 {
		return nil
	}
	out := maps.Clone(base)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, over)
	return out
}

// describe names an object as kubectl does: kind in lower case, slash, [namespace/]name.
func describe(c client.Client, object client.Object) string {
	kind := "object"
	if gvk, err := apiutil.GVKForObject(object, c.Scheme()); err == nil {
		kind = strings.ToLower(gvk.Kind)
	}
	return kind + "/" + strings.Join(slices.DeleteFunc([]string{object.GetNamespace(), object.GetName()}, func(s string) bool { return s == "" }), "/")
}
