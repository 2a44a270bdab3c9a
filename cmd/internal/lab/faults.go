package lab

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hansa-dev/hansa/e2e/lab"
)

const targetHelp = ` A target is a cluster (m1), one of its components (m1/etcd, m1/apiserver,
m1/controller-manager, m1/scheduler)`

const moreTargets = `, a node
(m1-n1), a pod (pod/m1/default/web-0) or a program (program/NAME). The kind may stand in front: node m1-n1, apiserver m1,
pod m1 default/web-0.`

func (o *options) killCommand() *cobra.Command {
	return o.targetCommand("kill TARGET", "Kill a cluster with SIGKILL; its data stays", moreTargets, true,
		func(ctx context.Context, l *lab.Lab, target string) (string, error) {
			return "killed", l.Kill(ctx, target)
		})
}

func (o *options) startCommand() *cobra.Command {
	return o.targetCommand("start TARGET", "Start a killed cluster again, with its ports and data", " or a node (m1-n1).", false,
		func(ctx context.Context, l *lab.Lab, target string) (string, error) {
			return "is running", l.Start(ctx, target)
		})
}

func (o *options) pauseCommand() *cobra.Command {
	return o.targetCommand("pause TARGET", "Stop a cluster with SIGSTOP: it takes connections and does not answer", moreTargets, true,
		func(ctx context.Context, l *lab.Lab, target string) (string, error) {
			return "paused", l.Pause(ctx, target)
		})
}

func (o *options) resumeCommand() *cobra.Command {
	return o.targetCommand("resume TARGET", "Let a paused cluster go on", moreTargets, true,
		func(ctx context.Context, l *lab.Lab, target string) (string, error) {
			return "resumed", l.Resume(ctx, target)
		})
}

// targetCommand is a command that does one thing to one target.
func (o *options) targetCommand(use, short, targets string, programs bool,
	do func(context.Context, *lab.Lab, string) (string, error),
) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Long:  short + "." + targetHelp + targets,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) >= 1 && len(args) <= 3 {
				return nil
			}
			return usageError{fmt.Errorf("%s takes TARGET, or KIND NAME; got %q", cmd.CommandPath(), args)}
		},
		ValidArgsFunction: o.completeTargets(func(target string) bool {
			return programs || !strings.HasPrefix(target, "program/")
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := o.open()
			if err != nil {
				return err
			}
			target, err := targetOf(args)
			if err != nil {
				return err
			}
			done, err := do(cmd.Context(), l, target)
			if err != nil {
				return err
			}
			o.printf("%s %s\n", target, done)
			return nil
		},
	}
}

func (o *options) runCommand() *cobra.Command {
	var where string
	cmd := &cobra.Command{
		Use:   "run NAME -- COMMAND [ARG...]",
		Short: "Run a program in the background as a part of the lab",
		Long: `Run a program in the background as a part of the lab: status shows it, its output goes to a log file, and down
ends it. KUBECONFIG is set to the lab's kubeconfig; with --in, to the one that is valid in the lab's networks.`,
		Example: "  hansa-lab run hansa-hub -- bin/hansa hub",
		Args:    withCommand("run", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := o.open()
			if err != nil {
				return err
			}
			p, err := l.StartInside(cmd.Context(), args[0], where, args[1:], nil)
			if err != nil {
				return err
			}
			o.printf("%s runs as process %d; its log is %s\n", p.Name, p.PID, p.Log)
			return nil
		},
	}
	cmd.Flags().StringVar(&where, "in", "", "cluster or node in whose network it runs, in a lab with traffic; see exec")
	_ = cmd.RegisterFlagCompletionFunc("in", o.completePlaces)
	return cmd
}

func (o *options) stopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop NAME",
		Short: "End a program that run has started, with SIGTERM, or SIGKILL if that does not help",
		Args:  exactly("NAME"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			complete := o.completeTargets(func(target string) bool { return strings.HasPrefix(target, "program/") })
			targets, directive := complete(cmd, args, "")
			var names []string
			for _, target := range targets {
				if name := strings.TrimPrefix(target, "program/"); strings.HasPrefix(name, typed) {
					names = append(names, name)
				}
			}
			return names, directive
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := o.open()
			if err != nil {
				return err
			}
			if err := l.StopProgram(cmd.Context(), args[0]); err != nil {
				return err
			}
			o.printf("%s stopped\n", args[0])
			return nil
		},
	}
}
