package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// globalService is a service as -o json shows it.
type globalService struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Type      string         `json:"type,omitempty"`
	Ports     []servicePort  `json:"ports,omitempty"`
	Ready     int            `json:"readyEndpoints"`
	All       int            `json:"endpoints"`
	Exports   []exportState  `json:"exports"`
	Conflicts []conflict     `json:"conflicts,omitempty"`
	Imports   []importState  `json:"imports,omitempty"`
	Policy    *policySummary `json:"policy,omitempty"`
}

type servicePort struct {
	Name        string `json:"name,omitempty"`
	Protocol    string `json:"protocol"`
	Port        int32  `json:"port"`
	AppProtocol string `json:"appProtocol,omitempty"`
}

type exportState struct {
	Cluster string     `json:"cluster"`
	Valid   bool       `json:"valid"`
	Created *time.Time `json:"created,omitempty"`
	Ready   int        `json:"readyEndpoints"`
	All     int        `json:"endpoints"`
	Age     string     `json:"age"` // of what is known; 0s while the hub is in step with the cluster
}

type conflict struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

type importState struct {
	Cluster       string       `json:"cluster"`
	ClusterSetIPs []netip.Addr `json:"clusterSetIPs"`
}

// policySummary is the part of a ServicePolicy that decides which endpoints are used.
type policySummary struct {
	Failover          []clusterset.Tier          `json:"failover,omitempty"`
	Weights           []clusterset.ClusterWeight `json:"weights,omitempty"`
	MinHealthyPercent uint32                     `json:"minHealthyPercent,omitempty"`
	Consumers         *clusterset.Consumers      `json:"consumers,omitempty"`
	TTL               uint32                     `json:"ttlSeconds,omitempty"` // of names
	L7                any                        `json:"l7,omitempty"`
}

func (t *serviceTable) describe(service *clusterset.Service) globalService {
	g := globalService{Namespace: service.Namespace, Name: service.Name, Exports: []exportState{}}
	exporters := service.Exporters()
	for i := range service.Sources {
		source := &service.Sources[i]
		state := exportState{Cluster: source.Cluster, Valid: slices.Contains(exporters, source.Cluster), Age: t.age(source.Cluster).Truncate(time.Second).String()}
		if !source.Created.IsZero() {
			state.Created = &source.Created
		}
		state.Ready, state.All = countEndpoints(source.Endpoints)
		g.Ready += state.Ready
		g.All += state.All
		g.Exports = append(g.Exports, state)
	}
	if properties := service.Properties; properties != nil {
		g.Type = serviceType(properties)
		for _, port := range properties.Ports {
			g.Ports = append(g.Ports, servicePort{port.Name, string(protocol(port)), port.Port, port.AppProtocol})
		}
	}
	for _, c := range service.Conflicts {
		g.Conflicts = append(g.Conflicts, conflict(c))
	}
	for _, i := range service.Imports {
		g.Imports = append(g.Imports, importState{i.Cluster, i.ClusterIPs})
	}
	if policy := service.Policy; policy != nil {
		g.Policy = &policySummary{policy.Failover, policy.Weights, policy.MinHealthyPercent, policy.Consumers, policy.TTL, policy.L7}
	}
	return g
}

func countEndpoints(endpoints *clusterset.Endpoints) (ready, all int) {
	if endpoints == nil {
		return 0, 0
	}
	for _, group := range endpoints.Groups {
		all += len(group.Endpoints)
		for _, endpoint := range group.Endpoints {
			if endpoint.Conditions.Has(clusterset.Ready) {
				ready++
			}
		}
	}
	return ready, all
}

// serviceType is that of a ServiceImport.
func serviceType(properties *clusterset.Properties) string {
	if properties.Headless {
		return "Headless"
	}
	return "ClusterSetIP"
}

func protocol(port clusterset.Port) corev1.Protocol { return cmp.Or(port.Protocol, corev1.ProtocolTCP) }

func portText(port clusterset.Port) string {
	return strconv.Itoa(int(port.Port)) + "/" + string(protocol(port))
}

// portsShown is how many ports of a service people are shown: one service with many would make all rows of a table as wide.
const portsShown = 4

// fewPorts lists the first ports for people, and says at the end how many more there are, which -o json lists.
func fewPorts[P any](ports []P, text func(P) string) []string {
	shown := ports
	if len(ports) > portsShown+1 { // one more takes no more room than to say so
		shown = ports[:portsShown]
	}
	texts := make([]string, 0, len(shown)+1)
	for _, port := range shown {
		texts = append(texts, text(port))
	}
	if more := len(ports) - len(shown); more > 0 {
		texts = append(texts, fmt.Sprintf("+%d more", more))
	}
	return texts
}

