package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

func (p *program) newExplain() *cobra.Command {
	var v view
	var output string
	service := &cobra.Command{
		Use:   "service NAMESPACE/NAME",
		Short: "Say for every endpoint of a global service whether a cluster uses it, and why not",
		Long: long(`
			Says for every endpoint of a global service whether clients in a cluster use it, with which priority and
			weight, and why not; how the clusters that serve it stand, and how old the knowledge of them is; and in what
			their exports differ.

			It is computed from what the hub has recorded in the host cluster, with the code that the hub serves clients
			with.`),
		Example: p.examples(`
			# Where do calls from cluster m1 go, and why not elsewhere?
			{} explain service shop/cart --from m1

			# From a zone, for one port, for a program
			{} explain service shop/cart --from m1 --zone m1-a --port grpc -o json`),
		Args: exactly("the service (NAMESPACE/NAME)"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return p.completeTable(cmd, serviceNames)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case v.from == "":
				return usage(cmd, "--from is required: the cluster whose clients are meant")
			case !slices.Contains([]string{"", "json", "yaml"}, output):
				return usage(cmd, "unknown output format %q: json or yaml", output)
			}
			return p.explainService(cmd.Context(), args[0], v, output)
		},
	}
	p.addView(service, &v)
	addOutput(service, &output, "json", "yaml")
	explain := &cobra.Command{
		Use:   "explain",
		Short: "Say why things are as they are",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	explain.AddCommand(service)
	return explain
}

// addView adds the flags that say from where endpoints are looked at.
func (p *program) addView(cmd *cobra.Command, v *view) {
	flags := cmd.Flags()
	flags.StringVar(&v.from, "from", "", "The cluster of the clients, by its id or its name")
	flags.StringVar(&v.zone, "zone", "", "The zone of the clients (default: that of the cluster, if it has one only)")
	flags.StringVar(&v.port, "port", "", "The port of the service, by name or number (default: the first)")
	must(cmd.RegisterFlagCompletionFunc("from", p.completeIDs))
}

// serviceExplanation is what -o json shows.
type serviceExplanation struct {
	Namespace string           `json:"namespace"`
	Name      string           `json:"name"`
	From      string           `json:"from"`
	Zone      string           `json:"zone,omitempty"`
	Port      *servicePort     `json:"port,omitempty"`
	Reason    string           `json:"reason,omitempty"`
	Message   string           `json:"message,omitempty"`
	Conflicts []conflict       `json:"conflicts,omitempty"`
	Clusters  []sourceState    `json:"clusters"`
	Endpoints []globalEndpoint `json:"endpoints"`

	ports []clusterset.Port
}

type sourceState struct {
	Cluster      string     `json:"cluster"`
	Direct       bool       `json:"direct"`
	State        string     `json:"state"`
	ControlPlane string     `json:"controlPlane"`
	DataPlane    string     `json:"dataPlane"`
	Age          string     `json:"age"` // of what is known; 0s while the hub is in step with the cluster
	Unread       bool       `json:"unread,omitempty"`
	Recorded     *time.Time `json:"recorded,omitempty"` // when the hub wrote it down

	age time.Duration
}

func (p *program) explainService(ctx context.Context, name string, v view, output string) error {
	selected, err := p.selectServices([]string{name}, getFlags{})
	if err != nil {
		return err
	}
	t, err := p.openTable(ctx)
	if err != nil {
		return err
	}
	consumer := clusterset.Consumer{Zone: v.zone}
	if consumer.Cluster, err = t.cluster(v.from); err != nil {
		return err
	}
	services, err := selected.of(t, p.name)
	if err != nil {
		return err
	}
	e, err := t.explain(services[0], consumer, v.port)
	if err != nil {
		return err
	}
	if output != "" {
		return writeValue(p.streams.Out, output, e)
	}
	return p.printExplanation(e)
}

