package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// follow learns what there is: from disk, from a hub, and of the own cluster from its API.
func (w *worker) follow(helpers *group) error {
	var store *feed.Store
	if dir := w.options.StateDir; dir != "" {
		if err := os.MkdirAll(dir, stateMode); err != nil {
			return fmt.Errorf("--state-dir: %w", err)
		}
		store = feed.NewStore(filepath.Join(dir, snapshotFile))
	}
	api, err := w.options.ownAPI()
	if err != nil {
		return err
	}
	own, err := newOwn(api, w.cluster, w.log)
	if err != nil {
		return err
	}
	helpers.run("own cluster", own.run)
	w.feed = feed.New(feed.Options{
		Hubs: func() []string { return w.options.Hubs }, Credentials: w.credentials(), Store: store, Log: w.log.WithName("feed"),
		Node: w.cluster + "/" + w.options.NodeName, Program: "hansa-agent", Cluster: w.cluster, Own: own.snapshots(),
	})
	if err := w.web.show(newFeedMetrics(w.feed.State, time.Now)...); err != nil {
		return err
	}
	w.place = &place{node: w.options.NodeName, config: api, log: w.log}
	helpers.run("node", w.place.run)
	return nil
}

// mind keeps what depends on the snapshot in step with it: which gateways there are, and whose certificates are good.
func (w *worker) mind(ctx context.Context) error {
	var peers []tunnel.Peer
	var before *clusterset.Snapshot
	for {
		snapshot, changed := w.feed.Current()
		if now := peersOf(snapshot, w.cluster); !slices.Equal(now, peers) {
			peers = now
			w.dialer.SetPeers(peers)
		}
		if before == nil || snapshot.Since(before).Revoked {
			w.dialer.Recheck()
			w.server.Recheck()
			w.papers.renewAfter(func(issued time.Time) bool { return snapshot.Revoked(w.cluster, issued) })
		}
		before = snapshot
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// peersOf are the gateways of all other clusters that take tunnels, sorted. Those that are down are among them: by the
// tunnels that are tried it is seen that they are back.
func peersOf(snapshot *clusterset.Snapshot, own string) []tunnel.Peer {
	var peers []tunnel.Peer
	for _, cluster := range snapshot.Clusters() {
		if cluster.ID == own {
			continue
		}
		for _, g := range cluster.Gateways {
			if g.Tunnel != 0 && g.Addr.IsValid() {
				peers = append(peers, tunnel.Peer{Cluster: cluster.ID, Addr: addrPort(g.Addr, g.Tunnel)})
			}
		}
	}
	slices.SortFunc(peers, comparePeers)
	return slices.Compact(peers)
}
