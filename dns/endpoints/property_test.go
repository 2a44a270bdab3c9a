package endpoints_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/dns/endpoints"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

var (
	ids  = []string{"m1", "m2", "m3"}
	keys = []clusterset.Key{web, {Namespace: "shop", Name: "db"}, {Namespace: "ops", Name: "web"}, {Namespace: hub, Name: "api"}}
)

func randomCluster(r *rand.Rand, id string, known bool) clusterset.Cluster {
	c := clusterset.Cluster{
		ID: id, Region: pick(r, "", "eu", "us"), ControlPlane: clusterset.Up,
		State:     pick(r, clusterset.Active, clusterset.Active, clusterset.Draining),
		DataPlane: pick(r, clusterset.Up, clusterset.Unknown, clusterset.Down),
	}
	for i := range r.IntN(4) {
		at := netip.AddrFrom4([4]byte{192, 0, id[1], byte(r.IntN(5))})
		if i == 2 {
			at = netip.AddrFrom16([16]byte{0x20, 1, 14: id[1], 15: byte(r.IntN(3))})
		}
		c.Gateways = append(c.Gateways, clusterset.Gateway{Addr: at, Port: 15443, Health: pick(r, clusterset.Up, clusterset.Unknown, clusterset.Down)})
	}
	if !known && r.IntN(2) == 0 {
		c.ControlPlane, c.LastKnown = clusterset.Down, time.Unix(1000, 0)
	}
	return c
}

// happen makes one random change to what is known.
func happen(r *rand.Rand, b *clusterset.Builder, known bool) {
	id, key := pick(r, ids...), pick(r, keys...)
	switch r.IntN(10) {
	case 0, 1, 2:
		b.SetCluster(randomCluster(r, id, known))
	case 3, 4, 5:
		serve(b, id, key)
	case 6:
		b.RemoveExport(id, key)
	case 7:
		b.SetPolicy(key, clusterset.Policy{
			TTL: pick[uint32](r, 0, 30), Weights: pick(r, nil, []clusterset.ClusterWeight{{Cluster: id, Weight: 2}}),
			Consumers: pick(r, nil, nil, &clusterset.Consumers{Clusters: ids}),
		})
	case 8:
		b.RemovePolicy(key)
	default:
		b.SetEndpoints(id, key, pick(r, ready(), clusterset.Endpoints{}))
	}
}

// host is the DNSEndpoints of a host cluster, with the namespaces that it has.
type host struct {
	t       *testing.T
	spaces  map[string]bool
	objects map[types.NamespacedName]*unstructured.Unstructured
	born    int
}

func (h *host) have(key clusterset.Key) endpoints.Have {
	have := endpoints.Have{Hub: hub, Namespace: h.spaces[key.Namespace]}
	for _, place := range endpoints.Places(key, hub) {
		if object := h.objects[place]; object != nil {
			have.Objects = append(have.Objects, object)
		}
	}
	return have
}

// settle carries out plans for all services, and tells what is held. A second plan has nothing to do.
func (h *host) settle(world *endpoints.World) map[clusterset.Key]bool {
	h.t.Helper()
	held := map[clusterset.Key]bool{}
	for _, key := range keys {
		plan := endpoints.Make(endpoints.For(world, key), h.have(key))
		for _, step := range plan.Steps {
			h.apply(step)
		}
		again := endpoints.Make(endpoints.For(world, key), h.have(key))
		if len(again.Steps) > 0 || again.Held != plan.Held {
			h.t.Fatalf("%s: a second plan has steps %v, held %t (before: %v, %t)", key, steps(again), again.Held, steps(plan), plan.Held)
		}
		held[key] = plan.Held
	}
	return held
}

func (h *host) apply(step endpoints.Step) {
	h.t.Helper()
	name := nameOf(step.Object)
	there := h.objects[name]
	if (step.Verb == endpoints.Create) != (there == nil) || there != nil && there.GetUID() != step.Object.GetUID() || !h.spaces[name.Namespace] {
		h.t.Fatalf("%s of %s, where there is %v", step.Verb, name, there)
	}
	if step.Verb == endpoints.Delete {
		delete(h.objects, name)
		return
	}
	object := step.Object.DeepCopy()
	if there == nil {
		h.born++
		object.SetUID(types.UID(fmt.Sprint("uid-", h.born)))
	}
	h.objects[name] = object
}

// expected is what the trees say, found by a walk over all names rather than by asking for those of services.
func expected(world *endpoints.World, spaces map[string]bool) map[string][]string {
	all := map[string][]string{}
	for apex := range world.Tree.Zones() {
		world.Tree.Walk(apex, func(owner string, node *zone.Node) bool {
			name := strings.TrimSuffix(owner, ".")
			labels := strings.Split(name, ".")
			for _, family := range []uint16{dns.TypeA, dns.TypeAAAA} {
				if set := node.RRset(family); set != nil && slices.Contains(world.Zones, strings.TrimSuffix(apex.Name(), ".")) {
					home := labels[1]
					if !spaces[home] {
						home = hub
					}
					object := home + "/" + labels[0] + "." + labels[1]
					all[object] = append(all[object], line(name, int64(set.TTL()), dns.TypeToString[family], addresses(set)))
				}
			}
			return true
		})
	}
	return all
}

