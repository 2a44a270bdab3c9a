package servicepb

import (
	"time"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// ResourceName returns the name of the resource of a service.
func ResourceName(key clusterset.Key) string { return key.Namespace + "/" + key.Name }

// Whole returns all that is known of a service.
func Whole(service *clusterset.Service) *Service {
	return facts(service, func(string) bool { return true })
}

// Part returns what one cluster contributes to a service, and the policy, which its gateways enforce.
func Part(service *clusterset.Service, cluster string) *Service {
	return facts(service, func(id string) bool { return id == cluster })
}

func facts(service *clusterset.Service, told func(cluster string) bool) *Service {
	m := &Service{Namespace: service.Namespace, Name: service.Name, Policy: policy(service.Policy)}
	for i := range service.Sources {
		if source := &service.Sources[i]; told(source.Cluster) {
			m.Sources = append(m.Sources, &Source{
				Cluster: source.Cluster, Created: instant(source.Created),
				Properties: properties(source.Properties), Endpoints: endpoints(source.Endpoints),
			})
		}
	}
	for _, i := range service.Imports {
		if !told(i.Cluster) {
			continue
		}
		made := &Import{Cluster: i.Cluster}
		for _, addr := range i.ClusterIPs {
			made.Addresses = append(made.Addresses, addr.AsSlice())
		}
		for _, port := range i.GatewayPorts {
			made.GatewayPorts = append(made.GatewayPorts, &GatewayPort{Name: port.Name, Protocol: string(port.Protocol), Port: uint32(port.Port)})
		}
		m.Imports = append(m.Imports, made)
	}
	return m
}

func instant(t time.Time) *Instant {
	if t.IsZero() {
		return nil
	}
	return &Instant{Seconds: t.Unix(), Nanoseconds: uint32(t.Nanosecond())} //nolint:gosec // G115: below 1e9
}

func properties(from *clusterset.Properties) *Properties {
	if from == nil {
		return nil
	}
	m := &Properties{
		Type: string(from.Type), Headless: from.Headless,
		SessionAffinity: string(from.SessionAffinity), AffinityTimeoutSeconds: from.AffinityTimeout,
		InternalTrafficPolicy: string(from.InternalTrafficPolicy), TrafficDistribution: from.TrafficDistribution,
		Labels: from.Labels, Annotations: from.Annotations,
	}
	for _, port := range from.Ports {
		m.Ports = append(m.Ports, &Port{Name: port.Name, Protocol: string(port.Protocol), Port: port.Port, AppProtocol: port.AppProtocol})
	}
	for _, family := range from.IPFamilies {
		m.IpFamilies = append(m.IpFamilies, string(family))
	}
	return m
}

func endpoints(from *clusterset.Endpoints) *Endpoints {
	if from == nil {
		return nil
	}
	m := &Endpoints{Groups: make([]*Group, len(from.Groups))}
	for i, group := range from.Groups {
		made := &Group{Endpoints: make([]*Endpoint, len(group.Endpoints))}
		for _, port := range group.Ports {
			made.Ports = append(made.Ports, &TargetPort{Name: port.Name.String(), Protocol: string(port.Protocol), Port: uint32(port.Port)})
		}
		all := make([]Endpoint, len(group.Endpoints))
		for j := range group.Endpoints {
			e := &group.Endpoints[j]
			all[j].Address, all[j].Conditions = e.Addr.AsSlice(), uint32(e.Conditions)
			all[j].Node, all[j].Zone, all[j].Hostname = e.Node.String(), e.Zone.String(), e.Hostname.String()
			made.Endpoints[j] = &all[j]
		}
		m.Groups[i] = made
	}
	return m
}

func policy(from *clusterset.Policy) *Policy {
	if from == nil {
		return nil
	}
	m := &Policy{
		MinHealthyPercent: from.MinHealthyPercent, TtlSeconds: from.TTL,
		Path: string(from.Path), Passthrough: passthrough(from.Passthrough), FirstFlight: from.FirstFlight,
	}
	for _, tier := range from.Failover {
		m.Failover = append(m.Failover, &Tier{By: string(tier.By), Names: tier.Names})
	}
	for _, weight := range from.Weights {
		m.Weights = append(m.Weights, &ClusterWeight{Cluster: weight.Cluster, Weight: weight.Weight})
	}
	if from.Consumers != nil {
		m.Consumers = &Consumers{Clusters: from.Consumers.Clusters}
	}
	return m
}

func passthrough(from *clusterset.Passthrough) *Passthrough {
	if from == nil {
		return nil
	}
	m := &Passthrough{ProxyProtocol: from.ProxyProtocol}
	for _, source := range from.Sources {
		text := ""
		if source.IsValid() {
			text = source.String()
		}
		m.Sources = append(m.Sources, text)
	}
	return m
}

// Revocations returns what a Table says of revocations.
func Revocations(from []clusterset.Revocation) []*Revocation {
	var made []*Revocation
	for _, r := range from {
		made = append(made, &Revocation{Cluster: r.Cluster, Before: instant(r.Before)})
	}
	return made
}

// OfCluster returns the facts about a cluster.
func OfCluster(cluster *clusterset.Cluster) *Cluster {
	m := &Cluster{
		Id: cluster.ID, Network: cluster.Network, Region: cluster.Region, Zone: cluster.Zone, State: string(cluster.State),
		ControlPlane: string(cluster.ControlPlane), DataPlane: string(cluster.DataPlane), LastKnown: instant(cluster.LastKnown),
	}
	for _, gateway := range cluster.Gateways {
		m.Gateways = append(m.Gateways, &Gateway{
			Address: gateway.Addr.AsSlice(), Port: uint32(gateway.Port), Tunnel: uint32(gateway.Tunnel),
			Inside: gateway.Inside.AsSlice(), Node: gateway.Node, Health: string(gateway.Health),
		})
	}
	return m
}
