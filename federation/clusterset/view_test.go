package clusterset_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// world is a builder with a vocabulary for tests: the service web in the clusters m1 (eu, zones a and b), m2 (eu) and m3 (us),
// m1 and m2 in one network and m3 in another behind a gateway. Each has the endpoints that a row gives it.
type world struct {
	*clusterset.Builder
	clusters map[string]clusterset.Cluster
}

func newWorld() *world {
	w := &world{Builder: clusterset.NewBuilder(0), clusters: map[string]clusterset.Cluster{}}
	w.set(clusterset.Cluster{ID: "m1", Network: "flat", Region: "eu"})
	w.set(clusterset.Cluster{ID: "m2", Network: "flat", Region: "eu", Zone: "b"})
	w.set(clusterset.Cluster{ID: "m3", Network: "far", Region: "us", Gateways: gateways("192.0.2.3")})
	for i, id := range []string{"m1", "m2", "m3"} {
		w.SetExport(id, web, export(i))
	}
	return w
}

func (w *world) set(c clusterset.Cluster) {
	w.clusters[c.ID] = c
	w.SetCluster(c)
}

func (w *world) change(id string, f func(*clusterset.Cluster)) {
	c := w.clusters[id]
	f(&c)
	w.set(c)
}

// serve gives a cluster endpoints at port 8080, each written as address[@zone][!condition], where the condition is one of
// notready, terminating.
func (w *world) serve(cluster string, endpoints ...string) {
	w.SetEndpoints(cluster, web, slices8080(endpoints...))
}

func slices8080(endpoints ...string) clusterset.Endpoints {
	group := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: 8080}}}
	for _, text := range endpoints {
		text, condition, _ := strings.Cut(text, "!")
		addr, zone, _ := strings.Cut(text, "@")
		e := clusterset.Endpoint{Addr: netip.MustParseAddr(addr), Zone: clusterset.Intern(zone), Conditions: clusterset.Ready | clusterset.Serving}
		switch condition {
		case "notready":
			e.Conditions = 0
		case "terminating":
			e.Conditions = clusterset.Serving | clusterset.Terminating
		}
		group.Endpoints = append(group.Endpoints, e)
	}
	return clusterset.Endpoints{Groups: []clusterset.Group{group}}
}

func gateways(addrs ...string) []clusterset.Gateway {
	var all []clusterset.Gateway
	for _, addr := range addrs {
		all = append(all, clusterset.Gateway{Addr: netip.MustParseAddr(addr), Port: 15443})
	}
	return all
}

// tunnels are gateways that take both tunnels and TLS of clients.
func tunnels(addrs ...string) []clusterset.Gateway {
	all := gateways(addrs...)
	for i := range all {
		all[i].Tunnel = 15445
	}
	return all
}

// outbound gives m1 gateways of its own with a port for the service, and m3 one with tunnels.
func (w *world) outbound(insides ...string) {
	w.change("m1", func(c *clusterset.Cluster) {
		for _, inside := range insides {
			c.Gateways = append(c.Gateways, clusterset.Gateway{Inside: netip.MustParseAddr(inside)})
		}
	})
	w.change("m3", func(c *clusterset.Cluster) { c.Gateways = tunnels("192.0.2.3") })
	w.SetImport("m1", web, clusterset.Import{GatewayPorts: []clusterset.GatewayPort{{Name: "http", Port: 20000}}})
}

// render writes an assignment as a line per locality: priority cluster/zone xWEIGHT targets, with weights other than 1.
func render(a clusterset.Assignment) string {
	var lines []string
	for i, priority := range a.Priorities {
		for _, l := range priority.Localities {
			words := []string{strconv.Itoa(i), l.Cluster + "/" + l.Zone, fmt.Sprintf("x%d", l.Weight)}
			if l.Gateway {
				words = append(words, "gateway")
			}
			if l.Outbound {
				words = append(words, "outbound")
			}
			for _, target := range l.Targets {
				word := target.Addr.String()
				if target.Weight != 1 {
					word += fmt.Sprintf("*%d", target.Weight)
				}
				words = append(words, word)
			}
			lines = append(lines, strings.Join(words, " "))
		}
	}
	return strings.Join(lines, "\n")
}

// explained writes the verdicts of endpoints that are not used.
func explained(e clusterset.Explanation) string {
	var lines []string
	for _, v := range e.Endpoints {
		if v.Reason != clusterset.Used {
			lines = append(lines, fmt.Sprintf("%s %s %s", v.Cluster, v.Endpoint.Addr, v.Reason))
		}
	}
	return strings.Join(lines, "\n")
}

