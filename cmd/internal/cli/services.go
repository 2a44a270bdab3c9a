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

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// The words behind get that mean global services. A member's own objects of these kinds are had as services.core and
// endpoints.core, or by their short names.
const (
	globalServices  = "services"
	globalEndpoints = "endpoints"
)

// serviceTable is the global service table as the hub has it, read from the host cluster.
type serviceTable struct {
	snapshot *clusterset.Snapshot
	// clusters are the ids of clusters by the names of their KubeFedClusters.
	clusters map[string]string
	// recorded is when what is known of a cluster was written down last, by its id.
	recorded map[string]time.Time
	now      time.Time
	flaw     error // what could not be read, beside what could
}

// openTable reads the global service table.
func (p *program) openTable(ctx context.Context) (*serviceTable, error) {
	h, err := p.openHost()
	if err != nil {
		return nil, err
	}
	done := p.patience("reading what the hub knows of the clusters ...")
	defer done()
	t, err := h.serviceTable(ctx)
	if err == nil && t.flaw != nil {
		p.warn("not all that the hub has written down can be read: %v", t.flaw)
	}
	if err == nil && t.silence() > longSilence {
		p.warn("the hub has written nothing down for %s. Does one run, and lead?", duration.HumanDuration(t.silence()))
	}
	return t, err
}

// longSilence is for how long a hub that runs writes nothing at most, and as much again: it writes every five minutes,
// were it only that nothing has changed.
const longSilence = 10 * time.Minute

// silence is how long ago the hub has written something down; zero when it never has.
func (t *serviceTable) silence() time.Duration {
	var last time.Time
	for _, at := range t.recorded {
		if at.After(last) {
			last = at
		}
	}
	if last.IsZero() {
		return 0
	}
	return t.now.Sub(last)
}

// cluster finds a cluster by its id, or by the name of its KubeFedCluster.
func (t *serviceTable) cluster(name string) (string, error) {
	if t.snapshot.Cluster(name) != nil {
		return name, nil
	}
	if id, ok := t.clusters[name]; ok && t.snapshot.Cluster(id) != nil {
		return id, nil
	}
	var ids []string
	for _, cluster := range t.snapshot.Clusters() {
		ids = append(ids, cluster.ID)
	}
	if len(ids) == 0 {
		return "", fmt.Errorf("cluster %q is not known: nothing is known of any cluster yet. Is a hub running, and is a cluster joined?", name)
	}
	return "", fmt.Errorf("cluster %q is not known; the clusters are: %s", name, strings.Join(ids, ", "))
}

// selection is which services a command is about.
type selection struct {
	namespace string // empty: all
	keys      []clusterset.Key
}

// selectServices understands names, plain or with a namespace.
func (p *program) selectServices(names []string, f getFlags) (selection, error) {
	var s selection
	if !f.allNamespaces {
		var err error
		if s.namespace, _, err = p.config.ToRawKubeConfigLoader().Namespace(); err != nil {
			return s, fmt.Errorf("reading the namespace of the context: %w", err)
		}
	}
	for _, name := range names {
		namespace, bare, qualified := strings.Cut(name, "/")
		switch {
		case !qualified && f.allNamespaces:
			return s, fmt.Errorf("service %q: with -A, give the namespace too: NAMESPACE/%s", name, name)
		case !qualified:
			namespace, bare = s.namespace, name
		case namespace == "" || bare == "" || strings.Contains(bare, "/"):
			return s, fmt.Errorf("service %q: want NAME or NAMESPACE/NAME", name)
		}
		s.keys = append(s.keys, clusterset.Key{Namespace: namespace, Name: bare})
	}
	return s, nil
}

// of returns the services of the selection, and an error that names those that there are not.
func (s selection) of(t *serviceTable, program string) ([]*clusterset.Service, error) {
	if len(s.keys) == 0 {
		services := t.snapshot.Services()
		return slices.DeleteFunc(services, func(service *clusterset.Service) bool {
			return s.namespace != "" && service.Namespace != s.namespace
		}), nil
	}
	var services []*clusterset.Service
	var absent []string
	for _, key := range s.keys {
		if service := t.snapshot.Service(key); service != nil {
			services = append(services, service)
		} else {
			absent = append(absent, key.String())
		}
	}
	if len(absent) > 0 {
		return services, fmt.Errorf("no cluster exports %s. List what there is: %s get services -A", strings.Join(absent, ", "), program)
	}
	return services, nil
}

// nothing says on stderr that there is nothing to show.
func (p *program) nothing(s selection) {
	where := ""
	if s.namespace != "" {
		where = " from namespace " + s.namespace
	}
	fmt.Fprintf(p.streams.ErrOut, "No cluster exports a service%s. Export one with a ServiceExport in a cluster, "+
		"or with the annotation hansa.dev/export on a FederatedService.\n", where)
}

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
	L7                any                        `json:"l7,omitempty"`
}

func (t *serviceTable) describe(service *clusterset.Service) globalService {
	g := globalService{Namespace: service.Namespace, Name: service.Name, Exports: []exportState{}}
	exporters := service.Exporters()
	for i := range service.Sources {
		source := &service.Sources[i]
		state := exportState{Cluster: source.Cluster, Valid: slices.Contains(exporters, source.Cluster), Age: t.age(source.Cluster).String()}
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
		g.Policy = &policySummary{policy.Failover, policy.Weights, policy.MinHealthyPercent, policy.Consumers, policy.L7}
	}
	return g
}

// age returns how old what is known of a cluster is, to the second.
func (t *serviceTable) age(cluster string) time.Duration {
	facts := t.snapshot.Cluster(cluster)
	if facts == nil {
		return 0
	}
	return facts.Age(t.now).Truncate(time.Second)
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
		return writeValue(p.streams.Out, f.output, map[string]any{"services": items})
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
		var ports []string
		for _, port := range service.Properties.Ports {
			ports = append(ports, portText(port))
		}
		row[5] = strings.Join(ports, ",")
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
	if policy.L7 != nil {
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

// completeTable completes with what the global service table has; with nothing when it cannot be read in time.
func (p *program) completeTable(cmd *cobra.Command, list func(*serviceTable) []string) ([]string, cobra.ShellCompDirective) {
	parent := cmd.Context()
	if parent == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(parent, completionTimeout)
	defer cancel()
	t, err := p.openTable(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return list(t), cobra.ShellCompDirectiveNoFileComp
}

func serviceNames(t *serviceTable) []string {
	var names []string
	for _, service := range t.snapshot.Services() {
		names = append(names, service.String())
	}
	return names
}

// completeIDs completes a flag with the ids of clusters.
func (p *program) completeIDs(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.completeTable(cmd, func(t *serviceTable) []string {
		var ids []string
		for _, cluster := range t.snapshot.Clusters() {
			ids = append(ids, cluster.ID)
		}
		return ids
	})
}
