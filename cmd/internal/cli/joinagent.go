package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hansa-dev/hansa/federation/join"
)

// agentFlags say how agents are installed in a member.
type agentFlags struct {
	install bool
	options join.AgentOptions
}

// agentStateDir is the default of --agent-state-dir.
const agentStateDir = "/var/lib/hansa-agent"

func (f *agentFlags) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.install, "agent", false, "Install agents in the member: gateways to other clusters, and DNS for global names")
	flags.StringVar(&f.options.Image, "agent-image", "hansa", "Image of the agents, whose entry point is the program hansa")
	flags.StringSliceVar(&f.options.Hubs, "agent-hub", nil, "HOST:PORT at which the agents reach xDS of the hubs (default: as the hubs announce)")
	flags.StringSliceVar(&f.options.Enrolment, "agent-enrol", nil, "HOST:PORT at which the agents ask the hubs for certificates (default: as the hubs announce)")
	flags.StringSliceVar(&f.options.Nodes, "agent-node", nil, "Nodes to label hansa.dev/gateway=true, where agents run then (default: those that are labelled; if none is, two are chosen)")
	flags.StringVar(&f.options.StateDir, "agent-state-dir", agentStateDir, "Directory of the nodes in which agents keep certificate and snapshot; empty: they are kept as long as the agent's Pod")
	flags.StringArrayVar(&f.options.Args, "agent-arg", nil, "A further argument of the agents, as \"hansa agent --help\" has them, for example --agent-arg=--v=1")
	for _, name := range f.names() {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
}

// names are the flags that are of use with --agent only.
func (*agentFlags) names() []string {
	return []string{"agent-image", "agent-hub", "agent-enrol", "agent-node", "agent-state-dir", "agent-arg"}
}

// check finds flags that are of no use.
func (f *agentFlags) check(cmd *cobra.Command) error {
	for _, name := range f.names() {
		if !f.install && cmd.Flags().Changed(name) {
			return usage(cmd, "--%s is of use only with --agent", name)
		}
	}
	return nil
}

// installAgent installs agents in a member that has just been joined, if that is wanted.
func (p *program) installAgent(ctx context.Context, joiner *join.Joiner, o join.Options, f agentFlags) error {
	if !f.install {
		return nil
	}
	f.options.Name, f.options.Namespace, f.options.DryRun = o.Name, o.Namespace, o.DryRun
	if err := joiner.InstallAgent(ctx, f.options); err != nil {
		return fmt.Errorf("installing agents in %s: %w", o.Name, err)
	}
	if !o.DryRun {
		p.say("agents start in %s; its DNS should ask service/%s/%s there for clusterset.local. See: %s get gateways", o.Name, o.Namespace, join.AgentDNS, p.name)
	}
	return nil
}
