package exports_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
)

// TestAnyOrderGivesTheSame plays the histories of the objects of two clusters in 10,000 orders: the events of one object come
// in their order, as watches guarantee, and everything else as it may. The table is always that of the last state alone.
func TestAnyOrderGivesTheSame(t *testing.T) {
	orders := 10_000
	if testing.Short() {
		orders = 500
	}
	clock := func() time.Time { return time.Unix(1_800_000_000, 0) }
	const rounds = 10
	for round := range uint64(rounds) {
		t.Run(strconv.FormatUint(round, 10), func(t *testing.T) {
			t.Parallel()
			playOrders(t, rand.New(rand.NewPCG(21, round)), orders/rounds, clock)
		})
	}
}

func playOrders(t *testing.T, random *rand.Rand, orders int, clock func() time.Time) {
	t.Helper()
	histories := histories(random)
	want := final(histories, clock)
	for range orders {
		p := exports.NewPlay(logr.Discard(), clock, "c1", "c2")
		queues := slices.Clone(histories)
		for len(queues) > 0 {
			at := random.IntN(len(queues))
			queues[at][0](p)
			if queues[at] = queues[at][1:]; len(queues[at]) == 0 {
				queues = slices.Delete(queues, at, at+1)
			}
			if random.IntN(4) == 0 {
				p.Publish()
			}
		}
		if got := dump(p.Publish()); got != want {
			t.Fatalf("one order gives\n%s\nand the last state alone\n%s", got, want)
		}
	}
}

type step = func(*exports.Play)

// final plays the last step of every history: what a rebuild would see.
func final(histories [][]step, clock func() time.Time) string {
	p := exports.NewPlay(logr.Discard(), clock, "c1", "c2")
	for _, history := range histories {
		history[len(history)-1](p)
	}
	return dump(p.Publish())
}

// histories makes up what happens to some objects: each is written or deleted a few times.
func histories(random *rand.Rand) [][]step {
	var all [][]step
	object := func(member string, kind exports.Kind, name string, variants ...runtime.Object) {
		history := make([]step, 0, 4)
		for range 1 + random.IntN(3) {
			if random.IntN(4) == 0 {
				history = append(history, func(p *exports.Play) { p.Gone(member, kind, "shop", name) })
			} else {
				chosen := variants[random.IntN(len(variants))]
				history = append(history, func(p *exports.Play) { p.Put(member, kind, chosen) })
			}
		}
		all = append(all, history)
	}
	for i, member := range []string{"c1", "c2"} {
		for _, name := range []string{"web", "db"} {
			later := export(name)
			later.SetCreationTimestamp(metav1.NewTime(born.Add(time.Duration(random.IntN(3)-1) * time.Hour)))
			object(member, exports.Exports, name, export(name), later)
			other := service(name)
			other.Spec.Ports[0].Port = 81
			object(member, exports.Services, name, service(name), other)
			for j := range 3 {
				slice := fmt.Sprintf("%s-%d", name, j)
				object(member, exports.Slices, slice, endpoints(name, slice, fmt.Sprintf("10.%d.%d.1", i, j)),
					endpoints(name, slice, fmt.Sprintf("10.%d.%d.1", i, j), fmt.Sprintf("10.%d.9.9", i)),
					endpoints("web", slice, fmt.Sprintf("10.%d.%d.2", i, j))) // the label may move it to another service
			}
		}
		derived := service("hansa-1")
		derived.Labels = map[string]string{api.SliceManagedByLabel: api.Controller, api.ServiceNameLabel: "web"}
		derived.Spec.ClusterIPs = []string{"10.96.0.1"}
		moved := derived.DeepCopy()
		moved.Labels[api.ServiceNameLabel] = "db"
		object(member, exports.Services, "hansa-1", derived, moved, service("hansa-1"))
		node := func(zone string) runtime.Object {
			return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "node-0", Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
		}
		all = append(all, []step{
			func(p *exports.Play) { p.Put(member, exports.Nodes, node("a")) },
			func(p *exports.Play) { p.Put(member, exports.Nodes, node("b")) },
		}, []step{
			func(p *exports.Play) { p.Put(member, exports.Property, property("id-"+member)) },
			func(p *exports.Play) { p.Put(member, exports.Property, property("new-"+member)) },
		}, []step{
			func(p *exports.Play) { p.Info(member, nil) },
			func(p *exports.Play) {
				p.Info(member, &v1alpha1.ClusterInfo{Spec: v1alpha1.ClusterInfoSpec{Network: "flat"}})
			},
		})
	}
	all = append(all, []step{
		func(p *exports.Play) { p.Policy(web, &clusterset.Policy{MinHealthyPercent: 10}) },
		func(p *exports.Play) { p.Policy(web, nil) },
		func(p *exports.Play) { p.Policy(web, &clusterset.Policy{MinHealthyPercent: 20}) },
	})
	return all
}
