package zone

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
)

// Asker is who a tree answers. The zero value is somebody outside of all clusters.
type Asker struct {
	// Cluster is where the asker runs; empty outside of all clusters.
	Cluster string
	// Zone is that of its node, if known.
	Zone string
	// Region is where it is, if its cluster does not say so.
	Region string
}

// The defaults of Options.
const (
	DefaultClusterSet = "clusterset.local."
	DefaultTTL        = 5 // seconds
)

// Options say which zones there are. Names are in presentation form; the final dot may be left out.
type Options struct {
	// ClusterSet is the zone of the names that KEP-1645 defines; empty means DefaultClusterSet.
	ClusterSet string
	// Nameservers are those of all zones; without any each zone has "ns.dns.<zone>", without addresses.
	Nameservers []Nameserver
	// TTL is for how many seconds answers may be kept, where the policy of a service does not say it; 0 means DefaultTTL.
	TTL uint32
	// External are zones of gateway addresses.
	External []External
	// KubeFed are zones with the names that KubeFed gave to federated services.
	KubeFed []KubeFed
	// PerCluster is the zone of the names of one cluster's endpoints; empty means that there is none.
	PerCluster string
}

// Nameserver is a server of the zones.
type Nameserver struct {
	// Name is that of the server; empty means "ns.dns.<zone>", in each zone.
	Name string
	// Addrs are told in the zone that Name is in.
	Addrs []netip.Addr
}

// External is a zone of one's own whose names are gateway addresses: <svc>.<ns>.<zone>.
type External struct{ Zone string }

// KubeFed is a zone with KubeFed's names: <svc>.<ns>.<federation>.svc.<zone> and those with a region, or an availability
// zone and a region, before <zone>.
type KubeFed struct {
	// Zone is the domain of KubeFed's Domain object.
	Zone string
	// Federation is the name of that object: one label.
	Federation string
}

// normal returns options with all defaults set.
func normal(o Options) Options {
	o.ClusterSet = cmp.Or(o.ClusterSet, DefaultClusterSet)
	o.TTL = min(cmp.Or(o.TTL, DefaultTTL), maxTTL)
	o.Nameservers = slices.Clone(o.Nameservers)
	if len(o.Nameservers) == 0 {
		o.Nameservers = []Nameserver{{}}
	}
	for i := range o.Nameservers {
		o.Nameservers[i].Addrs = slices.Clone(o.Nameservers[i].Addrs)
	}
	o.External, o.KubeFed = slices.Clone(o.External), slices.Clone(o.KubeFed)
	return o
}

func (o *Options) equal(other *Options) bool { return reflect.DeepEqual(o, other) }

// maxTTL is the greatest TTL (RFC 2181, section 8).
const maxTTL = 1<<31 - 1
