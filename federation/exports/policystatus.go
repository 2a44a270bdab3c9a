package exports

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// writePolicy keeps the status of a ServicePolicy.
func (c *Controllers) writePolicy(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var policy v1alpha1.ServicePolicy
	if err := c.Client.Get(ctx, request.NamespacedName, &policy); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	snapshot, _ := c.Watcher.Current()
	status := PolicyStatus(&policy, snapshot, metav1.Now())
	if equality.Semantic.DeepEqual(status, policy.Status) {
		return reconcile.Result{}, nil
	}
	base := policy.DeepCopy()
	policy.Status = status
	if err := c.Client.Status().Patch(ctx, &policy, client.MergeFrom(base)); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("writing the status of ServicePolicy %s: %w", request, err)
	}
	return reconcile.Result{}, nil
}

// PolicyStatus returns the status of a ServicePolicy, given the one that stands and the newest snapshot.
func PolicyStatus(policy *v1alpha1.ServicePolicy, snapshot *clusterset.Snapshot, now metav1.Time) v1alpha1.ServicePolicyStatus {
	status := *policy.Status.DeepCopy()
	status.ObservedGeneration = policy.Generation
	status.HonouredBy = servicepolicy.Support(&policy.Spec)
	conditions := []metav1.Condition{{Type: ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", Message: "the policy is in force"}}
	if snapshot.Sequence() > 0 {
		resolved := metav1.Condition{Type: ConditionResolved, Status: metav1.ConditionTrue, Reason: "Exported", Message: "the service is exported, and so is all that the policy names"}
		if flaws := servicepolicy.Flaws(&policy.Spec, client.ObjectKeyFromObject(policy), snapshot); len(flaws) > 0 {
			messages := make([]string, 0, len(flaws))
			for _, flaw := range flaws {
				messages = append(messages, flaw.Message)
			}
			resolved.Status, resolved.Reason, resolved.Message = metav1.ConditionFalse, flaws[0].Reason, shortened(strings.Join(messages, "; "))
		}
		conditions = append(conditions, resolved)
	}
	for _, condition := range conditions {
		condition.ObservedGeneration, condition.LastTransitionTime = policy.Generation, now
		meta.SetStatusCondition(&status.Conditions, condition)
	}
	return status
}
