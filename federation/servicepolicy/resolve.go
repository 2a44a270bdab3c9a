package servicepolicy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Reasons of flaws, the worst first.
const (
	// ReasonNotExported: no cluster exports the service that the policy is for.
	ReasonNotExported = "NotExported"
	// ReasonUnknownCluster: the policy names a cluster that is no member.
	ReasonUnknownCluster = "UnknownCluster"
	// ReasonNothingUsable: the policy leaves no endpoint to anybody.
	ReasonNothingUsable = "NothingUsable"
	// ReasonRefersToNothing: a part of the policy names what does not exist, or what an earlier part takes, and has no effect
	// or fails requests.
	ReasonRefersToNothing = "RefersToNothing"
)

// Flaw is one thing in a policy that does not fit the services and clusters that there are.
type Flaw struct {
	Reason string
	// Message names the part of the spec and the next step.
	Message string
}

// Flaws returns what of a policy for the service key does not fit the snapshot, the worst first; nothing when all does. It
// looks at what people wrote and what clusters export, never at endpoints: pods that come and go are no flaws.
func Flaws(spec *v1alpha1.ServicePolicySpec, key clusterset.Key, snapshot *clusterset.Snapshot) []Flaw {
	f := &finder{key: key, snapshot: snapshot, exporters: exporters(snapshot, key)}
	if len(f.exporters) == 0 {
		f.add(ReasonNotExported, "no cluster exports %s: create a ServiceExport of that name beside its Service", key)
	}
	if unknown := f.unknown(spec); len(unknown) > 0 {
		f.add(ReasonUnknownCluster, "the policy names clusters that are not members: %s; members by their ids are: %s",
			strings.Join(unknown, ", "), strings.Join(f.members(), ", "))
	}
	if len(f.exporters) > 0 {
		f.usable(spec)
		f.order(spec)
		f.shadowed(spec.Failover)
	}
	f.routes(spec)
	slices.SortStableFunc(f.flaws, func(a, b Flaw) int { return rankOf(a) - rankOf(b) })
	return f.flaws
}

func rankOf(f Flaw) int {
	return slices.Index([]string{ReasonNotExported, ReasonUnknownCluster, ReasonNothingUsable, ReasonRefersToNothing}, f.Reason)
}

