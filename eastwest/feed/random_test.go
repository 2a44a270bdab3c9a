package feed_test

import (
	"math/rand/v2"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// random changes tables at random, among few names so that things meet.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 3))} }

func pick[T any](r random, of ...T) T { return of[r.IntN(len(of))] }

func (r random) clusterID() string { return pick(r, "m1", "m2", "m3", "m4") }

func (r random) key() clusterset.Key {
	return clusterset.Key{Namespace: pick(r, "shop", "bank"), Name: pick(r, "web", "api", "db")}
}

// change makes one change of any kind. Clusters m1 and m2 stay: the agents are there.
func (r random) change(t *table) {
	switch r.IntN(15) {
	case 14:
		t.SetRevocations([]clusterset.Revocation{
			{Cluster: r.clusterID(), Before: time.Unix(r.Int64N(9), 0)}, {Cluster: r.clusterID(), Before: time.Unix(r.Int64N(9), 1)},
		}[:r.IntN(3)])
	case 0:
		t.SetCluster(r.cluster())
	case 1:
		t.RemoveCluster(pick(r, "m3", "m4"))
	case 2, 3, 4:
		t.SetExport(r.clusterID(), r.key(), r.export())
	case 5:
		t.RemoveExport(r.clusterID(), r.key())
	case 6:
		t.SetPolicy(r.key(), r.policy())
	case 7:
		t.RemovePolicy(r.key())
	case 8:
		t.SetImport(r.clusterID(), r.key(), clusterset.Import{
			ClusterIPs:   []netip.Addr{r.addr(96), r.addr(97)}[:r.IntN(3)],
			GatewayPorts: []clusterset.GatewayPort{{Name: "http", Port: uint16(20000 + r.IntN(3))}, {Name: "dns", Protocol: corev1.ProtocolUDP, Port: 20009}}[:r.IntN(3)],
		})
	case 9:
		t.RemoveImport(r.clusterID(), r.key())
	case 10:
		t.RemoveEndpoints(r.clusterID(), r.key())
	default:
		t.SetEndpoints(r.clusterID(), r.key(), r.endpoints())
	}
}

func (r random) cluster() clusterset.Cluster {
	c := clusterset.Cluster{
		ID: r.clusterID(), Network: pick(r, "", "flat", "flat", "far"), Region: pick(r, "", "eu", "us"), Zone: pick(r, "", "a"),
		State:        pick(r, clusterset.Active, clusterset.Active, clusterset.Cordoned, clusterset.Draining),
		DataPlane:    pick(r, clusterset.Unknown, clusterset.Up, clusterset.Down),
		ControlPlane: pick(r, clusterset.Unknown, clusterset.Up, clusterset.Down),
		LastKnown:    pick(r, time.Time{}, time.Unix(r.Int64N(1e9), r.Int64N(1e9))),
	}
	for range r.IntN(3) {
		c.Gateways = append(c.Gateways, clusterset.Gateway{
			Addr: r.addr(0), Port: pick[uint16](r, 15443, 0), Tunnel: pick[uint16](r, 15445, 0), Inside: pick(r, netip.Addr{}, r.addr(8)),
			Node: pick(r, "", "n1"), Health: pick(r, clusterset.Unknown, clusterset.Up, clusterset.Down),
		})
	}
	return c
}

func (r random) addr(net byte) netip.Addr {
	if r.IntN(5) == 0 {
		return netip.AddrFrom16([16]byte{0xfd, net, 15: byte(r.IntN(6) + 1)})
	}
	return netip.AddrFrom4([4]byte{10, net, 0, byte(r.IntN(6) + 1)})
}

func (r random) export() clusterset.Export {
	e := clusterset.Export{Created: pick(r, time.Time{}, time.Unix(r.Int64N(5), 0), time.Unix(-r.Int64N(5), 999_999_999))}
	if r.IntN(8) == 0 {
		return e
	}
	e.Properties = &clusterset.Properties{
		Type:                  pick(r, "", corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName),
		Headless:              r.IntN(5) == 0,
		SessionAffinity:       pick(r, "", corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP),
		AffinityTimeout:       pick(r, int32(0), 60),
		InternalTrafficPolicy: pick(r, "", corev1.ServiceInternalTrafficPolicyLocal),
		TrafficDistribution:   pick(r, "", "PreferClose"),
		IPFamilies:            pick(r, nil, []corev1.IPFamily{corev1.IPv4Protocol}, []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}),
		Labels:                pick(r, nil, map[string]string{"a": "1", "b": ""}), Annotations: pick(r, nil, map[string]string{"ä": "…"}),
	}
	for i, name := range []string{"http", "grpc", "dns"} {
		if r.IntN(2) == 0 {
			e.Properties.Ports = append(e.Properties.Ports, clusterset.Port{
				Name: name, Port: int32(80 + i), Protocol: pick(r, "", corev1.ProtocolTCP, corev1.ProtocolUDP),
				AppProtocol: pick(r, "", "kubernetes.io/h2c"),
			})
		}
	}
	return e
}

func (r random) endpoints() clusterset.Endpoints {
	var e clusterset.Endpoints
	for range r.IntN(3) {
		group := clusterset.Group{}
		for i, name := range []string{"http", "grpc", "dns", ""} {
			if r.IntN(4) > 0 {
				group.Ports = append(group.Ports, clusterset.TargetPort{
					Name: clusterset.Intern(name), Port: uint16(8080 + i), Protocol: pick(r, "", corev1.ProtocolTCP, corev1.ProtocolUDP),
				})
			}
		}
		for range r.IntN(5) {
			group.Endpoints = append(group.Endpoints, clusterset.Endpoint{
				Addr: r.addr(1), Node: clusterset.Intern(pick(r, "", "node-1")), Zone: clusterset.Intern(pick(r, "", "a", "b")),
				Hostname: clusterset.Intern(pick(r, "", "db-0")), Conditions: clusterset.Conditions(r.IntN(8)),
			})
		}
		e.Groups = append(e.Groups, group)
	}
	return e
}

func (r random) policy() clusterset.Policy {
	p := clusterset.Policy{MinHealthyPercent: pick(r, uint32(0), 50, 100), TTL: pick(r, uint32(0), 30)}
	if r.IntN(2) == 0 {
		p.Consumers = pick(r, &clusterset.Consumers{}, &clusterset.Consumers{Clusters: []string{r.clusterID(), r.clusterID()}})
	}
	if r.IntN(2) == 0 {
		p.Path, p.FirstFlight = pick(r, clusterset.ByGateway, clusterset.Direct), r.IntN(2) == 0
		p.Passthrough = &clusterset.Passthrough{Sources: []netip.Prefix{{}, netip.MustParsePrefix("10.0.0.0/8")}[:r.IntN(3)], ProxyProtocol: r.IntN(2) == 0}
	}
	if r.IntN(3) == 0 {
		p.Weights = []clusterset.ClusterWeight{{Cluster: r.clusterID(), Weight: pick(r, uint32(0), 1, 100)}}
	}
	if r.IntN(3) == 0 {
		p.Failover = []clusterset.Tier{
			{By: clusterset.ByCluster, Names: pick(r, nil, []string{r.clusterID()})}, {By: clusterset.ByZone}, {By: clusterset.Any},
		}
	}
	return p
}

func (r random) consumer() clusterset.Consumer {
	return clusterset.Consumer{Cluster: pick(r, "m1", "m2", "m3", "m4", ""), Zone: pick(r, "", "a", "b"), Region: pick(r, "", "eu", "us"), Gateway: r.IntN(3) == 0}
}
