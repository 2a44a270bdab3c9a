package imports

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Wanted is what should be of one global service in one importing cluster.
type Wanted struct {
	// Key names the service.
	Key clusterset.Key
	// Cluster is the id of the importing cluster.
	Cluster string
	// Properties are those of the service; nil when it is not to be imported.
	Properties *clusterset.Properties
	// Sources are the clusters with a valid export, sorted.
	Sources []string
	// Slices are the EndpointSlices, sorted by name.
	Slices []Slice
	// Beyond are the source clusters that the importing one cannot reach, since they are in other networks and it has no gateway
	// that carries the service; sorted.
	Beyond []string
	// GatewayPorts are the ports of the importing cluster's gateways that belong to the service's. They are given to the derived
	// Service, and used once it says so.
	GatewayPorts []clusterset.GatewayPort

	unread map[string]bool // sources whose endpoints have not been read yet
	lost   func(cluster string) bool
}

// Given is what For has to know beside the table.
type Given struct {
	// Complete says that the ids of all registered clusters are known: a cluster of which the snapshot knows nothing is none.
	Complete bool
	// NodeHints says that the importing cluster keeps hints for nodes in EndpointSlices.
	NodeHints bool
}

// For returns what should be of a service in an importing cluster.
func For(snapshot *clusterset.Snapshot, cluster string, key clusterset.Key, given Given) *Wanted {
	w := &Wanted{Key: key, Cluster: cluster, unread: map[string]bool{}, lost: func(id string) bool { return lost(snapshot, id, given.Complete) }}
	view := snapshot.View(key, clusterset.Consumer{Cluster: cluster})
	if view.Reason != clusterset.Used {
		return w
	}
	service := snapshot.Service(key)
	w.Properties, w.Sources = service.Properties, service.Exporters()
	for i := range service.Sources {
		if service.Sources[i].Endpoints == nil {
			w.unread[service.Sources[i].Cluster] = true
		}
	}
	g := newGathering(snapshot, service, cluster, &view)
	g.out = newOutbound(snapshot, service, cluster, given.NodeHints)
	w.Slices = g.slices()
	for _, id := range w.Sources {
		if !g.direct(id) && !g.byGateway(id) {
			w.Beyond = append(w.Beyond, id)
		}
	}
	return w
}

// lost tells whether the hub is out of step with a cluster, so that its not exporting a service may only mean that the hub
// has not heard of it. A cluster that is registered no more is not lost but gone.
func lost(snapshot *clusterset.Snapshot, id string, complete bool) bool {
	facts := snapshot.Cluster(id)
	if facts == nil {
		return !complete
	}
	return !facts.InStep()
}

// keeps tells whether a slice of a source cluster stays as it is, though it is not wanted: nobody knows yet what should
// become of it.
func (w *Wanted) keeps(source string) bool {
	return w.unread[source] || !slices.Contains(w.Sources, source) && w.lost(source)
}

// locality is a cluster and a zone in it.
type locality struct {
	cluster string
	zone    clusterset.Name
}

// gathering collects the endpoints of a service that an importing cluster reaches at their own addresses.
//
// Which endpoints are used is the View's to say. It says so by localities: all ready endpoints of a locality are used or none
// is. The View itself has the addresses of one IP family per cluster; slices have both, since a dual-stack ClusterIP takes
// each from slices of its own family. Endpoints that are not ready are listed beside the ready ones of their locality, as
// Kubernetes does; where a cluster has none that are ready, they are listed only if nothing else is against the cluster.
type gathering struct {
	snapshot *clusterset.Snapshot
	service  *clusterset.Service
	own      *clusterset.Cluster
	out      outbound
	used     []map[locality]bool // per port of the service; one for a service without ports
	buckets  map[string]*bucket
}

func newGathering(snapshot *clusterset.Snapshot, service *clusterset.Service, cluster string, view *clusterset.View) *gathering {
	g := &gathering{snapshot: snapshot, service: service, buckets: map[string]*bucket{}}
	g.own = g.facts(cluster)
	for i := range view.Ports {
		g.used = append(g.used, localities(&view.Ports[i]))
	}
	if len(view.Ports) == 0 {
		g.used = append(g.used, localities(&view.Hosts))
	}
	return g
}

func localities(assignment *clusterset.Assignment) map[locality]bool {
	used := map[locality]bool{}
	for _, priority := range assignment.Priorities {
		for i := range priority.Localities {
			if l := &priority.Localities[i]; !l.Gateway && !l.Outbound {
				used[locality{l.Cluster, clusterset.Intern(l.Zone)}] = true
			}
		}
	}
	return used
}

func (g *gathering) facts(id string) *clusterset.Cluster {
	return cmp.Or(g.snapshot.Cluster(id), &clusterset.Cluster{ID: id})
}

