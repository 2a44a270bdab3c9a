package clusterset

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// agreement is what the valid exports of one service come to (KEP-1645, "Constraints and Conflict Resolution"):
//
//	property                    the service gets             a conflict is
//	ports                       the union: first by name,    PortConflict, when the sets differ in anything
//	                            then by protocol and number
//	headless or not             the oldest export's          TypeConflict
//	session affinity            the oldest export's          SessionAffinityConflict
//	its configuration           the oldest export's          SessionAffinityConfigConflict, where the affinity agrees
//	exported labels             the oldest export's          LabelsConflict
//	exported annotations        the oldest export's          AnnotationsConflict
//	internal traffic policy     the oldest export's          InternalTrafficPolicyConflict
//	traffic distribution        the oldest export's          TrafficDistributionConflict
//	IP families                 the oldest export's          IPFamilyConflict, when the sets differ
//
// Of exports with the same age the one of the cluster that sorts first counts as older. Exports that are not valid
// (no Service, ExternalName) take no part. A conflict is told on all valid exports.
//
// A port of the union is served by the clusters that expose its protocol and number, whatever they call it; their own name
// finds the target port.
type agreement struct {
	properties *Properties
	conflicts  []Conflict
	// ports tells, per source, which of the source's own ports stands behind each port of the union; -1 where none does. It
	// is nil for exports that are not valid. Sources with the same ports share one list.
	ports [][]int16
}

// Conflict is one property in which exports differ.
type Conflict struct {
	// Reason is that of the Conflict condition, as in sigs.k8s.io/mcs-api.
	Reason string
	// Message names values and clusters, and says which counts.
	Message string
}

// The reasons of conflicts.
const (
	PortConflict                  = "PortConflict"
	TypeConflict                  = "TypeConflict"
	SessionAffinityConflict       = "SessionAffinityConflict"
	SessionAffinityConfigConflict = "SessionAffinityConfigConflict"
	LabelsConflict                = "LabelsConflict"
	AnnotationsConflict           = "AnnotationsConflict"
	InternalTrafficPolicyConflict = "InternalTrafficPolicyConflict"
	TrafficDistributionConflict   = "TrafficDistributionConflict"
	IPFamilyConflict              = "IPFamilyConflict"
)

// trait is a property in which exports may differ. Value says what p has, as a person should read it; two exports differ
// when the texts do. The oldest export is there for traits that only compare under a condition.
type trait struct {
	reason string
	what   string
	value  func(p, oldest *Properties) string
	advice string
}

var traits = []trait{
	{PortConflict, "ports", portsValue, "each port is served by the clusters that expose it"},
	{TypeConflict, "type", typeValue, ""},
	{SessionAffinityConflict, "sessionAffinity", func(p, _ *Properties) string { return string(p.SessionAffinity) }, ""},
	{SessionAffinityConfigConflict, "sessionAffinityConfig.clientIP.timeoutSeconds", timeoutValue, ""},
	{LabelsConflict, "exportedLabels", func(p, _ *Properties) string { return pairs(p.Labels) }, ""},
	{AnnotationsConflict, "exportedAnnotations", func(p, _ *Properties) string { return pairs(p.Annotations) }, ""},
	{InternalTrafficPolicyConflict, "internalTrafficPolicy", func(p, _ *Properties) string { return string(p.InternalTrafficPolicy) }, ""},
	{TrafficDistributionConflict, "trafficDistribution", func(p, _ *Properties) string { return or(p.TrafficDistribution, "not set") }, ""},
	{IPFamilyConflict, "ipFamilies", familiesValue, ""},
}

// merge puts the exports of a service together. The sources are sorted by cluster. It returns properties nil when no export
// is valid.
func merge(sources []Source) agreement {
	order := make([]int, 0, len(sources)) // valid sources, oldest first
	for i := range sources {
		if sources[i].Properties.valid() {
			order = append(order, i)
		}
	}
	if len(order) == 0 {
		return agreement{}
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareAge(&sources[a], &sources[b]) })

	oldest := sources[order[0]].Properties
	merged := *oldest
	merged.Type = corev1.ServiceTypeClusterIP // how a cluster offers it to its own outside concerns nobody else
	merged.Ports = union(sources, order)
	return agreement{
		properties: &merged,
		conflicts:  conflicts(sources, order),
		ports:      bind(sources, merged.Ports),
	}
}

// compareAge orders from old to young; without a time is youngest, and sources keep their order by cluster otherwise.
func compareAge(a, b *Source) int {
	if a.Created.IsZero() != b.Created.IsZero() {
		if a.Created.IsZero() {
			return 1
		}
		return -1
	}
	return a.Created.Compare(b.Created)
}