func lines(all ...string) string { return strings.Join(all, "\n") }

func TestView(t *testing.T) {
	m1a := clusterset.Consumer{Cluster: "m1", Zone: "a"}
	m3 := clusterset.Consumer{Cluster: "m3"}
	everywhere := func(w *world) {
		w.serve("m1", "10.1.0.1@a", "10.1.0.2@b")
		w.serve("m2", "10.2.0.1@b", "10.2.0.2@a")
		w.serve("m3", "10.3.0.1", "10.3.0.2", "10.3.0.3!notready")
	}
	all := lines("0 m1/a x1 10.1.0.1:8080", "0 m2/a x1 10.2.0.2:8080", "1 m1/b x1 10.1.0.2:8080", "1 m2/b x1 10.2.0.1:8080", "2 m3/ x2 gateway 192.0.2.3:15443*2")
	tests := map[string]struct {
		reason string
		world  func(*world)
		from   clusterset.Consumer
		want   string
		unused string
	}{
		"default order": {
			reason: "the same zone of any cluster, then the region, then the rest; another network is its gateway, weighing its ready pods",
			world:  everywhere, from: m1a, want: all, unused: "m3 10.3.0.3 NotReady",
		},
		"no zone": {
			reason: "a consumer without a zone starts with its region",
			world:  everywhere, from: clusterset.Consumer{Cluster: "m1"},
			want:   lines("0 m1/a x1 10.1.0.1:8080", "0 m1/b x1 10.1.0.2:8080", "0 m2/a x1 10.2.0.2:8080", "0 m2/b x1 10.2.0.1:8080", "1 m3/ x2 gateway 192.0.2.3:15443*2"),
			unused: "m3 10.3.0.3 NotReady",
		},
		"other side": {
			reason: "m1 and m2 have no gateway, so m3 has only itself; its own pods are direct",
			world:  everywhere, from: m3, want: "0 m3/ x2 10.3.0.1:8080 10.3.0.2:8080",
			unused: lines("m1 10.1.0.1 NoGateway", "m1 10.1.0.2 NoGateway", "m2 10.2.0.1 NoGateway", "m2 10.2.0.2 NoGateway", "m3 10.3.0.3 NotReady"),
		},
		"unknown consumer": {
			reason: "nothing is known of it: it has a network of its own, and its gateways are the way in",
			world:  everywhere, from: clusterset.Consumer{Cluster: "new"}, want: "0 m3/ x2 gateway 192.0.2.3:15443*2",
			unused: lines("m1 10.1.0.1 NoGateway", "m1 10.1.0.2 NoGateway", "m2 10.2.0.1 NoGateway", "m2 10.2.0.2 NoGateway", "m3 10.3.0.3 NotReady"),
		},
		"unknown region": {
			reason: "one's own cluster is in one's region, even when nobody said which; two unknown regions are not the same",
			world: func(w *world) {
				w.change("m1", func(c *clusterset.Cluster) { c.Region = "" })
				w.change("m2", func(c *clusterset.Cluster) { c.Region = "" })
				everywhere(w)
			},
			from: clusterset.Consumer{Cluster: "m1", Zone: "b"},
			want: lines("0 m1/b x1 10.1.0.2:8080", "1 m1/a x1 10.1.0.1:8080", "2 m2/a x1 10.2.0.2:8080", "2 m2/b x1 10.2.0.1:8080", "2 m3/ x2 gateway 192.0.2.3:15443*2"), unused: "m3 10.3.0.3 NotReady",
		},
		"cluster's zone": {
			reason: "an endpoint without a zone is in the zone of its cluster",
			world:  func(w *world) { w.serve("m1", "10.1.0.1"); w.serve("m2", "10.2.0.1") },
			from:   clusterset.Consumer{Cluster: "m1", Zone: "b"}, want: lines("0 m2/b x1 10.2.0.1:8080", "1 m1/ x1 10.1.0.1:8080"),
		},
		"empty priorities": {
			reason: "priorities stay contiguous when a tier has nothing ready; a pod that is going is no pod",
			world:  func(w *world) { w.serve("m1", "10.1.0.1@a!terminating"); w.serve("m3", "10.3.0.1") },
			from:   m1a, want: "0 m3/ x1 gateway 192.0.2.3:15443", unused: "m1 10.1.0.1 Terminating",
		},
		"nothing ready": {
			reason: "no endpoint is better than one that is known not to work",
			world:  func(w *world) { w.serve("m1", "10.1.0.1!notready") }, from: m1a, unused: "m1 10.1.0.1 NotReady",
		},
		"control plane down": {
			reason: "who cannot be asked keeps what was known",
			world: func(w *world) {
				everywhere(w)
				for _, id := range []string{"m1", "m2", "m3"} {
					w.change(id, func(c *clusterset.Cluster) { c.ControlPlane, c.LastKnown = clusterset.Down, epoch })
				}
			},
			from: m1a, want: all, unused: "m3 10.3.0.3 NotReady",
		},
		"data plane down": {
			reason: "traffic does not arrive there: the endpoints go, at once",
			world: func(w *world) {
				everywhere(w)
				w.change("m2", func(c *clusterset.Cluster) { c.DataPlane = clusterset.Down })
				w.change("m3", func(c *clusterset.Cluster) { c.DataPlane = clusterset.Down })
			},
			from: m1a, want: lines("0 m1/a x1 10.1.0.1:8080", "1 m1/b x1 10.1.0.2:8080"),
			unused: lines("m2 10.2.0.1 DataPlaneDown", "m2 10.2.0.2 DataPlaneDown", "m3 10.3.0.1 DataPlaneDown", "m3 10.3.0.2 DataPlaneDown", "m3 10.3.0.3 NotReady"),
		},
		"own data plane down": {
			reason: "what does not arrive from outside may well arrive from inside",
			world: func(w *world) {
				w.serve("m1", "10.1.0.1@a")
				w.change("m1", func(c *clusterset.Cluster) { c.DataPlane = clusterset.Down })
			},
			from: m1a, want: "0 m1/a x1 10.1.0.1:8080",
		},
		"cordoned": {
			reason: "others stay away while somebody else serves",
			world: func(w *world) {
				everywhere(w)
				w.change("m2", func(c *clusterset.Cluster) { c.State = clusterset.Cordoned })
			},
			from: m1a, want: lines("0 m1/a x1 10.1.0.1:8080", "1 m1/b x1 10.1.0.2:8080", "2 m3/ x2 gateway 192.0.2.3:15443*2"),
			unused: lines("m2 10.2.0.1 ClusterCordoned", "m2 10.2.0.2 ClusterCordoned", "m3 10.3.0.3 NotReady"),
		},
		"cordoned, own": {
			reason: "its own consumers stay",
			world: func(w *world) {
				w.serve("m1", "10.1.0.1@a")
				w.change("m1", func(c *clusterset.Cluster) { c.State = clusterset.Cordoned })
			},
			from: m1a, want: "0 m1/a x1 10.1.0.1:8080",
		},
		"draining": {
			reason: "everybody leaves, the own consumers too",
			world: func(w *world) {
				w.serve("m1", "10.1.0.1@a")
				w.serve("m3", "10.3.0.1")
				w.change("m1", func(c *clusterset.Cluster) { c.State = clusterset.Draining })
			},
			from: m1a, want: "0 m3/ x1 gateway 192.0.2.3:15443", unused: "m1 10.1.0.1 ClusterDraining",
		},
		"last resort": {
			reason: "a cordoned cluster is better than a draining one, and either better than an outage",
			world: func(w *world) {
				w.serve("m2", "10.2.0.1")
				w.serve("m3", "10.3.0.1")
				w.change("m2", func(c *clusterset.Cluster) { c.State = clusterset.Draining })
				w.change("m3", func(c *clusterset.Cluster) { c.State = clusterset.Cordoned })
			},
			from: m1a, want: "0 m3/ x1 gateway 192.0.2.3:15443", unused: "m2 10.2.0.1 ClusterDraining",
		},
		"last resort, draining": {
			reason: "a drain does not take a service down",
			world: func(w *world) {
				w.serve("m2", "10.2.0.1")
				w.change("m2", func(c *clusterset.Cluster) { c.State = clusterset.Draining })
			},
			from: m1a, want: "0 m2/b x1 10.2.0.1:8080",
		},
		"several gateways": {
			reason: "the ready pods are divided over the gateways, and no weight is 0; one that is down is out",
			world: func(w *world) {
				w.change("m3", func(c *clusterset.Cluster) {
					c.Gateways = gateways("192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.3")
					c.Gateways[2].Health = clusterset.Down
				})
				w.serve("m3", "10.3.0.1", "10.3.0.2", "10.3.0.3")
			},
			from: m1a, want: "0 m3/ x3 gateway 192.0.2.3:15443*2 192.0.2.4:15443",
		},
		"more gateways than pods": {
			reason: "every weight is at least 1; that of the locality is the truth",
			world: func(w *world) {
				w.change("m3", func(c *clusterset.Cluster) { c.Gateways = gateways("192.0.2.3", "192.0.2.4") })
				w.serve("m3", "10.3.0.1")
			},
			from: m1a, want: "0 m3/ x1 gateway 192.0.2.3:15443 192.0.2.4:15443",
		},
		"gateways down": {
			reason: "without a gateway that works there is no way in",
			world: func(w *world) {
				w.change("m3", func(c *clusterset.Cluster) { c.Gateways[0].Health = clusterset.Down })
				w.serve("m3", "10.3.0.1")
			},
			from: m1a, unused: "m3 10.3.0.1 GatewaysDown",
		},
		"shared gateway": {
			reason: "an address is listed once, and carries the weight of all behind it in its priority",
			world: func(w *world) {
				w.set(clusterset.Cluster{ID: "m4", Network: "far", Region: "us", Gateways: gateways("192.0.2.3")})
				w.SetExport("m4", web, export(4))
				w.serve("m3", "10.3.0.1")
				w.serve("m4", "10.4.0.1", "10.4.0.2")
			},
			from: m1a, want: "0 m3/ x3 gateway 192.0.2.3:15443*3",
		},
		"shared gateway, two priorities": {
			reason: "an address is listed once, in the first priority",
			world: func(w *world) {
				w.set(clusterset.Cluster{ID: "m4", Network: "far", Region: "eu", Gateways: gateways("192.0.2.3")})
				w.SetExport("m4", web, export(4))
				w.serve("m3", "10.3.0.1")
				w.serve("m4", "10.4.0.1", "10.4.0.2")
			},
			from: m1a, want: "0 m4/ x2 gateway 192.0.2.3:15443*2",
		},
		"own gateway": {
			reason: "one's own gateway carries what is on other networks, once, for all the clusters of the priority",
			world: func(w *world) {
				w.outbound("10.1.9.1", "10.1.9.2")
				w.set(clusterset.Cluster{ID: "m4", Network: "farther", Region: "us", Gateways: tunnels("192.0.2.4")})
				w.SetExport("m4", web, export(4))
				w.serve("m1", "10.1.0.1@a")
				w.serve("m3", "10.3.0.1")
				w.serve("m4", "10.4.0.1", "10.4.0.2")
			},
			from: m1a, want: lines("0 m1/a x1 10.1.0.1:8080", "1 m3/ x3 outbound 10.1.9.1:20000*2 10.1.9.2:20000*2"),
		},
		"own gateway, two priorities": {
			reason: "it is listed where the first of the clusters is, since it goes on to the next by itself",
			world: func(w *world) {
				w.outbound("10.1.9.1")
				w.set(clusterset.Cluster{ID: "m4", Network: "farther", Region: "eu", Gateways: tunnels("192.0.2.4")})
				w.SetExport("m4", web, export(4))
				w.serve("m2", "10.2.0.1")
				w.serve("m3", "10.3.0.1")
				w.serve("m4", "10.4.0.1", "10.4.0.2")
			},
			from: m1a, want: lines("0 m2/b x1 10.2.0.1:8080", "0 m4/ x2 outbound 10.1.9.1:20000*2"),
		},
		"own gateway down": {
			reason: "of several gateways, those that others see are better",
			world: func(w *world) {
				w.outbound("10.1.9.1", "10.1.9.2")
				w.change("m1", func(c *clusterset.Cluster) { c.Gateways[0].Health = clusterset.Down })
				w.serve("m3", "10.3.0.1")
			},
			from: m1a, want: "0 m3/ x1 outbound 10.1.9.2:20000",
		},
		"own gateways down": {
			reason: "that others see none says nothing about inside",
			world: func(w *world) {
				w.outbound("10.1.9.1", "10.1.9.2")
				w.change("m1", func(c *clusterset.Cluster) {
					c.Gateways[0].Health, c.Gateways[1].Health = clusterset.Down, clusterset.Down
				})
				w.serve("m3", "10.3.0.1", "10.3.0.2")
			},
			from: m1a, want: "0 m3/ x2 outbound 10.1.9.1:20000 10.1.9.2:20000",
		},
		"no own gateway": {
			reason: "without a gateway beside it, a client needs TLS, and that is for services that are opened",
			world: func(w *world) {
				w.outbound()
				w.serve("m3", "10.3.0.1")
			},
			from: m1a, unused: "m3 10.3.0.1 NotOpened",
		},
		"own gateway without a port": {
			reason: "it takes only what it has a port for; a service that is opened is reached by TLS",
			world: func(w *world) {
				w.outbound("10.1.9.1")
				w.SetImport("m1", web, clusterset.Import{GatewayPorts: []clusterset.GatewayPort{{Name: "http", Protocol: "UDP", Port: 20000}}})
				w.SetPolicy(web, clusterset.Policy{Passthrough: &clusterset.Passthrough{}})
				w.serve("m3", "10.3.0.1")
			},
			from: m1a, want: "0 m3/ x1 gateway 192.0.2.3:15443",
		},
		"own gateway, no tunnels there": {
			reason: "a gateway that people declared takes TLS of clients and no tunnels",
			world: func(w *world) {
				w.outbound("10.1.9.1")
				w.change("m3", func(c *clusterset.Cluster) { c.Gateways = gateways("192.0.2.3") })
				w.serve("m3", "10.3.0.1")
			},
			from: m1a, want: "0 m3/ x1 gateway 192.0.2.3:15443",
		},
		"own gateway, tunnels down": {
			reason: "what would be carried by tunnels is not carried while they are down",
			world: func(w *world) {
				w.outbound("10.1.9.1")
				w.change("m3", func(c *clusterset.Cluster) { c.Gateways[0].Health = clusterset.Down })
				w.serve("m3", "10.3.0.1")
			},
			from: m1a, unused: "m3 10.3.0.1 GatewaysDown",
		},
		"a gateway asks": {
			reason: "it uses the tunnels of others, never its own listeners",
			world: func(w *world) {
				w.outbound("10.1.9.1")
				w.serve("m1", "10.1.0.1@a")
				w.serve("m3", "10.3.0.1")
			},
			from: clusterset.Consumer{Cluster: "m1", Zone: "a", Gateway: true}, want: lines("0 m1/a x1 10.1.0.1:8080", "1 m3/ x1 gateway 192.0.2.3:15445"),
		},
		"a gateway asks, no tunnels there": {
			reason: "a gateway has nothing but tunnels",
			world: func(w *world) {
				w.change("m3", func(c *clusterset.Cluster) { c.Gateways = gateways("192.0.2.3") })
				w.serve("m3", "10.3.0.1")
			},
			from: clusterset.Consumer{Cluster: "m1", Gateway: true}, unused: "m3 10.3.0.1 NoGateway",
		},
		"gateways that overlap": {
			reason: "each address is listed once, and each cluster's pods are reached by what is listed for it",
			world: func(w *world) {
				w.change("m3", func(c *clusterset.Cluster) { c.Gateways = gateways("192.0.2.3", "192.0.2.4") })
				w.set(clusterset.Cluster{ID: "m4", Network: "far", Region: "us", Gateways: gateways("192.0.2.3", "192.0.2.5")})
				w.SetExport("m4", web, export(4))
				w.serve("m3", "10.3.0.1")
				w.serve("m4", "10.4.0.1")
			},
			from: m1a, want: lines("0 m3/ x1 gateway 192.0.2.3:15443 192.0.2.4:15443", "0 m4/ x1 gateway 192.0.2.5:15443"),
		},
		"same address in two clusters": {
			reason: "the consumer's own pod keeps it, since that is where the packets go",
			world:  func(w *world) { w.serve("m1", "10.0.0.1@a"); w.serve("m2", "10.0.0.1@b", "10.0.0.2@b") },
			from:   clusterset.Consumer{Cluster: "m2", Zone: "a"}, want: "0 m2/b x2 10.0.0.1:8080 10.0.0.2:8080", unused: "m1 10.0.0.1 DuplicateAddress",
		},
		"same pod in two slices": {
			reason: "a pod counts once, in the better of its states",
			world:  func(w *world) { w.serve("m1", "10.1.0.1@a!notready", "10.1.0.1@a") }, from: m1a, want: "0 m1/a x1 10.1.0.1:8080",
		},
		"dual stack": {
			reason: "a pod with two addresses counts once, by the service's first family",
			world:  func(w *world) { w.serve("m1", "10.1.0.1@a", "fd00::1@a") }, from: m1a, want: "0 m1/a x1 10.1.0.1:8080", unused: "m1 fd00::1 OtherFamily",
		},
		"other family": {
			reason: "a cluster that has only the other family is used by it",
			world:  func(w *world) { w.serve("m1", "fd00::1@a") }, from: m1a, want: "0 m1/a x1 [fd00::1]:8080",
		},
		"no such port there": {
			reason: "traffic to a port goes to clusters that expose it",
			world: func(w *world) {
				everywhere(w)
				w.SetExport("m2", web, export(1, ports(https)))
				w.SetExport("m3", web, export(1, externalName))
			},
			from: m1a, want: lines("0 m1/a x1 10.1.0.1:8080", "1 m1/b x1 10.1.0.2:8080"),
			unused: lines("m2 10.2.0.1 PortNotExposed", "m2 10.2.0.2 PortNotExposed", "m3 10.3.0.1 NotExported", "m3 10.3.0.2 NotExported", "m3 10.3.0.3 NotExported"),
		},
		"another name for the port": {
			reason: "protocol and number are the port; the cluster's own name finds the target",
			world: func(w *world) {
				w.SetExport("m2", web, export(1, ports(port{Name: "web", Port: 80})))
				endpoints := slices8080("10.2.0.1@b")
				endpoints.Groups[0].Ports[0] = clusterset.TargetPort{Name: clusterset.Intern("web"), Port: 9090}
				w.SetEndpoints("m2", web, endpoints)
				w.serve("m1", "10.1.0.1@a")
			},
			from: m1a, want: lines("0 m1/a x1 10.1.0.1:8080", "1 m2/b x1 10.2.0.1:9090"),
		},
		"no target port": {
			reason: "a slice that does not name the port has no way to take its traffic",
			world: func(w *world) {
				endpoints := slices8080("10.1.0.1@a")
				endpoints.Groups[0].Ports[0].Name = clusterset.Intern("other")
				w.SetEndpoints("m1", web, endpoints)
			},
			from: m1a, unused: "m1 10.1.0.1 NoTargetPort",
		},
		"order by cluster": {
			reason: "the policy's order replaces the default; what it does not cover is not used",
			world: func(w *world) {
				everywhere(w)
				w.SetPolicy(web, clusterset.Policy{Failover: []clusterset.Tier{{By: clusterset.ByCluster, Names: []string{"m3"}}, {By: clusterset.ByCluster}}})
			},
			from: m1a, want: lines("0 m3/ x2 gateway 192.0.2.3:15443*2", "1 m1/a x1 10.1.0.1:8080", "1 m1/b x1 10.1.0.2:8080"),
			unused: lines("m2 10.2.0.1 NotInOrder", "m2 10.2.0.2 NotInOrder", "m3 10.3.0.3 NotReady"),
		},
		"order by region and zone": {
			reason: "tiers may mix regions, zones and clusters",
			world: func(w *world) {
				everywhere(w)
				w.SetPolicy(web, clusterset.Policy{Failover: []clusterset.Tier{{By: clusterset.ByRegion, Names: []string{"us"}}, {By: clusterset.ByZone, Names: []string{"b"}}, {By: clusterset.Any}, {By: "Nonsense"}}})
			},
			from: m1a, want: lines("0 m3/ x2 gateway 192.0.2.3:15443*2", "1 m1/b x1 10.1.0.2:8080", "1 m2/b x1 10.2.0.1:8080", "2 m1/a x1 10.1.0.1:8080", "2 m2/a x1 10.2.0.2:8080"),
			unused: "m3 10.3.0.3 NotReady",
		},
		"weights": {
			reason: "weights divide a priority between clusters, whatever their size; zones divide a cluster's; 0 is nothing",
			world: func(w *world) {
				w.serve("m1", "10.1.0.1@a", "10.1.0.2@b", "10.1.0.3@b", "10.1.0.4@b")
				w.serve("m2", "10.2.0.1@b")
				w.serve("m3", "10.3.0.1")
				w.SetPolicy(web, clusterset.Policy{Weights: []clusterset.ClusterWeight{{"m1", 90}, {"m2", 10}, {"m3", 0}}})
			},
			from: clusterset.Consumer{Cluster: "m1"}, want: lines("0 m1/a x22500 10.1.0.1:8080", "0 m1/b x67500 10.1.0.2:8080 10.1.0.3:8080 10.1.0.4:8080", "0 m2/b x10000 10.2.0.1:8080"),
			unused: "m3 10.3.0.1 ZeroWeight",
		},
		"healthy enough": {
			reason: "half of the zone is ready and half is enough: it carries the traffic alone",
			world: func(w *world) {
				w.serve("m1", "10.1.0.1@a", "10.1.0.2@a!notready", "10.1.0.3@b")
				w.SetPolicy(web, clusterset.Policy{MinHealthyPercent: 50})
			},
			from: m1a, want: lines("0 m1/a x1 10.1.0.1:8080", "1 m1/b x1 10.1.0.3:8080"), unused: "m1 10.1.0.2 NotReady",
		},
		"spill-over": {
			reason: "below the minimum the next tier shares the priority, each ready endpoint counting the same",
			world: func(w *world) {
				everywhere(w)
				w.serve("m1", "10.1.0.1@a", "10.1.0.2@a!notready", "10.1.0.3@a!terminating", "10.1.0.4@b")
				w.serve("m2", "10.2.0.1@b")
				w.SetPolicy(web, clusterset.Policy{MinHealthyPercent: 51})
			},
			from: m1a, want: lines("0 m1/a x1 10.1.0.1:8080", "0 m1/b x1 10.1.0.4:8080", "0 m2/b x1 10.2.0.1:8080", "1 m3/ x2 gateway 192.0.2.3:15443*2"),
			unused: lines("m1 10.1.0.2 NotReady", "m1 10.1.0.3 Terminating", "m3 10.3.0.3 NotReady"),
		},
		"spill-over by a lost cluster": {
			reason: "a cluster that is down or drained is capacity lost, too",
			world: func(w *world) {
				w.serve("m1", "10.1.0.1@b")
				w.serve("m2", "10.2.0.1", "10.2.0.2")
				w.serve("m3", "10.3.0.1")
				w.change("m2", func(c *clusterset.Cluster) { c.DataPlane = clusterset.Down })
				w.SetPolicy(web, clusterset.Policy{MinHealthyPercent: 50})
			},
			from: m1a, want: lines("0 m1/b x1 10.1.0.1:8080", "0 m3/ x1 gateway 192.0.2.3:15443"), unused: lines("m2 10.2.0.1 DataPlaneDown", "m2 10.2.0.2 DataPlaneDown"),
		},
		"spill-over, same address": {
			reason: "an address that is listed already is not missing",
			world: func(w *world) {
				w.serve("m1", "10.0.0.1@a", "10.1.0.2@b")
				w.serve("m2", "10.0.0.1@a")
				w.SetPolicy(web, clusterset.Policy{MinHealthyPercent: 100})
			},
			from: m1a, want: lines("0 m1/a x1 10.0.0.1:8080", "1 m1/b x1 10.1.0.2:8080"), unused: "m2 10.0.0.1 DuplicateAddress",
		},
		"not allowed": {
			reason: "a cluster that is not among the consumers sees nothing, not even its own",
			world: func(w *world) {
				w.serve("m1", "10.1.0.1")
				w.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"m2"}}})
			},
			from: m1a, unused: "m1 10.1.0.1 NotAllowed",
		},
		"allowed": {
			reason: "a cluster that is among the consumers sees everything",
			world: func(w *world) {
				w.serve("m1", "10.1.0.1")
				w.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"m2", "m1"}}})
			},
			from: m1a, want: "0 m1/ x1 10.1.0.1:8080",
		},
		"endpoints without an export": {
			reason: "what is not exported is nobody else's business",
			world:  func(w *world) { w.serve("m1", "10.1.0.1"); w.RemoveExport("m1", web) }, from: m1a,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			tt.world(w)
			snapshot := w.Publish()
			i, found := snapshot.Service(web).Port("http")
			var assignment clusterset.Assignment
			if view := snapshot.View(web, tt.from); found && view.Reason == clusterset.Used {
				assignment = view.Ports[i]
			}
			if diff := cmp.Diff(tt.want, render(assignment)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
			explanation := snapshot.Explain(web, tt.from, "http", epoch)
			if diff := cmp.Diff(tt.unused, explained(explanation)); diff != "" {
				t.Errorf("%s: endpoints that are not used (-want +got):\n%s", tt.reason, diff)
			}
			for _, verdict := range explanation.Endpoints {
				if verdict.Reason.Explain() == string(verdict.Reason) {
					t.Errorf("nothing explains %q", verdict.Reason)
				}
			}
		})
	}
}