// References returns the other services that a policy in namespace names, sorted.
func References(spec *v1alpha1.ServicePolicySpec, namespace string) []clusterset.Key {
	var keys []clusterset.Key
	for _, p := range places(spec) {
		if subset := subsetFrom(p.subset, namespace); subset.Name != "" {
			keys = append(keys, clusterset.Key{Namespace: subset.Namespace, Name: subset.Name})
		}
	}
	slices.SortFunc(keys, func(a, b clusterset.Key) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(keys)
}

// place is a part of a spec that sends requests somewhere.
type place struct {
	where  string
	subset v1alpha1.Subset
}

// places returns all of them, without destinations that get no requests.
func places(spec *v1alpha1.ServicePolicySpec) []place {
	var all []place
	mirror := func(where string, m *v1alpha1.Mirror) {
		if m != nil {
			all = append(all, place{where, m.Subset})
		}
	}
	mirror("mirror", spec.Mirror)
	for i := range spec.Routes {
		route := &spec.Routes[i]
		for j := range route.Destinations {
			if d := &route.Destinations[j]; d.Weight == nil || *d.Weight > 0 {
				all = append(all, place{fmt.Sprintf("routes[%d].destinations[%d]", i, j), d.Subset})
			}
		}
		mirror(fmt.Sprintf("routes[%d].mirror", i), route.Mirror)
	}
	return all
}

// finder collects flaws.
type finder struct {
	key       clusterset.Key
	snapshot  *clusterset.Snapshot
	exporters []string
	flaws     []Flaw
}

func (f *finder) add(reason, format string, args ...any) {
	f.flaws = append(f.flaws, Flaw{reason, fmt.Sprintf(format, args...)})
}

func (f *finder) member(id string) bool { return f.snapshot.Cluster(id) != nil }

// members returns the ids of all members, sorted.
func (f *finder) members() []string {
	clusters := f.snapshot.Clusters()
	ids := make([]string, 0, len(clusters))
	for _, c := range clusters {
		ids = append(ids, c.ID)
	}
	return ids
}

// exporters returns the clusters with a valid export of a service, sorted.
func exporters(snapshot *clusterset.Snapshot, key clusterset.Key) []string {
	service := snapshot.Service(key)
	if service == nil || !service.Exported() {
		return nil
	}
	return service.Exporters()
}

// unknown returns the clusters that the spec names and nobody is, sorted.
func (f *finder) unknown(spec *v1alpha1.ServicePolicySpec) []string {
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
	for _, p := range places(spec) {
		named = append(named, p.subset.Clusters...)
	}
	return slices.DeleteFunc(set(named), f.member)
}

// usable tells when weights and order together leave nothing to anybody.
func (f *finder) usable(spec *v1alpha1.ServicePolicySpec) {
	weighed := slices.DeleteFunc(slices.Clone(f.exporters), func(id string) bool {
		return slices.ContainsFunc(spec.ClusterWeights, func(w v1alpha1.ClusterWeight) bool { return w.Cluster == id && w.Weight == 0 })
	})
	if len(weighed) == 0 {
		f.add(ReasonNothingUsable, "clusterWeights gives weight 0 to every cluster that exports %s (%s), so nobody can use it: give one of them a weight above 0",
			f.key, strings.Join(f.exporters, ", "))
		return
	}
	if len(spec.Failover) > 0 && !slices.ContainsFunc(spec.Failover, func(t v1alpha1.FailoverTier) bool {
		return slices.ContainsFunc(weighed, func(id string) bool { return f.covers(t, id) })
	}) {
		f.add(ReasonNothingUsable, "no tier of failover covers a cluster that exports %s and has a weight (%s), so nobody can use it: name one of them, or add a last tier by: Any",
			f.key, strings.Join(weighed, ", "))
	}
}

// covers tells whether a tier may choose endpoints of a cluster, for some consumer. Zones are those of endpoints, which come
// and go.
func (f *finder) covers(t v1alpha1.FailoverTier, id string) bool {
	switch {
	case len(t.Names) == 0, t.By == string(clusterset.Any), t.By == string(clusterset.ByZone):
		return true
	case t.By == string(clusterset.ByCluster):
		return slices.Contains(t.Names, id)
	}
	cluster := f.snapshot.Cluster(id)
	return cluster != nil && slices.Contains(t.Names, cluster.Region)
}

// order tells which names of tiers and weights choose nothing.
func (f *finder) order(spec *v1alpha1.ServicePolicySpec) {
	for i, t := range spec.Failover {
		for _, name := range t.Names {
			one := v1alpha1.FailoverTier{By: t.By, Names: []string{name}}
			covered := slices.ContainsFunc(f.exporters, func(id string) bool { return f.covers(one, id) })
			switch {
			case covered:
			case t.By == string(clusterset.ByRegion):
				f.add(ReasonRefersToNothing, "failover[%d] names region %s, where no cluster that exports %s stands: correct it, or remove it", i, name, f.key)
			case f.member(name):
				f.silent(fmt.Sprintf("failover[%d]", i), name, f.key)
			}
		}
	}
	for i, w := range spec.ClusterWeights {
		if f.member(w.Cluster) && !slices.Contains(f.exporters, w.Cluster) {
			f.silent(fmt.Sprintf("clusterWeights[%d]", i), w.Cluster, f.key)
		}
	}
}

// shadowed tells which tiers choose only what earlier ones have taken. The schema refuses two that are the same; policies
// may be older than that rule.
func (f *finder) shadowed(tiers []v1alpha1.FailoverTier) {
	taken := map[string][]string{} // by what it is chosen by; the empty name stands for the consumer's own
	for i, t := range tiers {
		names := t.Names
		if len(names) == 0 {
			names = []string{""}
		}
		if !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(taken[t.By], name) }) {
			f.add(ReasonRefersToNothing, "failover[%d] selects only what earlier tiers by: %s select, so it never acts: remove it, or name in it what they do not", i, t.By)
		}
		taken[t.By] = append(taken[t.By], names...)
	}
}

// silent notes a member that is named and does not export.
func (f *finder) silent(where, cluster string, key clusterset.Key) {
	f.add(ReasonRefersToNothing, "%s names cluster %s, which does not export %s: export it there, or remove the name", where, cluster, key)
}

// routes tells which destinations and mirrors lead nowhere. That the service itself is not exported is told once.
func (f *finder) routes(spec *v1alpha1.ServicePolicySpec) {
	for _, p := range places(spec) {
		target, exporting := f.key, f.exporters
		subset := subsetFrom(p.subset, f.key.Namespace)
		if subset.Name != "" {
			target = clusterset.Key{Namespace: subset.Namespace, Name: subset.Name}
			exporting = exporters(f.snapshot, target)
		}
		if len(exporting) == 0 {
			if target != f.key {
				f.add(ReasonRefersToNothing, "%s sends requests to %s, which no cluster exports, so they fail: create a ServiceExport of that name beside its Service", p.where, target)
			}
			continue
		}
		for _, id := range subset.Clusters {
			if f.member(id) && !slices.Contains(exporting, id) {
				f.silent(p.where, id, target)
			}
		}
		f.port(p.where, target, subset.Port)
	}
}

// port tells when a service is named with a port that it has not.
func (f *finder) port(where string, key clusterset.Key, port int32) {
	ports := f.snapshot.Service(key).Properties.Ports
	if port == 0 || slices.ContainsFunc(ports, func(p clusterset.Port) bool { return p.Port == port }) {
		return
	}
	numbers := make([]string, 0, len(ports))
	for _, p := range ports {
		numbers = append(numbers, strconv.Itoa(int(p.Port)))
	}
	f.add(ReasonRefersToNothing, "%s names port %d, which %s does not have; its ports are: %s", where, port, key, strings.Join(numbers, ", "))
}
