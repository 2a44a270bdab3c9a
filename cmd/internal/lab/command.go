// Package lab is the command tree of hansa-lab: it turns command lines into calls of package e2e/lab and prints what
// they return.
package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hansa-dev/hansa/e2e/lab"
)

// Exit codes of hansa-lab.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2

	exitNoCommand = 127 // as shells have it
)

// codeError is a failure with an exit code of its own.
type codeError struct {
	error

	code int
}

// Unwrap makes the cause visible to errors.Is.
func (e codeError) Unwrap() error { return e.error }

// usageError is a command line that makes no sense, as opposed to one that failed.
type usageError struct{ error }

// Unwrap makes the cause visible to errors.Is.
func (e usageError) Unwrap() error { return e.error }

// ExitCode is the exit code for the error of a command: 0 for none, 2 for a wrong command line, else 1.
func ExitCode(err error) int {
	var usage usageError
	var coded codeError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &usage):
		return exitUsage
	default:
		return exitError
	}
}

// options are the flags of all commands.
type options struct {
	streams genericiooptions.IOStreams
	lab     lab.Options
}

// open returns the lab that the flags name.
func (o *options) open() (*lab.Lab, error) {
	opts := o.lab
	opts.Out = o.streams.ErrOut
	l, err := lab.New(opts)
	if err != nil {
		return nil, usageError{err}
	}
	return l, nil
}

// NewCommand returns the command tree. Results go to the streams' Out, progress to ErrOut; errors are returned, see
// ExitCode.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	o := &options{streams: streams}
	root := &cobra.Command{
		Use:   "hansa-lab",
		Short: "Real Kubernetes clusters on this machine, without containers and without root",
		Long: `hansa-lab runs a hub and member clusters: real etcd, kube-apiserver, kube-controller-manager and kube-scheduler
processes, with TLS and RBAC, on ports of 127.0.0.1. Without --traffic there are no nodes: Pods exist and stay Pending.
With it, each cluster has a network of its own and nodes that run Pods as processes, and the networks are joined by links
whose delay, loss and bandwidth can be set, and which can be cut.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q; see hansa-lab --help", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	flags := root.PersistentFlags()
	flags.StringVar(&o.lab.Name, "name", lab.DefaultName, "name of the lab")
	flags.StringVar(&o.lab.Dir, "dir", "", "directory of the lab (default: $XDG_STATE_HOME/hansa/labs/NAME)")
	flags.StringVar(&o.lab.Source, "source", "", "folder of the Go module of the Kubernetes binary (default: e2e/kubernetes of the checkout around the working directory or this program)")
	_ = root.RegisterFlagCompletionFunc("name", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		names, _ := lab.Names() // completion has nowhere to report an error to
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	root.AddCommand(
		o.upCommand(), o.downCommand(), o.statusCommand(), o.kubeconfigCommand(),
		o.killCommand(), o.startCommand(), o.pauseCommand(), o.resumeCommand(),
		o.runCommand(), o.stopCommand(), o.tourCommand(), o.failoverCommand(), o.binaryCommand(), o.buildCommand(), o.installKubectlCommand(),
		o.linkCommand(), o.cutCommand(), o.healCommand(), o.execCommand(), o.topCommand(), o.networkCommand(), o.insideCommand(),
	)
	return root
}

// printf writes a result; there is nobody to tell when that fails.
func (o *options) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(o.streams.Out, format, args...)
}

// exactly is the check for commands with a fixed number of arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		want := "no arguments"
		if len(names) > 0 {
			want = strings.Join(names, " ")
		}
		return usageError{fmt.Errorf("%s takes %s; got %q", cmd.CommandPath(), want, args)}
	}
}

// completeTargets offers the clusters of the lab and, after a slash or on demand, their components; then programs.
func (o *options) completeTargets(keep func(target string) bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		l, err := o.open()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		targets, _ := l.Targets() // completion has nowhere to report an error to
		return slices.DeleteFunc(targets, func(target string) bool {
			return !strings.HasPrefix(target, typed) || !keep(target)
		}), cobra.ShellCompDirectiveNoFileComp
	}
}