func TestViewReasons(t *testing.T) {
	w := newWorld()
	w.SetExport("m1", clusterset.Key{Namespace: "shop", Name: "broken"}, export(0, externalName))
	w.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{}})
	snapshot := w.Publish()
	for name, want := range map[string]clusterset.Reason{"web": clusterset.NotAllowed, "broken": clusterset.NotExported, "none": clusterset.NoSuchService} {
		key := clusterset.Key{Namespace: "shop", Name: name}
		if got := snapshot.View(key, clusterset.Consumer{Cluster: "m1"}).Reason; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if got := snapshot.Explain(key, clusterset.Consumer{Cluster: "m1"}, "http", epoch).Reason; got != want {
			t.Errorf("%s: explained as %q, want %q", name, got, want)
		}
	}
}

// TestHosts covers the assignment without ports, which DNS answers from.
func TestHosts(t *testing.T) {
	w := newWorld()
	w.SetExport("m1", web, export(0, headless, ports()))
	w.serve("m1", "10.1.0.1@a", "fd00::1@a", "10.1.0.2@a!notready")
	w.serve("m3", "10.3.0.1")
	got := render(w.Publish().ViewHosts(web, clusterset.Consumer{Cluster: "m1", Zone: "a"}))
	want := lines("0 m1/a x2 10.1.0.1:0 [fd00::1]:0", "1 m3/ x1 gateway 192.0.2.3:15443")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a service without ports has hosts, of both families (-want +got):\n%s", diff)
	}
}

