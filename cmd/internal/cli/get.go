package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/liggitt/tabwriter"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
)

// clusterKind is the kind behind get clusters.
const clusterKind = "KubeFedCluster"

// getFlags are the flags of get.
type getFlags struct {
	output        string
	selector      string
	allNamespaces bool
	watch         bool
	noHeaders     bool
}

// query is what get looks for.
type query struct {
	getFlags
	program   string // that runs, for messages
	host      *host
	kind      metav1.APIResource
	names     []string // empty: all
	namespace string   // empty: all, or a cluster-scoped kind
	now       func() time.Time
	rows      *tabwriter.Writer // where tables go
}

func (q *query) wants(name string) bool { return len(q.names) == 0 || slices.Contains(q.names, name) }

// namespaced tells whether rows begin with a namespace.
func (q *query) namespaced() bool { return q.kind.Namespaced && q.namespace == "" }

func (p *program) newGet() *cobra.Command {
	var f getFlags
	var v view
	cmd := &cobra.Command{
		Use:   "get (clusters | TYPE) [NAME...]",
		Short: "Show clusters, federated objects, or the objects of all members in one table",
		Long: long(`
			Shows the members (get clusters), federated objects with the state of their propagation (get
			federateddeployments), or the objects of any other type in all members, in one table (get deployments).
` + p.aboutGlobal() + `

			Members are asked with the hub's credentials for them, so no kubeconfig context per member is needed. A
			member that does not answer is named, and the others are shown; the exit code is then 1.

			With -o json and -o yaml, each object of a member carries its cluster in the annotation hansa.dev/cluster.`),
		Example: p.examples(`
			# The members
			{} get clusters -o wide

			# Is everything where it should be?
			{} get federateddeployments -A

			# The Deployments of all members, and their changes
			{} get deployments -A -w` + p.globalExamples()),
		ValidArgsFunction: p.completeGet,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "what to get is required: clusters, or a type")
			}
			if !slices.Contains([]string{"", "json", "yaml", "wide", "name"}, f.output) {
				return usage(cmd, "unknown output format %q: json, yaml, wide or name", f.output)
			}
			if _, err := labels.Parse(f.selector); err != nil {
				return usage(cmd, "selector %q: %v", f.selector, err)
			}
			args, err := splitNames(cmd, args)
			if err != nil {
				return err
			}
			if what := p.globalWord(args[0]); what != "" {
				return p.getGlobal(cmd, what, args[1:], f, v)
			}
			if what := p.gatewayWord(args[0]); what != "" && v == (view{}) {
				return p.getGateways(cmd, what, args[1:], f)
			}
			if v != (view{}) {
				return usage(cmd, "--from, --zone and --port are of use with get endpoints only")
			}
			h, err := p.openHost()
			if err != nil {
				return err
			}
			return p.runGet(cmd.Context(), h, args[0], args[1:], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.selector, "selector", "l", "", "Only objects whose labels fit this selector")
	flags.BoolVarP(&f.allNamespaces, "all-namespaces", "A", false, "Objects of all namespaces")
	flags.BoolVarP(&f.watch, "watch", "w", false, "After the table, go on printing what changes")
	flags.BoolVar(&f.noHeaders, "no-headers", false, "Print no header")
	addOutput(cmd, &f.output, "json", "yaml", "wide", "name")
	if p.name == Hansa {
		p.addView(cmd, &v)
	}
	return cmd
}

func (p *program) aboutGlobal() string {
	if p.name != Hansa {
		return ""
	}
	return `
		Global services (get services) and the endpoints behind them in all clusters (get endpoints) are shown as the hub
		has recorded them. With --from, endpoints have the priority and weight that clients in that cluster give them.
		The members' own Services and Endpoints are had by their short names: get svc, get ep.

		The gateways between clusters (get gateways) and the tunnels between them (get tunnels) are shown as their agents tell
		the hub, with its verdict on each. Names behind them are those of clusters.
	`
}

func (p *program) globalExamples() string {
	if p.name != Hansa {
		return ""
	}
	return `

		# The global services, and where calls from cluster m1 to one of them go
		{} get services -A -o wide
		{} get endpoints shop/cart --from m1

		# Which gateways are up, and what does m1's see of the others?
		{} get gateways -o wide
		{} get tunnels m1`
}

// getGlobal shows global services or their endpoints.
func (p *program) getGlobal(cmd *cobra.Command, what string, names []string, f getFlags, v view) error {
	switch {
	case f.watch:
		return usage(cmd, "get %s cannot watch", what)
	case f.selector != "":
		return usage(cmd, "get %s knows no selector: global services have no labels of their own", what)
	case what == globalEndpoints && v.from == "" && v != (view{}):
		return usage(cmd, "--zone and --port go with --from")
	case what == globalEndpoints:
		if err := checkZone(cmd, v.zone); err != nil {
			return err
		}
		return p.getEndpoints(cmd.Context(), names, f, v)
	case v != (view{}):
		return usage(cmd, "--from, --zone and --port are of use with get endpoints only")
	}
	return p.getServices(cmd.Context(), names, f)
}

