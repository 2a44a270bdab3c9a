package clusterset_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// choices are decisions made by bytes, so that a fuzzer can steer them; after the last byte everything is 0.
type choices struct{ data []byte }

func (c *choices) pick(n int) int {
	if len(c.data) == 0 {
		return 0
	}
	first := c.data[0]
	c.data = c.data[1:]
	return int(first) % n
}

func (c *choices) chance(percent int) bool { return c.pick(100) < percent }

func one[T any](c *choices, values ...T) T { return values[c.pick(len(values))] }

func some[T any](c *choices, atMost int, f func() T) []T {
	var all []T
	for range c.pick(atMost + 1) {
		all = append(all, f())
	}
	return all
}

var (
	ids   = []string{"m1", "m2", "m3", "m4"}
	zones = []string{"", "a", "b", "c"}
	areas = []string{"", "eu", "us"}
	sites = []clusterset.Key{web, {Namespace: "shop", Name: "db"}, {Namespace: "ops", Name: "web"}}
)

func randomCluster(c *choices) clusterset.Cluster {
	cluster := clusterset.Cluster{
		ID: one(c, ids...), Network: one(c, "", "n1", "n1", "n2"), Region: one(c, areas...), Zone: one(c, zones...),
		State:        one(c, clusterset.Active, clusterset.Active, clusterset.Active, clusterset.Cordoned, clusterset.Draining),
		ControlPlane: one(c, clusterset.Up, clusterset.Down, clusterset.Unknown),
		DataPlane:    one(c, clusterset.Up, clusterset.Unknown, clusterset.Unknown, clusterset.Down),
	}
	cluster.Gateways = some(c, 3, func() clusterset.Gateway {
		gateway := clusterset.Gateway{
			Port: one[uint16](c, 15443, 15443, 0), Tunnel: one[uint16](c, 15445, 15445, 0), Node: one(c, "", "n1"),
			Health: one(c, clusterset.Up, clusterset.Unknown, clusterset.Down),
		}
		if !c.chance(10) {
			gateway.Addr = netip.AddrFrom4([4]byte{192, 0, 2, byte(c.pick(5))})
		}
		if c.chance(80) {
			gateway.Inside = netip.AddrFrom4([4]byte{10, cluster.ID[1] - '0', 1, byte(c.pick(3))})
		}
		return gateway
	})
	if c.chance(20) {
		cluster.LastKnown = epoch.Add(time.Duration(c.pick(5)) * time.Minute)
	}
	return cluster
}

func randomExport(c *choices) clusterset.Export {
	if c.chance(5) {
		return clusterset.Export{Created: epoch}
	}
	e := clusterset.Export{Properties: &properties{
		Type: one(c, corev1.ServiceTypeClusterIP, corev1.ServiceTypeClusterIP, "", corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName),
		Ports: one(c, []port{http}, []port{http}, []port{http, https}, []port{https, {Name: "http", Port: 80}}, []port{{Name: "web", Port: 80}},
			[]port{{Name: "http", Port: 8080}}, []port{{Name: "http", Protocol: corev1.ProtocolUDP, Port: 80}}, []port{{Port: 80}}, nil),
		Headless:        c.chance(20),
		SessionAffinity: one(c, "", corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP),
		IPFamilies:      one(c, []corev1.IPFamily{"IPv4"}, []corev1.IPFamily{"IPv4", "IPv6"}, []corev1.IPFamily{"IPv6", "IPv4"}, []corev1.IPFamily{}, nil),
		Labels:          one(c, nil, map[string]string{}, map[string]string{"a": "b"}),
	}}
	if !c.chance(10) {
		e.Created = epoch.Add(time.Duration(c.pick(4)) * time.Second)
	}
	return e
}

// randomEndpoints has addresses that repeat within and between clusters. Node and zone follow from cluster and address, since
// of equally good claims to an address either may count.
func randomEndpoints(c *choices, cluster string) clusterset.Endpoints {
	return clusterset.Endpoints{Groups: some(c, 3, func() clusterset.Group {
		name := clusterset.Intern(one(c, "http", "http", "https", "web", ""))
		group := clusterset.Group{Ports: []clusterset.TargetPort{{Name: name, Port: one[uint16](c, 8080, 8080, 8081, 0)}}}
		if c.chance(20) {
			group.Ports = append(group.Ports, clusterset.TargetPort{Name: clusterset.Intern("http"), Protocol: corev1.ProtocolUDP, Port: 53})
		}
		group.Endpoints = some(c, 5, func() clusterset.Endpoint {
			last := byte(c.pick(16))
			addr := netip.AddrFrom4([4]byte{10, cluster[1] - '0', 0, last})
			switch last {
			case 0:
				addr = netip.AddrFrom4([4]byte{10, 9, 9, 9}) // the same in all clusters
			case 1:
				addr = netip.AddrFrom16([16]byte{0xfd, 15: cluster[1]})
			}
			return clusterset.Endpoint{Addr: addr, Zone: clusterset.Intern(zones[int(last)%len(zones)]), Conditions: clusterset.Conditions(c.pick(8))}
		})
		return group
	})}
}