func (t *serviceTable) explain(service *clusterset.Service, from clusterset.Consumer, asked string) (*serviceExplanation, error) {
	name, err := choosePort(service, asked)
	if err != nil {
		return nil, err
	}
	explained := t.snapshot.Explain(service.Key, from, name, t.now)
	e := &serviceExplanation{
		Namespace: service.Namespace, Name: service.Name, From: from.Cluster, Zone: from.Zone,
		Reason: string(explained.Reason), Clusters: []sourceState{}, Endpoints: judge(service.Key, explained),
	}
	if explained.Reason != clusterset.Used {
		e.Message = explained.Reason.Explain()
	}
	for _, c := range service.Conflicts {
		e.Conflicts = append(e.Conflicts, conflict(c))
	}
	if index, ok := service.Port(name); ok {
		e.ports = service.Properties.Ports
		port := e.ports[index]
		e.Port = &servicePort{port.Name, string(protocol(port)), port.Port, port.AppProtocol}
	}
	for _, facts := range explained.Clusters {
		state := sourceState{
			Cluster: facts.Cluster, Direct: facts.Direct, State: string(facts.State), ControlPlane: string(facts.ControlPlane),
			DataPlane: string(facts.DataPlane), Age: facts.Age.Truncate(time.Second).String(), Unread: facts.Unread, age: facts.Age,
		}
		state.State = cmp.Or(state.State, "Active")
		state.ControlPlane, state.DataPlane = cmp.Or(state.ControlPlane, "Unknown"), cmp.Or(state.DataPlane, "Unknown")
		if at, ok := t.recorded[facts.Cluster]; ok {
			state.Recorded = &at
		}
		e.Clusters = append(e.Clusters, state)
	}
	return e, nil
}

func (p *program) printExplanation(e *serviceExplanation) error {
	p.say("%s", e.headline())
	if e.Message != "" {
		p.say("It may use nothing: %s.", e.Message)
	}
	for _, c := range e.Conflicts {
		p.say("Conflict %s: %s", c.Reason, c.Message)
	}
	clusters := table{header: []string{"CLUSTER", "REACHED", "STATE", "CONTROL PLANE", "DATA PLANE", "KNOWN"}}
	for _, c := range e.Clusters {
		clusters.rows = append(clusters.rows, []string{c.Cluster, c.path(), c.State, c.ControlPlane, c.DataPlane, c.known()})
	}
	p.say("")
	if err := clusters.write(printers.GetNewTabWriter(p.streams.Out), true); err != nil {
		return err
	}
	p.say("")
	if len(e.Endpoints) == 0 {
		p.say("No cluster has endpoints for it.")
		return nil
	}
	rows := table{header: endpointHeader(true, false, false)}
	slices.SortStableFunc(e.Endpoints, byUse)
	for i := range e.Endpoints {
		rows.rows = append(rows.rows, endpointRow(&e.Endpoints[i], true, false, false))
	}
	return rows.write(printers.GetNewTabWriter(p.streams.Out), true)
}

// byUse puts what is used first, in its order.
func byUse(a, b globalEndpoint) int {
	rank := func(e globalEndpoint) int {
		if e.Priority == nil {
			return int(^uint(0) >> 1)
		}
		return *e.Priority
	}
	return cmp.Compare(rank(a), rank(b))
}

func (e *serviceExplanation) headline() string {
	text := fmt.Sprintf("Service %s/%s from cluster %s", e.Namespace, e.Name, e.From)
	if e.Zone != "" {
		text += ", zone " + e.Zone
	}
	if e.Port == nil {
		return text
	}
	asked := clusterset.Port{Name: e.Port.Name, Protocol: corev1.Protocol(e.Port.Protocol), Port: e.Port.Port}
	text += ", port " + portLabel(asked)
	var others []string
	for _, port := range e.ports {
		if port.Name != asked.Name {
			others = append(others, portLabel(port))
		}
	}
	if len(others) > 0 {
		text += " (other ports, with --port: " + strings.Join(others, ", ") + ")"
	}
	return text
}

func (s *sourceState) path() string {
	if s.Direct {
		return "directly"
	}
	return "by gateways"
}

func (s *sourceState) known() string {
	switch {
	case s.Unread:
		return "never read"
	case s.age > 0:
		return duration.HumanDuration(s.age) + " ago"
	}
	return "now"
}
