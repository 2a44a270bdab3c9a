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
	var output string
	cmd := &cobra.Command{
		Use:               "status",
		Short:             "Show the clusters and programs of the lab",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return usageError{fmt.Errorf("output format %q: json is the only one besides the table", output)}
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
				enc := json.NewEncoder(o.streams.Out)
				enc.SetIndent("", "  ")
				return enc.Encode(status)
			}
			return printStatus(o.streams.Out, status)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "output format: json, or nothing for a table")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func printStatus(out io.Writer, s lab.Status) error {
	var b strings.Builder
	if !s.Complete {
		fmt.Fprintf(&b, "lab %s is being made, or was interrupted while it was\n", s.Name)
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
