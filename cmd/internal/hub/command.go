// Package hub composes the hub program from the rooms of federation: it reads the KubeFedConfig, elects a leader, and
// runs the registry of members, the type engine, and what connects services. It is the only place that knows all of them.
package hub

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
)

// serviceAccountNamespace is where Kubernetes tells a pod its namespace.
const serviceAccountNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// off is the address of what is turned off.
const off = "0"

// Options are the flags of the hub. Names and defaults are KubeFed's controller-manager's where it has them.
type Options struct {
	Kubeconfig   string
	Context      string
	Master       string
	Namespace    string
	ConfigFile   string
	MetricsAddr  string
	HealthzAddr  string
	PprofAddr    string
	XDSAddr      string
	XDSAddress   string // how clients reach it
	EnrolAddr    string
	EnrolAt      string // how agents reach it
	CASecret     string
	SPIFFESocket string
	DNS          dns.Flags
	Publish      []string // zones that are written for external-dns
	QPS          float32
	Burst        int
	LeaderElect  bool
	LogFormat    string
	Verbosity    int
}

// NewCommand returns `hansa hub`.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	o := &Options{}
	cmd := &cobra.Command{
		Use:   "hub",
		Short: "Run the hub: registry of members, propagation of federated objects, global services",
		Long: `Run the hub against the host cluster.

The hub reads KubeFedCluster, FederatedTypeConfig and federated objects from the host cluster and keeps the member
clusters in step. Several hubs may run at once: a Lease elects the one that works, the others wait.

It also watches what the members export as Multi-Cluster Services, writes ServiceImports, and serves one view of all
endpoints over xDS, on every replica. It gives the agents of members their certificates, and concludes from what they
tell which clusters are alive. With --dns-addr it answers DNS for them, too: hansa dns --help says more.

It serves /healthz, /readyz and /metrics and stops cleanly on SIGINT and SIGTERM.`,
		Example: `  # Run outside of the cluster
  hansa hub --kubeconfig hub.kubeconfig --kubefed-namespace kube-federation-system

  # Run with a KubeFedConfig from a file
  hansa hub --kubeconfig hub.kubeconfig --kubefed-namespace kube-federation-system --kubefed-config config.yaml`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return o.run(ctx, streams)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "Path to a kubeconfig of the host cluster. Only needed outside of it.")
	flags.StringVar(&o.Context, "context", "", "The context of the kubeconfig to use.")
	flags.StringVar(&o.Master, "master", "", "The address of the host cluster's API server. Overrides the kubeconfig.")
	flags.StringVar(&o.Namespace, "kubefed-namespace", "", "The namespace of the hub's own objects. Defaults to the pod's own.")
	flags.StringVar(&o.ConfigFile, "kubefed-config", "", "Path to a KubeFedConfig in YAML, used instead of the one in the host cluster.")
	flags.StringVar(&o.MetricsAddr, "metrics-addr", ":9090", "The address of /metrics. \"0\" turns it off.")
	flags.StringVar(&o.HealthzAddr, "healthz-addr", ":8080", "The address of /healthz and /readyz. \"0\" turns it off.")
	flags.StringVar(&o.PprofAddr, "pprof-addr", "", "The address of /debug/pprof. Off by default.")
	flags.StringVar(&o.XDSAddr, "xds-addr", ":15010", "The address of xDS, where clients learn of global services over mutual TLS. \"0\" turns it off.")
	flags.StringVar(&o.XDSAddress, "xds-advertise", "", "HOST or HOST:PORT at which clients reach --xds-addr. Defaults to the address itself, or this machine's name.")
	flags.StringVar(&o.EnrolAddr, "enrol-addr", ":15012", "The address at which agents ask for their first certificate, over TLS without a certificate of theirs. \"0\" turns it off.")
	flags.StringVar(&o.EnrolAt, "enrol-advertise", "", "HOST or HOST:PORT at which agents reach --enrol-addr. Defaults to the host of --xds-advertise, with the port of --enrol-addr.")
	flags.StringVar(&o.CASecret, "ca-secret", "", "A Secret in the hub's namespace with the authority that signs the certificates of agents and clients, as cert-manager writes it. By default the hub makes its own.")
	flags.StringVar(&o.SPIFFESocket, "spiffe-socket", "", "The socket of a SPIFFE Workload API, as unix:///run/spire/agent.sock, to have the hub's certificate from. Agents have theirs from there, too: the hub signs nothing.")
	o.DNS.Add(flags, "dns-")
	flags.StringSliceVar(&o.Publish, "external-dns-zone", nil, "A zone of your own: its names SERVICE.NAMESPACE.ZONE, addresses of gateways, are written as DNSEndpoints into the host cluster, for external-dns to publish.")
	flags.Float32Var(&o.QPS, "rest-config-qps", 0, "Requests per second to the host cluster. 0, the default, sets no limit: the API server's own fairness decides.")
	flags.IntVar(&o.Burst, "rest-config-burst", 0, "Burst of requests to the host cluster, with --rest-config-qps.")
	flags.BoolVar(&o.LeaderElect, "leader-elect", true, "Elect a leader through a Lease. Turn it off only where one hub can ever run.")
	flags.StringVar(&o.LogFormat, "log-format", "text", "Format of the log: text or json.")
	flags.IntVarP(&o.Verbosity, "v", "v", 0, "Verbosity of the log, 0 to 9.")
	return cmd
}

func (o *Options) run(ctx context.Context, streams genericiooptions.IOStreams) error {
	if o.LogFormat != "text" && o.LogFormat != "json" {
		return fmt.Errorf("--log-format %q: want text or json", o.LogFormat)
	}
	o.setUpLog(streams)
	if o.CASecret != "" && o.SPIFFESocket != "" {
		return errors.New("--ca-secret and --spiffe-socket do not go together: certificates come from one of them")
	}
	if err := o.complete(); err != nil {
		return err
	}
	go collect(ctx)
	config, err := o.hostConfig()
	if err != nil {
		return err
	}
	return serve(ctx, o, config)
}

func (o *Options) setUpLog(streams genericiooptions.IOStreams) {
	logger := zap.New(zap.WriteTo(streams.ErrOut), zap.UseDevMode(false), func(z *zap.Options) {
		z.Level = zapLevel(o.Verbosity)
		if o.LogFormat == "text" {
			z.Encoder = textEncoder()
		}
	})
	ctrl.SetLogger(logger)
	klog.SetLogger(logger.WithName("client-go"))
	local := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(local)
	_ = local.Set("v", strconv.Itoa(o.Verbosity)) // a number is always accepted
}

func (o *Options) complete() error {
	if o.Namespace != "" {
		return nil
	}
	if o.Kubeconfig == "" && o.Master == "" {
		if data, err := os.ReadFile(serviceAccountNamespace); err == nil {
			o.Namespace = strings.TrimSpace(string(data))
		}
	}
	if o.Namespace == "" {
		return errors.New("the namespace of the hub must be given with --kubefed-namespace, for example kube-federation-system")
	}
	return nil
}

func (o *Options) hostConfig() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: o.Context}
	overrides.ClusterInfo.Server = o.Master
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading how to reach the host cluster (--kubeconfig, --context): %w", err)
	}
	config.QPS = -1
	if o.QPS > 0 {
		config.QPS, config.Burst = o.QPS, max(o.Burst, int(o.QPS))
	}
	config.UserAgent = "hansa-hub"
	return config, nil
}
