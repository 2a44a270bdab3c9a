package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

const (
	// snapshotFile is the name of a feed's store in --state-dir.
	snapshotFile = "snapshot"
	// stateMode is that of --state-dir: what is in it tells where everything runs.
	stateMode = 0o700
	// grace is for how long a hub that was there may be away before answers say that they may be stale.
	grace = 10 * time.Second
	// glance is how often it is looked whether a hub is there.
	glance = 200 * time.Millisecond
)

// serveHub serves what a hub tells.
func (o *Options) serveHub(ctx context.Context, log logr.Logger) error {
	client, err := o.newClient(log)
	if err != nil {
		return err
	}
	server, err := dns.New(dns.Options{Flags: &o.DNS, Snapshots: client, Log: log})
	if err != nil {
		return err
	}
	o.tellKept(client.State(), log)
	judge := &judge{state: client.State, mark: server.SetStale, log: log}
	judge.look(time.Now())
	follow := func(ctx context.Context) error {
		var judging sync.WaitGroup
		judging.Go(func() { judge.run(ctx) })
		defer judging.Wait()
		return client.Run(ctx)
	}
	return o.serve(ctx, parts{server: server, feed: follow, log: log, collectors: newFeedMetrics(client.State, time.Now)})
}

// newClient returns the feed, which knows what the state directory kept.
func (o *Options) newClient(log logr.Logger) (*feed.Client, error) {
	files := tlsFiles{o.TLSDir}
	config, err := identity.ClientConfig(files, files, identity.DefaultTrustDomain())
	if err != nil {
		return nil, fmt.Errorf("--tls-dir: %w", err)
	}
	var store *feed.Store
	if o.StateDir != "" {
		if err := os.MkdirAll(o.StateDir, stateMode); err != nil {
			return nil, fmt.Errorf("--state-dir: %w", err)
		}
		store = feed.NewStore(filepath.Join(o.StateDir, snapshotFile))
	}
	client := feed.New(feed.Options{
		Hubs: func() []string { return o.Hubs }, Credentials: credentials.NewTLS(config), Store: store, Log: log.WithName("feed"),
		Node: o.node(), Program: "hansa-dns",
	})
	snapshot, _ := client.Current()
	if snapshot.Sequence() != 0 {
		return client, nil
	}
	if _, err := files.GetX509SVID(); err != nil { // there would be nothing to say
		return nil, unread(err, o.TLSDir)
	}
	return client, nil
}

// unread says what to do about a certificate that cannot be read.
func unread(err error, dir string) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("--tls-dir: %w. Let the user read it who runs this, as by: chown USER %s", err, filepath.Join(dir, corev1.TLSPrivateKeyKey))
	}
	return fmt.Errorf("--tls-dir: %w. Write it: hansa xds bootstrap --cluster CLUSTER --dir %s", err, dir)
}

// tellKept logs what there is for when no hub answers.
func (o *Options) tellKept(state feed.State, log logr.Logger) {
	if o.StateDir == "" {
		log.Info("Nothing is kept for when no hub answers: there is no --state-dir")
	}
	if state.Sequence != 0 {
		log.Info("Going on from what is kept", "sequence", state.Sequence, "services", state.Services, "heard", since(state.Heard))
	}
}

// since is a time for people, who know no year 1.
func since(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.UTC().Format(time.RFC3339)
}

// node is what the hub calls this server.
func (o *Options) node() string {
	name, err := os.Hostname()
	if err != nil {
		name = "dns"
	}
	cluster, _, _ := strings.Cut(o.DNS.Cluster, "/")
	return cmp.Or(o.NodeID, strings.TrimPrefix(cluster+"/"+name, "/"))
}

// judge says whether answers may be stale.
type judge struct {
	state func() feed.State
	mark  func(stale bool)
	log   logr.Logger

	connected, stale bool // whether ever; as said last
}

func (j *judge) run(ctx context.Context) {
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			j.look(now)
		case <-ctx.Done():
			return
		}
	}
}

// look judges: answers may be stale until a hub answers for the first time, and when it has been away for longer than a
// restart of it takes.
func (j *judge) look(now time.Time) {
	state := j.state()
	j.connected = j.connected || state.Connected
	stale := !state.Connected && (!j.connected || state.Age(now) > grace)
	if stale == j.stale {
		return
	}
	j.stale = stale
	j.mark(stale)
	if stale && state.Sequence != 0 {
		j.log.Info("Answers may be stale, and say so: no hub answers", "heard", since(state.Heard))
	} else if !stale {
		j.log.Info("Answers are up to date", "hub", state.Hub)
	}
}
