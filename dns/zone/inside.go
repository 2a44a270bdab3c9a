package zone

import (
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// projection makes the names of services in one zone.
type projection struct {
	zone int
	name string // in wire form
	// fill adds the names of a service to the draft.
	fill func(d *draft, p *projection)
	// split finds the service in the labels of a name, those of the zone cut off; ok is false where there is none.
	split func(labels []string, p *projection) (key clusterset.Key, ok bool)
	// schema says that it is the zone of KEP-1645; outsiders that the zone is for them.
	schema, outsiders bool
	// reserved are the names of the zone itself.
	reserved map[string]bool
	// inner are the apexes of zones inside of this one.
	inner []string
	// federation is the label of KubeFed's Domain.
	federation string
}

// consumes tells whether the policy lets a cluster use the service.
func consumes(service *clusterset.Service, cluster string) bool {
	policy := service.Policy
	return policy == nil || policy.Consumers == nil || slices.Contains(policy.Consumers.Clusters, cluster)
}

func (t *Tree) consumer() clusterset.Consumer {
	return clusterset.Consumer{Cluster: t.from.Cluster, Zone: t.from.Zone, Region: t.from.Region}
}

// fillClusterSet adds the names of the multi-cluster DNS schema.
func fillClusterSet(d *draft, p *projection) {
	switch {
	case !consumes(d.service, d.tree.from.Cluster):
	case d.service.Properties.Headless:
		fillHeadless(d, p)
	default:
		fillAddressed(d, p)
	}
}

// splitClusterSet finds <svc>.<ns>.svc at the end.
func splitClusterSet(labels []string, _ *projection) (clusterset.Key, bool) {
	n := len(labels)
	if n < 3 || labels[n-1] != "svc" {
		return clusterset.Key{}, false
	}
	return clusterset.Key{Namespace: labels[n-2], Name: labels[n-3]}, true
}

// fillAddressed adds a service that has an address in the asker's cluster.
func fillAddressed(d *draft, p *projection) {
	name, at := d.name(p.zone, p.name, d.key.Name, d.key.Namespace, "svc")
	if at == nil {
		return
	}
	var seen []netip.Addr
	for _, addr := range d.service.ClusterSetIPs(d.tree.from.Cluster) {
		if addr = addr.Unmap(); !slices.Contains(seen, addr) {
			seen = append(seen, addr)
			at.add(addr, 1)
		}
	}
	if len(at.addrs) == 0 {
		return
	}
	for i := range d.service.Properties.Ports {
		port := &d.service.Properties.Ports[i]
		if of := d.port(p, name, port); of != nil {
			record := srv{uint16(port.Port), name} //nolint:gosec // a port
			of.srv = append(of.srv, record)
			at.srv = append(at.srv, record)
		}
	}
}

// port makes the name of a port exist; nil when it has none.
func (d *draft) port(p *projection, service string, port *clusterset.Port) *entry {
	name, protocol := strings.ToLower(port.Name), strings.ToLower(string(port.Protocol))
	switch {
	case name == "":
		return nil
	case !hostLabel(name) || !hostLabel(protocol):
		d.note("port %q has no name in DNS: it or its protocol %q is no DNS label", port.Name, port.Protocol)
		return nil
	}
	_, at := d.name(p.zone, service, "_"+name, "_"+protocol)
	return at
}

// fillHeadless adds a service whose endpoints are its addresses. Where a port leads to an endpoint that is not among them
// (no cluster that is in use has the port, one that drains has it), the endpoint has a name of its own only.
func fillHeadless(d *draft, p *projection) {
	from := d.tree.consumer()
	hosts := d.tree.snapshot.ViewHosts(d.key, from)
	var name string
	var at *entry
	for locality, target := range pods(hosts) {
		if at == nil {
			if name, at = d.name(p.zone, p.name, d.key.Name, d.key.Namespace, "svc"); at == nil {
				return
			}
		}
		at.add(target.Addr.Addr(), 1)
		d.host(p, name, locality.Cluster, target)
	}
	if at == nil {
		return
	}
	at.sort()
	for i := range d.service.Properties.Ports {
		d.hostPort(p, name, i, from)
	}
	for _, host := range d.names {
		host.sort()
	}
}

// hostPort adds the records of one port: one for each endpoint, with the port at which it listens.
func (d *draft) hostPort(p *projection, service string, port int, from clusterset.Consumer) {
	named := &d.service.Properties.Ports[port]
	if named.Name == "" {
		return
	}
	var records []srv
	for locality, target := range pods(d.tree.snapshot.ViewPort(d.key, from, port)) {
		if host := d.host(p, service, locality.Cluster, target); host != "" && target.Addr.Port() != 0 {
			records = append(records, srv{target.Addr.Port(), host})
		}
	}
	if len(records) == 0 {
		return
	}
	if at := d.port(p, service, named); at != nil {
		at.srv = append(at.srv, records...)
		d.names[service].srv = append(d.names[service].srv, records...)
	}
}

// host gives an endpoint its name, and returns it; empty when there is none.
func (d *draft) host(p *projection, service, cluster string, target *clusterset.Target) string {
	id, hostname := strings.ToLower(cluster), strings.ToLower(target.Hostname.String())
	if !hostLabel(id) {
		d.note("the id %q of a cluster is no DNS label, so its endpoints have no names of their own", cluster)
		return ""
	}
	if hostname != "" && !hostLabel(hostname) {
		d.note("the hostname %q in cluster %s is no DNS label: one made from the address is used", target.Hostname, cluster)
		hostname = ""
	}
	if hostname == "" {
		hostname = dashed(target.Addr.Addr())
	}
	name, at := d.name(p.zone, service, hostname, id)
	if at != nil {
		at.add(target.Addr.Addr(), 1)
	}
	return name
}

// pods yields the endpoints that are reached at their own addresses.
func pods(assignment clusterset.Assignment) iter.Seq2[*clusterset.Locality, *clusterset.Target] {
	return func(yield func(*clusterset.Locality, *clusterset.Target) bool) {
		for i := range assignment.Priorities {
			for j := range assignment.Priorities[i].Localities {
				locality := &assignment.Priorities[i].Localities[j]
				for k := range locality.Targets {
					if !locality.Gateway && !yield(locality, &locality.Targets[k]) {
						return
					}
				}
			}
		}
	}
}

var dashes = strings.NewReplacer(".", "-", ":", "-")

// dashed is the label that stands for an address.
func dashed(addr netip.Addr) string {
	label := dashes.Replace(addr.Unmap().WithZone("").String())
	if strings.HasPrefix(label, "-") {
		label = "0" + label
	}
	if strings.HasSuffix(label, "-") {
		label += "0"
	}
	return label
}