func (p *program) completeGet(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && p.globalWord(args[0]) != "" {
		return p.completeTable(cmd, serviceNames)
	}
	if len(args) > 0 && p.gatewayWord(args[0]) != "" {
		return p.completeClusters(cmd, nil, word)
	}
	names, directive := p.completeTypes(func(string) bool { return true })(cmd, args, word)
	if len(args) == 0 {
		names = append([]string{"clusters"}, names...)
		for _, word := range []string{globalEndpoints, globalServices, gatewaysWord, tunnelsWord} {
			if (p.globalWord(word) != "" || p.gatewayWord(word) != "") && !slices.Contains(names, word) {
				names = append(names, word)
			}
		}
	}
	return names, directive
}

func (p *program) runGet(ctx context.Context, h *host, what string, names []string, f getFlags) error {
	q := &query{getFlags: f, program: p.name, host: h, names: names, now: time.Now, rows: printers.GetNewTabWriter(p.streams.Out)}
	if slices.Contains([]string{"clusters", "cluster", "kubefedclusters", "kubefedcluster", "kfc"}, what) {
		q.kind = metav1.APIResource{Group: corev1b1.SchemeGroupVersion.Group, Version: corev1b1.SchemeGroupVersion.Version, Kind: clusterKind, Name: "kubefedclusters", Namespaced: true}
		q.namespace = h.namespace
		return p.show(ctx, q, []source{{config: h.config}}, clusterColumns())
	}
	var err error
	if q.kind, err = h.kindOf(ctx, what); err != nil {
		return err
	}
	if q.kind.Namespaced && !f.allNamespaces {
		if q.namespace, err = p.contextNamespace(); err != nil {
			return err
		}
	}
	federated, err := h.isFederated(ctx, q.kind)
	if err != nil {
		return err
	}
	if federated {
		return p.show(ctx, q, []source{{config: h.config}}, federatedColumns())
	}
	members, err := h.members(ctx)
	if err != nil {
		return err
	}
	if len(members) == 0 {
		return fmt.Errorf("no cluster is joined in namespace %s of the host cluster (context %q). Join one: %s join", h.namespace, h.context, p.name)
	}
	return p.show(ctx, q, members, memberColumns(q.kind))
}

// kindOf finds the kind that a person means among those of the host, and then among the enabled types: a custom type
// may be installed in members only.
func (h *host) kindOf(ctx context.Context, name string) (metav1.APIResource, error) {
	kinds, err := h.kinds(ctx, "")
	if err != nil {
		return metav1.APIResource{}, err
	}
	kind, unknown := kinds.find(name)
	if unknown == nil {
		return kind, nil
	}
	unknown = fmt.Errorf("host cluster (context %q): %w", h.context, unknown)
	configs := &corev1b1.FederatedTypeConfigList{}
	if !errors.Is(unknown, errUnknownType) || h.client.List(ctx, configs, client.InNamespace(h.namespace)) != nil {
		return metav1.APIResource{}, unknown
	}
	config := named(configs.Items, name)
	if config == nil {
		return metav1.APIResource{}, unknown
	}
	return config.GetTargetType(), nil
}

// isFederated tells whether a kind is a federated one: its objects are in the host, and carry propagation's status.
func (h *host) isFederated(ctx context.Context, kind metav1.APIResource) (bool, error) {
	configs, err := h.typeConfigs(ctx)
	return federates(configs, kind), err
}

// typeConfigs lists all FederatedTypeConfigs.
func (h *host) typeConfigs(ctx context.Context) ([]corev1b1.FederatedTypeConfig, error) {
	all := &corev1b1.FederatedTypeConfigList{}
	if err := h.client.List(ctx, all, client.InNamespace(h.namespace)); err != nil {
		return nil, h.explain("listing FederatedTypeConfigs", err)
	}
	return all.Items, nil
}

// federates tells whether a kind is the federated kind of a type.
func federates(configs []corev1b1.FederatedTypeConfig, kind metav1.APIResource) bool {
	return slices.ContainsFunc(configs, func(c corev1b1.FederatedTypeConfig) bool {
		return c.Spec.FederatedType.Group == kind.Group && c.Spec.FederatedType.Kind == kind.Kind
	})
}

// typeConfigNamed picks a FederatedTypeConfig by its own name; nil when there is none.
func typeConfigNamed(configs []corev1b1.FederatedTypeConfig, name string) *corev1b1.FederatedTypeConfig {
	for i := range configs {
		if configs[i].Name == name {
			return &configs[i]
		}
	}
	return nil
}
