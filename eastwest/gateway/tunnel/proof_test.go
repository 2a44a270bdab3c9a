package tunnel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// trust is whom one trusts, which may change.
type trust struct {
	atomic.Pointer[identity.Authority]
}

func (t *trust) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return t.Load().Bundle().GetX509BundleForTrustDomain(td)
}

// peering is how somebody with a certificate of this authority connects, as a gateway really does.
func (p *pki) peering(who identity.ID, lifetime time.Duration) (identity.Peering, *trust) {
	p.tb.Helper()
	id, err := who.SPIFFE()
	if err != nil {
		p.tb.Fatal(err)
	}
	certPEM, keyPEM, err := p.authority.Issue(id, nil, nil, lifetime)
	if err != nil {
		p.tb.Fatal(err)
	}
	own, err := x509svid.Parse(certPEM, keyPEM)
	if err != nil {
		p.tb.Fatal(err)
	}
	roots := &trust{}
	roots.Store(p.authority)
	return identity.Peering{Own: own, Roots: roots, TrustDomain: domain, ALPN: []string{tunnel.Protocol}}, roots
}

// sides is what both ends of a tunnel are made of, so that one can be stricter than the other.
type sides struct {
	server, dialer           identity.Peering
	serverRoots, dialerRoots *trust
}

// lax is a check that finds nothing.
func lax(cluster string) tunnel.IdentifyFunc {
	return func(*tls.ConnectionState) (identity.ID, time.Time, error) {
		return identity.ClusterID(domain, cluster, identity.RoleGateway), time.Now(), nil
	}
}

// TestOutlived has what a tunnel was built on go away while there is one. Each side notices by itself, within a minute or at
// once when it is told to look.
func TestOutlived(t *testing.T) {
	const short = 10 * time.Minute
	for name, tc := range map[string]struct {
		reason  string
		lives   [2]time.Duration // the certificate of the server, and of the dialer; 0: for long
		strict  string           // who looks
		change  func(*testing.T, *sides)
		recheck bool // it is told to look
		wait    time.Duration
		stays   bool
	}{
		"Good":           {reason: "Nothing happens to a tunnel with which nothing is wrong.", strict: "both", wait: short + 2*time.Minute, stays: true},
		"ServerExpired":  {reason: "The dialer sees that the server's certificate has ended.", lives: [2]time.Duration{short, 0}, strict: "dialer", wait: short + 2*time.Minute},
		"DialerExpired":  {reason: "The server sees that the dialer's certificate has ended.", lives: [2]time.Duration{0, short}, strict: "server", wait: short + 2*time.Minute},
		"ServerNotYet":   {reason: "It has not ended yet.", lives: [2]time.Duration{short, short}, strict: "both", wait: short - time.Minute, stays: true},
		"DialerDistrust": {reason: "The authority was replaced, as the dialer knows.", strict: "dialer", change: distrust(true), wait: 2 * time.Minute},
		"ServerDistrust": {reason: "The authority was replaced, as the server knows.", strict: "server", change: distrust(false), wait: 2 * time.Minute},
		"DialerTold":     {reason: "The dialer is told to look.", strict: "dialer", change: distrust(true), recheck: true},
		"ServerTold":     {reason: "The server is told to look.", strict: "server", change: distrust(false), recheck: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPKI(t)
				var both sides
				both.server, both.serverRoots = p.peering(identity.ClusterID(domain, "m2", identity.RoleGateway), tc.lives[0])
				both.dialer, both.dialerRoots = p.peering(identity.ClusterID(domain, "m1", identity.RoleGateway), tc.lives[1])
				n := newNetwork()
				s := serve(t, p, accepting(func(s tunnel.Stream) { _, _ = readAll(s) }), func(o *tunnel.ServerOptions) {
					o.Listener, o.TLS, o.Identify = n, both.server.ServerConfig(), both.server.Identify
					if tc.strict == "dialer" {
						o.Identify = lax("m1")
					}
				})
				s.peer = tunnel.Peer{Cluster: "m2", Addr: netip.MustParseAddrPort("192.0.2.1:15445")}
				d := s.dial(func(o *tunnel.Options) {
					o.Dial, o.TLS, o.Identify = n.Dial, both.dialer.PeerConfig, both.dialer.Identify
					if tc.strict == "server" {
						o.Identify = lax("m2")
					}
				})
				stream := s.open(d, ask)
				_ = stream.SetDeadline(time.Time{})
				began := time.Now()
				if tc.change != nil {
					tc.change(t, &both)
				}
				if tc.recheck {
					d.Recheck()
					s.server.Recheck()
				}
				_ = stream.SetReadDeadline(time.Now().Add(tc.wait + time.Second))
				_, err := stream.Read(make([]byte, 1))
				if _, reset := errors.AsType[*tunnel.ResetError](err); reset == tc.stays {
					t.Errorf("%s\nafter %v: %v", tc.reason, time.Since(began), err)
				}
				if tc.strict == "server" {
					until(t, "it is counted", func() bool { return metric(t, s.server, "hansa_tunnel_refused_total") > 0 })
				}
				d.Close()
				s.end()
			})
		})
	}
}