func addresses(set *zone.RRset) []string {
	var addrs []netip.Addr
	for _, rr := range set.RRs(".") {
		fields := strings.Fields(rr.String())
		addrs = append(addrs, addr(fields[len(fields)-1]))
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return all
}

// TestPlansLeadToTheTree: as long as the hub is in step with everybody, what is published is what the tree has, after any
// changes to services, clusters, policies, zones and namespaces.
func TestPlansLeadToTheTree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := clusterset.NewBuilder(0)
	for _, id := range ids {
		b.SetCluster(randomCluster(r, id, true))
	}
	h := &host{t: t, spaces: map[string]bool{hub: true, "shop": true}, objects: map[types.NamespacedName]*unstructured.Unstructured{}}
	names, entries := zones, 0
	for range 1000 {
		for range 1 + r.IntN(3) {
			happen(r, b, true)
		}
		switch r.IntN(20) {
		case 0:
			h.spaces[pick(r, "shop", "ops")] = true
		case 1: // and with it all that is in it
			gone := pick(r, "shop", "ops")
			delete(h.spaces, gone)
			for name := range h.objects {
				if name.Namespace == gone {
					delete(h.objects, name)
				}
			}
		case 2:
			names = pick(r, zones, zones[:1], zones[1:])
		}
		world := worldOf(b, true, names...)
		for key, held := range h.settle(world) {
			if held {
				t.Fatalf("%s is held, and nothing is unknown", key)
			}
		}
		got := map[string][]string{}
		for name, object := range h.objects {
			got[name.String()] = linesOf(object)
			entries += len(got[name.String()])
		}
		if diff := cmp.Diff(expected(world, h.spaces), got); diff != "" {
			t.Fatal(diff)
		}
	}
	if entries < 3000 {
		t.Errorf("the changes are dull: %d entries", entries)
	}
}

// TestPlansKeepWhatIsNotKnown: whatever happens while clusters are lost, all that the tree has is published, and an address
// leaves only if it is known of everybody who may have it that it is to leave.
func TestPlansKeepWhatIsNotKnown(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	b := clusterset.NewBuilder(0)
	h := &host{t: t, spaces: map[string]bool{hub: true, "shop": true}, objects: map[types.NamespacedName]*unstructured.Unstructured{}}
	kept := 0
	for range 1000 {
		happen(r, b, false)
		if r.IntN(30) == 0 {
			b = clusterset.NewBuilder(0) // a hub that starts, and has read nothing
		}
		world := worldOf(b, r.IntN(2) == 0, zones...)
		before := all(h)
		held := h.settle(world)
		after := all(h)
		for object, lines := range expected(world, h.spaces) {
			for _, each := range lines {
				fields := strings.Fields(each)
				for _, target := range fields[3:] {
					if !after[object+" "+fields[0]+" "+target] {
						t.Fatalf("%s: %s is not published", object, each)
					}
				}
			}
		}
		for published := range before {
			fields := strings.Fields(published)
			namespace, name, _ := strings.Cut(fields[0], "/")
			key, _ := endpoints.KeyOf(types.NamespacedName{Namespace: namespace, Name: name}, hub)
			if after[published] {
				continue
			}
			if inDoubt(world, key, addr(fields[2])) {
				t.Fatalf("%s is published no more, and nobody knows that", published)
			}
		}
		for _, is := range held {
			if is {
				kept++
			}
		}
	}
	if kept < 100 {
		t.Errorf("the changes are dull: %d services held", kept)
	}
}

// all returns what is published, as "namespace/object name target".
func all(h *host) map[string]bool {
	all := map[string]bool{}
	for name, object := range h.objects {
		for _, text := range linesOf(object) {
			fields := strings.Fields(text)
			for _, target := range fields[3:] {
				all[name.String()+" "+fields[0]+" "+target] = true
			}
		}
	}
	return all
}

// inDoubt tells, in other words than the code does, whether an address may still serve outsiders for all that is known.
func inDoubt(world *endpoints.World, key clusterset.Key, target netip.Addr) bool {
	service := world.Snapshot.Service(key)
	if service != nil && service.Policy != nil && service.Policy.Consumers != nil {
		return false
	}
	owners, doubts := 0, 0
	for _, c := range world.Snapshot.Clusters() {
		for _, gateway := range c.Gateways {
			if gateway.Addr != target {
				continue
			}
			owners++
			exports := service != nil && slices.ContainsFunc(service.Sources, func(s clusterset.Source) bool { return s.Cluster == c.ID })
			if exports || c.ControlPlane == clusterset.Up && c.LastKnown.IsZero() || c.DataPlane == clusterset.Down || gateway.Health == clusterset.Down {
				break
			}
			doubts++
			break
		}
	}
	return doubts > 0 || owners == 0 && !world.Complete
}
