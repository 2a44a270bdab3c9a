package outbound_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/hansa-dev/hansa/eastwest/gateway/inbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

var domain = identity.DefaultTrustDomain()

func authority(t *testing.T) *identity.Authority {
	t.Helper()
	a, err := identity.NewAuthority(domain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// svid has an authority sign for somebody.
func svid(t *testing.T, a *identity.Authority, who identity.ID, lifetime time.Duration) *x509svid.SVID {
	t.Helper()
	id, err := who.SPIFFE()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.Sign(key.Public(), identity.Request{ID: id, Lifetime: lifetime})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509svid.Parse(chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return own
}

func gatewayOf(cluster string) identity.ID {
	return identity.ClusterID(domain, cluster, identity.RoleGateway)
}

// union is clusters with real gateways: m1, whose clients ask, and m2 and m3, which serve.
type union struct {
	*world

	authority *identity.Authority
	dialer    *tunnel.Dialer
	sites     map[string]*site
}

// site is a serving cluster.
type site struct {
	pod     *pod
	handler *inbound.Handler
	server  *tunnel.Server
	line    *line // between the clusters
	stop    func()
}

// unite starts everything; change may modify who the client's gateway is.
func unite(t *testing.T, change func(*union, *identity.Peering, *clusterset.Builder)) *union {
	t.Helper()
	u := &union{authority: authority(t), sites: map[string]*site{}}
	b := table(nil)
	latest := clusterset.NewLatest(b.Publish())
	revoked := func(cluster string, issued time.Time) bool {
		s, _ := latest.Current()
		return s.Revoked(cluster, issued)
	}
	var peers []tunnel.Peer
	for cluster, region := range map[string]string{"m2": "eu", "m3": "us"} {
		s := u.site(t, cluster, latest, revoked)
		u.sites[cluster] = s
		peers = append(peers, tunnel.Peer{Cluster: cluster, Addr: s.line.addr})
		b.SetCluster(clusterset.Cluster{ID: cluster, Region: region, Gateways: []clusterset.Gateway{{Addr: s.line.addr.Addr(), Tunnel: s.line.addr.Port()}}})
		export(b, cluster, []clusterset.Group{podGroup(s.pod.addr)})
	}
	own := identity.Peering{
		Own: svid(t, u.authority, gatewayOf("m1"), 0), Roots: u.authority.Bundle(), ALPN: []string{tunnel.Protocol}, Now: time.Now,
	}
	if change != nil {
		change(u, &own, b)
	}
	latest.Publish(b.Publish())
	dialer, err := tunnel.NewDialer(tunnel.Options{TLS: own.PeerConfig, Identify: own.Identify, Backoff: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dialer.Close)
	dialer.SetPeers(peers)
	u.dialer = dialer
	u.world = start(t, nil, func(_ *clusterset.Builder, o *outbound.Options) {
		o.Snapshots, o.Connect.Opener = latest, dialer
	})
	u.builder, u.latest = b, latest
	return u
}

func (u *union) site(t *testing.T, cluster string, snapshots inbound.Snapshots, revoked identity.RevokedFunc) *site {
	t.Helper()
	s := &site{pod: newPod(t, nil)}
	var err error
	if s.handler, err = inbound.New(inbound.Options{Snapshots: snapshots, Cluster: cluster}); err != nil {
		t.Fatal(err)
	}
	p := identity.Peering{
		Own: svid(t, u.authority, gatewayOf(cluster), 0), Roots: u.authority.Bundle(), ALPN: []string{tunnel.Protocol}, Now: time.Now, Revoked: revoked,
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	s.server, err = tunnel.NewServer(tunnel.ServerOptions{
		Listener: l, TLS: p.ServerConfig(), Identify: p.Identify, Revoked: revoked, Handler: s.handler, DrainTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.line = newLine(t, l.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.server.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// up waits until there are tunnels.
func (u *union) up() {
	u.t.Helper()
	until(u.t, "tunnels are up", func() bool {
		for _, s := range u.dialer.State() {
			if s.Tunnels < s.Wanted {
				return false
			}
		}
		return true
	})
}

// line is what is between two gateways.
type line struct {
	addr netip.AddrPort
	cut  [2]atomic.Bool // what is sent to the server, and from it, gets lost

	mu    sync.Mutex
	conns []net.Conn
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	n := &line{addr: l.Addr().(*net.TCPAddr).AddrPort()}
	t.Cleanup(func() {
		_ = l.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, conn := range n.conns {
			_ = conn.Close()
		}
	})
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to) //nolint:noctx // a test's
			if err != nil {
				_ = near.Close()
				continue
			}
			n.mu.Lock()
			n.conns = append(n.conns, near, far)
			n.mu.Unlock()
			go carry(far, near, &n.cut[0])
			go carry(near, far, &n.cut[1])
		}
	}()
	return n
}

func carry(to, from net.Conn, cut *atomic.Bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if cut.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// refusals returns how many streams a site has refused for a reason.
func (s *site) refusals(why inbound.Refusal) uint64 {
	_, refusals := s.handler.Stats()
	for _, r := range refusals {
		if r.Reason == why {
			return r.Count
		}
	}
	return 0
}
