package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hansa-dev/hansa/eastwest/gateway/sockets"
)

// NewGatewayCommand returns `hansa agent`.
func NewGatewayCommand(streams genericiooptions.IOStreams) *cobra.Command {
	o := &GatewayOptions{}
	cmd := &cobra.Command{
		Use:   "agent --hub HOST:PORT,... --inside-address IP",
		Short: "Run the agent of a member cluster: gateway to the other clusters, and DNS",
		Long: `Run the agent of a member cluster. "hansa join --agent" installs it on the nodes that are to be gateways.

It carries connections of Pods to global services (--inside-address) through tunnels of mutual TLS (--tunnel-addr) to the
gateways of other clusters, and theirs to the Pods of its own; passes TLS on by server name for services that open
themselves to it (--passthrough-addr); answers DNS for global names (--dns-addr, --dns-...); and tells the hubs who is alive.

Its certificate it has from the hub (--enrol), by a token of its Pod's ServiceAccount (--token-file) or by a join token
(--join-token-file), and renews it every day; or from a SPIFFE Workload API (--spiffe-socket). It learns of services from
a hub, and of its own cluster's from that cluster's API. What it knows it keeps in --state-dir: it starts and serves while
hub and API are away.

It is two processes: a small parent keeps the listening sockets, and a worker does everything else. A worker that dies is
replaced, and no connection is refused meanwhile. SIGHUP, or another program in the place of this one, has a new worker
take over and the one before drain. SIGTERM and SIGINT say goodbye to hubs and other gateways, drain, and end both.`,
		Example: `  # On a machine of cluster m1, with a token that "hansa token m1" made
  hansa agent --hub hub.example.org:15010 --join-token-file token --ca-file ca.crt --state-dir /var/lib/hansa-agent \
    --kubeconfig m1.kubeconfig --inside-address 10.1.0.11`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		SilenceUsage:      true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())
			}
			return o.run(cmd.Context(), newLog(o.LogFormat, o.Verbosity, streams))
		},
	}
	o.register(cmd)
	return cmd
}

// afterDrain is how much longer than its connections a worker may take to end.
const afterDrain = 10 * time.Second

// run is a worker, if this process was started as one; else a parent, or a worker without.
func (o *GatewayOptions) run(ctx context.Context, log logr.Logger) error {
	kept, err := sockets.Inherited()
	switch {
	case err == nil:
		return o.work(ctx, kept, kept, log.WithName("agent"))
	case !errors.Is(err, sockets.ErrNoParent):
		return err //nolint:wrapcheck // it says what it was about
	case !o.Supervise:
		return o.work(ctx, sockets.Direct{}, nil, log.WithName("agent"))
	}
	parent, err := sockets.NewParent(sockets.Options{Drain: o.LeaveDelay + o.DrainTimeout + afterDrain, Log: log.WithName("parent")})
	if err != nil {
		return err //nolint:wrapcheck // it says what it was about
	}
	return parent.Run(ctx) //nolint:wrapcheck // likewise
}

// work runs a worker until it is told to end.
func (o *GatewayOptions) work(ctx context.Context, from socketSource, parent *sockets.Kept, log logr.Logger) error {
	w := &worker{options: o, sockets: from, log: log, orders: ordersOf(ctx, parent), started: time.Now()}
	if parent != nil {
		w.announce = parent.Ready
	}
	err := w.run(context.WithoutCancel(ctx)) // it ends in an order of its own
	if err == nil {
		log.Info("Stopped")
	}
	return err
}

// ordersOf are those of the parent, if there is one, and of who sends signals.
func ordersOf(ctx context.Context, parent *sockets.Kept) <-chan sockets.Order {
	orders := make(chan sockets.Order, 1)
	var parents <-chan sockets.Order
	if parent != nil {
		parents = parent.Orders()
	}
	go func() {
		select {
		case order := <-parents:
			orders <- order
		case <-ctx.Done():
			orders <- sockets.Stop
		}
	}()
	return orders
}
