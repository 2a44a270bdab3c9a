package agent

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
	"github.com/hansa-dev/hansa/eastwest/enrolment"
)

// The ports of a gateway. That of DNS needs no privileges, and nothing else on a node has it.
const (
	passthroughAddr = ":15443"
	tunnelAddr      = ":15445"
	dnsAddr         = ":15053"
	gatewayWeb      = "127.0.0.1:15090"
)

// GatewayOptions are the flags of `hansa agent`.
type GatewayOptions struct {
	Cluster      string // name of the KubeFedCluster
	Hubs         []string
	Enrol        []string
	CAFile       string
	JoinToken    string // a file
	AccountToken string // a file
	SPIFFESocket string
	StateDir     string
	Kubeconfig   string
	Context      string

	NodeName        string
	Inside, Outside string
	Passthrough     string
	Tunnels         string
	DNS             dns.Flags
	MetricsAddr     string

	DrainTimeout time.Duration
	LeaveDelay   time.Duration
	Supervise    bool
	LogFormat    string
	Verbosity    int

	inside, outside netip.Addr
}

func (o *GatewayOptions) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.Cluster, "cluster", "", "The name of the KubeFedCluster whose gateway this is. Only with a join token or --spiffe-socket it may be left out.")
	flags.StringSliceVar(&o.Hubs, "hub", nil, "HOST:PORT of xDS of the hubs: one is asked for services, all are told who is alive.")
	flags.StringSliceVar(&o.Enrol, "enrol", nil, "HOST:PORT at which the hubs give certificates. Default: the hosts of --hub, port 15012.")
	flags.StringVar(&o.CAFile, "ca-file", "", "The roots by which the hub is checked at the first time, in PEM.")
	flags.StringVar(&o.JoinToken, "join-token-file", "", "A file with a token that \"hansa token CLUSTER\" made, which is good for one certificate.")
	flags.StringVar(&o.AccountToken, "token-file", "", "A file with a token of the Pod's ServiceAccount, for the audience "+enrolment.Audience+".")
	flags.StringVar(&o.SPIFFESocket, "spiffe-socket", "", "The socket of a SPIFFE Workload API to have certificates from instead, as unix:///run/spire/agent.sock.")
	flags.StringVar(&o.StateDir, "state-dir", "", "The directory for certificate and snapshot, so that a gateway starts without a hub. It is created if need be.")
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "Path to a kubeconfig of the own cluster. Only needed outside of it; \"0\" leaves its API alone.")
	flags.StringVar(&o.Context, "context", "", "The context of the kubeconfig to use.")
	flags.StringVar(&o.NodeName, "node-name", "", "The name of the node in the own cluster. Default: this machine's.")
	flags.StringVar(&o.Inside, "inside-address", "", "The IP address at which Pods of the own cluster reach the gateway. Its listeners for global services are there.")
	flags.StringVar(&o.Outside, "outside-address", "", "The IP address at which gateways of other clusters reach it. Default: --inside-address.")
	flags.StringVar(&o.Passthrough, "passthrough-addr", passthroughAddr, "The address for TLS by server name, of services that open themselves for it. \"0\" turns it off.")
	flags.StringVar(&o.Tunnels, "tunnel-addr", tunnelAddr, "The address for tunnels of other gateways.")
	flags.StringVar(&o.MetricsAddr, "metrics-addr", gatewayWeb, "The address of /metrics, /healthz, /readyz and the tap of DNS. \"0\" turns it off.")
	flags.DurationVar(&o.DrainTimeout, "drain-timeout", 30*time.Second, "How long connections may go on that are there when the gateway stops.")
	flags.DurationVar(&o.LeaveDelay, "leave-delay", 3*time.Second, "How long a gateway that stops still takes connections after it has said goodbye, until others have heard.")
	flags.BoolVar(&o.Supervise, "supervise", true, "Keep listening sockets in a small parent process, so that a worker that dies or is replaced loses no connection.")
	flags.StringVar(&o.LogFormat, "log-format", "text", "Format of the log: text or json.")
	flags.IntVarP(&o.Verbosity, "v", "v", 0, "Verbosity of the log, 0 to 9. 1 is an access log.")
	o.DNS.Add(flags, "dns-", dnsAddr)
	o.complete(cmd)
}

func (o *GatewayOptions) complete(cmd *cobra.Command) {
	must(cmd.MarkFlagDirname("state-dir"))
	for _, file := range []string{"ca-file", "join-token-file", "token-file", "kubeconfig"} {
		must(cmd.MarkFlagFilename(file))
	}
	must(cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)))
	for _, free := range []string{
		"cluster", "hub", "enrol", "spiffe-socket", "context", "node-name", "inside-address", "outside-address", "passthrough-addr", "tunnel-addr",
		"metrics-addr", "drain-timeout", "leave-delay",
	} {
		must(cmd.RegisterFlagCompletionFunc(free, cobra.NoFileCompletions))
	}
}

