package status

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Cluster is the outcome in one cluster.
type Cluster struct {
	// Name of the KubeFedCluster.
	Name string
	// Code is the outcome.
	Code Code
	// Message explains a Code to a person: object, cluster, next step. It is Hansa's addition; empty is not stored.
	Message string
	// Remote is the status of the object in the cluster, as unstructured content; nil means not collected.
	Remote any
}

// Input is everything that a status is computed from.
type Input struct {
	// Generation of the federated object that was acted on; 0 is not stored.
	Generation int64
	// Reason is known before any cluster was looked at (a placement that does not parse), or Success.
	Reason Reason
	// Clusters has one entry per placed cluster and per cluster where removal is under way, in any order.
	Clusters []Cluster
	// Pending says that a placed cluster has not answered yet: the condition is not True before it has.
	Pending bool
	// Changed says that a member was written to since the last status.
	Changed bool
	// CollectRemote turns Cluster.Remote into status.clusters[].remoteStatus.
	CollectRemote bool
	// Now is the time to store when something changed.
	Now time.Time
}

// Summarize returns the content to store as status, and whether it differs from old, which is the status content stored
// now, or nil. It returns old itself when there is no difference.
//
// old is never modified, but the result shares with it, and with Input.Clusters[].Remote, what did not change: treat all
// of them as read-only. Fields and conditions that this package does not know are kept.
//
// The condition's lastTransitionTime moves when its status or reason does; its lastUpdateTime also when the list of
// clusters changes and when Changed is set. Times are RFC 3339 in UTC, in seconds.
func Summarize(old map[string]any, in Input) (map[string]any, bool) {
	clusters := clusterList(in)
	oldClusters, _ := old["clusters"].([]any)
	clustersChanged := len(clusters) != len(oldClusters) || len(clusters) > 0 && !reflect.DeepEqual(clusters, oldClusters)
	conditions, conditionChanged := conditionList(old["conditions"], in, clustersChanged)
	observed, _ := old["observedGeneration"].(int64)

	if old != nil && !clustersChanged && !conditionChanged && observed == in.Generation {
		return old, false
	}
	result := maps.Clone(old)
	if result == nil {
		result = make(map[string]any, 3)
	}
	result["conditions"] = conditions
	setUnless(result, "observedGeneration", in.Generation, in.Generation == 0)
	setUnless(result, "clusters", clusters, len(clusters) == 0)
	return result, true
}

func setUnless(m map[string]any, key string, value any, absent bool) {
	if absent {
		delete(m, key)
		return
	}
	m[key] = value
}

// clusterList renders status.clusters, sorted by name.
func clusterList(in Input) []any {
	sorted := slices.SortedStableFunc(slices.Values(in.Clusters), func(a, b Cluster) int { return strings.Compare(a.Name, b.Name) })
	list := make([]any, 0, len(sorted))
	for _, cluster := range sorted {
		entry := map[string]any{"name": cluster.Name}
		setUnless(entry, "status", string(cluster.Code), cluster.Code == OK)
		setUnless(entry, "message", cluster.Message, cluster.Message == "")
		setUnless(entry, "remoteStatus", cluster.Remote, !in.CollectRemote || cluster.Remote == nil)
		list = append(list, entry)
	}
	return list
}

// conditionList returns the conditions with Propagation brought up to date, and whether that changed anything.
func conditionList(stored any, in Input, clustersChanged bool) ([]any, bool) {
	conditions, _ := stored.([]any)
	index := slices.IndexFunc(conditions, func(c any) bool {
		condition, ok := c.(map[string]any)
		return ok && condition["type"] == PropagationCondition
	})
	var condition map[string]any
	if index >= 0 {
		condition, _ = conditions[index].(map[string]any)
	}

	reason := in.reason()
	truth := "False"
	if reason == Success {
		truth = "True"
	}
	oldReason, _ := condition["reason"].(string)
	transition := condition["status"] != truth || oldReason != string(reason)
	now := in.Now.UTC().Format(time.RFC3339)
	if !transition && (!clustersChanged && !in.Changed || condition["lastUpdateTime"] == now) {
		return conditions, false
	}

	updated := maps.Clone(condition)
	if updated == nil {
		updated = map[string]any{"type": PropagationCondition}
	}
	updated["status"] = truth
	setUnless(updated, "reason", string(reason), reason == Success)
	updated["lastUpdateTime"] = now
	if transition {
		updated["lastTransitionTime"] = now
	}
	if index < 0 {
		return append(slices.Clone(conditions), updated), true
	}
	conditions = slices.Clone(conditions)
	conditions[index] = updated
	return conditions, true
}

// reason is the reason to store: a success is only one when every cluster agrees.
func (in Input) reason() Reason {
	if in.Reason != Success {
		return in.Reason
	}
	if in.Pending || slices.ContainsFunc(in.Clusters, func(c Cluster) bool { return c.Code != OK }) {
		return CheckClusters
	}
	return Success
}