func TestExplainTellsUsedEndpoints(t *testing.T) {
	w := newWorld()
	w.serve("m1", "10.1.0.1@a")
	w.serve("m3", "10.3.0.1", "10.3.0.2")
	w.change("m3", func(c *clusterset.Cluster) { c.ControlPlane, c.LastKnown = clusterset.Down, epoch })
	explanation := w.Publish().Explain(web, clusterset.Consumer{Cluster: "m1", Zone: "a"}, "http", epoch.Add(time.Hour))

	var got []string
	for _, v := range explanation.Endpoints {
		got = append(got, fmt.Sprint(v.Endpoint.Addr, " ", v.Priority, " x", v.Weight, " by ", v.Targets[0].Addr))
	}
	want := []string{"10.1.0.1 0 x1 by 10.1.0.1:8080", "10.3.0.1 1 x2 by 192.0.2.3:15443", "10.3.0.2 1 x2 by 192.0.2.3:15443"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	facts := []clusterset.SourceFacts{
		{Cluster: "m1", Direct: true},
		{Cluster: "m2", Direct: true, Unread: true},
		{Cluster: "m3", ControlPlane: clusterset.Down, Age: time.Hour},
	}
	if diff := cmp.Diff(facts, explanation.Clusters); diff != "" {
		t.Errorf("what is stale is kept, with its age (-want +got):\n%s", diff)
	}
}

// TestViewFromOutside: who is in no cluster reaches gateways only, those of its region first if that is known.
func TestViewFromOutside(t *testing.T) {
	w := newWorld()
	w.change("m1", func(c *clusterset.Cluster) { c.Gateways = gateways("192.0.2.1") })
	w.serve("m1", "10.1.0.1")
	w.serve("m3", "10.3.0.1")
	for _, row := range []struct {
		why  string
		from clusterset.Consumer
		want string
	}{
		{"nothing is known of it: no cluster is nearer", clusterset.Consumer{}, "0 m1/ x1 gateway 192.0.2.1:15443\n0 m3/ x1 gateway 192.0.2.3:15443"},
		{"its region comes first", clusterset.Consumer{Region: "us"}, "0 m3/ x1 gateway 192.0.2.3:15443\n1 m1/ x1 gateway 192.0.2.1:15443"},
		{"a cluster's own region is not overruled", clusterset.Consumer{Cluster: "m2", Region: "us"}, "0 m1/ x1 10.1.0.1:8080\n1 m3/ x1 gateway 192.0.2.3:15443"},
	} {
		if got := render(w.Publish().ViewPort(web, row.from, 0)); got != row.want {
			t.Errorf("%s: got\n%s\nwant\n%s", row.why, got, row.want)
		}
	}
}
