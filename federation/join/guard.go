package join

import (
	"context"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// guard returns the admission policy of a member, and its binding, that keeps the hub from writing Secrets which make
// the cluster issue credentials: tokens of other ServiceAccounts, bootstrap tokens. RBAC cannot tell types of Secrets
// apart. The binding comes first, as in what takes rights away.
func guard(hub account) []client.Object {
	name := guardName(hub.Namespace, hub.Name)
	return []client.Object{
		&admissionregistrationv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: meta("", name),
			Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName:        name,
				ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			},
		},
		&admissionregistrationv1.ValidatingAdmissionPolicy{
			ObjectMeta: meta("", name),
			Spec:       guardSpec(hub),
		},
	}
}

// guardSpec spells the server's defaults out, so that a repeated join finds its policy unchanged.
func guardSpec(hub account) admissionregistrationv1.ValidatingAdmissionPolicySpec {
	return admissionregistrationv1.ValidatingAdmissionPolicySpec{
		FailurePolicy: new(admissionregistrationv1.Fail),
		MatchConstraints: &admissionregistrationv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{},
			ObjectSelector:    &metav1.LabelSelector{},
			MatchPolicy:       new(admissionregistrationv1.Equivalent),
			ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
					Rule: admissionregistrationv1.Rule{
						APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"secrets"},
						Scope: new(admissionregistrationv1.AllScopes),
					},
				},
			}},
		},
		MatchConditions: []admissionregistrationv1.MatchCondition{{
			Name: "hub", Expression: fmt.Sprintf("request.userInfo.username == %q", hub.user()),
		}},
		Validations: []admissionregistrationv1.Validation{{
			Expression: `!has(object.type) || !(object.type in ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"])`,
			Message:    "the hub may not write Secrets that make the cluster issue credentials; only a hub joined with --cluster-admin may",
		}},
	}
}

// guardDiffers is differs for what a guard is made of.
func guardDiffers(wanted, live client.Object) bool {
	switch want := wanted.(type) {
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		have, ok := live.(*admissionregistrationv1.ValidatingAdmissionPolicy)
		return !ok || !equality.Semantic.DeepEqual(want.Spec, have.Spec)
	case *admissionregistrationv1.ValidatingAdmissionPolicyBinding:
		have, ok := live.(*admissionregistrationv1.ValidatingAdmissionPolicyBinding)
		return !ok || !equality.Semantic.DeepEqual(want.Spec, have.Spec)
	}
	return false
}

// copyGuard is copyContent for what a guard is made of.
func copyGuard(wanted, live client.Object) {
	switch want := wanted.(type) {
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		if have, ok := live.(*admissionregistrationv1.ValidatingAdmissionPolicy); ok {
			have.Spec = want.Spec
		}
	case *admissionregistrationv1.ValidatingAdmissionPolicyBinding:
		if have, ok := live.(*admissionregistrationv1.ValidatingAdmissionPolicyBinding); ok {
			have.Spec = want.Spec
		}
	}
}

// ensureGuard makes the guard, where the member's API server has such policies (Kubernetes 1.30 and later).
func (j *Joiner) ensureGuard(ctx context.Context, hub account) error {
	for _, object := range guard(hub) {
		err := j.ensure(ctx, j.member, object, overwrite)
		if apimeta.IsNoMatchError(err) {
			j.report("note: %s has no ValidatingAdmissionPolicy (Kubernetes 1.30); the hub can write Secrets of every type there", j.member.Name)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