func randomPolicy(c *choices) clusterset.Policy {
	policy := clusterset.Policy{MinHealthyPercent: uint32(one(c, 0, 0, 50, 70, 100))}
	policy.Failover = some(c, 3, func() clusterset.Tier {
		switch one(c, clusterset.ByCluster, clusterset.ByRegion, clusterset.ByZone, clusterset.Any) {
		case clusterset.ByCluster:
			return clusterset.Tier{By: clusterset.ByCluster, Names: some(c, 2, func() string { return one(c, ids...) })}
		case clusterset.ByRegion:
			return clusterset.Tier{By: clusterset.ByRegion, Names: some(c, 1, func() string { return one(c, areas...) })}
		case clusterset.ByZone:
			return clusterset.Tier{By: clusterset.ByZone, Names: some(c, 2, func() string { return one(c, zones...) })}
		default:
			return clusterset.Tier{By: clusterset.Any}
		}
	})
	if c.chance(30) {
		policy.Weights = some(c, 3, func() clusterset.ClusterWeight {
			return clusterset.ClusterWeight{Cluster: one(c, ids...), Weight: uint32(c.pick(5))}
		})
	}
	if c.chance(15) {
		policy.Consumers = &clusterset.Consumers{Clusters: some(c, 4, func() string { return one(c, ids...) })}
	}
	if c.chance(50) {
		policy.Passthrough = &clusterset.Passthrough{
			ProxyProtocol: c.chance(50),
			Sources: some(c, 3, func() netip.Prefix {
				return one(c, netip.MustParsePrefix("10.1.2.3/8"), netip.MustParsePrefix("::ffff:10.0.0.0/104"), netip.MustParsePrefix("fd00::/8"), netip.Prefix{})
			}),
		}
	}
	policy.Path, policy.FirstFlight = one(c, clusterset.ByGateway, clusterset.Direct, "Nonsense"), c.chance(50)
	return policy
}

func randomImport(c *choices) clusterset.Import {
	return clusterset.Import{
		ClusterIPs: some(c, 2, func() netip.Addr { return netip.AddrFrom4([4]byte{10, 96, 0, byte(c.pick(9))}) }),
		GatewayPorts: some(c, 4, func() clusterset.GatewayPort {
			return clusterset.GatewayPort{
				Name: one(c, "http", "http", "http", "https", "web", ""), Protocol: one(c, "", corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP),
				Port: one[uint16](c, 20000, 20001, 20002, 0),
			}
		}),
	}
}

// event changes builder and model alike.
func event(c *choices, b *clusterset.Builder, m *model) {
	p := place{one(c, ids...), one(c, sites...)}
	switch c.pick(16) {
	case 0, 1, 2:
		cluster := randomCluster(c)
		b.SetCluster(cluster)
		m.clusters[cluster.ID] = cluster
	case 3, 4, 5, 6:
		e := randomExport(c)
		b.SetExport(p.cluster, p.key, e)
		m.exports[p] = e
	case 7:
		b.RemoveExport(p.cluster, p.key)
		delete(m.exports, p)
	case 8, 9, 10:
		endpoints := randomEndpoints(c, p.cluster)
		b.SetEndpoints(p.cluster, p.key, endpoints)
		m.endpoints[p] = endpoints
	case 11:
		b.RemoveEndpoints(p.cluster, p.key)
		delete(m.endpoints, p)
	case 12:
		for _, id := range ids[c.pick(len(ids)):] { // several: a service is often imported everywhere
			i := randomImport(c)
			b.SetImport(id, p.key, i)
			m.imports[place{id, p.key}] = i
		}
	case 13:
		if c.chance(50) {
			m.revoked = some(c, 3, func() clusterset.Revocation {
				return clusterset.Revocation{Cluster: one(c, ids...), Before: epoch.Add(time.Duration(c.pick(4)) * time.Hour)}
			})
			b.SetRevocations(m.revoked)
			return
		}
		b.RemoveImport(p.cluster, p.key)
		delete(m.imports, p)
	case 14:
		policy := randomPolicy(c)
		b.SetPolicy(p.key, policy)
		m.policies[p.key] = policy
	default:
		if c.chance(50) {
			b.RemovePolicy(p.key)
			delete(m.policies, p.key)
			return
		}
		b.RemoveCluster(p.cluster)
		m.remove(p.cluster)
	}
}

