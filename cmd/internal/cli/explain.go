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

// explainFlags are the flags of explain.
type explainFlags struct {
	view
	output string
}

// serviceWords are the words behind explain that mean a global service.
func serviceWords() []string { return []string{"service", "services", "svc"} }

func (p *program) newExplain() *cobra.Command {
	var f explainFlags
	words := serviceWords()
	service := &cobra.Command{
		Use:     words[0] + " [NAMESPACE/]NAME",
		Aliases: words[1:],
		Short:   "Say for every endpoint of a global service whether a cluster uses it, and why not",
		Long: long(`
			Says for every endpoint of a global service whether clients in a cluster use it, with which priority and
			weight, and why not; how the clusters that serve it stand, and how old the knowledge of them is; in what
			their exports differ; and which rules for requests (of its ServicePolicy, and of HTTPRoutes and GRPCRoutes
			that name its ServiceImport) send requests elsewhere, in their order.

			It is computed from what the hub has recorded in the host cluster, with the code that the hub serves clients
			with. Without a namespace, that of -n or of the context is meant.`),
		Example: p.examples(`
			# Where do calls from cluster m1 go, and why not elsewhere?
			{} explain service shop/cart --from m1

			# From a zone, for one port, for a program
			{} explain svc/cart -n shop --from m1 --zone m1-a --port grpc -o json`),
		Args:              exactly("the service (NAMESPACE/NAME)"),
		ValidArgsFunction: p.completeServiceOnce,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.runExplain(cmd, args[0], f)
		},
	}
	explain := &cobra.Command{
		Use:               "explain (service [NAMESPACE/]NAME | service/NAME) --from CLUSTER",
		Short:             "Say why things are as they are",
		Long:              "Says why things are as they are, of global services (see 'explain service --help') and of their names (see 'explain dns --help').",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: p.completeServicePath,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			kind, name, joined := strings.Cut(args[0], "/")
			switch {
			case !slices.Contains(words, strings.ToLower(kind)):
				return usage(cmd, "%q: want service NAMESPACE/NAME. For the fields of a kind: kubectl explain", args[0])
			case !joined || name == "":
				return usage(cmd, "the service (NAMESPACE/NAME) is required")
			case len(args) > 1:
				return usage(cmd, "unexpected argument %q", args[1])
			}
			return p.runExplain(cmd, name, f)
		},
	}
	for _, cmd := range []*cobra.Command{service, explain} {
		p.addView(cmd, &f.view)
		addOutput(cmd, &f.output, "json", "yaml", "wide")
	}
	explain.AddCommand(service, p.newExplainDNS())
	return explain
}

func (p *program) runExplain(cmd *cobra.Command, name string, f explainFlags) error {
	switch {
	case f.from == "":
		return usage(cmd, "--from is required: the cluster whose clients are meant")
	case !slices.Contains([]string{"", "json", "yaml", "wide"}, f.output):
		return usage(cmd, "unknown output format %q: json, yaml or wide", f.output)
	}
	if err := checkZone(cmd, f.zone); err != nil {
		return err
	}
	return p.explainService(cmd.Context(), name, f)
}

func (p *program) completeServiceOnce(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.completeTable(cmd, serviceNames)
}

// completeServicePath completes svc/NAMESPACE/NAME.
func (p *program) completeServicePath(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	kind, _, joined := strings.Cut(word, "/")
	if !joined || !slices.Contains(serviceWords(), kind) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, directive := p.completeServiceOnce(cmd, args, word)
	for i := range names {
		names[i] = kind + "/" + names[i]
	}
	return names, directive
}