// check finds what does not go together, and fills in what follows from the rest.
func (o *GatewayOptions) check() error {
	switch {
	case len(o.Hubs) == 0:
		return errors.New("--hub is required, where to learn of services")
	case o.LogFormat != "text" && o.LogFormat != "json":
		return fmt.Errorf("--log-format %q: want text or json", o.LogFormat)
	case o.DrainTimeout < 0 || o.LeaveDelay < 0:
		return errors.New("--drain-timeout and --leave-delay cannot be negative")
	}
	check := o.checkEnrolment
	if o.SPIFFESocket != "" {
		check = o.checkWorkload
	}
	for _, each := range []func() error{check, o.checkPlaces, o.derive} {
		if err := each(); err != nil {
			return err
		}
	}
	return nil
}

// checkWorkload checks the flags of who has certificates of a SPIFFE Workload API.
func (o *GatewayOptions) checkWorkload() error {
	if o.JoinToken != "" || o.AccountToken != "" || o.CAFile != "" || len(o.Enrol) > 0 {
		return errors.New("--spiffe-socket does not go with --enrol, --ca-file, --join-token-file and --token-file: certificates come from there or from the hub")
	}
	return nil
}

// checkEnrolment checks the flags of who has certificates from the hub.
func (o *GatewayOptions) checkEnrolment() error {
	switch {
	case o.JoinToken != "" && o.AccountToken != "":
		return errors.New("--join-token-file and --token-file do not go together: one says who asks")
	case o.JoinToken == "" && o.AccountToken == "":
		return errors.New("--token-file or --join-token-file is required, by which the hub knows who asks for a certificate; or --spiffe-socket")
	case o.StateDir == "":
		return errors.New("--state-dir is required, where the certificate is kept")
	case o.CAFile == "":
		return errors.New("--ca-file is required, by which the hub is checked before there is a certificate: the key ca.crt of configmap/hansa-xds in the hub's namespace")
	case o.AccountToken != "" && o.Cluster == "":
		return errors.New("--cluster is required with --token-file: the name of the KubeFedCluster")
	}
	return nil
}

// checkPlaces checks the addresses.
func (o *GatewayOptions) checkPlaces() error {
	if err := checkHubs(o.Hubs); err != nil {
		return err
	}
	for _, at := range o.Enrol {
		if !hostPort(at) {
			return fmt.Errorf("--enrol %q: want HOST:PORT, as in hub.example.org:15012", at)
		}
	}
	if at, err := parseListen(o.Tunnels); err != nil || at.Port() == 0 {
		return fmt.Errorf("--tunnel-addr %q: want IP:PORT or :PORT", o.Tunnels)
	}
	if at, err := parseListen(o.Passthrough); o.Passthrough != off && (err != nil || at.Port() == 0) {
		return fmt.Errorf("--passthrough-addr %q: want IP:PORT or :PORT, or 0", o.Passthrough)
	}
	var err error
	if o.inside, err = parseOwn(o.Inside); err != nil {
		return fmt.Errorf("--inside-address %q: want the IP address at which Pods of the own cluster reach this gateway", o.Inside)
	}
	if o.outside, err = parseOwn(cmp.Or(o.Outside, o.Inside)); err != nil {
		return fmt.Errorf("--outside-address %q: want the IP address at which gateways of other clusters reach this one", o.Outside)
	}
	return nil
}

// derive fills in defaults that depend on other flags.
func (o *GatewayOptions) derive() error {
	if len(o.DNS.Addrs) == 1 && o.DNS.Addrs[0] == off {
		o.DNS.Addrs = nil
	}
	if len(o.Enrol) == 0 {
		for _, hub := range o.Hubs {
			host, _, _ := net.SplitHostPort(hub) // checked
			o.Enrol = append(o.Enrol, net.JoinHostPort(host, strconv.Itoa(enrolment.DefaultPort)))
		}
	}
	if o.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("finding out this machine's name; say it with --node-name: %w", err)
		}
		o.NodeName = strings.ToLower(name)
	}
	if problems := validation.IsDNS1123Subdomain(o.NodeName); len(problems) > 0 {
		return fmt.Errorf("--node-name %q: %s", o.NodeName, strings.Join(problems, "; "))
	}
	return nil
}

// parseOwn reads an address that one machine has.
func parseOwn(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" {
		return netip.Addr{}, errors.New("not the address of a machine")
	}
	return addr.Unmap(), nil
}

// parseListen reads IP:PORT or :PORT, which is all addresses.
func parseListen(text string) (netip.AddrPort, error) {
	if strings.HasPrefix(text, ":") {
		text = "[::]" + text
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return at, fmt.Errorf("%q: want IP:PORT or :PORT", text)
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

func hostPort(text string) bool {
	host, port, err := net.SplitHostPort(text)
	n, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && bad == nil && n != 0 && host != ""
}
