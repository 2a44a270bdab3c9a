package clusterset_test

import (
	"encoding/json"
	"math"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestOddInputs feeds what no API server would let through, and what none has been asked about. Views stay valid.
func TestOddInputs(t *testing.T) {
	mapped, zoned := netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("fe80::1%eth0")
	strange := clusterset.Endpoints{Groups: []clusterset.Group{
		{},
		{Endpoints: []clusterset.Endpoint{{}, {Conditions: 255}, {Addr: mapped, Conditions: 255}}},
		{
			Ports:     []clusterset.TargetPort{{}, {Port: 1}, {Port: 1}, {Protocol: "Nonsense", Port: math.MaxUint16}},
			Endpoints: []clusterset.Endpoint{{Addr: zoned, Conditions: clusterset.Ready}, {Addr: mapped, Conditions: clusterset.Ready}, {Addr: netip.MustParseAddr("10.0.0.1"), Conditions: clusterset.Ready}},
		},
	}}
	tests := map[string]func(*clusterset.Builder){
		"nothing": func(*clusterset.Builder) {},
		"empty names": func(b *clusterset.Builder) {
			b.SetCluster(clusterset.Cluster{})
			b.SetExport("", clusterset.Key{}, clusterset.Export{})
			b.SetExport("", web, clusterset.Export{Properties: &properties{}})
			b.SetEndpoints("", web, strange)
		},
		"strange ports": func(b *clusterset.Builder) {
			b.SetExport("m1", web, export(0, ports(port{}, port{}, port{Port: math.MinInt32}, port{Name: "x", Protocol: "Nonsense", Port: math.MaxInt32})))
			b.SetEndpoints("m1", web, strange)
		},
		"strange health": func(b *clusterset.Builder) {
			b.SetCluster(clusterset.Cluster{ID: "m1", State: "Nonsense", ControlPlane: "Nonsense", DataPlane: "Nonsense", Gateways: []clusterset.Gateway{{}, {Addr: mapped, Port: 1}, {Addr: mapped}, {Port: 1}, {Addr: mapped, Port: 1, Health: "Nonsense"}}})
			b.SetExport("m1", web, export(0, families("Nonsense", corev1.IPv6Protocol), ports(port{})))
			b.SetEndpoints("m1", web, strange)
		},
		"strange policy": func(b *clusterset.Builder) {
			b.SetExport("m1", web, export(0, ports(port{})))
			b.SetExport("m2", web, export(0, ports(port{})))
			b.SetEndpoints("m1", web, strange)
			b.SetEndpoints("m2", web, slices8080("10.2.0.1", "fd00::2"))
			b.SetPolicy(web, clusterset.Policy{
				MinHealthyPercent: math.MaxUint32, L7: []any{nil, map[string]int{}},
				Failover: []clusterset.Tier{{}, {By: clusterset.ByZone, Names: []string{""}}, {By: clusterset.Any}, {By: clusterset.Any}},
				Weights:  []clusterset.ClusterWeight{{}, {"m1", math.MaxUint32}, {"m2", math.MaxUint32}, {"m1", math.MaxUint32}},
			})
		},
	}
	for name, tell := range tests {
		t.Run(name, func(t *testing.T) {
			b := clusterset.NewBuilder(math.MaxUint64 - 1)
			tell(b)
			snapshot := b.Publish()
			for _, id := range []string{"", "m1", "m2", "m3"} {
				from := clusterset.Consumer{Cluster: id}
				view := snapshot.View(web, from)
				for i := range view.Ports {
					valid(t, view.Ports[i])
					agree(t, view.Ports[i], snapshot.Explain(web, from, view.Ports[i].Port.Name, epoch))
				}
				valid(t, view.Hosts)
				valid(t, snapshot.ViewPort(web, from, -1))
				valid(t, snapshot.ViewPort(web, from, 1000))
			}
			for _, service := range snapshot.Services() {
				service.Conditions("m1")
				service.ExposedPort("", -1)
			}
		})
	}
}

// TestInputsSurviveJSON covers that what a snapshot shows can be kept, and told to a builder again.
func TestInputsSurviveJSON(t *testing.T) {
	w := newWorld()
	w.serve("m1", "10.1.0.1@a", "fd00::1@b!terminating")
	first := w.Publish()
	b := clusterset.NewBuilder(0)
	for _, cluster := range first.Clusters() {
		b.SetCluster(again(t, *cluster))
	}
	for _, service := range first.Services() {
		for _, source := range service.Sources {
			b.SetExport(source.Cluster, service.Key, again(t, clusterset.Export{Created: source.Created, Properties: source.Properties}))
			if source.Endpoints != nil {
				b.SetEndpoints(source.Cluster, service.Key, again(t, *source.Endpoints))
			}
		}
	}
	if diff := cmp.Diff(dump(first), dump(b.Publish())); diff != "" {
		t.Errorf("what was kept differs (-want +got):\n%s", diff)
	}
}

// again returns value after it was written and read.
func again[T any](t *testing.T, value T) T {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var read T
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	return read
}
