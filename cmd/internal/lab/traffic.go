package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/lab/network"
	"github.com/hansa-dev/hansa/e2e/lab/wan/link"
)

// networkCommand is the process that holds a lab's networks; `up` starts it in namespaces of its own.
func (o *options) networkCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "network SPEC",
		Hidden: true,
		Args:   exactly("SPEC"),
		RunE:   func(cmd *cobra.Command, args []string) error { return lab.RunNetwork(cmd.Context(), args[0]) },
	}
}

// insideCommand finishes what nsenter began: it gives a command the names of its cluster.
func (o *options) insideCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "inside RESOLV-CONF -- COMMAND [ARG...]",
		Hidden: true,
		Args:   withCommand("inside", "RESOLV-CONF"),
		RunE: func(_ *cobra.Command, args []string) error {
			err := lab.EnterNames(args[0], args[1:])
			if errors.Is(err, exec.ErrNotFound) {
				return codeError{err, exitNoCommand}
			}
			return err
		},
	}
}

// withCommand is the check for commands that take one argument and, after --, a command line.
func withCommand(use, name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if cmd.ArgsLenAtDash() != 1 || len(args) < 2 {
			return usageError{fmt.Errorf("%s takes %s -- COMMAND [ARG...]", use, name)}
		}
		return nil
	}
}

func (o *options) execCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec CLUSTER -- COMMAND [ARG...]",
		Short: "Run a command in the network of a cluster or node, of a lab with traffic",
		Long: `Run a command in the network of a node, or of the first node of a cluster: it reaches Pods and ClusterIPs, asks the
cluster's DNS, and KUBECONFIG has the addresses of all API servers that are valid there. Files are the host's. The exit
code is that of the command.`,
		Example: "  hansa-lab exec m1 -- curl -s http://echo.default.svc.cluster.local:8080/",
		Args:    withCommand("exec", "CLUSTER"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			return o.completePlaces(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := o.open()
			if err != nil {
				return err
			}
			command, err := l.Inside(cmd.Context(), args[0], args[1:]...)
			if err != nil {
				return err
			}
			path, err := exec.LookPath(command[0])
			if err != nil {
				return fmt.Errorf("entering a network needs the program nsenter of util-linux: %w", err)
			}
			// The caller's terminal, signals and exit code are the command's own.
			err = syscall.Exec(path, command, l.InsideEnv(os.Environ())) //nolint:gosec // G204: that is its purpose
			return fmt.Errorf("starting %s: %w", path, err)
		},
	}
	return cmd
}

// completePlaces offers clusters and nodes.
func (o *options) completePlaces(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return o.completeTargets(func(target string) bool { return !strings.Contains(target, "/") })(cmd, args, typed)
}

