package xds_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// random changes tables at random, among few names so that things meet.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 1))} }

func pick[T any](r random, of ...T) T { return of[r.IntN(len(of))] }

func (r random) clusterID() string { return pick(r, "m1", "m2", "m3", "m4") }

func (r random) key() clusterset.Key {
	return clusterset.Key{Namespace: pick(r, "shop", "bank"), Name: pick(r, "web", "api", "db")}
}

// change makes one change of any kind.
func (r random) change(t *table) {
	switch r.IntN(12) {
	case 0:
		t.SetCluster(r.cluster())
	case 1, 2:
		t.SetExport(r.clusterID(), r.key(), r.export())
	case 3:
		t.RemoveExport(r.clusterID(), r.key())
	case 4:
		t.SetPolicy(r.key(), r.policy())
	case 5:
		t.RemovePolicy(r.key())
	case 6:
		t.SetImport(r.clusterID(), r.key(), clusterset.Import{ClusterIPs: []netip.Addr{r.addr(96)}})
	case 7:
		t.RemoveImport(r.clusterID(), r.key())
	case 8:
		t.RemoveEndpoints(r.clusterID(), r.key())
	default:
		t.SetEndpoints(r.clusterID(), r.key(), r.endpoints())
	}
}

func (r random) cluster() clusterset.Cluster {
	c := clusterset.Cluster{
		ID: r.clusterID(), Network: pick(r, "", "flat", "flat", "far"), Region: pick(r, "", "eu", "us"), Zone: pick(r, "", "a"),
		State:     pick(r, clusterset.Active, clusterset.Active, clusterset.Cordoned, clusterset.Draining),
		DataPlane: pick(r, clusterset.Unknown, clusterset.Up, clusterset.Down), ControlPlane: pick(r, clusterset.Up, clusterset.Down),
	}
	for range r.IntN(3) {
		c.Gateways = append(c.Gateways, clusterset.Gateway{
			Addr: r.addr(0), Port: 15443, Health: pick(r, clusterset.Unknown, clusterset.Down),
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
	e := clusterset.Export{Created: time.Unix(r.Int64N(5), 0)}
	if r.IntN(8) == 0 {
		return e
	}
	e.Properties = &clusterset.Properties{
		Headless:        r.IntN(5) == 0,
		SessionAffinity: pick(r, corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP),
		IPFamilies:      pick(r, nil, []corev1.IPFamily{corev1.IPv4Protocol}, []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}),
	}
	for i, name := range []string{"http", "grpc", "dns"} {
		if r.IntN(2) == 0 {
			e.Properties.Ports = append(e.Properties.Ports, clusterset.Port{
				Name: name, Port: int32(80 + i), Protocol: pick(r, "", corev1.ProtocolTCP, corev1.ProtocolUDP),
				AppProtocol: pick(r, "", "http", "kubernetes.io/h2c", "grpc", "mysql"),
			})
		}
	}
	return e
}

func (r random) endpoints() clusterset.Endpoints {
	var e clusterset.Endpoints
	for range r.IntN(3) {
		group := clusterset.Group{}
		for i, name := range []string{"http", "grpc", "dns"} {
			if r.IntN(4) > 0 {
				group.Ports = append(group.Ports, clusterset.TargetPort{
					Name: clusterset.Intern(name), Port: uint16(8080 + i), Protocol: pick(r, "", corev1.ProtocolTCP, corev1.ProtocolUDP),
				})
			}
		}
		for range r.IntN(5) {
			group.Endpoints = append(group.Endpoints, clusterset.Endpoint{
				Addr: r.addr(1), Zone: clusterset.Intern(pick(r, "", "a", "b")), Hostname: clusterset.Intern(pick(r, "", "db-0")),
				Conditions: pick(r, clusterset.Ready, clusterset.Ready|clusterset.Serving, clusterset.Serving, clusterset.Terminating, 0),
			})
		}
		e.Groups = append(e.Groups, group)
	}
	return e
}

func (r random) policy() clusterset.Policy {
	p := clusterset.Policy{MinHealthyPercent: pick(r, uint32(0), 50, 100)}
	if r.IntN(3) == 0 {
		p.Consumers = &clusterset.Consumers{Clusters: []string{"m1", r.clusterID()}}
	}
	if r.IntN(3) == 0 {
		p.Weights = []clusterset.ClusterWeight{{Cluster: r.clusterID(), Weight: pick(r, uint32(0), 1, 100)}}
	}
	if r.IntN(3) == 0 {
		p.Failover = []clusterset.Tier{{By: clusterset.ByCluster, Names: []string{r.clusterID()}}, {By: clusterset.Any}}
	}
	l7 := &servicepolicy.L7{
		LoadBalancer: pick(r, "", servicepolicy.RoundRobin, servicepolicy.LeastRequest, servicepolicy.RingHash, servicepolicy.Random),
		HashHeader:   pick(r, "", "User"), Timeout: pick(r, 0, time.Second, -time.Second),
		Idle: pick(r, 0, time.Minute), Connect: pick(r, 0, time.Second),
		Retries: r.retries(), Mirror: r.mirror(),
	}
	if r.IntN(2) == 0 {
		l7.Breaker = &servicepolicy.Breaker{MaxRequests: pick(r, uint32(0), 5), MaxRetries: 3}
		l7.Outliers = &servicepolicy.Outliers{Consecutive5xx: pick(r, uint32(0), 3), MaxPercent: pick(r, uint32(0), 50, 500), BaseEjection: pick(r, 0, time.Hour)}
		l7.Fault = &servicepolicy.Fault{
			DelayPercent: pick(r, 0, 33.3), Delay: time.Second, AbortPercent: pick(r, 0, 0.5, 1000),
			AbortHTTP: pick(r, uint32(0), 503), AbortGRPC: pick(r, uint32(0), 14),
		}
	}
	for range r.IntN(3) {
		l7.Routes = append(l7.Routes, r.route())
	}
	p.L7 = l7
	return p
}

func (r random) retries() *servicepolicy.Retries {
	return pick(r, nil, &servicepolicy.Retries{
		Attempts: pick(r, uint32(0), 2), On: pick(r, nil, []string{"5xx", "unavailable"}, []string{"retriable-4xx"}),
		PerTry: pick(r, 0, time.Second), Backoff: pick(r, 0, time.Second), MaxBackoff: pick(r, 0, time.Millisecond, time.Minute),
	})
}

func (r random) mirror() *servicepolicy.Mirror {
	return pick(r, nil, &servicepolicy.Mirror{Subset: r.subset(), Percent: pick(r, 0, 0.1, 100)})
}

func (r random) subset() servicepolicy.Subset {
	s := servicepolicy.Subset{Port: pick(r, int32(0), 0, 80, 81, 99)}
	if r.IntN(2) == 0 {
		s.Clusters = []string{r.clusterID(), r.clusterID()}
	}
	if r.IntN(3) == 0 {
		s.Namespace, s.Name = pick(r, "", "shop", "bank"), pick(r, "web", "api", "none")
	}
	return s
}

func (r random) route() servicepolicy.Route {
	route := servicepolicy.Route{Timeout: pick(r, 0, time.Minute), Retries: r.retries(), Mirror: r.mirror()}
	for range r.IntN(3) {
		route.Matches = append(route.Matches, servicepolicy.Match{
			Path:   pick(r, servicepolicy.StringMatch{}, servicepolicy.StringMatch{Prefix: "/a"}, servicepolicy.StringMatch{Exact: "/a/b"}, servicepolicy.StringMatch{Regex: pick(r, "/.*", "(")}),
			Method: pick(r, "", "GET", "POST"),
			Headers: pick(r, nil, []servicepolicy.HeaderMatch{{Name: "X", Value: servicepolicy.StringMatch{Exact: "1"}}},
				[]servicepolicy.HeaderMatch{{Name: pick(r, "X", "Y", ""), Value: servicepolicy.StringMatch{Regex: pick(r, "", "[0-9]+", "[")}}}),
		})
	}
	for range r.IntN(3) {
		route.Destinations = append(route.Destinations, servicepolicy.Destination{Subset: r.subset(), Weight: pick(r, uint32(0), 1, 99, 1<<32-1)})
	}
	return route
}

func describe(seed uint64, step int) string { return fmt.Sprintf("seed %d, step %d", seed, step) }
