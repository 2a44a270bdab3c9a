package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/lab/failover"
)

// failoverName is the name of the lab that the story makes, unless --name says another.
const failoverName = "failover"

type failoverFlags struct {
	all, keep, ifPossible bool
	only                  []string
	save                  string
	agentArgs             []string
}

func (o *options) failoverCommand() *cobra.Command {
	var f failoverFlags
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Show what clients notice when Pods, a gateway and a whole cluster die",
		Long: `Boot a lab with three members on networks of their own (unless it is up), 20 ms apart, with an agent in each; run a
service in all of them, and call it by its global name from m1, 50 times a second, each time with a new connection, while
m1's Pods, then m2's gateway, then all of m2 are killed. A table shows what became of the calls:

  FAILED     of those begun after the fault
  CUT OFF    of those that were under way: they may have been carried out, so nobody repeats them
  TWICE      delivered more than once, as the servers count
  WORST      the longest time of a call that was answered
  SLOW FOR   from the first to the last call that failed or took over 150 ms

With --all it goes on with links that are cut or lose packets, slow peers, API servers and the hub. The lab goes down in the
end, unless --keep is given. It needs what labs with traffic need: root or user namespaces, and the program nft; and the
programs hansa and kubectl beside hansa-lab.`,
		Example: `  hansa-lab failover
  hansa-lab failover --only link,cluster --keep
  hansa-lab failover --all --save docs/failover`,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.runFailover(cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.all, "all", false, "all faults that there are")
	flags.StringSliceVar(&f.only, "only", nil, "the faults of these names, and no others")
	flags.StringVar(&f.save, "save", "", "folder for the table in Markdown, and for each call as JSON")
	flags.BoolVar(&f.keep, "keep", false, "leave the lab up")
	flags.BoolVar(&f.ifPossible, "if-possible", false, "do nothing, and say why, where labs with traffic are not possible")
	flags.StringArrayVar(&f.agentArgs, "agent-arg", nil, "a further argument of the agents")
	must(cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(faultNames(), cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.MarkFlagDirname("save"))
	must(cmd.RegisterFlagCompletionFunc("agent-arg", cobra.NoFileCompletions))
	return cmd
}

// must panics on an error that only a mistake in this package can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func faultNames() []string {
	var names []string
	for _, fault := range failover.Faults() {
		names = append(names, fault.Name)
	}
	return names
}

// faults returns those that flags name.
func (f *failoverFlags) faults() ([]failover.Fault, error) {
	if f.all && len(f.only) > 0 {
		return nil, usageError{errors.New("--all and --only do not go together")}
	}
	for _, name := range f.only {
		if !slices.Contains(faultNames(), name) {
			return nil, usageError{fmt.Errorf("--only %q: there is no such fault; there are %s", name, strings.Join(faultNames(), ", "))}
		}
	}
	switch {
	case f.all:
		return failover.Faults(), nil
	case len(f.only) == 0:
		return failover.Tale(), nil
	}
	return slices.DeleteFunc(failover.Faults(), func(fault failover.Fault) bool { return !slices.Contains(f.only, fault.Name) }), nil
}

func (o *options) runFailover(cmd *cobra.Command, f failoverFlags) (err error) {
	faults, err := f.faults()
	if err != nil {
		return err
	}
	if f.save != "" {
		if err := os.MkdirAll(f.save, 0o755); err != nil { //nolint:gosec // G301: results are for everybody
			return fmt.Errorf("--save: %w", err)
		}
	}
	ctx := cmd.Context()
	story, err := o.story(cmd, f)
	if err != nil {
		return err
	}
	if err := story.Lab.Up(ctx); err != nil {
		if f.ifPossible && (errors.Is(err, lab.ErrUnprivileged) || errors.Is(err, lab.ErrNoNFT)) {
			o.printf("The story of failover is left out: %v\n", err)
			return nil
		}
		return err
	}
	if !f.keep {
		defer func() {
			_, downErr := story.Lab.Down(cmd.Context())
			err = errors.Join(err, downErr)
		}()
	}
	if err := story.SetUp(ctx); err != nil {
		return err
	}
	var outcomes []failover.Outcome
	for _, fault := range faults {
		o.printf("==> %s\n", fault.Means)
		outcome, err := story.Measure(ctx, fault)
		if err != nil {
			return errors.Join(err, failover.Table(o.streams.Out, outcomes))
		}
		outcomes = append(outcomes, outcome)
	}
	o.printf("\n")
	if f.save != "" {
		if err := failover.Save(f.save, "table.md", outcomes); err != nil {
			return err
		}
	}
	return failover.Table(o.streams.Out, outcomes)
}

// story finds what the story needs.
func (o *options) story(cmd *cobra.Command, f failoverFlags) (*failover.Story, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the folder of the programs: %w", err)
	}
	bin := filepath.Dir(exe)
	for _, program := range []string{"hansa", "kubectl"} {
		if _, err := exec.LookPath(filepath.Join(bin, program)); err != nil {
			return nil, fmt.Errorf("the story needs the program %s beside hansa-lab: %w; run make build", program, err)
		}
	}
	source := o.lab.Source
	if source == "" {
		if source, err = lab.FindSource(); err != nil {
			return nil, err
		}
	}
	node, err := lab.FindNode(cmd.Context(), source)
	if err != nil {
		return nil, err
	}
	if err := node.Build(cmd.Context(), o.streams.ErrOut); err != nil {
		return nil, err
	}
	if !cmd.Flags().Changed("name") {
		o.lab.Name = failoverName
	}
	o.lab = failover.Options(o.lab, filepath.Join(bin, "hansa"))
	l, err := o.open()
	if err != nil {
		return nil, err
	}
	return &failover.Story{Lab: l, Bin: bin, Workload: node.Program("workload"), Out: o.streams.Out, AgentArgs: f.agentArgs}, nil
}
