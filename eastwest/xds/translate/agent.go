package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// defaultAffinity is how long ClientIP affinity lasts where the Service does not say: three hours.
const defaultAffinity = 10800

// agent returns the service for agents. They see what their cluster may consume, and what it exports.
func (c Client) agent(snapshot *clusterset.Snapshot, service *clusterset.Service) []Message {
	view := snapshot.View(service.Key, c.From)
	exports := c.exported(service)
	if view.Reason != clusterset.Used && len(exports) == 0 {
		return nil
	}
	made := &servicepb.Service{
		Namespace: service.Namespace, Name: service.Name,
		Reason:                  string(view.Reason),
		Headless:                service.Properties.Headless,
		ClientIpAffinitySeconds: affinity(service.Properties),
		Conditions:              conditions(service.Conditions(c.From.Cluster)),
	}
	for i, port := range service.Properties.Ports {
		p := &servicepb.Port{
			Name: port.Name, Protocol: string(protocol(port.Protocol)), Port: uint32(port.Port), //nolint:gosec // a port
			AppProtocol: port.AppProtocol, ServerName: ServerName(service.Key, port.Port),
		}
		if view.Reason == clusterset.Used {
			p.Priorities = priorities(view.Ports[i])
		}
		if at := slices.IndexFunc(exports, func(l localPort) bool { return l.port == port }); at >= 0 {
			p.Local = targets(c.local(service, exports[at]))
		}
		made.Ports = append(made.Ports, p)
	}
	if view.Reason == clusterset.Used {
		made.Hosts = priorities(view.Hosts)
		made.ClusterSetIps = c.addresses(service)
	}
	return []Message{{Name: service.Namespace + "/" + service.Name, Proto: made}}
}

func affinity(properties *clusterset.Properties) int32 {
	switch {
	case properties.SessionAffinity != corev1.ServiceAffinityClientIP:
		return 0
	case properties.AffinityTimeout == 0:
		return defaultAffinity
	}
	return properties.AffinityTimeout
}

func priorities(from clusterset.Assignment) []*servicepb.Priority {
	made := make([]*servicepb.Priority, len(from.Priorities))
	for i, p := range from.Priorities {
		made[i] = &servicepb.Priority{Localities: make([]*servicepb.Locality, len(p.Localities))}
		for j, l := range p.Localities {
			made[i].Localities[j] = &servicepb.Locality{
				Cluster: l.Cluster, Region: l.Region, Zone: l.Zone, Gateway: l.Gateway, Weight: l.Weight, Endpoints: targets(l.Targets),
			}
		}
	}
	return made
}

func targets(from []clusterset.Target) []*servicepb.Endpoint {
	made := make([]*servicepb.Endpoint, len(from))
	for i, t := range from {
		made[i] = &servicepb.Endpoint{Address: t.Addr.Addr().AsSlice(), Port: uint32(t.Addr.Port()), Hostname: t.Hostname.String()}
		if t.Weight > 1 {
			made[i].Weight = t.Weight
		}
	}
	return made
}

// addresses returns the ClusterSetIPs of all importing clusters, the clients' own first.
func (c Client) addresses(service *clusterset.Service) []*servicepb.ClusterSetIPs {
	var made []*servicepb.ClusterSetIPs
	for _, i := range service.Imports {
		ips := &servicepb.ClusterSetIPs{Cluster: i.Cluster}
		for _, addr := range i.ClusterIPs {
			ips.Addresses = append(ips.Addresses, addr.AsSlice())
		}
		if i.Cluster == c.From.Cluster {
			made = slices.Insert(made, 0, ips)
			continue
		}
		made = append(made, ips)
	}
	return made
}

func conditions(from []clusterset.Condition) []*servicepb.Condition {
	var made []*servicepb.Condition
	for _, condition := range from {
		made = append(made, &servicepb.Condition{
			Type: condition.Type, Status: string(condition.Status), Reason: condition.Reason, Message: condition.Message,
		})
	}
	return made
}
