package tunnel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// TestRefusedConnections has all kinds of strangers knock at a gateway as it really is.
func TestRefusedConnections(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	// shows is the configuration of somebody who does not care whom they have reached.
	shows := func(p *pki, who identity.ID, lifetime time.Duration, protocols ...string) *tls.Config {
		peering, _ := p.peering(who, lifetime)
		config := peering.PeerConfig("m2")
		config.NextProtos, config.VerifyConnection = protocols, nil
		return config
	}
	m1 := identity.ClusterID(domain, "m1", identity.RoleGateway)
	none := shows(p, m1, 0, tunnel.Protocol)
	none.GetClientCertificate = nil
	old := shows(p, m1, 0, tunnel.Protocol)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	before := func(t time.Time) identity.RevokedFunc {
		return func(cluster string, issued time.Time) bool { return cluster == "m1" && issued.Before(t) }
	}
	for name, tc := range map[string]struct {
		reason  string
		config  *tls.Config
		say     string
		revoked identity.RevokedFunc
		want    string // empty: it is let in
	}{
		"Good":        {reason: "The others differ from this in one thing.", config: shows(p, m1, 0, tunnel.Protocol)},
		"Plaintext":   {reason: "Nothing is said in the clear.", say: "GET / HTTP/1.1\r\n\r\n", want: "plaintext"},
		"OtherALPN":   {reason: "A connection for something else came to the wrong port.", config: shows(p, m1, 0, "h2"), want: "protocol"},
		"NoALPN":      {reason: "So did one that does not say what it is for.", config: shows(p, m1, 0), want: "protocol"},
		"WrongCA":     {reason: "Signed by somebody else.", config: shows(other, m1, 0, tunnel.Protocol), want: "wrong_ca"},
		"Expired":     {reason: "It was good once.", config: shows(p, m1, time.Nanosecond, tunnel.Protocol), want: "expired"},
		"Revoked":     {reason: "It was issued before those of its cluster were revoked.", config: shows(p, m1, 0, tunnel.Protocol), revoked: before(time.Now().Add(time.Hour)), want: "revoked"},
		"Renewed":     {reason: "It was issued after that.", config: shows(p, m1, 0, tunnel.Protocol), revoked: before(time.Now().Add(-time.Hour))},
		"Role":        {reason: "The right authority, but no gateway.", config: shows(p, identity.ClusterID(domain, "m1", identity.RoleClient), 0, tunnel.Protocol), want: "wrong_identity"},
		"Admin":       {reason: "Nor is an admin one.", config: shows(p, identity.AdminID(domain), 0, tunnel.Protocol), want: "wrong_identity"},
		"Certificate": {reason: "Everybody shows who they are.", config: none, want: "no_certificate"},
		"TLS12":       {reason: "TLS 1.3 and nothing before.", config: old, want: "protocol"},
		"Leaves":      {reason: "Somebody who hangs up is counted, too.", say: "-", want: "broken_off"},
	} {
		t.Run(name, func(t *testing.T) {
			own, _ := p.peering(identity.ClusterID(domain, "m2", identity.RoleGateway), 0)
			own.Revoked = tc.revoked
			s := serve(t, p, accepting(echo), func(o *tunnel.ServerOptions) {
				o.TLS, o.Identify, o.Revoked = own.ServerConfig(), own.Identify, own.Revoked
			})
			raw, err := net.Dial("tcp", s.server.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = raw.Close() }()
			_ = raw.SetDeadline(time.Now().Add(patience))
			conn := raw
			switch tc.say {
			case "":
				conn = tls.Client(raw, tc.config)
				_ = conn.(*tls.Conn).Handshake()
			case "-":
				_ = raw.(*net.TCPConn).CloseWrite()
			default:
				_, _ = io.WriteString(raw, tc.say)
			}
			if tc.want == "" {
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					t.Errorf("%s\nit is refused: %v", tc.reason, err)
				}
				return
			}
			if n, err := io.Copy(io.Discard, conn); n > 0 && tc.config != nil {
				t.Errorf("%s\n%d octets were sent, %v", tc.reason, n, err)
			}
			until(t, "it is counted", func() bool { return metric(t, s.server, "hansa_tunnel_refused_total", tc.want) == 1 })
			if n := metric(t, s.server, "hansa_tunnel_refused_total"); n != 1 {
				t.Errorf("%v refusals were counted", n)
			}
		})
	}
}

