package endpoints

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// World is what is known at one moment.
type World struct {
	// Snapshot is what Tree was made of.
	Snapshot *clusterset.Snapshot
	Tree     *zone.Tree
	// Zones are those of Tree, in order, lower case and without the final dot.
	Zones []string
	// Complete says that the ids of all registered clusters are known: then a cluster that is not in the snapshot is gone.
	Complete bool
}

// Wanted is what should be published of one service.
type Wanted struct {
	// Key names the service.
	Key clusterset.Key
	// Records are sorted by zone and type.
	Records []Record

	names []string // that the service has or could have, by zone
	world *World
}

// For returns what should be published of a service.
func For(world *World, key clusterset.Key) *Wanted {
	w := &Wanted{Key: key, world: world}
	for _, apex := range world.Zones {
		name := key.Name + "." + key.Namespace + "." + apex
		w.names = append(w.names, name)
		w.Records = append(w.Records, recordsAt(world.Tree, name)...)
	}
	return w
}

// doubtful tells whether an address that is published, though it is not wanted, may be missed only because something is not
// known.
func (w *Wanted) doubtful(addr netip.Addr) bool {
	service := w.world.Snapshot.Service(w.Key)
	if service != nil && service.Policy != nil && service.Policy.Consumers != nil {
		return false // outsiders are not to have it, whoever serves
	}
	claimed := false
	for _, cluster := range w.world.Snapshot.Clusters() {
		i := slices.IndexFunc(cluster.Gateways, func(g clusterset.Gateway) bool { return g.Addr.Unmap() == addr })
		if i < 0 {
			continue
		}
		claimed = true
		if cluster.DataPlane != clusterset.Down && cluster.Gateways[i].Health != clusterset.Down && unheard(cluster, service) {
			return true
		}
	}
	return !claimed && !w.world.Complete
}

// unheard tells whether a cluster may serve what it is not known to serve.
func unheard(cluster *clusterset.Cluster, service *clusterset.Service) bool {
	if service != nil {
		for i := range service.Sources {
			if service.Sources[i].Cluster == cluster.ID {
				return service.Sources[i].Endpoints == nil
			}
		}
	}
	return !cluster.InStep()
}

// keep returns the wanted records with those addresses of published ones that are in doubt, and whether there are any.
func (w *Wanted) keep(published []Record) (records []Record, kept bool) {
	records = slices.Clone(w.Records)
	for _, old := range published {
		if !slices.Contains(w.names, old.Name) || old.Type != "A" && old.Type != "AAAA" {
			continue
		}
		for _, target := range old.Targets {
			addr, err := netip.ParseAddr(target)
			if err != nil || listed(records, old, target) || !w.doubtful(addr) {
				continue
			}
			records, kept = put(records, old, addr), true
		}
	}
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(cmp.Compare(slices.Index(w.names, a.Name), slices.Index(w.names, b.Name)), strings.Compare(a.Type, b.Type))
	})
	return records, kept
}

func same(a Record) func(Record) bool {
	return func(b Record) bool { return a.Name == b.Name && a.Type == b.Type }
}

func listed(records []Record, like Record, target string) bool {
	i := slices.IndexFunc(records, same(like))
	return i >= 0 && slices.Contains(records[i].Targets, target)
}

// put adds an address to the record of the name and type of an old one; a new record has its TTL.
func put(records []Record, old Record, addr netip.Addr) []Record {
	i := slices.IndexFunc(records, same(old))
	if i < 0 {
		i = len(records)
		records = append(records, Record{Name: old.Name, Type: old.Type, TTL: old.TTL})
	}
	records[i] = records[i].with(addr)
	return records
}
