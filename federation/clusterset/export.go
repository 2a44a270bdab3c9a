package clusterset

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Key is the identity of a service in all clusters.
type Key = types.NamespacedName

// Export is one cluster's ServiceExport together with the Service that it names.
type Export struct {
	// Created is the creation time of the ServiceExport. The oldest export decides conflicts; one without a time counts as the
	// youngest.
	Created time.Time
	// Properties are those of the Service; nil while there is no such Service.
	Properties *Properties
}

// Properties are those of a Service that concern everybody who uses it (KEP-1645, "Global Properties").
type Properties struct {
	Type     corev1.ServiceType // empty means ClusterIP
	Headless bool
	Ports    []Port

	SessionAffinity corev1.ServiceAffinity // empty means None
	// AffinityTimeout is that of ClientIP affinity in seconds; 0 means the API's default of three hours.
	AffinityTimeout       int32
	InternalTrafficPolicy corev1.ServiceInternalTrafficPolicy // empty means Cluster
	TrafficDistribution   string
	// IPFamilies are those of the Service, in its order; empty when they are not known.
	IPFamilies []corev1.IPFamily

	// Labels and Annotations are spec.exportedLabels and spec.exportedAnnotations of the ServiceExport.
	Labels, Annotations map[string]string
}

// Port is one port of a service.
type Port struct {
	Name        string
	Protocol    corev1.Protocol // empty means TCP
	Port        int32
	AppProtocol string
}

// defaultAffinityTimeout is what the API server sets for ClientIP affinity, in seconds.
const defaultAffinityTimeout = 10800

// normal returns a copy in which everything that has a default is set.
func (p *Properties) normal() *Properties {
	if p == nil {
		return nil
	}
	normal := *p
	normal.Type = or(p.Type, corev1.ServiceTypeClusterIP)
	normal.SessionAffinity = or(p.SessionAffinity, corev1.ServiceAffinityNone)
	normal.InternalTrafficPolicy = or(p.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	switch {
	case normal.SessionAffinity != corev1.ServiceAffinityClientIP:
		normal.AffinityTimeout = 0
	case p.AffinityTimeout == 0:
		normal.AffinityTimeout = defaultAffinityTimeout
	}
	normal.Ports = clone(p.Ports)
	for i := range normal.Ports {
		normal.Ports[i].Protocol = or(normal.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	normal.IPFamilies = clone(p.IPFamilies)
	normal.Labels, normal.Annotations = cloneMap(p.Labels), cloneMap(p.Annotations)
	return &normal
}

func (p *Properties) equal(other *Properties) bool {
	if p == nil || other == nil || p == other {
		return p == other
	}
	return p.Type == other.Type && p.Headless == other.Headless && slices.Equal(p.Ports, other.Ports) &&
		p.SessionAffinity == other.SessionAffinity && p.AffinityTimeout == other.AffinityTimeout &&
		p.InternalTrafficPolicy == other.InternalTrafficPolicy && p.TrafficDistribution == other.TrafficDistribution &&
		slices.Equal(p.IPFamilies, other.IPFamilies) &&
		maps.Equal(p.Labels, other.Labels) && maps.Equal(p.Annotations, other.Annotations)
}

// valid tells whether a service with these properties can be exported.
func (p *Properties) valid() bool { return p != nil && p.Type != corev1.ServiceTypeExternalName }

// or returns the value, or what it defaults to.
func or[T ~string](value, fallback T) T {
	if value == "" {
		return fallback
	}
	return value
}

// clone copies s; an empty slice becomes nil, so that equal content is equal bytes.
func clone[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}

func cloneMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}

// instant returns t as it is compared and written: in UTC, without the reading of a monotonic clock.
func instant(t time.Time) time.Time { return t.UTC().Round(0) }