// addView adds the flags that say from where endpoints are looked at.
func (p *program) addView(cmd *cobra.Command, v *view) {
	flags := cmd.Flags()
	flags.StringVar(&v.from, "from", "", "The cluster of the clients, by its id or its name")
	flags.StringVar(&v.zone, "zone", "", "The zone of the clients (default: that of the cluster, if it has one only)")
	flags.StringVar(&v.port, "port", "", "The port of the service, by name or number (default: the first)")
	must(cmd.RegisterFlagCompletionFunc("from", p.completeIDs))
	for _, free := range []string{"zone", "port"} {
		must(cmd.RegisterFlagCompletionFunc(free, cobra.NoFileCompletions))
	}
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
	Routing   *routing         `json:"routing,omitempty"` // in clients that understand requests
	Hub       hubState         `json:"hub"`
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

func (p *program) explainService(ctx context.Context, name string, f explainFlags) error {
	selected, err := p.selectServices([]string{name}, getFlags{})
	if err != nil {
		return err
	}
	t, err := p.openTable(ctx)
	if err != nil {
		return err
	}
	consumer, err := p.consumer(t, f.view)
	if err != nil {
		return err
	}
	services, err := selected.of(t, p.name)
	if err != nil {
		return err
	}
	e, err := t.explain(services[0], consumer, f.port)
	if err != nil {
		return err
	}
	if f.output == "json" || f.output == "yaml" {
		return writeValue(p.streams.Out, f.output, e)
	}
	return p.printExplanation(e, f.output == "wide")
}

func (t *serviceTable) explain(service *clusterset.Service, from clusterset.Consumer, asked string) (*serviceExplanation, error) {
	name, err := choosePort(service, asked)
	if err != nil {
		return nil, err
	}
	explained := t.snapshot.Explain(service.Key, from, name, t.now)
	e := &serviceExplanation{
		Namespace: service.Namespace, Name: service.Name, From: from.Cluster, Zone: from.Zone,
		Reason: string(explained.Reason), Hub: t.hub, Clusters: []sourceState{}, Endpoints: judge(service.Key, explained),
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
	e.route(t, service)
	for _, facts := range explained.Clusters {
		e.Clusters = append(e.Clusters, t.describeSource(facts))
	}
	return e, nil
}

// route adds the rules for requests, and to every endpoint those that may lead to it.
func (e *serviceExplanation) route(t *serviceTable, service *clusterset.Service) {
	var port int32
	if e.Port != nil {
		port = e.Port.Port
	}
	e.Routing = t.routing(service, port)
	if e.Routing == nil || len(e.Routing.Rules) == 0 {
		return
	}
	for i := range e.Endpoints {
		e.Endpoints[i].Rules = e.Routing.leads(e.Endpoints[i].Cluster)
	}
}

func (t *serviceTable) describeSource(facts clusterset.SourceFacts) sourceState {
	state := sourceState{
		Cluster: facts.Cluster, Direct: facts.Direct, Age: facts.Age.Truncate(time.Second).String(), Unread: facts.Unread, age: facts.Age,
		State:        cmp.Or(string(facts.State), "Active"),
		ControlPlane: cmp.Or(string(facts.ControlPlane), "Unknown"), DataPlane: cmp.Or(string(facts.DataPlane), "Unknown"),
	}
	if at, ok := t.recorded[facts.Cluster]; ok {
		state.Recorded = &at
	}
	return state
}

func (p *program) printExplanation(e *serviceExplanation, wide bool) error {
	p.say("%s", e.headline())
	if e.Message != "" {
		p.say("It may use nothing: %s.", e.Message)
	}
	for _, c := range e.Conflicts {
		p.say("Conflict %s: %s", c.Reason, c.Message)
	}
	if err := p.printRouting(e.Routing); err != nil {
		return err
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
	slices.SortStableFunc(e.Endpoints, byUse)
	columns := endpointColumns{judged: true, ruled: e.Routing != nil && len(e.Routing.Rules) > 0, wide: wide}
	return columns.table(e.Endpoints).write(printers.GetNewTabWriter(p.streams.Out), true)
}

// printRouting prints the rules for requests, and what is wrong with routes.
func (p *program) printRouting(r *routing) error {
	if r == nil {
		return nil
	}
	for _, problem := range r.problems() {
		p.say("%s", problem)
	}
	if len(r.Rules) == 0 {
		return nil
	}
	p.say("")
	p.say("Rules for requests, of which the first that fits counts (in gRPC clients, and in proxies where the port's appProtocol is HTTP):")
	return r.table().write(printers.GetNewTabWriter(p.streams.Out), true)
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
	var others []clusterset.Port
	for _, port := range e.ports {
		if port.Name != asked.Name {
			others = append(others, port)
		}
	}
	if len(others) > 0 {
		text += " (other ports, with --port: " + strings.Join(fewPorts(others, portLabel), ", ") + ")"
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
