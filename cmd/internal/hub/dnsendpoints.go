package hub

import (
	"fmt"

	"github.com/go-logr/logr"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/hansa-dev/hansa/dns/endpoints"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/exports"
)

// publishNames adds the writer of DNSEndpoints, if there are zones to publish.
func publishNames(mgr manager.Manager, o *Options, registry *cluster.Registry, watcher *exports.Watcher, log logr.Logger) error {
	if len(o.Publish) == 0 {
		return nil
	}
	client, err := dynamic.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("connecting to the host cluster: %w", err)
	}
	writer, err := endpoints.New(endpoints.Options{
		Zones: o.Publish, ClusterSet: o.DNS.ClusterSet, TTL: o.DNS.TTL, Client: client, Namespace: o.Namespace,
		Snapshots: watcher, Members: registry, ClusterID: watcher.ClusterID, Ready: watcher.Ready(), Log: log,
	})
	if err != nil {
		return fmt.Errorf("--external-dns-zone: %w", err)
	}
	if err := mgr.Add(writer); err != nil {
		return fmt.Errorf("setting up DNSEndpoints: %w", err)
	}
	if err := metrics.Registry.Register(collectors(endpoints.Collectors())); err != nil {
		return fmt.Errorf("setting up the metrics of DNSEndpoints: %w", err)
	}
	return nil
}
