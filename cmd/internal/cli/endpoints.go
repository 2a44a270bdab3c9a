package cli

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/cli-runtime/pkg/printers"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// view is from where endpoints are looked at.
type view struct {
	from string // a cluster; empty: from nowhere
	zone string
	port string // name or number; empty: the first
}

// globalEndpoint is an endpoint as -o json shows it. The fields from Used on are set when the view is from a cluster.
type globalEndpoint struct {
	Namespace string           `json:"namespace"`
	Service   string           `json:"service"`
	Cluster   string           `json:"cluster"`
	Zone      string           `json:"zone,omitempty"`
	Address   netip.Addr       `json:"address"`
	Node      string           `json:"node,omitempty"`
	Hostname  string           `json:"hostname,omitempty"`
	State     string           `json:"state"`
	Ports     []targetPort     `json:"ports,omitempty"`
	Used      *bool            `json:"used,omitempty"`
	Priority  *int             `json:"priority,omitempty"`
	Weight    *uint32          `json:"weight,omitempty"`
	Targets   []netip.AddrPort `json:"targets,omitempty"`
	Reason    string           `json:"reason,omitempty"`
	Message   string           `json:"message,omitempty"`
	Rules     []string         `json:"rules,omitempty"` // that may lead requests to it, and "others"; set by explain
}

type targetPort struct {
	Name     string `json:"name,omitempty"`
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
}

// endpointState is the condition of an endpoint in a word.
func endpointState(c clusterset.Conditions) string {
	switch {
	case c.Has(clusterset.Terminating) && c.Has(clusterset.Serving):
		return "TerminatingServing"
	case c.Has(clusterset.Terminating):
		return "Terminating"
	case c.Has(clusterset.Ready):
		return "Ready"
	}
	return "NotReady"
}

// endpoints lists those of a service from nowhere: by cluster, group and address.
func (t *serviceTable) endpoints(service *clusterset.Service) []globalEndpoint {
	var all []globalEndpoint
	for i := range service.Sources {
		source := &service.Sources[i]
		if source.Endpoints == nil {
			continue
		}
		for _, group := range source.Endpoints.Groups {
			ports := targetPorts(group.Ports)
			for _, endpoint := range group.Endpoints {
				shown := describeEndpoint(service.Key, source.Cluster, endpoint)
				shown.Ports = ports
				all = append(all, shown)
			}
		}
	}
	return all
}

func targetPorts(group []clusterset.TargetPort) []targetPort {
	ports := make([]targetPort, 0, len(group))
	for _, port := range group {
		ports = append(ports, targetPort{port.Name.String(), string(protocol(clusterset.Port{Protocol: port.Protocol})), port.Port})
	}
	return ports
}

func describeEndpoint(key clusterset.Key, cluster string, e clusterset.Endpoint) globalEndpoint {
	return globalEndpoint{
		Namespace: key.Namespace, Service: key.Name, Cluster: cluster, Address: e.Addr, Zone: e.Zone.String(),
		Node: e.Node.String(), Hostname: e.Hostname.String(), State: endpointState(e.Conditions),
	}
}

// judge lists the endpoints of an explanation with what became of each.
func judge(key clusterset.Key, explanation clusterset.Explanation) []globalEndpoint {
	all := make([]globalEndpoint, 0, len(explanation.Endpoints))
	for _, verdict := range explanation.Endpoints {
		shown := describeEndpoint(key, verdict.Cluster, verdict.Endpoint)
		shown.Used = new(verdict.Reason == clusterset.Used)
		if verdict.Reason == clusterset.Used {
			shown.Priority, shown.Weight = new(verdict.Priority), new(verdict.Weight)
			for _, target := range verdict.Targets {
				shown.Targets = append(shown.Targets, target.Addr)
			}
		} else {
			shown.Reason, shown.Message = string(verdict.Reason), verdict.Reason.Explain()
		}
		all = append(all, shown)
	}
	return all
}

// choosePort returns the name of a port of a service, by name or number; the first port's when none is asked for.
func choosePort(service *clusterset.Service, asked string) (string, error) {
	if service.Properties == nil || len(service.Properties.Ports) == 0 {
		if asked != "" {
			return "", fmt.Errorf("service %s has no ports", service.Key)
		}
		return "", nil
	}
	ports := service.Properties.Ports
	if asked == "" {
		return ports[0].Name, nil
	}
	for _, port := range ports {
		if asked == port.Name || asked == strconv.Itoa(int(port.Port)) {
			return port.Name, nil
		}
	}
	return "", fmt.Errorf("service %s has no port %s; it has: %s", service.Key, asked, strings.Join(fewPorts(ports, portLabel), ", "))
}

// portLabel names a port: its name if it has one, and its number.
func portLabel(port clusterset.Port) string {
	if port.Name == "" {
		return portText(port)
	}
	return port.Name + " (" + portText(port) + ")"
}

