package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// serviceTable is the global service table as the hub has it, read from the host cluster.
type serviceTable struct {
	namespace string // of the hub
	snapshot  *clusterset.Snapshot
	// clusters are the ids of clusters by the names of their KubeFedClusters.
	clusters map[string]string
	// zones are the known ones of clusters, by their ids; see zonesOf.
	zones map[string][]string
	// unknown are the names of KubeFedClusters that the hub has no id of, or leaves out.
	unknown []string
	// recorded is when what is known of a cluster was written down last, by its id.
	recorded map[string]time.Time
	routes   routes
	hub      hubState
	now      time.Time
	flaws    []error // what could not be read, beside what could
}

// openTable reads the global service table, and says what is wrong with it.
func (p *program) openTable(ctx context.Context) (*serviceTable, error) {
	h, err := p.openHost()
	if err != nil {
		return nil, err
	}
	done := p.patience("reading what the hub knows of the clusters ...")
	defer done()
	t, err := h.serviceTable(ctx)
	if err != nil {
		return nil, err
	}
	for _, flaw := range t.flaws {
		p.warn("%v", flaw)
	}
	if warning := t.warning(); warning != "" {
		p.warn("%s", warning)
	}
	return t, nil
}

// cluster finds a cluster by its id, or by the name of its KubeFedCluster.
func (t *serviceTable) cluster(name string) (string, error) {
	if t.snapshot.Cluster(name) != nil {
		return name, nil
	}
	if id, ok := t.clusters[name]; ok && t.snapshot.Cluster(id) != nil {
		return id, nil
	}
	if slices.Contains(t.unknown, name) {
		return "", fmt.Errorf("cluster %q is joined, but the hub has not looked at it yet, or leaves it out. See: kubectl -n %s describe clusterinfo %s", name, t.namespace, name)
	}
	ids := t.ids()
	if len(ids) == 0 {
		return "", fmt.Errorf("cluster %q is not known: nothing is known of any cluster yet. Is a hub running, and is a cluster joined?", name)
	}
	return "", fmt.Errorf("cluster %q is not known; the clusters are: %s", name, strings.Join(ids, ", "))
}

// ids lists the clusters of the table.
func (t *serviceTable) ids() []string {
	var ids []string
	for _, cluster := range t.snapshot.Clusters() {
		ids = append(ids, cluster.ID)
	}
	return ids
}

// age returns how old what is known of a cluster is.
func (t *serviceTable) age(cluster string) time.Duration {
	if facts := t.snapshot.Cluster(cluster); facts != nil {
		return facts.Age(t.now)
	}
	return 0
}

// completeTable completes with what the global service table has; with nothing when it cannot be read in time.
func (p *program) completeTable(cmd *cobra.Command, list func(*serviceTable) []string) ([]string, cobra.ShellCompDirective) {
	return p.completeFromHost(cmd, func(ctx context.Context, h *host) []string {
		t, err := h.serviceTable(ctx)
		if err != nil {
			return nil
		}
		return list(t)
	})
}

func serviceNames(t *serviceTable) []string {
	var names []string
	for _, service := range t.snapshot.Services() {
		names = append(names, service.String())
	}
	return names
}

// completeIDs completes a flag with the ids of clusters.
func (p *program) completeIDs(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.completeTable(cmd, (*serviceTable).ids)
}