// story plays events, with snapshots published in between, and returns the last one and the model.
func story(c *choices, events int) (*clusterset.Snapshot, *model) {
	b, m := clusterset.NewBuilder(0), newModel()
	for range events {
		event(c, b, m)
		if c.chance(30) {
			b.Publish()
		}
	}
	return b.Publish(), m
}

// compare checks a snapshot against a rebuild from scratch, and the views of everybody against the model.
func compare(t *testing.T, snapshot *clusterset.Snapshot, m *model) {
	t.Helper()
	if got, want := dump(snapshot), dump(m.rebuild()); got != want {
		t.Fatalf("a rebuild from scratch differs: %s", difference(got, want))
	}
	for _, id := range append([]string{"unknown"}, ids...) {
		for _, zone := range []string{"", "b"} {
			for _, k := range sites {
				compareViews(t, snapshot, m, k, clusterset.Consumer{Cluster: id, Zone: zone})
				compareViews(t, snapshot, m, k, clusterset.Consumer{Cluster: id, Zone: zone, Gateway: true})
			}
		}
	}
}

func compareViews(t *testing.T, snapshot *clusterset.Snapshot, m *model, k clusterset.Key, from clusterset.Consumer) {
	t.Helper()
	view := snapshot.View(k, from)
	if view.Reason == clusterset.NoSuchService || view.Reason == clusterset.NotExported {
		if len(m.exporters(k)) > 0 {
			t.Fatalf("%s has exporters, and the view says %s", k, view.Reason)
		}
		return
	}
	if view.Reason == clusterset.Used {
		if got, want := fmt.Sprint(portsOf(view)), fmt.Sprint(m.ports(k)); got != want {
			t.Fatalf("%s has the ports %s, want %s", k, got, want)
		}
	}
	check := func(assignment clusterset.Assignment, p *port) {
		if got, want := render(assignment), m.view(k, from, p); got != want {
			t.Fatalf("%s for %+v, port %v:\n%s\nthe model says:\n%s\nof %s", k, from, p, got, want, dump(snapshot))
		}
		valid(t, assignment)
		name := ""
		if p != nil {
			name = p.Name
		}
		if _, taken := snapshot.Service(k).Port(name); taken == (p != nil) {
			agree(t, assignment, snapshot.Explain(k, from, name, epoch))
		}
	}
	for i := range view.Ports {
		check(view.Ports[i], &view.Ports[i].Port)
		if got := snapshot.ViewPort(k, from, i); render(got) != render(view.Ports[i]) {
			t.Fatalf("the view of a port differs from that port in the view")
		}
	}
	check(view.Hosts, nil)
}

// valid checks what xDS clients insist on.
func valid(t *testing.T, a clusterset.Assignment) {
	t.Helper()
	seen := map[netip.AddrPort]bool{}
	for i, priority := range a.Priorities {
		sum := uint64(0)
		if len(priority.Localities) == 0 {
			t.Fatalf("priority %d is empty", i)
		}
		for _, locality := range priority.Localities {
			sum += uint64(locality.Weight)
			if locality.Weight < 1 || len(locality.Targets) == 0 {
				t.Fatalf("priority %d: locality %+v has no weight or no endpoint", i, locality)
			}
			for _, target := range locality.Targets {
				if seen[target.Addr] || target.Weight < 1 || !target.Addr.IsValid() {
					t.Fatalf("target %+v is there twice, or has no weight or address", target)
				}
				seen[target.Addr] = true
			}
		}
		if sum > 1<<32-1 {
			t.Fatalf("the weights of priority %d sum up to %d", i, sum)
		}
	}
}

// agree checks that the explanation tells of exactly the addresses that the assignment has.
func agree(t *testing.T, a clusterset.Assignment, e clusterset.Explanation) {
	t.Helper()
	listed, told := map[netip.AddrPort]int{}, map[netip.AddrPort]int{}
	for i, priority := range a.Priorities {
		for _, locality := range priority.Localities {
			for _, target := range locality.Targets {
				listed[target.Addr] = i
			}
		}
	}
	for _, verdict := range e.Endpoints {
		for _, target := range verdict.Targets {
			told[target.Addr] = verdict.Priority
		}
		if (verdict.Reason == clusterset.Used) != (len(verdict.Targets) > 0) {
			t.Fatalf("a verdict that says neither how nor why not: %+v", verdict)
		}
	}
	if fmt.Sprint(listed) != fmt.Sprint(told) {
		t.Fatalf("the assignment has %v, the explanation %v", listed, told)
	}
}