// direct tells whether the importing cluster reaches the pods of another at their own addresses.
func (g *gathering) direct(id string) bool {
	facts := g.facts(id)
	return facts.ID == g.own.ID || facts.Network != "" && facts.Network == g.own.Network
}

// slices returns the slices of all sources, sorted by name.
func (g *gathering) slices() []Slice {
	owner := map[netip.Addr]string{} // who keeps an address: the importing cluster first, then the others by name
	if i := slices.IndexFunc(g.service.Sources, func(s clusterset.Source) bool { return s.Cluster == g.own.ID }); i >= 0 {
		g.collect(&g.service.Sources[i], owner)
	}
	for i := range g.service.Sources {
		if source := &g.service.Sources[i]; source.Cluster != g.own.ID {
			g.collect(source, owner)
		}
	}
	var all []Slice
	for _, b := range g.buckets {
		all = append(all, b.split(DerivedName(g.service.Name))...)
	}
	slices.SortFunc(all, func(a, b Slice) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// collect puts the endpoints of one source into buckets.
func (g *gathering) collect(source *clusterset.Source, owner map[netip.Addr]string) {
	if source.Endpoints == nil || source.Properties == nil || source.Properties.Type == corev1.ServiceTypeExternalName {
		return
	}
	if g.byGateway(source.Cluster) {
		g.collectGateways(source.Cluster)
		return
	}
	if !g.direct(source.Cluster) {
		return
	}
	facts := g.facts(source.Cluster)
	waits := g.waits(facts)
	for i := range source.Endpoints.Groups {
		group := &source.Endpoints.Groups[i]
		offers := g.offers(source.Cluster, group)
		known := map[kind][]offer{} // the endpoints of a group are of few kinds
		for j := range group.Endpoints {
			endpoint := &group.Endpoints[j]
			k := kind{zone: endpoint.Zone, ready: endpoint.Conditions.Has(clusterset.Ready)}
			if k.zone == (clusterset.Name{}) {
				k.zone = clusterset.Intern(facts.Zone)
			}
			ports, found := known[k]
			if !found {
				ports = g.usable(source.Cluster, k, offers, waits)
				known[k] = ports
			}
			if ports == nil || cmp.Or(owner[endpoint.Addr], source.Cluster) != source.Cluster {
				continue
			}
			owner[endpoint.Addr] = source.Cluster
			g.bucket(source.Cluster, endpoint.Addr.Is6(), ports).add(endpoint, g.service.Properties.Headless, source.Cluster == g.own.ID)
		}
	}
}

// kind is what decides about an endpoint within a group.
type kind struct {
	zone  clusterset.Name
	ready bool
}

// offer is a port of the service, and where the pods of a group take it.
type offer struct {
	index  int // of the port of the service
	port   clusterset.Port
	target uint16
}

// offers returns what a group serves of the ports of the service.
func (g *gathering) offers(cluster string, group *clusterset.Group) []offer {
	var offers []offer
	for i, port := range namedPorts(g.service.Properties) {
		exposed, ok := g.service.ExposedPort(cluster, i)
		if !ok {
			continue
		}
		for _, target := range group.Ports {
			if target.Name.String() == exposed.Name && cmp.Or(target.Protocol, corev1.ProtocolTCP) == exposed.Protocol && target.Port != 0 {
				offers = append(offers, offer{index: i, port: port, target: target.Port})
				break
			}
		}
	}
	return offers
}

// usable returns those of the offers for which endpoints of a kind are to be listed; nil when they are not listed at all.
func (g *gathering) usable(cluster string, k kind, offers []offer, waits bool) []offer {
	listed := func(port int) bool {
		return g.used[port][locality{cluster, k.zone}] || !k.ready && waits
	}
	if len(g.service.Properties.Ports) == 0 {
		if listed(0) {
			return []offer{}
		}
		return nil
	}
	var usable []offer
	for _, o := range offers {
		if listed(o.index) {
			usable = append(usable, o)
		}
	}
	return usable
}

// waits tells whether endpoints of a cluster that are not ready are listed even without ready ones beside them: when
// readiness is all that keeps them from being used.
func (g *gathering) waits(facts *clusterset.Cluster) bool {
	policy := g.service.Policy
	if policy != nil && (len(policy.Failover) > 0 || slices.ContainsFunc(policy.Weights, func(w clusterset.ClusterWeight) bool {
		return w.Cluster == facts.ID && w.Weight == 0
	})) {
		return false
	}
	if facts.ID == g.own.ID {
		return facts.State != clusterset.Draining
	}
	return facts.State == clusterset.Active && facts.DataPlane != clusterset.Down
}