// TestImpostor checks that the dialer looks whom it has reached.
func TestImpostor(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	for name, tc := range map[string]struct {
		reason string
		config *tls.Config
		want   string
	}{
		"Cluster": {reason: "Another cluster's gateway is at the address.", config: p.gateway("m3"), want: "wanted is a gateway of cluster m2"},
		"Role":    {reason: "Somebody else of the cluster is.", config: p.config(identity.ClusterID(domain, "m2", identity.RoleDNS)), want: "wanted is a gateway of cluster m2"},
		"CA":      {reason: "Somebody is whom nobody knows.", config: other.gateway("m2"), want: "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.config.VerifyConnection = nil
			s := serve(t, p, accepting(echo), func(o *tunnel.ServerOptions) { o.TLS = tc.config })
			d := s.dial(nil)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, err := d.Open(ctx, s.peer, ask); !errors.Is(err, tunnel.ErrNotUp) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s\ngot %v", tc.reason, err)
			}
			if state := d.State()[0]; state.Up || !strings.Contains(state.Problem, tc.want) {
				t.Errorf("%s\n%+v", tc.reason, state)
			}
		})
	}
}

// TestSlowHandshake checks that who says nothing has to go, and keeps nobody out.
func TestSlowHandshake(t *testing.T) {
	connect := func(t *testing.T, s *site) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", s.server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		return c
	}
	gone := func(t *testing.T, c net.Conn) {
		t.Helper()
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("it is still there: %v", err)
		}
	}
	p := newPKI(t)
	t.Run("Timeout", func(t *testing.T) {
		s := serve(t, p, accepting(echo), func(o *tunnel.ServerOptions) { o.HandshakeTimeout = 20 * time.Millisecond })
		c := connect(t, s)
		_, _ = c.Write([]byte{22, 3, 1})
		gone(t, c)
		until(t, "it is counted", func() bool { return metric(t, s.server, "hansa_tunnel_refused_total", "too_slow") == 1 })
	})
	t.Run("Oldest", func(t *testing.T) {
		s := serve(t, p, accepting(echo), func(o *tunnel.ServerOptions) { o.Handshakes = 3; o.HandshakeTimeout = time.Hour })
		first := connect(t, s)
		for range 2 {
			connect(t, s)
		}
		s.open(s.dial(nil), ask) // there is room for those who know what they want
		gone(t, first)
		if n := metric(t, s.server, "hansa_tunnel_refused_total", "too_many_handshakes"); n != 1 {
			t.Errorf("%v were pushed out", n)
		}
	})
	t.Run("Source", func(t *testing.T) {
		s := serve(t, p, accepting(echo), func(o *tunnel.ServerOptions) { o.PerSource = 2; o.HandshakeTimeout = time.Hour })
		for range 2 {
			connect(t, s)
		}
		// It may be refused before it knows that it is connected.
		if c, err := net.Dial("tcp", s.server.Addr().String()); err == nil {
			_ = c.Close()
		}
		until(t, "it is counted", func() bool {
			return metric(t, s.server, "hansa_tunnel_refused_total", "too_many_handshakes_of_source") == 1
		})
	})
	t.Run("Cluster", func(t *testing.T) {
		s := serve(t, p, accepting(echo), func(o *tunnel.ServerOptions) { o.Tunnels = 2 })
		d := s.dial(func(o *tunnel.Options) { o.Tunnels = 3 })
		s.open(d, ask)
		until(t, "it is counted", func() bool {
			return metric(t, s.server, "hansa_tunnel_refused_total", "too_many_tunnels_of_cluster") > 0
		})
	})
}

// TestVersions has a gateway of a later version knock: it is told what is understood here, whatever else it has sent.
func TestVersions(t *testing.T) {
	p := newPKI(t)
	s := serve(t, p, accepting(echo), nil)
	config := p.gateway("m1")
	config.NextProtos = []string{tunnel.Protocol}
	conn, err := tls.Dial("tcp", s.server.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	quiet := yamux.DefaultConfig()
	quiet.LogOutput = io.Discard
	session, err := yamux.Client(conn, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	stream, err := session.Open()
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.SetDeadline(time.Now().Add(patience))
	for range 2 {
		if _, err := stream.Write(append([]byte{2}, make([]byte, 1000)...)); err != nil {
			t.Fatal(err)
		}
	}
	no, _ := errors.AsType[*tunnel.Refused](tunnel.ReadAnswer(stream))
	if no == nil || no.Code != tunnel.NotUnderstood || !strings.Contains(no.Message, "only version 1") {
		t.Errorf("got %v", no)
	}
}

// TestLeaks checks that nothing is left of many tunnels and streams.
func TestLeaks(t *testing.T) {
	p := newPKI(t)
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before, open := runtime.NumGoroutine(), files()
	for range 3 {
		s := serve(t, p, accepting(echo), nil)
		d := s.dial(func(o *tunnel.Options) { o.Tunnels = 4 })
		for i := range 50 {
			stream := s.open(d, tunnel.Request{Service: web, Port: 80, Datagrams: i%5 == 4})
			_, _ = io.WriteString(stream, "hello")
			switch i % 5 {
			case 0:
				_ = stream.Reset()
			case 1:
				_ = stream.Close()
			case 2:
				_ = stream.CloseWrite()
				_, _ = readAll(stream)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.Open(ctx, s.peer, ask); err == nil {
			t.Error("opened for nobody")
		}
		s.end()
		d.Close()
	}
	until(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
	until(t, "all files are closed", func() bool { return files() <= open })
}
