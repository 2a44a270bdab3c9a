package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/hansa-dev/hansa/federation/api"
)

// DefaultTrustDomain returns the trust domain of a hub that was told no other: the zone of global service names.
func DefaultTrustDomain() spiffeid.TrustDomain {
	return spiffeid.RequireTrustDomainFromString(api.ClustersetDomain)
}

// Role is what somebody is for.
type Role string

// The roles. Those of Roles are had in a cluster; RoleHub and RoleAdmin are not.
const (
	// RoleClient is a program that uses services: a gRPC client, a proxy beside one.
	RoleClient Role = "client"
	// RoleAgent is the agent of a cluster.
	RoleAgent Role = "agent"
	// RoleGateway is a gateway between networks.
	RoleGateway Role = "gateway"
	// RoleDNS is a name server for global names.
	RoleDNS Role = "dns"

	// RoleHub is a hub.
	RoleHub Role = "hub"
	// RoleAdmin is somebody who may look at everything.
	RoleAdmin Role = "admin"
)

// Roles returns the roles that somebody in a cluster may have.
func Roles() []Role { return []Role{RoleClient, RoleAgent, RoleGateway, RoleDNS} }

// clusterSegment begins the paths of those who are in a cluster.
const clusterSegment = "cluster"

// ID is who somebody is. Cluster is empty for a hub and for an admin, and for nobody else.
type ID struct {
	TrustDomain spiffeid.TrustDomain
	Cluster     string // its id in the clusterset: a DNS label
	Role        Role
}

// HubID returns the ID of all hubs of a trust domain.
func HubID(td spiffeid.TrustDomain) ID { return ID{TrustDomain: td, Role: RoleHub} }

// AdminID returns the ID of admins of a trust domain.
func AdminID(td spiffeid.TrustDomain) ID { return ID{TrustDomain: td, Role: RoleAdmin} }

// ClusterID returns the ID of somebody in a cluster.
func ClusterID(td spiffeid.TrustDomain, cluster string, role Role) ID {
	return ID{TrustDomain: td, Cluster: cluster, Role: role}
}

// Admin tells whether it may look at everything.
func (id ID) Admin() bool { return id.Role == RoleAdmin && id.Cluster == "" }

// Hub tells whether it is a hub.
func (id ID) Hub() bool { return id.Role == RoleHub && id.Cluster == "" }

// SPIFFE returns the SPIFFE ID, or an error when there is none for what id says.
func (id ID) SPIFFE() (spiffeid.ID, error) {
	if id.TrustDomain.IsZero() {
		return spiffeid.ID{}, fmt.Errorf("an identity with role %q has no trust domain", id.Role)
	}
	if id.Cluster == "" {
		if id.Role != RoleHub && id.Role != RoleAdmin {
			return spiffeid.ID{}, fmt.Errorf("role %q needs a cluster", id.Role)
		}
		return spiffeid.FromSegments(id.TrustDomain, string(id.Role))
	}
	if err := checkCluster(id.Cluster, id.Role); err != nil {
		return spiffeid.ID{}, err
	}
	return spiffeid.FromSegments(id.TrustDomain, clusterSegment, id.Cluster, string(id.Role))
}

// String returns the SPIFFE ID, or what is wrong with it.
func (id ID) String() string {
	s, err := id.SPIFFE()
	if err != nil {
		return "no identity: " + err.Error()
	}
	return s.String()
}

// Parse reads a SPIFFE ID. It accepts what SPIFFE makes, and nothing else.
func Parse(s spiffeid.ID) (ID, error) {
	if s.IsZero() {
		return ID{}, errors.New("there is no SPIFFE ID")
	}
	id := ID{TrustDomain: s.TrustDomain()}
	segments := strings.Split(strings.TrimPrefix(s.Path(), "/"), "/")
	switch {
	case len(segments) == 1 && (segments[0] == string(RoleHub) || segments[0] == string(RoleAdmin)):
		id.Role = Role(segments[0])
		return id, nil
	case len(segments) == 3 && segments[0] == clusterSegment:
		id.Cluster, id.Role = segments[1], Role(segments[2])
		if err := checkCluster(id.Cluster, id.Role); err != nil {
			return ID{}, fmt.Errorf("SPIFFE ID %s: %w", s, err)
		}
		return id, nil
	}
	return ID{}, fmt.Errorf("SPIFFE ID %s names nobody: the path has to be /hub, /admin or /cluster/CLUSTER/ROLE", s)
}

// ParseString reads a SPIFFE ID as Parse does.
func ParseString(s string) (ID, error) {
	id, err := spiffeid.FromString(s)
	if err != nil {
		return ID{}, fmt.Errorf("SPIFFE ID %q: %w", s, err)
	}
	return Parse(id)
}

func checkCluster(cluster string, role Role) error {
	if problems := validation.IsDNS1123Label(cluster); len(problems) > 0 {
		return fmt.Errorf("cluster id %q is no DNS label: %s", cluster, problems[0])
	}
	if !slices.Contains(Roles(), role) {
		return fmt.Errorf("nobody in a cluster has role %q; the roles are %v", role, Roles())
	}
	return nil
}
