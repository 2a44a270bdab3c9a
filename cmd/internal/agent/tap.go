package agent

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
)

// newTap returns `hansa dns tap`.
func newTap(streams genericiooptions.IOStreams) *cobra.Command {
	var addr, below, output string
	var every int
	cmd := &cobra.Command{
		Use:   "tap",
		Short: "Look at queries as a DNS server answers them",
		Long: `Looks at queries as a DNS server answers them, until it is interrupted: when, over what, who asked, whose view answered,
what was asked, and the response's code and size in octets.

Queries tell who talks to whom, so a server shows them on its own machine only: at its --metrics-addr, to those who come
from 127.0.0.1 or ::1. "kubectl port-forward" does.`,
		Example: `  # One query in 100, below a name
  hansa dns tap --every 100 --below shop.svc.clusterset.local

  # That of a hub which runs DNS (--dns-addr), for a program
  hansa dns tap --addr 127.0.0.1:9090 -o json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			show := func(q dns.Query) error { return printQuery(streams, q) }
			switch {
			case every < 1:
				return fmt.Errorf("--every %d: want a number from 1\nSee '%s --help'", every, cmd.CommandPath())
			case output == "json":
				encoder := json.NewEncoder(streams.Out)
				show = func(q dns.Query) error { return encoder.Encode(q) }
			case output != "":
				return fmt.Errorf("unknown output format %q: json\nSee '%s --help'", output, cmd.CommandPath())
			}
			return dns.Watch(cmd.Context(), addr, every, below, show)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&addr, "addr", metricsAddr, "The --metrics-addr of the server.")
	flags.IntVar(&every, "every", 1, "Look at one query in so many, chosen at random.")
	flags.StringVar(&below, "below", "", "Look only at names at or below this one.")
	flags.StringVarP(&output, "output", "o", "", "Output format: json, one object in a line.")
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp)))
	for _, free := range []string{"addr", "every", "below"} {
		must(cmd.RegisterFlagCompletionFunc(free, cobra.NoFileCompletions))
	}
	return cmd
}

// printQuery prints a query in a line for people.
func printQuery(streams genericiooptions.IOStreams, q dns.Query) error {
	_, err := fmt.Fprintf(streams.Out, "%s %-5s %s (%s) %s %s %s %d\n", q.Time.Local().Format("15:04:05.000000"), q.Transport, q.Peer, q.Asker,
		cmp.Or(q.Name, "?"), q.Type, cmp.Or(q.Rcode, "no response"), q.Bytes)
	return err
}
