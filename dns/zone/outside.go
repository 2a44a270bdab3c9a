package zone

import (
	"cmp"
	"slices"
	"strings"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// outsider is the consumer for whom the zones for outsiders are made: in the asker's region, in no cluster.
func (t *Tree) outsider() clusterset.Consumer {
	region := t.from.Region
	if facts := t.snapshot.Cluster(t.from.Cluster); facts != nil && t.from.Cluster != "" {
		region = cmp.Or(facts.Region, region)
	}
	return clusterset.Consumer{Region: region}
}

// fillExternal adds the addresses of gateways for outsiders.
func fillExternal(d *draft, p *projection) {
	if !consumes(d.service, "") {
		return
	}
	if _, at := d.name(p.zone, p.name, d.key.Name, d.key.Namespace); at != nil {
		d.first(at, d.tree.snapshot.ViewHosts(d.key, d.tree.outsider()))
	}
}

// splitExternal finds <svc>.<ns>.
func splitExternal(labels []string, _ *projection) (clusterset.Key, bool) {
	if len(labels) != 2 {
		return clusterset.Key{}, false
	}
	return clusterset.Key{Namespace: labels[1], Name: labels[0]}, true
}

// first adds the addresses of the first priority.
func (d *draft) first(at *entry, hosts clusterset.Assignment) {
	if len(hosts.Priorities) > 0 {
		d.weigh(at, hosts.Priorities[0].Localities)
	}
}

// weigh adds the addresses of localities, with weights if the policy weighs clusters.
func (d *draft) weigh(at *entry, localities []clusterset.Locality) {
	at.weighted = d.service.Policy != nil && len(d.service.Policy.Weights) > 0
	for i := range localities {
		locality := &localities[i]
		sum := uint64(0)
		for _, target := range locality.Targets {
			sum += uint64(target.Weight)
		}
		for _, target := range locality.Targets {
			// Addresses share what their locality has. The factor keeps the fractions.
			const fraction = 1 << 16
			at.add(target.Addr.Addr(), max(1, uint64(locality.Weight)*fraction*uint64(target.Weight)/sum))
		}
	}
	if !at.weighted {
		at.sort()
	}
}

// fillPerCluster adds a name for each cluster that exports the service, with what the asker reaches there.
func fillPerCluster(d *draft, p *projection) {
	if !consumes(d.service, d.tree.from.Cluster) {
		return
	}
	hosts := d.tree.snapshot.ViewHosts(d.key, d.tree.consumer())
	for _, cluster := range d.service.Exporters() {
		id := strings.ToLower(cluster)
		if !hostLabel(id) {
			d.note("the id %q of a cluster is no DNS label, so the service has no name for it", cluster)
			continue
		}
		_, at := d.name(p.zone, p.name, d.key.Name, d.key.Namespace, id)
		if at == nil {
			continue
		}
		for _, priority := range hosts.Priorities {
			for i := range priority.Localities {
				if locality := &priority.Localities[i]; locality.Cluster == cluster {
					for k := range locality.Targets {
						at.add(locality.Targets[k].Addr.Addr(), 1)
					}
				}
			}
		}
		at.sort()
	}
}

// splitPerCluster finds <svc>.<ns>.<cluster>.
func splitPerCluster(labels []string, _ *projection) (clusterset.Key, bool) {
	if len(labels) != 3 {
		return clusterset.Key{}, false
	}
	return clusterset.Key{Namespace: labels[1], Name: labels[0]}, true
}

// fillKubeFed adds the names that KubeFed's ServiceDNSRecords gave: one for all, one for each region, and one for each
// availability zone in a region. One that has nobody to name points to the next wider one.
func fillKubeFed(d *draft, p *projection) {
	if !consumes(d.service, "") {
		return
	}
	hosts := d.tree.snapshot.ViewHosts(d.key, d.tree.outsider())
	prefix := []string{d.key.Name, d.key.Namespace, p.federation, "svc"}
	all, at := d.name(p.zone, p.name, prefix...)
	if at == nil {
		return
	}
	d.first(at, hosts)
	for _, cluster := range d.service.Exporters() {
		facts := d.tree.snapshot.Cluster(cluster)
		if facts == nil || facts.Region == "" {
			continue
		}
		region := strings.ToLower(facts.Region)
		wider := d.area(p, hosts, all, append(slices.Clone(prefix), region), facts.Region, "")
		if wider != "" && facts.Zone != "" {
			d.area(p, hosts, wider, append(slices.Clone(prefix), strings.ToLower(facts.Zone), region), facts.Region, facts.Zone)
		}
	}
}

// splitKubeFed finds <svc>.<ns>.<federation>.svc, with an area or without.
func splitKubeFed(labels []string, p *projection) (clusterset.Key, bool) {
	if len(labels) < 4 || len(labels) > 6 || labels[2] != p.federation || labels[3] != "svc" {
		return clusterset.Key{}, false
	}
	return clusterset.Key{Namespace: labels[1], Name: labels[0]}, true
}

// area adds the name of a region, or an availability zone in it, and returns it. The labels end with those of the area.
func (d *draft) area(p *projection, hosts clusterset.Assignment, wider string, labels []string, region, zone string) string {
	for _, label := range labels[4:] {
		if !hostLabel(label) {
			d.note("%q is no DNS label, so the service has no name for that region or zone", label)
			return ""
		}
	}
	name, at := d.name(p.zone, p.name, labels...)
	if at == nil || len(at.addrs) > 0 || at.cname != "" { // clusters share areas
		return name
	}
	for _, priority := range hosts.Priorities {
		for i := range priority.Localities {
			locality := &priority.Localities[i]
			if strings.EqualFold(locality.Region, region) && (zone == "" || strings.EqualFold(locality.Zone, zone)) {
				d.weigh(at, priority.Localities[i:i+1])
			}
		}
	}
	if len(at.addrs) == 0 {
		at.cname = wider
	}
	return name
}
