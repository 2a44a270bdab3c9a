package hub

import (
	"context"
	"fmt"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
)

// names answers DNS: every replica of the hub does, from what it watches itself.
type names struct{ *dns.Server }

// NeedLeaderElection says that standbys serve too.
func (names) NeedLeaderElection() bool { return false }

// Start serves until ctx ends.
func (n names) Start(ctx context.Context) error { return n.Run(ctx) }

// serveDNS adds a DNS server, if one is asked for.
func serveDNS(mgr manager.Manager, o *Options, watcher *exports.Watcher, log logr.Logger) error {
	if !o.DNS.On() {
		if flag, viewed := o.DNS.Viewed(); viewed {
			return fmt.Errorf("--%s is about DNS, which is off: turn it on with --dns-addr, as in --dns-addr :53", flag)
		}
		return nil
	}
	server, err := dns.New(dns.Options{
		Flags: &o.DNS, Snapshots: complete{watcher, watcher.Ready()}, Drain: drainTimeout, Log: log,
	})
	if err != nil {
		return err
	}
	if err := mgr.Add(names{server}); err != nil {
		return fmt.Errorf("setting up DNS: %w", err)
	}
	if err := mgr.AddReadyzCheck("dns", server.Check); err != nil {
		return fmt.Errorf("setting up /readyz: %w", err)
	}
	if err := mgr.AddMetricsServerExtraHandler(dns.TapPath, server.Tap()); err != nil {
		return fmt.Errorf("setting up %s beside the metrics: %w", dns.TapPath, err)
	}
	if err := metrics.Registry.Register(collectors(server.Collectors())); err != nil {
		return fmt.Errorf("setting up the metrics of DNS: %w", err)
	}
	return nil
}

// complete keeps snapshots back until they are as complete as can be: before, names would seem not to exist that do.
type complete struct {
	dns.Snapshots

	ready <-chan struct{}
}

// Current implements dns.Snapshots.
func (c complete) Current() (*clusterset.Snapshot, <-chan struct{}) {
	select {
	case <-c.ready:
		return c.Snapshots.Current()
	default:
		return &clusterset.Snapshot{}, c.ready
	}
}
