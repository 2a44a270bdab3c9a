package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/join"
	"github.com/hansa-dev/hansa/federation/typeconfig"
)

// memberFlags are what join and unjoin have in common.
type memberFlags struct {
	context  string
	hostName string
	dryRun   bool
}

func (p *program) bindMember(cmd *cobra.Command, f *memberFlags) {
	flags := cmd.Flags()
	flags.StringVar(&f.context, "cluster-context", "", "Name of the member's context in the kubeconfig (default: the name of the cluster)")
	flags.StringVar(&f.hostName, "host-cluster-name", "",
		`Name of the host cluster in the names of objects in the member (default: the host's context). Needed when that context's name has a ":" or "/"`)
	flags.BoolVar(&f.dryRun, "dry-run", false, "Only check, and say what would be done")
	must(cmd.RegisterFlagCompletionFunc("cluster-context", p.completeContexts))
}

func (p *program) newJoin() *cobra.Command {
	var member memberFlags
	var defaults, services bool
	var agent agentFlags
	options := join.Options{ClusterAdmin: p.name == Kubefedctl}
	cmd := &cobra.Command{
		Use:   "join CLUSTER",
		Short: "Register a cluster with the hub",
		Long: long(`
			Registers a cluster with the hub of the host cluster. In the member it creates a namespace, a
			ServiceAccount and what the hub may do there; in the host, a Secret with a token (bound, 90 days, renewed
			by the hub) and a KubeFedCluster.

			The hub gets no more than the ten default types need, enabled or not, through the ClusterRole hansa-member,
			which gathers all ClusterRoles labelled hansa.dev/aggregate-to-member=true: add a type by adding such a role;
			leave the default types out with --default-types=false. With --cluster-admin (as kubefedctl join does) it
			gets everything. Who may write Secrets and Deployments is not far from that: see ADR 5.

			For global services it installs the Multi-Cluster Services API (ServiceExport, ServiceImport) where nobody
			else has, and grants through the ClusterRole hansa-member-services to read what the cluster exports and to
			write what it imports. Leave both out with --global-services=false. A cluster that was joined before gets
			them by joining it again (--error-on-existing=false).

			With --agent it also installs agents: gateways by which Pods of other clusters reach those of this one, and
			the other way round, and a DNS server for global names. They run on the nodes with the label
			hansa.dev/gateway=true; two are chosen if there are none.

			An interrupted join may be repeated.`),
		Example: p.examples(`
			# Join the cluster of the context m1 under that name
			{} join m1 --host-cluster-context=hub

			# Join under another name, and let the hub do everything there
			{} join paris --cluster-context=prod-eu-west-3 --host-cluster-context=hub --cluster-admin

			# Join a cluster in a network of its own
			{} join m1 --host-cluster-context=hub --agent --agent-image=registry.example.org/hansa:v1

			# Renew the credentials of a cluster that is joined already
			{} join m1 --host-cluster-context=hub --error-on-existing=false`),
		Args:              exactly("the name of the cluster"),
		ValidArgsFunction: p.completeContextsOnce,
		RunE: func(cmd *cobra.Command, args []string) error {
			options.Name = args[0]
			options.WithoutServices = !services
			options.RestoreTypes = defaults && cmd.Flags().Changed("default-types")
			if defaults {
				options.Types = defaultTypes()
			}
			if err := agent.check(cmd); err != nil {
				return err
			}
			return p.runJoin(cmd.Context(), options, member, agent)
		},
	}
	p.bindMember(cmd, &member)
	flags := cmd.Flags()
	flags.StringVar(&options.SecretName, "secret-name", "", "Name of the Secret in the host for the member's token (default: generated from the name of the cluster)")
	flags.BoolVar(&options.ErrorOnExisting, "error-on-existing", true, "Fail when the cluster is joined already; if false, bring what exists up to date")
	flags.BoolVar(&defaults, "default-types", true,
		"Grant what the ten default types need. Left out, a role for them that was narrowed or deleted in the member stays so; given, it is made again")
	flags.BoolVar(&services, "global-services", true,
		"Install the Multi-Cluster Services API and grant what global services need; what is there already stays either way")
	flags.BoolVar(&options.ClusterAdmin, "cluster-admin", options.ClusterAdmin, "Grant the hub everything in the member, as KubeFed does")
	if p.name == Hansa {
		agent.bind(cmd)
	}
	return cmd
}

func (p *program) runJoin(ctx context.Context, o join.Options, f memberFlags, agent agentFlags) error {
	h, err := p.openHost()
	if err != nil {
		return err
	}
	o.Namespace, o.HostName, o.DryRun = p.namespace, hostName(h, f), f.dryRun
	if err := join.CheckNames(o.Name, o.HostName); err != nil {
		return err
	}
	config, contextName, err := p.member(o.Name, f)
	if err != nil {
		return err
	}
	joiner, err := p.joiner(h, o.HostName, &join.Cluster{Name: o.Name, Context: contextName, Config: config})
	if err != nil {
		return err
	}
	done := p.patience("talking to %s and %s ...", h.config.Host, config.Host)
	defer done()
	result, err := joiner.Join(ctx, o)
	if errors.Is(err, join.ErrNotPrepared) {
		return fmt.Errorf("joining %s: %w\nPrepare it first: %s", o.Name, err, h.initCommand())
	}
	if err != nil {
		return fmt.Errorf("joining %s: %w", o.Name, err)
	}
	if !o.DryRun {
		p.say("cluster %s (Kubernetes %s, %s) joined; the hub will report it Ready: %s get clusters", o.Name, result.ServerVersion, result.Cluster.Spec.APIEndpoint, p.name)
	}
	return p.installAgent(ctx, joiner, o, agent)
}

