package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// clientReader is what a Server reads from.
type clientReader = client.Reader

func pemOf(certificates ...*x509.Certificate) []byte {
	var text []byte
	for _, each := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: each.Raw})...)
	}
	return text
}

// issueBy has an issuer sign a certificate, and returns it with its key.
func issueBy(t *testing.T, issuer identity.Issuer, id identity.ID) *x509svid.SVID {
	t.Helper()
	return signProved(t, issuer, id, time.Time{})
}

// signProved does it for somebody who proved at a time who it is.
func signProved(t *testing.T, issuer identity.Issuer, id identity.ID, proved time.Time) *x509svid.SVID {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := issuer.Sign(key.Public(), identity.Request{ID: spiffe(t, id), Proved: proved})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := x509svid.Parse(chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return svid
}

func gateway(cluster string) identity.ID {
	return identity.ClusterID(domain, cluster, identity.RoleGateway)
}

const alpn = "hansa-tunnel/1"

func peering(c *clock, own *x509svid.SVID, trusts *identity.Authority) identity.Peering {
	return identity.Peering{Own: own, Roots: trusts.Bundle(), TrustDomain: domain, ALPN: []string{alpn}, Now: c.Now}
}

// TestPeering lets gateways connect. Every row is seen from both sides.
func TestPeering(t *testing.T) {
	c := newClock()
	authority, other := newAuthority(t, c), newAuthority(t, c)
	below, err := authority.NewIntermediate()
	if err != nil {
		t.Fatal(err)
	}
	m1, m2 := issueBy(t, below, gateway("m1")), issueBy(t, below, gateway("m2"))
	ended := issue(t, authority, gateway("m1"), time.Second)
	c.Add(2 * time.Second)
	none := func(*identity.Peering) {}
	before := func(t time.Time) identity.RevokedFunc {
		return func(cluster string, issued time.Time) bool { return cluster == "m1" && issued.Before(t) }
	}
	for name, tc := range map[string]struct {
		reason         string
		dialer         *x509svid.SVID // of m1, as which it is dialled from; m2 listens
		server         func(*identity.Peering)
		client         func(*identity.Peering)
		want           string          // the cluster that is wanted to answer
		server1, peer1 identity.Reason // what each side says
	}{
		"Good":           {reason: "The others differ from this in one thing.", dialer: m1, want: "m2"},
		"WrongCA":        {reason: "Signed by somebody else.", dialer: issueBy(t, other, gateway("m1")), want: "m2", server1: identity.ReasonWrongCA},
		"WrongCAServer":  {reason: "The client does not trust who signed for the server.", dialer: m1, want: "m2", client: func(p *identity.Peering) { p.Roots = other.Bundle() }, peer1: identity.ReasonWrongCA, server1: identity.ReasonRefusedByPeer},
		"Expired":        {reason: "It ended.", dialer: ended, want: "m2", server1: identity.ReasonExpired},
		"OtherRole":      {reason: "An agent's certificate is good, and for something else.", dialer: issueBy(t, below, identity.ClusterID(domain, "m1", identity.RoleAgent)), want: "m2", server1: identity.ReasonWrongIdentity},
		"Client":         {reason: "A client's certificate is that of every pod that has it.", dialer: issueBy(t, below, identity.ClusterID(domain, "m1", identity.RoleClient)), want: "m2", server1: identity.ReasonWrongIdentity},
		"Hub":            {reason: "A hub is no gateway.", dialer: issueBy(t, below, identity.HubID(domain)), want: "m2", server1: identity.ReasonWrongIdentity},
		"OtherCluster":   {reason: "What is meant for m3 must not go to m2.", dialer: m1, want: "m3", peer1: identity.ReasonWrongIdentity, server1: identity.ReasonRefusedByPeer},
		"Revoked":        {reason: "Certificates of m1 from before now are not good.", dialer: m1, want: "m2", server: func(p *identity.Peering) { p.Revoked = before(c.Now()) }, server1: identity.ReasonRevoked},
		"RevokedEarlier": {reason: "It was issued after the revocation.", dialer: m1, want: "m2", server: func(p *identity.Peering) { p.Revoked = before(c.Now().Add(-time.Minute)) }},
		"RevokedServer": {
			reason: "Clients check too.", dialer: m1, want: "m2", peer1: identity.ReasonRevoked, server1: identity.ReasonRefusedByPeer,
			client: func(p *identity.Peering) {
				p.Revoked = func(cluster string, _ time.Time) bool { return cluster == "m2" }
			},
		},
		"RevokedForeign": {
			reason: "Those of another issuer count as issued when they begin.", dialer: m1, want: "m2", server1: identity.ReasonRevoked,
			server: func(p *identity.Peering) { p.Foreign, p.Revoked = true, before(c.Now().Add(-time.Minute)) },
		},
		"NoALPN":    {reason: "A program that speaks something else.", dialer: m1, want: "m2", client: func(p *identity.Peering) { p.ALPN = nil }, server1: identity.ReasonProtocol},
		"OtherALPN": {reason: "A gateway that speaks another version.", dialer: m1, want: "m2", client: func(p *identity.Peering) { p.ALPN = []string{"hansa-tunnel/9"} }, server1: identity.ReasonProtocol, peer1: identity.ReasonRefusedByPeer},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := peering(c, m2, authority), peering(c, tc.dialer, authority)
			for change, p := range map[*func(*identity.Peering)]*identity.Peering{&tc.server: &server, &tc.client: &client} {
				if *change == nil {
					*change = none
				}
				(*change)(p)
			}
			atServer, _, serverErr, clientErr := handshake(t, server.ServerConfig(), client.PeerConfig(tc.want))
			if got := identity.ReasonOf(serverErr); got != tc.server1 {
				t.Errorf("%s\nthe server says %q (%v), want %q", tc.reason, got, serverErr, tc.server1)
			}
			if got := identity.ReasonOf(clientErr); got != tc.peer1 {
				t.Errorf("%s\nthe client says %q (%v), want %q", tc.reason, got, clientErr, tc.peer1)
			}
			if tc.server1 != "" || tc.peer1 != "" {
				return
			}
			id, issued, err := server.Identify(&atServer)
			if err != nil || id != gateway("m1") || !issued.Equal(c.Now().Add(-2*time.Second)) || atServer.Version != tls.VersionTLS13 {
				t.Errorf("the client is %v, issued %s, %v", id, issued, err)
			}
		})
	}
}