func (p *program) getEndpoints(ctx context.Context, names []string, f getFlags, v view) error {
	selected, err := p.selectServices(names, f)
	if err != nil {
		return err
	}
	t, err := p.openTable(ctx)
	if err != nil {
		return err
	}
	from, err := p.consumer(t, v)
	if err != nil {
		return err
	}
	services, missing := selected.of(t, p.name)
	if len(services) == 0 && missing == nil {
		p.nothing(selected)
	}
	all := []globalEndpoint{}
	for _, service := range services {
		if v.from == "" {
			all = append(all, t.endpoints(service)...)
			continue
		}
		port, err := choosePort(service, v.port)
		if err != nil {
			return err
		}
		all = append(all, judge(service.Key, t.snapshot.Explain(service.Key, from, port, t.now))...)
	}
	if err := p.printEndpoints(t, all, f, v.from != ""); err != nil {
		return err
	}
	return missing
}

// consumer is who a view is of; nobody without a cluster. A zone that the cluster is not known to have gets a warning.
func (p *program) consumer(t *serviceTable, v view) (from clusterset.Consumer, err error) {
	if v.from == "" {
		return from, nil
	}
	from.Zone = v.zone
	if from.Cluster, err = t.cluster(v.from); err != nil {
		return from, err
	}
	p.warnZone(from.Cluster, from.Zone, t.zones[from.Cluster])
	return from, nil
}

func (p *program) printEndpoints(t *serviceTable, all []globalEndpoint, f getFlags, judged bool) error {
	switch f.output {
	case "json", "yaml":
		return writeValue(p.streams.Out, f.output, map[string]any{"endpoints": all, "hub": t.hub})
	case "name":
		for i := range all {
			p.say("%s/%s/%s/%s", all[i].Namespace, all[i].Service, all[i].Cluster, all[i].Address)
		}
		return nil
	}
	if len(all) == 0 {
		return nil
	}
	columns := endpointColumns{named: true, judged: judged, wide: f.output == "wide"}
	return columns.table(all).write(printers.GetNewTabWriter(p.streams.Out), !f.noHeaders)
}

// endpointColumns are the columns of a table of endpoints.
type endpointColumns struct {
	named  bool // the service
	judged bool // what a cluster makes of them
	ruled  bool // which rules for requests lead to them
	wide   bool
}

func (c endpointColumns) table(endpoints []globalEndpoint) table {
	rows := table{header: c.header()}
	for i := range endpoints {
		rows.rows = append(rows.rows, c.row(&endpoints[i]))
	}
	return rows
}

func (c endpointColumns) header() []string {
	var header []string
	if c.named {
		header = append(header, "NAMESPACE", "SERVICE")
	}
	header = append(header, "CLUSTER", "ZONE", "ADDRESS", "STATE")
	if c.judged {
		header = append(header, "PRIORITY", "WEIGHT", "REACHED BY")
	}
	if c.ruled {
		header = append(header, "RULES")
	}
	if c.wide {
		header = append(header, "NODE", "HOSTNAME")
		if !c.judged {
			header = append(header, "PORTS")
		}
	}
	if c.judged {
		header = append(header, "NOT USED BECAUSE")
	}
	return header
}

func (c endpointColumns) row(e *globalEndpoint) []string {
	var row []string
	if c.named {
		row = append(row, e.Namespace, e.Service)
	}
	row = append(row, e.Cluster, e.Zone, e.Address.String(), e.State)
	if c.judged {
		priority, weight := "-", "-"
		if e.Priority != nil {
			priority, weight = strconv.Itoa(*e.Priority), strconv.FormatUint(uint64(*e.Weight), 10)
		}
		row = append(row, priority, weight, dash(targetText(e.Targets)))
	}
	if c.ruled {
		row = append(row, dash(strings.Join(e.Rules, ",")))
	}
	if c.wide {
		row = append(row, e.Node, e.Hostname)
		if !c.judged {
			row = append(row, strings.Join(fewPorts(e.Ports, targetPortText), ","))
		}
	}
	if c.judged {
		why := e.Message
		if why == "" && c.ruled && len(e.Rules) == 0 {
			why = "no rule leads to it; for clients that know no rules it is used"
		}
		row = append(row, dash(why))
	}
	return row
}

func dash(cell string) string {
	if cell == "" {
		return "-"
	}
	return cell
}

func targetText(targets []netip.AddrPort) string {
	texts := make([]string, 0, len(targets))
	for _, target := range targets {
		if target.Port() == 0 {
			texts = append(texts, target.Addr().String())
		} else {
			texts = append(texts, target.String())
		}
	}
	return strings.Join(texts, ",")
}

func targetPortText(port targetPort) string {
	text := strconv.Itoa(int(port.Port)) + "/" + port.Protocol
	if port.Name != "" {
		text = port.Name + ":" + text
	}
	return text
}
