// Package cli is the command tree of the programs that a person types: hansa, and kubefedctl, which has the same
// commands under KubeFed's name and with KubeFed's defaults where they differ.
//
// Every command talks to the host cluster through kubectl's own flags (--kubeconfig, --context, --as, …), KubeFed's
// --host-cluster-context meaning the same as --context. Members are reached through a context of the same kubeconfig
// (join, unjoin) or through the credentials that the hub has for them (get).
package cli

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"

	"github.com/hansa-dev/hansa/federation/api"
)

// Names of the programs that NewCommand knows.
const (
	Hansa      = "hansa"
	Kubefedctl = "kubefedctl"
)

// program is what all commands share.
type program struct {
	name    string
	streams genericiooptions.IOStreams
	config  *genericclioptions.ConfigFlags

	hostContext string // --host-cluster-context
	namespace   string // --kubefed-namespace

	dial func() (*host, error) // tests put a host cluster of their own here
}

// NewCommand returns the command tree for a program: Hansa or Kubefedctl.
func NewCommand(name string, streams genericiooptions.IOStreams) *cobra.Command {
	return (&program{name: name, streams: streams, config: genericclioptions.NewConfigFlags(true)}).command()
}

// command returns the command tree.
func (p *program) command() *cobra.Command {
	name, streams := p.name, p.streams
	root := &cobra.Command{
		Use:   name,
		Short: "Federate Kubernetes clusters: spread objects over them and see them as one",
		Long: long(`
			Federates Kubernetes clusters. A hub in a host cluster spreads objects over member clusters: what to
			spread (template), where to (placement), and what differs per cluster (overrides).

			The current context of the kubeconfig has to be the host cluster; otherwise name it with
			--host-cluster-context or --context.`),
		Example: p.examples(`
			# Prepare a host cluster, join a member, look at it
			{} init --host-cluster-context=hub
			{} join m1 --host-cluster-context=hub
			{} get clusters --host-cluster-context=hub`),
		Version:       thisBuild().Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())
	})
	p.addPersistentFlags(root)
	root.AddCommand(
		p.newInit(), p.newJoin(), p.newUnjoin(),
		p.newEnable(), p.newDisable(), p.newFederate(), p.newOrphaning(),
		p.newGet(), p.newVersion(),
	)
	if name == Hansa {
		root.AddCommand(p.newToken(), p.newExplain(), p.newXDS(), p.newDrain(), p.newUndrain(), p.newDrill(), p.newTrace(), p.newRevoke())
	}
	return root
}

// interruptedCode is the exit code after an interrupt: 128 and the number of SIGINT, as shells have it.
const interruptedCode = 130

// Execute runs a command tree and returns the exit code of the process: 0, 1 after an error, which it prints, or 130
// after an interrupt.
func Execute(ctx context.Context, root *cobra.Command) int {
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil: // whatever it was doing, it failed because of that
		fmt.Fprintf(root.ErrOrStderr(), "Interrupted: %v\nThe same command may be repeated.\n", err)
		return interruptedCode
	default:
		fmt.Fprintf(root.ErrOrStderr(), "Error: %v\n", err)
	}
	return 1
}

// addPersistentFlags adds kubectl's flags, KubeFed's, and klog's (KubeFed's scripts pass --v).
func (p *program) addPersistentFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	connection := pflag.NewFlagSet("connection", pflag.ContinueOnError)
	p.config.AddFlags(connection)
	connection.VisitAll(func(f *pflag.Flag) {
		if f.Name == "server" {
			f.Shorthand = "" // -s is KubeFed's --skip-api-resources
		}
		if f.Name == "context" {
			f.Usage = "The name of the kubeconfig context of the host cluster; the same as --host-cluster-context"
		}
		flags.AddFlag(f)
	})
	flags.StringVar(&p.hostContext, "host-cluster-context", "", "The name of the kubeconfig context of the host cluster (default: the current context)")
	flags.StringVar(&p.namespace, "kubefed-namespace", api.DefaultNamespace, "Namespace of the hub in the host cluster")
	logging := flag.NewFlagSet("logging", flag.ContinueOnError)
	klog.InitFlags(logging)
	logging.VisitAll(func(f *flag.Flag) {
		added := pflag.PFlagFromGoFlag(f)
		added.Hidden = f.Name != "v"
		flags.AddFlag(added)
	})
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	must(root.RegisterFlagCompletionFunc("host-cluster-context", p.completeContexts))
	must(root.RegisterFlagCompletionFunc("context", p.completeContexts))
	must(root.RegisterFlagCompletionFunc("namespace", p.completeNamespaces))
	must(root.RegisterFlagCompletionFunc("kubefed-namespace", p.completeNamespaces))
}

// must panics on an error that only a mistake in this package can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// long formats a description: paragraphs as they are, without the indentation of the source.
func long(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// examples formats examples for a help page; {} stands for the program's name.
func (p *program) examples(text string) string {
	lines := strings.Split(long(strings.ReplaceAll(text, "{}", p.name)), "\n")
	for i, line := range lines {
		if line != "" {
			lines[i] = "  " + line
		}
	}
	return strings.Join(lines, "\n")
}

// usage is an error of somebody's typing: the message, and where to read on.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return fmt.Errorf("%w\nSee '%s --help'", fmt.Errorf(format, args...), cmd.CommandPath())
}

// exactly wants that many arguments, named in what.
func exactly(what ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(what):
			return usage(cmd, "%s is required", what[len(args)])
		case len(args) > len(what):
			return usage(cmd, "unexpected argument %q", args[len(what)])
		}
		return nil
	}
}