// TestAnyOrder plays 10,000 random stories. What comes out depends on what is, not on how it came to be, and is what the
// model says.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			stories(t, rand.New(rand.NewPCG(seed, 2)), 2500)
		})
	}
}

func stories(t *testing.T, random *rand.Rand, n int) {
	var localities, priorities, gateways int
	for i := range n {
		data := make([]byte, 0, 1024)
		for range cap(data) / 8 {
			data = binary.LittleEndian.AppendUint64(data, random.Uint64())
		}
		snapshot, m := story(&choices{data}, 6+random.IntN(30))
		if i%20 == 0 {
			compare(t, snapshot, m)
		} else if got, want := dump(snapshot), dump(m.rebuild()); got != want {
			t.Fatalf("a rebuild from scratch differs: %s", difference(got, want))
		}
		for _, k := range sites {
			for _, p := range snapshot.ViewHosts(k, clusterset.Consumer{Cluster: "m1"}).Priorities {
				priorities++
				localities += len(p.Localities)
				if slices.ContainsFunc(p.Localities, func(l clusterset.Locality) bool { return l.Gateway }) {
					gateways++
				}
			}
		}
	}
	if localities < n/10 || priorities < n/10 || gateways < n/50 {
		t.Errorf("the stories are dull: %d localities in %d priorities, %d with gateways", localities, priorities, gateways)
	}
}

// TestAnyGateway plays stories that begin with gateways in every cluster and a service that all export and import.
func TestAnyGateway(t *testing.T) {
	const n = 300
	random := rand.New(rand.NewPCG(5, 6))
	var outbound, shared int
	for range n {
		data := make([]byte, 0, 512)
		for range cap(data) / 8 {
			data = binary.LittleEndian.AppendUint64(data, random.Uint64())
		}
		c, b, m := &choices{data}, clusterset.NewBuilder(0), newModel()
		for i, id := range ids {
			found(c, b, m, i, id)
		}
		for range c.pick(8) {
			event(c, b, m)
		}
		snapshot := b.Publish()
		compare(t, snapshot, m)
		for _, p := range snapshot.ViewPort(web, clusterset.Consumer{Cluster: "m1"}, 0).Priorities {
			for _, l := range p.Localities {
				if l.Outbound {
					outbound++
				}
			}
			if len(p.Localities) > 1 && slices.ContainsFunc(p.Localities, func(l clusterset.Locality) bool { return l.Outbound }) {
				shared++
			}
		}
	}
	if outbound < n/3 || shared < n/20 {
		t.Errorf("the stories are dull: %d outbound localities, %d beside others", outbound, shared)
	}
}

// found gives a cluster a gateway and its part of the service web.
func found(c *choices, b *clusterset.Builder, m *model, i int, id string) {
	cluster := randomCluster(c)
	cluster.ID, cluster.Network, cluster.DataPlane = id, one(c, "", "n1", "n2"), clusterset.Up
	cluster.Gateways = append(cluster.Gateways, clusterset.Gateway{
		Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)}), Port: 15443, Tunnel: 15445, Inside: netip.AddrFrom4([4]byte{10, 8, byte(i), 1}),
	})
	b.SetCluster(cluster)
	m.clusters[id] = cluster
	p := place{id, web}
	m.exports[p], m.endpoints[p] = export(i), randomEndpoints(c, id)
	m.endpoints[p] = clusterset.Endpoints{Groups: append(m.endpoints[p].Groups, slices8080(fmt.Sprintf("10.%d.0.99@b", i+1)).Groups...)}
	b.SetExport(id, web, m.exports[p])
	b.SetEndpoints(id, web, m.endpoints[p])
	m.imports[p] = clusterset.Import{GatewayPorts: append(randomImport(c).GatewayPorts, clusterset.GatewayPort{Name: "http", Port: 20003})}
	b.SetImport(id, web, m.imports[p])
}

// FuzzModel lets the fuzzer write the story.
func FuzzModel(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		data := make([]byte, 300)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &choices{data}
		b, m := clusterset.NewBuilder(0), newModel()
		for len(c.data) > 0 {
			event(c, b, m)
			if c.chance(30) {
				b.Publish()
			}
		}
		compare(t, b.Publish(), m)
	})
}

func portsOf(view clusterset.View) []port {
	var all []port
	for _, a := range view.Ports {
		all = append(all, a.Port)
	}
	return all
}