// TestPeeringUsage: a certificate for clients only must not listen, and one for servers only must not dial.
func TestPeeringUsage(t *testing.T) {
	c := newClock()
	for name, tc := range map[string]struct {
		usage          x509.ExtKeyUsage
		server, client identity.Reason // what each side says
	}{
		"ClientListens": {usage: x509.ExtKeyUsageClientAuth, client: identity.ReasonWrongCA, server: identity.ReasonRefusedByPeer},
		"ServerDials":   {usage: x509.ExtKeyUsageServerAuth, server: identity.ReasonWrongCA},
	} {
		t.Run(name, func(t *testing.T) {
			own, rootPEM, rootKeyPEM := sign(t, c, []string{"spiffe://clusterset.local/cluster/m2/gateway"}, func(leaf *x509.Certificate) {
				leaf.ExtKeyUsage = []x509.ExtKeyUsage{tc.usage}
			})
			authority, err := identity.ParseAuthority(domain, rootPEM, rootKeyPEM, nil, c.Now)
			if err != nil {
				t.Fatal(err)
			}
			good := peering(c, issue(t, authority, gateway("m2"), time.Minute), authority)
			bad := peering(c, &x509svid.SVID{Certificates: []*x509.Certificate{parse(t, own.Certificate[0])}, PrivateKey: own.PrivateKey.(*ecdsa.PrivateKey)}, authority)
			server, client := bad, good
			if tc.client == "" {
				server, client = good, bad
			}
			_, _, serverErr, clientErr := handshake(t, server.ServerConfig(), client.PeerConfig("m2"))
			if identity.ReasonOf(serverErr) != tc.server || identity.ReasonOf(clientErr) != tc.client {
				t.Errorf("the server says %v, the client %v", serverErr, clientErr)
			}
		})
	}
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// TestPeeringNow: what was good when a connection began may not be any more, and is checked again.
func TestPeeringNow(t *testing.T) {
	c := newClock()
	authority := newAuthority(t, c)
	server, client := peering(c, issueBy(t, authority, gateway("m2")), authority), peering(c, issueBy(t, authority, gateway("m1")), authority)
	revoked := false
	server.Revoked = func(string, time.Time) bool { return revoked }
	state, _, serverErr, clientErr := handshake(t, server.ServerConfig(), client.PeerConfig("m2"))
	if err := errors.Join(serverErr, clientErr); err != nil {
		t.Fatal(err)
	}
	revoked = true
	if _, _, err := server.Identify(&state); identity.ReasonOf(err) != identity.ReasonRevoked {
		t.Errorf("revoked since: %v", err)
	}
	revoked = false
	c.Add(31 * day)
	if _, _, err := server.Identify(&state); identity.ReasonOf(err) != identity.ReasonExpired {
		t.Errorf("ended since: %v", err)
	}
	if _, _, err := server.Identify(&tls.ConnectionState{}); identity.ReasonOf(err) != identity.ReasonNoCertificate {
		t.Errorf("nothing was shown: %v", err)
	}
}

// TestStrangers connects to a listener for gateways, and to the hub, with what is no mutual TLS 1.3 at all. Each is counted.
func TestStrangers(t *testing.T) {
	c := newClock()
	host, authority := stored(t, c)
	own := peering(c, issueBy(t, authority, gateway("m2")), authority)
	own.ALPN = nil
	open := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
	for name, tc := range map[string]struct {
		reason string
		dial   func(net.Conn) error
		want   identity.Reason
	}{
		"Plaintext": {reason: "Not TLS.", want: identity.ReasonPlaintext, dial: func(conn net.Conn) error {
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
			return err
		}},
		"TLS12": {reason: "TLS 1.3 encrypts who connects.", want: identity.ReasonProtocol, dial: func(conn net.Conn) error {
			old := open.Clone()
			old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return tls.Client(conn, old).Handshake()
		}},
		"NoCertificate": {reason: "Everybody shows who they are.", want: identity.ReasonNoCertificate, dial: func(conn net.Conn) error {
			return tls.Client(conn, open).Handshake()
		}},
		"Gone": {reason: "A probe that looks whether the port is open is nobody.", dial: func(conn net.Conn) error { return conn.Close() }},
	} {
		for place, config := range map[string]*tls.Config{"tunnel": own.ServerConfig(), "xds": newServer(t, c, host).TLSConfig()} {
			t.Run(name+"/"+place, func(t *testing.T) {
				refusals := identity.NewRefusals("tunnel", "xds")
				left, right := net.Pipe()
				deadline := time.Now().Add(10 * time.Second)
				if err := errors.Join(left.SetDeadline(deadline), right.SetDeadline(deadline)); err != nil {
					t.Fatal(err)
				}
				go func() {
					_ = tc.dial(right)
					_, _ = io.Copy(io.Discard, right)
				}()
				_, _, err := identity.Credentials(config, refusals.Count(place)).Clone().ServerHandshake(left)
				_ = left.Close()
				if err == nil {
					t.Fatal(tc.reason)
				}
				if got := identity.ReasonOf(err); got != tc.want {
					t.Errorf("%s\ngot %q (%v), want %q", tc.reason, got, err, tc.want)
				}
				for labels, got := range count(t, refusals.Collectors()...) {
					want := 0.0
					if labels == place+" "+string(tc.want) {
						want = 1
					}
					if got != want {
						t.Errorf("%s counted %v times, want %v", labels, got, want)
					}
				}
			})
		}
	}
}

// count returns the values of counters by the values of their labels.
func count(t *testing.T, collectors ...prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collectors...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetValue())
			}
			counts[strings.Join(labels, " ")] = metric.GetCounter().GetValue()
		}
	}
	return counts
}
