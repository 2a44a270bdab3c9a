// Package agent composes what runs in a member cluster: gateway and DNS server (`hansa agent`), or a DNS server alone, wherever
// names of global services are wanted (`hansa dns`). Both take the service table from a hub, and keep it on disk for when there
// is none.
package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
)

// metricsAddr is the default of --metrics-addr, of this machine only. CoreDNS has 9153.
const metricsAddr = "127.0.0.1:9154"

// off is the address of what is turned off.
const off = "0"

// Options are the flags of the DNS server.
type Options struct {
	DNS         dns.Flags
	Hubs        []string
	TLSDir      string
	StateDir    string
	NodeID      string
	ZoneFiles   []string
	MetricsAddr string
	LogFormat   string
	Verbosity   int

	started time.Time
}

// NewCommand returns `hansa dns`.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	o := &Options{started: time.Now()}
	cmd := &cobra.Command{
		Use:   "dns (--hub HOST:PORT,... --tls-dir DIR | --zone-file FILE)",
		Short: "Run the DNS server for global services",
		Long: `Run the DNS server for global services: SERVICE.NAMESPACE.svc.clusterset.local.

It learns of services from a hub (--hub), of which there may be several, and proves who it is with the certificate that
"hansa xds bootstrap --cluster CLUSTER --dir DIR" writes. What it knows it keeps in --state-dir: when it starts while no
hub answers it goes on from there, and says in each answer that it may be stale (EDE 3).

--cluster says in which cluster those are who ask; --source and --listener tell several apart. Those outside of all
clusters are answered from the zones of --external-zone.

With --zone-file it serves zone files (RFC 1035) instead, and needs no hub.

It serves /healthz, /readyz and /metrics, shows queries to "hansa dns tap", and stops cleanly on SIGINT and SIGTERM.`,
		Example: `  # In cluster m1, with the certificate for its clients
  hansa xds bootstrap --cluster m1 --dir /etc/hansa-dns
  hansa dns --hub hub.example.org:15010 --tls-dir /etc/hansa-dns --state-dir /var/lib/hansa-dns --cluster m1

  # One server for two clusters, told apart by the addresses of their nodes and pods; other names are asked elsewhere
  hansa dns --hub hub1:15010,hub2:15010 --tls-dir /etc/hansa-dns --state-dir /var/lib/hansa-dns \
    --source 10.1.0.0/16=m1 --source 10.2.0.0/16=m2 --upstream 192.0.2.53

  # Zone files, on a port that needs no privileges
  hansa dns --zone-file example.org.zone --addr 127.0.0.1:5353`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		SilenceUsage:      true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())
			}
			return o.run(cmd.Context(), streams)
		},
	}
	o.register(cmd)
	cmd.AddCommand(newTap(streams))
	return cmd
}

func (o *Options) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&o.Hubs, "hub", nil, "HOST:PORT of xDS of the hubs, of which one is asked.")
	flags.StringVar(&o.TLSDir, "tls-dir", "", "The directory with ca.crt, tls.crt and tls.key for the hub, as \"hansa xds bootstrap\" writes it. The files are read before each connection.")
	flags.StringVar(&o.StateDir, "state-dir", "", "The directory for what is known of services, for when no hub answers. It is created if need be. Default: nothing is kept.")
	flags.StringVar(&o.NodeID, "node-id", "", "What the server calls itself in \"hansa xds clients\". Default: CLUSTER/HOSTNAME.")
	flags.StringSliceVar(&o.ZoneFiles, "zone-file", nil, "[ORIGIN=]FILE in the form of RFC 1035 to serve instead. It is read once.")
	flags.StringVar(&o.MetricsAddr, "metrics-addr", metricsAddr, "The address of /metrics, /healthz, /readyz and the tap. \"0\" turns it off.")
	flags.StringVar(&o.LogFormat, "log-format", "text", "Format of the log: text or json.")
	flags.IntVarP(&o.Verbosity, "v", "v", 0, "Verbosity of the log, 0 to 9.")
	o.DNS.Add(flags, "", ":53")
	complete(cmd)
}

// complete tells the shell what flags take.
func complete(cmd *cobra.Command) {
	for _, directory := range []string{"tls-dir", "state-dir"} {
		must(cmd.MarkFlagDirname(directory))
	}
	for _, file := range []string{"zone-file", "tls-cert-file", "tls-key-file", "tsig-file", "dnssec-key-file"} {
		must(cmd.MarkFlagFilename(file))
	}
	must(cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)))
	for _, free := range []string{
		"hub", "node-id", "metrics-addr", "addr", "tls-addr", "https-addr", "zone", "nameserver", "ttl", "external-zone", "kubefed-zone", "per-cluster-zone",
		"cluster", "listener", "source", "region", "upstream", "upstream-for", "rate-limit", "nsid", "chaos-version", "secondary",
	} {
		must(cmd.RegisterFlagCompletionFunc(free, cobra.NoFileCompletions))
	}
}

// must panics on an error that only a mistake in this package can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// check finds what does not go together.
func (o *Options) check() error {
	switch {
	case len(o.Hubs) > 0 && len(o.ZoneFiles) > 0:
		return errors.New("--hub and --zone-file do not go together: start one server for each")
	case len(o.Hubs) == 0 && len(o.ZoneFiles) == 0:
		return errors.New("--hub is required, where to learn of services, or --zone-file")
	case len(o.Hubs) > 0 && o.TLSDir == "":
		return errors.New("--tls-dir is required with --hub: the certificate that \"hansa xds bootstrap --cluster CLUSTER --dir DIR\" writes")
	case len(o.Hubs) == 0 && o.TLSDir != "":
		return errors.New("--tls-dir goes with --hub. The certificate that DNS clients see is --tls-cert-file")
	case len(o.Hubs) == 0 && o.StateDir != "":
		return errors.New("--state-dir goes with --hub: it keeps what a hub tells")
	case o.LogFormat != "text" && o.LogFormat != "json":
		return fmt.Errorf("--log-format %q: want text or json", o.LogFormat)
	}
	return checkHubs(o.Hubs)
}

func checkHubs(hubs []string) error {
	for _, hub := range hubs {
		if !hostPort(hub) {
			return fmt.Errorf("--hub %q: want HOST:PORT, as in hub.example.org:15010", hub)
		}
	}
	return nil
}

func (o *Options) run(ctx context.Context, streams genericiooptions.IOStreams) error {
	log := newLog(o.LogFormat, o.Verbosity, streams).WithName("dns")
	if len(o.ZoneFiles) > 0 {
		return o.serveFiles(ctx, log)
	}
	return o.serveHub(ctx, log)
}
