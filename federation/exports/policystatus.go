package exports

import (
	"context"
	"fmt"
	"slices"
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

// strangers returns the clusters that a policy names and nobody is, sorted.
func strangers(spec *v1alpha1.ServicePolicySpec, snapshot *clusterset.Snapshot) []string {
	var named []string
	for _, tier := range spec.Failover {
		if tier.By == string(clusterset.ByCluster) {
			named = append(named, tier.Names...)
		}
	}
	for _, weight := range spec.ClusterWeights {
		named = append(named, weight.Cluster)
	}
	if spec.Consumers != nil {
		named = append(named, spec.Consumers.Clusters...)
	}
	subsets := func(mirror *v1alpha1.Mirror) {
		if mirror != nil {
			named = append(named, mirror.Clusters...)
		}
	}
	subsets(spec.Mirror)
	for i := range spec.Routes {
		subsets(spec.Routes[i].Mirror)
		for j := range spec.Routes[i].Destinations {
			named = append(named, spec.Routes[i].Destinations[j].Clusters...)
		}
	}
	slices.Sort(named)
	return slices.DeleteFunc(slices.Compact(named), func(id string) bool { return snapshot.Cluster(id) != nil })
}

// ids returns the ids of all members, sorted.
func ids(snapshot *clusterset.Snapshot) []string {
	clusters := snapshot.Clusters()
	list := make([]string, 0, len(clusters))
	for _, c := range clusters {
		list = append(list, c.ID)
	}
	return list
}

// PolicyStatus returns the status of a ServicePolicy, given the one that stands and the newest snapshot.
func PolicyStatus(policy *v1alpha1.ServicePolicy, snapshot *clusterset.Snapshot, now metav1.Time) v1alpha1.ServicePolicyStatus {
	status := *policy.Status.DeepCopy()
	status.ObservedGeneration = policy.Generation
	status.HonouredBy = servicepolicy.Support(&policy.Spec)
	key := client.ObjectKeyFromObject(policy)
	conditions := []metav1.Condition{{Type: ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", Message: "the policy is in force"}}
	if snapshot.Sequence() > 0 {
		resolved := metav1.Condition{Type: ConditionResolved, Status: metav1.ConditionTrue, Reason: "Exported", Message: "the service is exported"}
		if service := snapshot.Service(key); service == nil || !service.Exported() {
			resolved.Status, resolved.Reason = metav1.ConditionFalse, "NotExported"
			resolved.Message = fmt.Sprintf("no cluster exports %s: create a ServiceExport of that name beside its Service", key)
		}
		if unknown := strangers(&policy.Spec, snapshot); len(unknown) > 0 && resolved.Status == metav1.ConditionTrue {
			resolved.Status, resolved.Reason = metav1.ConditionFalse, "UnknownCluster"
			resolved.Message = fmt.Sprintf("the policy names clusters that are not members: %s; members by their ids are: %s",
				strings.Join(unknown, ", "), strings.Join(ids(snapshot), ", "))
		}
		conditions = append(conditions, resolved)
	}
	for _, condition := range conditions {
		condition.ObservedGeneration, condition.LastTransitionTime = policy.Generation, now
		meta.SetStatusCondition(&status.Conditions, condition)
	}
	return status
}