// distrust has one side trust another authority from now on.
func distrust(dialer bool) func(*testing.T, *sides) {
	return func(t *testing.T, s *sides) {
		t.Helper()
		if dialer {
			s.dialerRoots.Store(newPKI(t).authority)
		} else {
			s.serverRoots.Store(newPKI(t).authority)
		}
	}
}

// tattler tells nothing of a revocation that becomes known, and is rechecked, while it is asked for the first time.
type tattler struct {
	known   atomic.Bool
	ready   chan struct{}
	recheck func()
}

func (r *tattler) revoked(string, time.Time) bool {
	if r.known.Swap(true) {
		return true
	}
	<-r.ready
	r.recheck()
	return false
}

// TestRevokedMeanwhile revokes a certificate between the handshake that shows it and the tunnel that comes of it.
func TestRevokedMeanwhile(t *testing.T) {
	p := newPKI(t)
	refused := func(t *testing.T, s *site, d *tunnel.Dialer) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, err := d.Open(ctx, s.peer, ask); !errors.Is(err, tunnel.ErrNotUp) {
			t.Errorf("got %v", err)
		}
	}
	t.Run("Dialer", func(t *testing.T) {
		r := &tattler{ready: make(chan struct{})}
		s := serve(t, p, accepting(echo), nil)
		d := s.dial(func(o *tunnel.Options) { o.Revoked = r.revoked })
		r.recheck = d.Recheck
		close(r.ready)
		refused(t, s, d)
		until(t, "it is told why", func() bool { return strings.Contains(d.State()[0].Problem, "revoked") })
	})
	t.Run("Server", func(t *testing.T) {
		r := &tattler{ready: make(chan struct{})}
		s := serve(t, p, accepting(echo), func(o *tunnel.ServerOptions) { o.Revoked = r.revoked })
		r.recheck = s.server.Recheck
		close(r.ready)
		refused(t, s, s.dial(nil))
	})
}

// TestRevokedInTheMaking revokes a certificate while the other gateway, whose it is, has not said a word yet.
func TestRevokedInTheMaking(t *testing.T) {
	p := newPKI(t)
	config := p.gateway("m2")
	config.NextProtos = []string{tunnel.Protocol}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var revoked atomic.Bool
	s := &site{tb: t, pki: p, peer: tunnel.Peer{Cluster: "m2", Addr: l.Addr().(*net.TCPAddr).AddrPort()}}
	d := s.dial(func(o *tunnel.Options) {
		o.DialTimeout = time.Hour
		o.Revoked = func(string, time.Time) bool { return revoked.Load() }
	})
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := conn.(*tls.Conn).HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil { // it has begun to speak
		t.Fatal(err)
	}
	revoked.Store(true)
	d.Recheck()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("the tunnel in the making is still there: %v", err)
	}
	_ = conn.Close()
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
