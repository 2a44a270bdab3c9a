package endpoints

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/dynamic"

	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// quietTime is how long changes are collected before they are looked at. A provider takes longer to publish them.
const quietTime = time.Second

// Snapshots is where the service table comes from, and a channel that is closed when there is a newer one. A nil snapshot
// means that too little is known to write anything.
type Snapshots interface {
	Current() (*clusterset.Snapshot, <-chan struct{})
}

// Members is the list of member clusters, and a channel that is closed when there is a newer one.
type Members interface {
	Current() ([]*cluster.Member, <-chan struct{})
}

// Options are what a Writer needs. All but ClusterSet, TTL, Ready and Log must be there.
type Options struct {
	// Zones are published.
	Zones []string
	// ClusterSet is the zone of global names; empty means zone.DefaultClusterSet. It cannot be published.
	ClusterSet string
	// TTL is for how many seconds answers may be kept, where the policy of a service does not say it; 0 means zone.DefaultTTL.
	TTL uint32
	// Client is of the host cluster.
	Client dynamic.Interface
	// Namespace is that of the hub.
	Namespace string
	Snapshots Snapshots
	Members   Members
	// ClusterID returns the id in the clusterset of the member of a name, as soon as it is known.
	ClusterID func(member string) (string, bool)
	// Ready is closed once the snapshots hold what can be known of all clusters: until then nothing is written. Nil means
	// that they do from the first on.
	Ready <-chan struct{}
	Log   logr.Logger
}

// Writer keeps DNSEndpoints in step with the service table. It is a controller-runtime Runnable.
type Writer struct {
	o     Options
	zones []string // lower case, without the final dot
}

// New returns a writer. It returns an error that names the zone which cannot be published.
func New(o Options) (*Writer, error) {
	if o.Client == nil || o.Namespace == "" || o.Snapshots == nil || o.Members == nil || o.ClusterID == nil {
		return nil, errors.New("writing DNSEndpoints needs a client, a namespace, snapshots, members and their ids")
	}
	if o.ClusterSet == "" {
		o.ClusterSet = zone.DefaultClusterSet
	}
	taken, err := plainName(o.ClusterSet)
	if err != nil {
		return nil, err
	}
	w := &Writer{o: o}
	for _, written := range o.Zones {
		name, err := plainName(written)
		switch {
		case err != nil:
			return nil, err
		case name == taken:
			return nil, fmt.Errorf("zone %q is that of global names, which nobody outside can use: publish a zone of your own", written)
		case slices.Contains(w.zones, name):
			return nil, fmt.Errorf("zone %q is given twice", written)
		}
		w.zones = append(w.zones, name)
	}
	return w, nil
}

// plainName returns the name of a zone in lower case and without the final dot.
func plainName(written string) (string, error) {
	wire, err := zone.Wire(written)
	if err != nil {
		return "", fmt.Errorf("zone %q: %w", written, err)
	}
	if len(wire) == 1 {
		return "", fmt.Errorf("zone %q: want the name of a zone below the root", written)
	}
	return strings.TrimSuffix(zone.Presentation(wire), "."), nil
}

// NeedLeaderElection says that only the leader writes.
func (*Writer) NeedLeaderElection() bool { return true }

// Start writes until ctx ends.
func (w *Writer) Start(ctx context.Context) error {
	if w.o.Ready != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-w.o.Ready:
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	r := newRun(w)
	var running sync.WaitGroup
	r.start(ctx, running.Go)
	defer running.Wait()
	defer cancel()
	for {
		_, membersChanged := w.o.Members.Current()
		snapshot, snapshotChanged := w.o.Snapshots.Current()
		r.take(snapshot)
		select {
		case <-ctx.Done():
			return nil
		case <-membersChanged:
			r.addHeld()
		case <-snapshotChanged:
		}
		quiet := time.NewTimer(quietTime)
		select {
		case <-ctx.Done():
		case <-quiet.C:
		}
		quiet.Stop()
	}
}

// options are those of the tree.
func (w *Writer) options() zone.Options {
	o := zone.Options{ClusterSet: w.o.ClusterSet, TTL: w.o.TTL}
	for _, name := range w.zones {
		o.External = append(o.External, zone.External{Zone: name})
	}
	return o
}

// isComplete tells whether the ids of all members are known.
func (w *Writer) isComplete() bool {
	members, _ := w.o.Members.Current()
	return !slices.ContainsFunc(members, func(m *cluster.Member) bool {
		_, known := w.o.ClusterID(m.Name)
		return !known
	})
}