// completeClusters offers the clusters for every argument.
func (o *options) completeClusters(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	l, err := o.open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	clusters, _ := l.Clusters() // completion has nowhere to report an error to
	var names []string
	for _, c := range clusters {
		if strings.HasPrefix(c.Name, typed) {
			names = append(names, c.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

const linkHelp = ` FROM and TO are clusters, or several with commas; without TO, all others are meant.
Both directions are meant unless --one-way is given.`

// links are the flags and arguments that name links.
type links struct {
	oneWay bool
	output string
}

func (s *links) bind(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.oneWay, "one-way", false, "only from FROM to TO")
	cmd.Flags().StringVarP(&s.output, "output", "o", "", "output format: json, or nothing for a table")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
}

// parse reads FROM [TO].
func (s *links) parse(args []string) network.Ends {
	if len(args) == 0 {
		return network.Ends{}
	}
	ends := network.Ends{From: strings.Split(args[0], ","), Both: !s.oneWay}
	if len(args) > 1 {
		ends.To = strings.Split(args[1], ",")
	}
	return ends
}

func fromTo(cmd *cobra.Command, args []string) error {
	if len(args) == 1 || len(args) == 2 || len(args) == 0 && cmd.Name() == "link" {
		return nil
	}
	return usageError{fmt.Errorf("%s takes FROM [TO]; got %q", cmd.CommandPath(), args)}
}

// linksCommand is a command that changes links.
func (o *options) linksCommand(use, short, long string, do func(context.Context, *network.Client, network.Ends) ([]network.Link, error)) *cobra.Command {
	var s links
	cmd := &cobra.Command{
		Use: use + " FROM [TO]", Short: short, Long: short + "." + long + linkHelp,
		Args: fromTo, ValidArgsFunction: o.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(s.output); err != nil {
				return err
			}
			client, err := o.network()
			if err != nil {
				return err
			}
			changed, err := do(cmd.Context(), client, s.parse(args))
			if err != nil {
				return err
			}
			return o.printLinks(s.output, changed)
		},
	}
	s.bind(cmd)
	return cmd
}

func (o *options) network() (*network.Client, error) {
	l, err := o.open()
	if err != nil {
		return nil, err
	}
	return l.Network()
}

func (o *options) linkCommand() *cobra.Command {
	var delay, jitter time.Duration
	var loss, bandwidth string
	var cmd *cobra.Command
	cmd = o.linksCommand("link", "Show or set delay, jitter, loss and bandwidth between clusters",
		" What is not given stays as it is; without flags, the links are shown.",
		func(ctx context.Context, client *network.Client, ends network.Ends) ([]network.Link, error) {
			change := network.Change{Ends: ends}
			flags := cmd.Flags()
			if flags.Changed("delay") {
				change.Delay = new(delay.String())
			}
			if flags.Changed("jitter") {
				change.Jitter = new(jitter.String())
			}
			if flags.Changed("bandwidth") {
				change.Bandwidth = &bandwidth
			}
			if flags.Changed("loss") {
				share, err := link.ParseLoss(loss)
				if err != nil {
					return nil, usageError{fmt.Errorf("--loss: %w", err)}
				}
				change.Loss = &share
			}
			if len(ends.From) == 0 {
				return allLinks(ctx, client, change)
			}
			return client.SetLinks(ctx, change)
		})
	cmd.Example = `  hansa-lab link m1 m2 --delay 20ms --jitter 2ms --loss 1%
  hansa-lab link m1 --bandwidth 100Mbit
  hansa-lab link m1 m2 --delay 0s --one-way`
	cmd.Flags().DurationVar(&delay, "delay", 0, "one-way delay")
	cmd.Flags().DurationVar(&jitter, "jitter", 0, "how much the delay varies, up or down")
	cmd.Flags().StringVar(&loss, "loss", "", "share of packets that are lost: 1% or 0.01")
	cmd.Flags().StringVar(&bandwidth, "bandwidth", "", "bits per second, as 100Mbit; 0 is without limit")
	return cmd
}

// allLinks answers a command that names no clusters: it shows all links, and changes none.
func allLinks(ctx context.Context, client *network.Client, change network.Change) ([]network.Link, error) {
	if change.Delay != nil || change.Jitter != nil || change.Loss != nil || change.Bandwidth != nil {
		return nil, usageError{errors.New("link takes FROM [TO] with settings; without them it shows all links")}
	}
	state, err := client.State(ctx)
	return state.Links, err
}

func (o *options) cutCommand() *cobra.Command {
	return o.linksCommand("cut", "Cut links: packets are lost without a word", "", func(ctx context.Context, c *network.Client, s network.Ends) ([]network.Link, error) {
		return c.Cut(ctx, s)
	})
}

func (o *options) healCommand() *cobra.Command {
	return o.linksCommand("heal", "Mend links that were cut; delay and loss stay as they were set", "", func(ctx context.Context, c *network.Client, s network.Ends) ([]network.Link, error) {
		return c.Heal(ctx, s)
	})
}

func (o *options) printLinks(output string, changed []network.Link) error {
	if output == "json" {
		return o.printJSON(changed)
	}
	var b strings.Builder
	b.WriteString("FROM\tTO\tSTATE\tDELAY\tJITTER\tLOSS\tBANDWIDTH\tPACKETS\tDROPPED\n")
	for _, l := range changed {
		state := "up"
		if l.Cut {
			state = "cut"
		}
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\t%s\t%.4g%%\t%s\t%d\t%d\n", l.From, l.To, state, l.Delay, l.Jitter, l.Loss*100, l.Bandwidth, l.Packets, l.Dropped)
	}
	w := tabwriter.NewWriter(o.streams.Out, 0, 0, 2, ' ', 0)
	if _, err := w.Write([]byte(b.String())); err != nil {
		return err
	}
	return w.Flush()
}

func (o *options) topCommand() *cobra.Command {
	return o.viewCommand("top", "Show clusters, nodes and pods of a lab with traffic, with their memory", printTop)
}

// errPod is what is said of a pod that is not named in full.
var errPod = errors.New("name a pod by its cluster and NAMESPACE/NAME: pod m1 default/web-0")

// kinds are what can be killed, paused and resumed by kind and name.
var kinds = []string{"pod", "node", "cluster", "program", "etcd", "apiserver", "controller-manager", "scheduler", "kwok"}

// targetOf turns the arguments of kill, pause and resume into a target: TARGET, or KIND NAME, or pod CLUSTER NAMESPACE/NAME.
func targetOf(args []string) (string, error) {
	switch {
	case len(args) == 1 && slices.Contains(kinds, args[0]):
		return "", usageError{fmt.Errorf("%s of what? Name it too; a pod by its cluster and NAMESPACE/NAME", args[0])}
	case len(args) == 1:
		return args[0], nil
	case args[0] == "pod":
		if len(args) != 3 || strings.Count(args[2], "/") != 1 {
			return "", usageError{errPod}
		}
		return "pod/" + args[1] + "/" + args[2], nil
	case len(args) != 2:
		return "", usageError{fmt.Errorf("takes TARGET, or KIND NAME; got %q", args)}
	}
	switch kind, name := args[0], args[1]; kind {
	case "cluster", "node":
		return name, nil
	case "program":
		return "program/" + name, nil
	default:
		if slices.Contains(kinds, kind) {
			return name + "/" + kind, nil
		}
		return "", usageError{fmt.Errorf("kind %q: there are %s", kind, strings.Join(kinds, ", "))}
	}
}
