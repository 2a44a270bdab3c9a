package cli

import (
	"cmp"
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// recorded is what the hub has written down in the host cluster.
type recorded struct {
	members  []corev1b1.KubeFedCluster
	infos    []v1alpha1.ClusterInfo
	policies []v1alpha1.ServicePolicy
	routes   routes
	records  []exports.Record
	leases   []coordinationv1.Lease
}

// table puts together what the hub has: by its own code, so it says what the hub says.
func (r *recorded) table(now time.Time) *serviceTable {
	t := &serviceTable{clusters: map[string]string{}, zones: map[string][]string{}, recorded: map[string]time.Time{}, routes: r.routes, now: now}
	builder := clusterset.NewBuilder(0)
	infos := map[string]*v1alpha1.ClusterInfo{}
	for i := range r.infos {
		infos[r.infos[i].Name] = &r.infos[i]
	}
	latest := r.latest()
	t.hub = judgeHub(r.leases, last(latest), now)
	for i := range r.members {
		name := r.members[i].Name
		record := latest[name]
		if record != nil && record.UID != "" && record.UID != r.members[i].UID {
			record = nil // of another registration by the same name
		}
		facts := factsOf(infos[name], record)
		if facts.ID == "" || ownsNoID(infos[name]) {
			t.unknown = append(t.unknown, name)
			continue // the hub has not looked at it yet, or leaves it out, whatever it had recorded before
		}
		t.clusters[name] = facts.ID
		t.zones[facts.ID] = zonesOf(infos[name])
		builder.SetCluster(t.hub.aged(facts))
		if record != nil {
			t.recorded[facts.ID] = record.Time
			builder.SetKnown(facts.ID, record.Known)
		}
	}
	for key, policy := range r.rules() {
		builder.SetPolicy(key, policy)
	}
	t.snapshot = builder.Publish()
	return t
}

// latest returns the newest record of each member. There may be an older one, of an id that it had before.
func (r *recorded) latest() map[string]*exports.Record {
	records := map[string]*exports.Record{}
	for i := range r.records {
		if other := records[r.records[i].Member]; other == nil || !other.Time.After(r.records[i].Time) {
			records[r.records[i].Member] = &r.records[i]
		}
	}
	return records
}

// last returns the time of the newest record; the zero time when there is none.
func last(records map[string]*exports.Record) time.Time {
	var newest time.Time
	for _, record := range records {
		if record.Time.After(newest) {
			newest = record.Time
		}
	}
	return newest
}

// rules are the policies of services: what ServicePolicies say, and routes of the Gateway API.
func (r *recorded) rules() map[clusterset.Key]clusterset.Policy {
	policies := map[clusterset.Key]clusterset.Policy{}
	for i := range r.policies {
		policy := &r.policies[i]
		if !policy.DeletionTimestamp.IsZero() {
			continue
		}
		policies[client.ObjectKeyFromObject(policy)] = servicepolicy.FromSpec(&policy.Spec, policy.Namespace)
	}
	for key := range r.routes.services() {
		policy := servicepolicy.WithRoutes(policies[key], key, r.routes.http, r.routes.grpc)
		if _, written := policies[key]; written || policy.L7 != nil {
			policies[key] = policy
		}
	}
	return policies
}

// ownsNoID tells whether the hub uses nothing of a member, since it has no id of its own.
func ownsNoID(info *v1alpha1.ClusterInfo) bool {
	return info != nil && info.Status.ClusterID == "" && meta.IsStatusConditionFalse(info.Status.Conditions, exports.ConditionAccepted)
}

// factsOf returns what is known of a cluster: what people say of it, and what the leading hub has found out. Both
// arguments may be nil.
func factsOf(info *v1alpha1.ClusterInfo, record *exports.Record) clusterset.Cluster {
	var facts clusterset.Cluster
	if record != nil {
		facts.ID = record.ID
	}
	if info == nil {
		return facts
	}
	spec, status := &info.Spec, &info.Status
	facts.ID = cmp.Or(status.ClusterID, facts.ID)
	facts.Network = cmp.Or(spec.Network, status.Network)
	facts.Region = cmp.Or(spec.Region, status.Region)
	facts.Zone = spec.Zone
	if facts.Zone == "" && len(status.Zones) == 1 {
		facts.Zone = status.Zones[0]
	}
	facts.Gateways = exports.GatewaysOf(info)
	if spec.State != v1alpha1.Active {
		facts.State = clusterset.State(spec.State)
	}
	facts.ControlPlane = clusterset.Health(status.ControlPlane)
	facts.DataPlane = clusterset.Health(cmp.Or(spec.DataPlane, status.DataPlane))
	if status.LastKnown != nil {
		facts.LastKnown = status.LastKnown.Time
	}
	return facts
}

// serviceTable reads what the hub has written down.
func (h *host) serviceTable(ctx context.Context) (*serviceTable, error) {
	members, infos, policies := &corev1b1.KubeFedClusterList{}, &v1alpha1.ClusterInfoList{}, &v1alpha1.ServicePolicyList{}
	if err := h.client.List(ctx, members, client.InNamespace(h.namespace)); err != nil {
		return nil, h.explain("listing KubeFedClusters", err)
	}
	if err := h.client.List(ctx, infos, client.InNamespace(h.namespace)); err != nil {
		return nil, h.explain("listing ClusterInfos", err)
	}
	if err := h.client.List(ctx, policies); err != nil {
		return nil, h.explain("listing ServicePolicies", err)
	}
	leases, silent := h.leases(ctx)
	routes, flaws := h.readRoutes(ctx)
	records, err := h.archive.Load(ctx)
	if err != nil && len(records) == 0 {
		return nil, h.explain("reading what the hub has written down of the members", err)
	}
	if err != nil {
		flaws = append(flaws, fmt.Errorf("not all that the hub has written down can be read: %w", err))
	}
	if silent != nil {
		flaws = append(flaws, fmt.Errorf("whether a hub runs cannot be told: %w", silent))
	}
	r := recorded{members: members.Items, infos: infos.Items, policies: policies.Items, routes: routes, records: records, leases: leases}
	t := r.table(time.Now())
	t.namespace, t.flaws = h.namespace, flaws
	return t, nil
}