// union returns the ports of all exports: an older export's port keeps out younger ones with its name, and with its protocol
// and number.
func union(sources []Source, order []int) []Port {
	var ports []Port
	var last *Properties
	for _, i := range order {
		if sources[i].Properties == last {
			continue // shared by equal exports, and there already
		}
		last = sources[i].Properties
		for _, port := range last.Ports {
			taken := slices.ContainsFunc(ports, func(p Port) bool { return p.Name == port.Name || p.exposes(port) })
			if !taken {
				ports = append(ports, port)
			}
		}
	}
	return ports
}

// exposes tells whether the ports are the same to a client.
func (p Port) exposes(other Port) bool { return p.Protocol == other.Protocol && p.Port == other.Port }

func bind(sources []Source, ports []Port) [][]int16 {
	bound := make([][]int16, len(sources))
	for i := range sources {
		properties := sources[i].Properties
		if !properties.valid() {
			continue
		}
		if i > 0 && sources[i-1].Properties == properties {
			bound[i] = bound[i-1]
			continue
		}
		bound[i] = make([]int16, len(ports))
		for j, port := range ports {
			bound[i][j] = int16(slices.IndexFunc(properties.Ports, port.exposes)) //nolint:gosec // a Service has a hundred ports at most, and setting limits the list
		}
	}
	return bound
}

// conflicts compares every trait over all valid exports.
func conflicts(sources []Source, order []int) []Conflict {
	first := sources[order[0]].Properties
	if !slices.ContainsFunc(order, func(i int) bool { return sources[i].Properties != first }) {
		return nil
	}
	var found []Conflict
	for _, trait := range traits {
		if conflict, differ := trait.compare(sources, order); differ {
			found = append(found, conflict)
		}
	}
	return found
}

func (t trait) compare(sources []Source, order []int) (Conflict, bool) {
	oldest := sources[order[0]].Properties
	byValue := map[string][]string{}
	known := map[*Properties]string{}
	for _, i := range order {
		value, ok := known[sources[i].Properties]
		if !ok {
			value = t.value(sources[i].Properties, oldest)
			known[sources[i].Properties] = value
		}
		byValue[value] = append(byValue[value], sources[i].Cluster)
	}
	if len(byValue) == 1 {
		return Conflict{}, false
	}
	counts := known[oldest]
	parts := make([]string, 0, len(byValue))
	for _, value := range slices.Sorted(maps.Keys(byValue)) {
		if value != counts {
			parts = append(parts, value+" in "+list(byValue[value]))
		}
	}
	message := t.what + ": " + counts + " in " + list(byValue[counts]) + " counts (" + sources[order[0]].Cluster +
		" has the oldest export), but " + strings.Join(limit(parts, "values"), "; ")
	if t.advice != "" {
		message += "; " + t.advice
	}
	return Conflict{t.reason, message}, true
}

// listed bounds how many clusters and values a message names.
const listed = 8

func list(clusters []string) string {
	clusters = slices.Sorted(slices.Values(clusters))
	return strings.Join(limit(clusters, "clusters"), ", ")
}

func limit(items []string, what string) []string {
	if len(items) <= listed {
		return items
	}
	return append(slices.Clone(items[:listed]), strconv.Itoa(len(items)-listed)+" more "+what)
}

func typeValue(p, _ *Properties) string {
	if p.Headless {
		return "Headless"
	}
	return "ClusterSetIP"
}

// timeoutValue compares only exports with the affinity that counts.
func timeoutValue(p, oldest *Properties) string {
	if p.SessionAffinity != oldest.SessionAffinity {
		p = oldest
	}
	return strconv.Itoa(int(p.AffinityTimeout))
}

func portsValue(p, _ *Properties) string {
	ports := slices.Clone(p.Ports)
	slices.SortFunc(ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), cmp.Compare(a.AppProtocol, b.AppProtocol))
	})
	texts := make([]string, len(ports))
	for i, port := range ports {
		texts[i] = strings.TrimSpace(port.Name + " " + string(port.Protocol) + "/" + strconv.Itoa(int(port.Port)) + " " + port.AppProtocol)
	}
	return or(strings.Join(texts, ", "), "none")
}

func familiesValue(p, _ *Properties) string {
	families := make([]string, 0, len(p.IPFamilies))
	for _, family := range p.IPFamilies {
		families = append(families, string(family))
	}
	slices.Sort(families)
	return or(strings.Join(slices.Compact(families), ", "), "not known")
}

func pairs(m map[string]string) string {
	texts := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		texts = append(texts, key+"="+m[key])
	}
	return "{" + strings.Join(texts, ", ") + "}"
}
