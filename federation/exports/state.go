package exports

import (
	"slices"
	"time"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// age notes whether the hub is in step with the site, and since when it is not.
func (s *site) age() {
	inStep := s.complete() && !s.member.Away()
	for _, k := range []Kind{kindExports, kindServices, kindSlices} {
		inStep = inStep && (s.feeds[k].state == StateRunning || s.feeds[k].state == StateNotInstalled)
	}
	switch {
	case inStep:
		s.known = time.Time{}
	case s.known.IsZero():
		s.known = s.table.now()
	}
	noteAge(s.member.Name, s.known)
}

// facts returns what is known of the site as a cluster.
func (s *site) facts() clusterset.Cluster {
	c := clusterset.Cluster{ID: s.id, ControlPlane: s.controlPlane(), LastKnown: s.known}
	c.Region, c.Zone = s.place()
	c.Gateways, _ = s.gateways()
	c.DataPlane, _ = s.dataPlane()
	info := s.table.infos[s.member.Name]
	if info == nil {
		return c
	}
	c.Network = info.Spec.Network
	if info.Spec.State != v1alpha1.Active {
		c.State = clusterset.State(info.Spec.State)
	}
	return c
}

// place returns region and zone: what people say, else what the nodes say, else what the leader noted when it knew.
func (s *site) place() (region, zone string) {
	region, zones := s.seen()
	info := s.table.infos[s.member.Name]
	if len(zones) == 1 {
		zone = zones[0]
	}
	if info != nil && info.Spec.Region != "" {
		region = info.Spec.Region
	}
	if info != nil && info.Spec.Zone != "" {
		zone = info.Spec.Zone
	}
	return region, zone
}

// seen returns region and zones without what people say. The zones must not be modified.
func (s *site) seen() (region string, zones []string) {
	if info := s.table.infos[s.member.Name]; info != nil && !s.feeds[kindNodes].listed {
		return info.Status.Region, info.Status.Zones
	}
	return s.nodes.place()
}

func (s *site) controlPlane() clusterset.Health {
	switch {
	case s.member.Ready():
		return clusterset.Up
	case s.member.Away():
		return clusterset.Down
	}
	return clusterset.Unknown
}

func (s *site) state() ClusterState {
	state := ClusterState{
		Name: s.member.Name, ID: s.id, Flaw: s.flaw, Exports: len(s.shown), Endpoints: s.total,
		ControlPlane: s.controlPlane(), LastKnown: s.known, Restored: s.record != nil,
	}
	state.DataPlane, state.DataPlaneSource = s.dataPlane()
	_, state.Gateways = s.gateways()
	_, zones := s.seen()
	state.Zones = slices.Clone(zones)
	state.Region, _ = s.place()
	for k := range Kind(kinds) {
		f := &s.feeds[k]
		state.Watches = append(state.Watches, WatchState{Kind: k.String(), State: f.state, Message: f.message, Listed: f.listed})
	}
	return state
}

// ClusterState is how one member stands.
type ClusterState struct {
	// Name is that of the KubeFedCluster, ID that of the cluster in the clusterset: empty while the member is left out.
	Name, ID string
	// Flaw says why the member is left out, or has another id than it claims; empty when all is well.
	Flaw   string
	Region string
	Zones  []string
	// Exports and Endpoints count what the table has of the member.
	Exports, Endpoints      int
	ControlPlane, DataPlane clusterset.Health
	// DataPlaneSource says who told of DataPlane; empty while it is not known.
	DataPlaneSource v1alpha1.Source
	// Gateways are those of the cluster, those of people first.
	Gateways []v1alpha1.KnownGateway
	// LastKnown is when the hub was last in step with the member; zero while it is.
	LastKnown time.Time
	// Restored says that a part of it comes from the archive.
	Restored bool
	Watches  []WatchState
}

// WatchState is how far one watch has come.
type WatchState struct {
	Kind    string
	State   State
	Message string // why it is not running
	Listed  bool   // the facts were complete once; they stay, if old
}

// State says how far a watch has come.
type State string

// The states of a watch.
const (
	StateWaiting      State = "Waiting"      // the first list is under way
	StateRunning      State = "Running"      // listed; changes arrive
	StateForbidden    State = "Forbidden"    // the cluster's RBAC refuses
	StateNotInstalled State = "NotInstalled" // the cluster does not serve the kind
	StateUnreachable  State = "Unreachable"  // any other failure
)
