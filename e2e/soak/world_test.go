package soak_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// patience is for how long anything may take.
const patience = 20 * time.Second

// The services: web is in two clusters and with every protocol, api is in all three and keeps a client at one pod.
var (
	web   = clusterset.Key{Namespace: "shop", Name: "web"}
	api   = clusterset.Key{Namespace: "shop", Name: "api"}
	ports = []clusterset.Port{{Name: "http", Port: 80}, {Name: "https", Port: 443}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}}
)

const webName = "web.shop.svc.clusterset.local"

// Where the services are at the gateways, as the table has it.
const (
	webPort   = 20000
	dnsPort   = 20001
	apiPort   = 20002
	churnPort = 20100
	passPort  = 15443
)

// churned is how many services come and go at once.
const churned = 20

// world is three clusters with their gateways.
type world struct {
	books   *books
	latest  *clusterset.Latest
	members []*member // m1 asks, and so does m2
	clients *clients

	mu          sync.Mutex
	builder     *clusterset.Builder
	revocations map[string]time.Time
	churns      int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{books: &books{did: map[kind]int{}, worst: map[kind]time.Duration{}}, builder: clusterset.NewBuilder(1), revocations: map[string]time.Time{}}
	w.latest = clusterset.NewLatest(w.builder.Publish())
	authority, err := identity.NewAuthority(domain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	server, client := ofPods(t, authority)
	w.clients = newClients(w, client)
	for _, id := range []string{"m1", "m2", "m3"} {
		m := &member{id: id, world: w, identity: newCertificate(t, authority, id), sockets: newKept(t), pods: map[clusterset.Key][]*pod{}}
		for _, key := range []clusterset.Key{web, api} {
			if id != "m1" || key == api {
				m.pods[key] = []*pod{newPod(t, w.books, server), newPod(t, w.books, server)}
			}
		}
		w.members = append(w.members, m)
		for range 2 {
			m.doors = append(m.doors, m.newDoor(t))
		}
	}
	w.table()
	for _, m := range w.members {
		w.open(t, m)
	}
	return w
}

// open starts the gateways of a member that have not been started yet.
func (w *world) open(t *testing.T, m *member) {
	t.Helper()
	var err error
	if m.pass, err = m.passthrough(); err != nil {
		t.Fatal(err)
	}
	if m.out, err = m.leave(drainTime); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, d := range m.doors {
			check(t, d.run.stop())
		}
		check(t, m.pass.stop())
		check(t, m.out.stop())
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// table fills the service table.
func (w *world) table() {
	w.mu.Lock()
	b := w.builder
	for i, m := range w.members {
		c := clusterset.Cluster{ID: m.id, Region: []string{"eu", "eu", "us"}[i]}
		for _, d := range m.doors {
			c.Gateways = append(c.Gateways, clusterset.Gateway{Addr: d.line.addr.Addr(), Tunnel: d.line.addr.Port()})
		}
		b.SetCluster(c)
		b.SetImport(m.id, web, clusterset.Import{GatewayPorts: []clusterset.GatewayPort{
			{Name: "http", Port: webPort}, {Name: "dns", Protocol: corev1.ProtocolUDP, Port: dnsPort},
		}})
		b.SetImport(m.id, api, clusterset.Import{GatewayPorts: []clusterset.GatewayPort{{Name: "http", Port: apiPort}}})
		for key := range m.pods {
			affinity := corev1.ServiceAffinityNone
			if key == api {
				affinity = corev1.ServiceAffinityClientIP
			}
			b.SetExport(m.id, key, clusterset.Export{Created: time.Unix(1, 0), Properties: &clusterset.Properties{Ports: ports, SessionAffinity: affinity}})
		}
	}
	for _, key := range []clusterset.Key{web, api} {
		b.SetPolicy(key, clusterset.Policy{Failover: order})
	}
	w.mu.Unlock()
	for _, m := range w.members {
		for key := range m.pods {
			w.endpoints(m, key)
		}
	}
}

// order is in which clusters serve.
var order = []clusterset.Tier{{By: clusterset.ByCluster}, {By: clusterset.ByRegion}, {By: clusterset.Any}}

// endpoints publishes which pods a member has.
func (w *world) endpoints(m *member, key clusterset.Key) {
	w.change(func(b *clusterset.Builder) {
		var groups []clusterset.Group
		for _, p := range m.pods[key] {
			groups = append(groups, p.group())
		}
		b.SetEndpoints(m.id, key, clusterset.Endpoints{Groups: groups})
	})
}

// change publishes a change of the service table.
func (w *world) change(f func(*clusterset.Builder)) {
	w.mu.Lock()
	f(w.builder)
	w.latest.Publish(w.builder.Publish())
	w.mu.Unlock()
}

// revoked tells whether a certificate is not good any more.
func (w *world) revoked(cluster string, issued time.Time) bool {
	s, _ := w.latest.Current()
	return s.Revoked(cluster, issued)
}

// revoke says that the certificate that a member has is not good any more, and has everybody look again.
func (w *world) revoke(m *member) {
	w.change(func(b *clusterset.Builder) {
		w.revocations[m.id] = m.identity.issued().Add(time.Second)
		var all []clusterset.Revocation
		for id, before := range w.revocations {
			all = append(all, clusterset.Revocation{Cluster: id, Before: before})
		}
		b.SetRevocations(all)
	})
	for _, other := range w.members {
		for _, d := range other.doors {
			d.server.Recheck()
		}
		other.out.dialer.Recheck()
	}
}

// peers returns the gateways of the others.
func (w *world) peers(of string) []tunnel.Peer {
	var peers []tunnel.Peer
	for _, m := range w.members {
		for _, d := range m.doors {
			if m.id != of {
				peers = append(peers, tunnel.Peer{Cluster: m.id, Addr: d.line.addr})
			}
		}
	}
	return peers
}

// churn adds services to all clusters, has each called, and takes them away.
func (w *world) churn() error {
	w.churns++
	var keys []clusterset.Key
	for i := range churned {
		keys = append(keys, clusterset.Key{Namespace: "churn", Name: fmt.Sprintf("s%d-%d", w.churns, i)})
	}
	w.change(func(b *clusterset.Builder) {
		for i, key := range keys {
			for _, m := range w.members {
				b.SetImport(m.id, key, clusterset.Import{GatewayPorts: []clusterset.GatewayPort{{Name: "http", Port: churnPort + uint16(i)}}})
			}
			last := w.members[2]
			b.SetExport(last.id, key, clusterset.Export{Created: time.Unix(1, 0), Properties: &clusterset.Properties{Ports: ports}})
			b.SetEndpoints(last.id, key, clusterset.Endpoints{Groups: []clusterset.Group{last.pods[web][0].group()}})
		}
	})
	problem := w.clients.callAll(w.members[0], len(keys))
	w.change(func(b *clusterset.Builder) {
		for _, key := range keys {
			b.RemoveExport(w.members[2].id, key)
			b.RemoveEndpoints(w.members[2].id, key)
			for _, m := range w.members {
				b.RemoveImport(m.id, key)
			}
		}
	})
	return problem
}
