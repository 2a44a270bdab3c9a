package lab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/hansa-dev/hansa/e2e/lab"
)

func (o *options) statusCommand() *cobra.Command {
	return o.viewCommand("status", "Show the clusters and programs of the lab", printStatus)
}

// viewCommand is a command that shows the status of the lab, as JSON or in a table of its own.
func (o *options) viewCommand(use, short string, table func(io.Writer, lab.Status) error) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:               use,
		Short:             short,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			l, err := o.open()
			if err != nil {
				return err
			}
			status, err := l.Status(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				return o.printJSON(status)
			}
			return table(o.streams.Out, status)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "output format: json, or nothing for a table")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// checkOutput refuses output formats that there are not; before anything is done.
func checkOutput(format string) error {
	if format == "" || format == "json" {
		return nil
	}
	return usageError{fmt.Errorf("output format %q: json is the only one besides the table", format)}
}

func (o *options) printJSON(value any) error {
	enc := json.NewEncoder(o.streams.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}

// printTop shows what uses the memory.
func printTop(out io.Writer, s lab.Status) error {
	var b strings.Builder
	b.WriteString("CLUSTER\tSTATE\tPODS\tREADY\tMEMORY\tANONYMOUS\n") // memory: shared pages in equal parts
	var sum lab.ClusterStatus
	for _, c := range s.Clusters {
		pods, ready := countPods(c.Nodes)
		fmt.Fprintf(&b, "%s\t%s\t%d\t%d\t%s\t%s\n", c.Name, c.State, pods, ready, mebibytes(c.PSS), mebibytes(c.Anonymous))
		sum.PSS += c.PSS
		sum.Anonymous += c.Anonymous
		sum.Nodes = append(sum.Nodes, c.Nodes...)
	}
	if s.Network != nil {
		fmt.Fprintf(&b, "(network)\t%s\t\t\t%s\t%s\n", s.Network.State, mebibytes(s.Network.PSS), mebibytes(s.Network.Anonymous))
		sum.PSS += s.Network.PSS
		sum.Anonymous += s.Network.Anonymous
	}
	pods, ready := countPods(sum.Nodes)
	fmt.Fprintf(&b, "all\t\t%d\t%d\t%s\t%s\n", pods, ready, mebibytes(sum.PSS), mebibytes(sum.Anonymous))
	if len(sum.Nodes) > 0 {
		b.WriteString("\nNODE\tSTATE\tPODS\tREADY\tMEMORY\n")
	}
	for _, n := range sum.Nodes {
		pods, ready := countPods([]lab.NodeStatus{n})
		fmt.Fprintf(&b, "%s\t%s\t%d\t%d\t%s\n", n.Name, n.State, pods, ready, mebibytes(n.PSS))
	}
	if pods > 0 {
		b.WriteString("\nPOD\tNODE\tPHASE\tREADY\tIP\tMEMORY\n")
	}
	for _, n := range sum.Nodes {
		for _, p := range n.Pods {
			fmt.Fprintf(&b, "%s/%s\t%s\t%s\t%t\t%s\t%s\n", p.Namespace, p.Name, n.Name, p.Phase, p.Ready, p.IP, mebibytes(p.RSS))
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return w.Flush()
}

func countPods(nodes []lab.NodeStatus) (pods, ready int) {
	for _, n := range nodes {
		for _, p := range n.Pods {
			pods++
			if p.Ready {
				ready++
			}
		}
	}
	return pods, ready
}

func printStatus(out io.Writer, s lab.Status) error {
	var b strings.Builder
	if !s.Complete {
		fmt.Fprintf(&b, "lab %s is being made, or was interrupted while it was\n", s.Name)
	}
	if s.Network != nil && s.Network.State != lab.Running {
		fmt.Fprintf(&b, "the network of lab %s is %s: nothing reaches its clusters; `hansa-lab up`, with the flags that made it, makes it again\n", s.Name, s.Network.State)
	}
	b.WriteString("CLUSTER\tSTATE\tVERSION\tURL\tMEMORY\tPIDS\n")
	for _, c := range s.Clusters {
		version := cmp.Or(c.Version, "-")
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, c.State, version, c.URL, mebibytes(c.RSS), pids(c.Components))
	}
	if len(s.Programs) > 0 {
		b.WriteString("\nPROGRAM\tSTATE\tMEMORY\tPID\tLOG\n")
	}
	for _, p := range s.Programs {
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\t%s\n", p.Name, p.State, mebibytes(p.RSS), pid(p), p.Log)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return w.Flush()
}

// pids lists a cluster's processes; the state is told where it is not running.
func pids(components []lab.ProcessStatus) string {
	var parts []string
	for _, c := range components {
		part := c.Name + "=" + pid(c)
		if c.State == lab.Paused {
			part += "(paused)"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " ")
}

func pid(p lab.ProcessStatus) string {
	if p.PID == 0 {
		return "-"
	}
	return strconv.Itoa(p.PID)
}

func mebibytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
