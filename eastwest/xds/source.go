package xds

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/eastwest/xds/translate"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	// kindKey in a node's metadata says what a client is when its user agent does not.
	kindKey = "hansa.dev/kind"
	// maxZones bounds the views that clients of one cluster can make by naming zones; beyond it zones do not count.
	maxZones = 64
	// maxZone is the longest zone: that of a label's value.
	maxZone = 63
	// unusedZone is how long a zone counts for a client that was let in but got no view, because its stream ended first.
	unusedZone = time.Minute
	// firstSnapshot is how long a client waits for a hub that has not read its members yet.
	firstSnapshot = 10 * time.Second
)

// Snapshots hands out the table of services: clusterset.Latest does.
type Snapshots interface {
	// Current returns the newest snapshot, and a channel that is closed when there is a newer one.
	Current() (*clusterset.Snapshot, <-chan struct{})
}

// Identity is who a client proved to be.
type Identity struct {
	// Cluster is its id in the clusterset. Clients without one, such as administrators, see no services.
	Cluster string
	// Role is what its certificate is for: client, agent, gateway, dns, admin.
	Role string
	// Name is its full name, for people and for limits: a SPIFFE ID.
	Name string
}

// Options are what a Source is made of.
type Options struct {
	Snapshots Snapshots
	// Identify says who a client is. Its error refuses the client.
	Identify func(*peer.Peer) (Identity, error)
	Log      logr.Logger
}

// Source is the ads.Source of global services. One may serve any number of servers.
type Source struct {
	snapshots Snapshots
	identify  func(*peer.Peer) (Identity, error)
	log       logr.Logger
	encoder   ads.Encoder
	facts     facts
	metrics   *metrics

	mu    sync.Mutex
	zones map[translate.Client]map[string]zoneUse // by flavour and cluster: the zones that have views
}

// zoneUse is the use of a zone.
type zoneUse struct {
	fills    int // views that are being filled
	admitted time.Time
}

var _ ads.Source = (*Source)(nil)

// NewSource returns a source that reads snapshots for as long as there are views.
func NewSource(o Options) *Source {
	return &Source{
		snapshots: o.Snapshots, identify: o.Identify, log: o.Log,
		metrics: newMetrics(), zones: map[translate.Client]map[string]zoneUse{},
	}
}

// Collectors returns the source's metrics for registration.
func (s *Source) Collectors() []prometheus.Collector { return s.metrics.collectors() }

// Admit implements ads.Source.
func (s *Source) Admit(ctx context.Context, c ads.Client) (ads.Admission, error) {
	who, err := s.identify(c.Peer)
	if err != nil {
		return ads.Admission{}, status.Errorf(codes.Unauthenticated, "the client's certificate does not say who it is: %v", err)
	}
	if who.Cluster == "" {
		return ads.Admission{}, status.Errorf(codes.PermissionDenied,
			"%s belongs to no cluster, and services are seen from clusters only: connect with a certificate of a cluster", who.Name)
	}
	snapshot, err := s.first(ctx)
	if err != nil {
		return ads.Admission{}, err
	}
	if snapshot.Cluster(who.Cluster) == nil {
		return ads.Admission{}, notMember(who.Cluster)
	}
	view := translate.Client{Flavour: flavourOf(c.Node), From: clusterset.Consumer{Cluster: who.Cluster}}
	if view.Flavour != translate.Agent {
		view.From.Zone = s.zone(view, c.Node.GetLocality().GetZone())
	}
	return ads.Admission{View: view.String(), Identity: who.Name}, nil
}

func notMember(cluster string) error {
	return status.Errorf(codes.PermissionDenied, "cluster %q is not a member of the clusterset: join it again", cluster)
}

// first waits for a snapshot in which there are clusters.
func (s *Source) first(ctx context.Context) (*clusterset.Snapshot, error) {
	timer := time.NewTimer(firstSnapshot)
	defer timer.Stop()
	for {
		snapshot, newer := s.snapshots.Current()
		if snapshot != nil && len(snapshot.Clusters()) > 0 {
			return snapshot, nil
		}
		select {
		case <-newer:
		case <-timer.C:
			return nil, status.Error(codes.Unavailable, "the hub has not read its members yet; connect again to reach another one")
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
}

// zone returns the zone that counts for a client.
func (s *Source) zone(client translate.Client, zone string) string {
	if zone == "" || len(zone) > maxZone || strings.Contains(zone, "/") {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	place := placeOf(client)
	zones := s.zones[place]
	if zones == nil {
		zones = map[string]zoneUse{}
		s.zones[place] = zones
	}
	use, known := zones[zone]
	if !known && len(zones) >= maxZones {
		maps.DeleteFunc(zones, func(_ string, use zoneUse) bool { return use.fills == 0 && time.Since(use.admitted) > unusedZone })
		if len(zones) >= maxZones {
			return ""
		}
	}
	use.admitted = time.Now()
	zones[zone] = use
	return zone
}

// fill keeps the zone of a view that begins.
func (s *Source) fill(client translate.Client) {
	if client.From.Zone == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	place := placeOf(client)
	if s.zones[place] == nil {
		s.zones[place] = map[string]zoneUse{}
	}
	use := s.zones[place][client.From.Zone]
	use.fills++
	s.zones[place][client.From.Zone] = use
}

// forget frees the zone of a view that ends.
func (s *Source) forget(client translate.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	place := placeOf(client)
	use, known := s.zones[place][client.From.Zone]
	if use.fills--; use.fills > 0 {
		s.zones[place][client.From.Zone] = use // the next view of that name began before this one ended
	} else if known {
		delete(s.zones[place], client.From.Zone)
	}
	if len(s.zones[place]) == 0 {
		delete(s.zones, place)
	}
}

// placeOf names a view without its zone.
func placeOf(client translate.Client) translate.Client {
	client.From.Zone = ""
	return client
}

// flavourOf tells what a client understands from what it says of itself.
func flavourOf(node *corev3.Node) translate.Flavour {
	switch {
	case node.GetMetadata().GetFields()[kindKey].GetStringValue() == "agent":
		return translate.Agent
	case strings.HasPrefix(strings.ToLower(node.GetUserAgentName()), "grpc"):
		return translate.GRPC
	}
	return translate.Proxy
}

// parse is the reverse of translate.Client.String, which names views.
func parse(view string) (translate.Client, error) {
	parts := strings.SplitN(view, "/", 3)
	if len(parts) != 3 {
		return translate.Client{}, fmt.Errorf("view %q is not FLAVOUR/CLUSTER/ZONE", view)
	}
	return translate.Client{
		Flavour: translate.Flavour(parts[0]), From: clusterset.Consumer{Cluster: parts[1], Zone: parts[2]},
	}, nil
}