func defaultTypes() []schema.GroupResource {
	var types []schema.GroupResource
	for _, config := range typeconfig.Defaults("") {
		types = append(types, schema.GroupResource{Group: config.Spec.TargetType.Group, Resource: config.Spec.TargetType.PluralName})
	}
	return types
}

func hostName(h *host, f memberFlags) string {
	if f.hostName != "" {
		return f.hostName
	}
	return h.context
}

// member reads the member's context from the kubeconfig.
func (p *program) member(name string, f memberFlags) (*rest.Config, string, error) {
	contextName := f.context
	if contextName == "" {
		contextName = name
	}
	config, err := p.memberConfig(contextName)
	if err != nil {
		return nil, "", fmt.Errorf("cluster %q: %w. Name its context with --cluster-context", name, err)
	}
	return config, contextName, nil
}

func (p *program) joiner(h *host, hostName string, member *join.Cluster) (*join.Joiner, error) {
	return join.New(&join.Cluster{Name: "the host cluster " + hostName, Context: h.context, Config: h.config}, member,
		func(line string) {
			if text, warning := strings.CutPrefix(line, "warning: "); warning {
				p.warn("%s", text)
				return
			}
			p.say("%s", line)
		})
}

func (p *program) newUnjoin() *cobra.Command {
	var member memberFlags
	var options join.UnjoinOptions
	cmd := &cobra.Command{
		Use:   "unjoin CLUSTER",
		Short: "Remove a cluster from the hub",
		Long: long(`
			Removes a cluster from the hub: first its KubeFedCluster, so that the hub stops using it, then its token,
			then what join created in it.

			What the hub spread to the cluster stays there and goes on running, unless --delete-workloads is given.
			Nothing is deleted from a cluster that is not the one that was joined. One that does not answer, or that the
			context does not lead to, is unjoined with --force only; what stays in it is listed. --dry-run lists all
			that would be deleted. An interrupted unjoin may be repeated.`),
		Example: p.examples(`
			# Unjoin a cluster; its workloads stay
			{} unjoin m1 --host-cluster-context=hub

			# Unjoin a cluster that is gone for good
			{} unjoin m1 --host-cluster-context=hub --force`),
		Args:              exactly("the name of the cluster"),
		ValidArgsFunction: p.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			options.Name = args[0]
			return p.runUnjoin(cmd.Context(), options, member)
		},
	}
	p.bindMember(cmd, &member)
	cmd.Flags().BoolVar(&options.Force, "force", false, "Unjoin although the cluster does not answer or is another one (it is only forgotten then), or something in it cannot be deleted")
	cmd.Flags().BoolVar(&options.DeleteWorkloads, "delete-workloads", false, "Also delete from the cluster what the hub spread to it")
	return cmd
}

func (p *program) runUnjoin(ctx context.Context, o join.UnjoinOptions, f memberFlags) error {
	h, err := p.openHost()
	if err != nil {
		return err
	}
	o.Namespace, o.HostName, o.DryRun = p.namespace, hostName(h, f), f.dryRun
	if err := join.CheckNames(o.Name, o.HostName); err != nil {
		return err
	}
	var member *join.Cluster
	config, contextName, err := p.member(o.Name, f)
	switch {
	case err == nil:
		member = &join.Cluster{Name: o.Name, Context: contextName, Config: config}
	case !o.Force:
		return fmt.Errorf("%w, or unjoin without cleaning it up: --force", err)
	}
	if o.DeleteWorkloads {
		if member == nil {
			return errors.New("--delete-workloads needs a cluster that can be reached")
		}
		if o.Workloads, err = p.targets(ctx, h); err != nil {
			return err
		}
	}
	joiner, err := p.joiner(h, o.HostName, member)
	if err != nil {
		return err
	}
	done := p.patience("talking to %s and the member ...", h.config.Host)
	defer done()
	left, err := joiner.Unjoin(ctx, o)
	if err != nil {
		return fmt.Errorf("unjoining %s: %w", o.Name, err)
	}
	if len(left) > 0 {
		p.warn("left behind in %s, to be deleted by hand should it come back:", o.Name)
		for _, what := range left {
			fmt.Fprintf(p.streams.ErrOut, "  %s\n", what)
		}
	}
	if !o.DryRun {
		p.say("cluster %s unjoined", o.Name)
	}
	return nil
}

// targets lists the target kinds of all FederatedTypeConfigs.
func (p *program) targets(ctx context.Context, h *host) ([]schema.GroupVersionKind, error) {
	configs := &corev1b1.FederatedTypeConfigList{}
	if err := h.client.List(ctx, configs, client.InNamespace(h.namespace)); err != nil {
		return nil, h.explain("listing FederatedTypeConfigs", err)
	}
	var kinds []schema.GroupVersionKind
	for _, config := range configs.Items {
		target := config.Spec.TargetType
		kinds = append(kinds, schema.GroupVersionKind{Group: target.Group, Version: target.Version, Kind: target.Kind})
	}
	return kinds, nil
}