func (p *program) getServices(ctx context.Context, names []string, f getFlags) error {
	selected, err := p.selectServices(names, f)
	if err != nil {
		return err
	}
	t, err := p.openTable(ctx)
	if err != nil {
		return err
	}
	services, missing := selected.of(t, p.name)
	if err := p.printServices(t, services, f, selected); err != nil {
		return err
	}
	return missing
}

func (p *program) printServices(t *serviceTable, services []*clusterset.Service, f getFlags, selected selection) error {
	switch f.output {
	case "json", "yaml":
		items := make([]globalService, 0, len(services))
		for _, service := range services {
			items = append(items, t.describe(service))
		}
		return writeValue(p.streams.Out, f.output, map[string]any{"services": items, "hub": t.hub})
	case "name":
		for _, service := range services {
			p.say("%s", service.Key)
		}
		return nil
	}
	if len(services) == 0 {
		if len(selected.keys) == 0 {
			p.nothing(selected)
		}
		return nil
	}
	wide := f.output == "wide"
	rows := table{header: []string{"NAMESPACE", "NAME", "TYPE", "CLUSTERS", "ENDPOINTS", "PORTS", "CONFLICT"}}
	if wide {
		rows.header = append(rows.header, "CLUSTERSETIPS", "POLICY")
	}
	rows.header = append(rows.header, "AGE")
	for _, service := range services {
		rows.rows = append(rows.rows, t.serviceRow(service, wide))
	}
	return rows.write(printers.GetNewTabWriter(p.streams.Out), !f.noHeaders)
}

func (t *serviceTable) serviceRow(service *clusterset.Service, wide bool) []string {
	g := t.describe(service)
	row := []string{
		g.Namespace, g.Name, cmp.Or(g.Type, "<not exported>"), t.exporters(g.Exports), fmt.Sprintf("%d/%d", g.Ready, g.All),
		"", conflictReasons(service),
	}
	if service.Properties != nil {
		row[5] = strings.Join(fewPorts(service.Properties.Ports, portText), ",")
	}
	if wide {
		row = append(row, clusterSetIPs(service), policyText(service.Policy))
	}
	return append(row, serviceAge(service, t.now))
}

// exporters lists the clusters of valid exports; those of which the hub has lost sight with the age of what is known.
func (t *serviceTable) exporters(exports []exportState) string {
	var names []string
	for _, export := range exports {
		if !export.Valid {
			continue
		}
		name := export.Cluster
		if age := t.age(export.Cluster); age > 0 {
			name += "(" + duration.HumanDuration(age) + " old)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ",")
}

func conflictReasons(service *clusterset.Service) string {
	var reasons []string
	for _, c := range service.Conflicts {
		reasons = append(reasons, c.Reason)
	}
	return strings.Join(slices.Compact(reasons), ",")
}

func clusterSetIPs(service *clusterset.Service) string {
	var all []string
	for _, i := range service.Imports {
		for _, addr := range i.ClusterIPs {
			all = append(all, i.Cluster+"="+addr.String())
		}
	}
	return strings.Join(all, ",")
}

// policyText says which parts of a policy are set.
func policyText(policy *clusterset.Policy) string {
	if policy == nil {
		return ""
	}
	var parts []string
	if len(policy.Failover) > 0 {
		parts = append(parts, "failover")
	}
	if len(policy.Weights) > 0 {
		parts = append(parts, "weights")
	}
	if policy.MinHealthyPercent > 0 {
		parts = append(parts, fmt.Sprintf("minHealthy=%d%%", policy.MinHealthyPercent))
	}
	if policy.Consumers != nil {
		parts = append(parts, "consumers="+strings.Join(policy.Consumers.Clusters, "+"))
	}
	if policy.TTL > 0 {
		parts = append(parts, fmt.Sprintf("ttl=%ds", policy.TTL))
	}
	if rules := len(rulesOf(*policy)); rules > 0 {
		parts = append(parts, fmt.Sprintf("l7(rules=%d)", rules))
	} else if policy.L7 != nil {
		parts = append(parts, "l7")
	}
	return cmp.Or(strings.Join(parts, ","), "defaults")
}

// serviceAge is the age of the oldest export.
func serviceAge(service *clusterset.Service, now time.Time) string {
	var oldest time.Time
	for i := range service.Sources {
		if created := service.Sources[i].Created; !created.IsZero() && (oldest.IsZero() || created.Before(oldest)) {
			oldest = created
		}
	}
	if oldest.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(oldest))
}
