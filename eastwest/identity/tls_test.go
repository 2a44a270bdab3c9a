package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// handshake connects both ends, and returns how each of them sees it.
func handshake(t *testing.T, server, client *tls.Config) (atServer, atClient tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	left, right := net.Pipe()
	defer func() { _ = left.Close() }()
	defer func() { _ = right.Close() }()
	deadline := time.Now().Add(10 * time.Second)
	for _, end := range []net.Conn{left, right} {
		if err := end.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	s, c := tls.Server(left, server), tls.Client(right, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err != nil {
			_ = left.Close()
		}
		done <- err
	}()
	if clientErr = c.Handshake(); clientErr == nil {
		// In TLS 1.3 the client is done before the server has looked at its certificate.
		go func() { _, _ = c.Read(make([]byte, 1)) }()
	} else {
		_ = right.Close()
	}
	serverErr = <-done
	return s.ConnectionState(), c.ConnectionState(), serverErr, clientErr
}

func newServer(t *testing.T, c *clock, reader client.Reader, hosts ...string) *identity.Server {
	t.Helper()
	server := identity.NewServer(identity.ServerOptions{Reader: reader, Namespace: namespace, Hosts: hosts, Log: logr.Discard(), Now: c.Now})
	if err := server.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return server
}

// stored returns a cluster in which the authority is stored, and the authority.
func stored(t *testing.T, c *clock) (client.WithWatch, *identity.Authority) {
	t.Helper()
	host := newHost(t)
	if problems := newKeeper(host, c).Keep(t.Context()); len(problems) > 0 {
		t.Fatal(problems)
	}
	return host, readAuthority(t, host, c)
}

func readAuthority(t *testing.T, host client.Reader, c *clock) *identity.Authority {
	t.Helper()
	authority, err := identity.ReadAuthority(t.Context(), host, namespace, domain, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func clientConfig(t *testing.T, c *clock, own *x509svid.SVID, trusts *identity.Authority) *tls.Config {
	t.Helper()
	config, err := identity.ClientConfig(own, trusts.Bundle(), trusts.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	config.Time = c.Now
	config.ServerName = "whatever"
	return config
}

func TestConnect(t *testing.T) {
	c := newClock()
	host, authority := stored(t, c)
	server := newServer(t, c, host, "hub.example", "192.0.2.1")
	who := identity.ClusterID(domain, "m1", identity.RoleClient)
	own := issue(t, authority, who, 0)
	atServer, _, serverErr, clientErr := handshake(t, server.TLSConfig(), clientConfig(t, c, own, authority))
	if serverErr != nil || clientErr != nil {
		t.Fatal(serverErr, clientErr)
	}
	if atServer.Version != tls.VersionTLS13 {
		t.Errorf("TLS version %x", atServer.Version)
	}
	got, err := server.Identify(&peer.Peer{AuthInfo: credentials.TLSInfo{State: atServer}})
	if err != nil || got != who {
		t.Errorf("the client is %v, %v; want %v", got, err, who)
	}

	// As gRPC's credentials of type tls do it: the address is checked, the SPIFFE ID is not.
	plain := plainConfig(c, own, server)
	for _, name := range []string{"hub.example", "192.0.2.1"} {
		plain.ServerName = name
		if _, _, serverErr, clientErr = handshake(t, server.TLSConfig(), plain); serverErr != nil || clientErr != nil {
			t.Errorf("by plain TLS to %s: %v, %v", name, serverErr, clientErr)
		}
	}
	plain.ServerName = "other.example"
	if _, _, _, clientErr = handshake(t, server.TLSConfig(), plain); clientErr == nil {
		t.Error("plain TLS accepts any address")
	}
}

// plainConfig is that of a client which knows nothing of SPIFFE.
func plainConfig(c *clock, own *x509svid.SVID, server *identity.Server) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.BundlePEM())
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "hub.example", Time: c.Now,
		Certificates: []tls.Certificate{{Certificate: [][]byte{own.Certificates[0].Raw}, PrivateKey: own.PrivateKey}},
	}
}

// sign signs what an authority of ours would not.
func sign(t *testing.T, c *clock, uris []string, change func(*x509.Certificate)) (own tls.Certificate, rootPEM, rootKeyPEM []byte) {
	t.Helper()
	rootPEM, rootKeyPEM = authorityPEM(t, c, func(*x509.Certificate) {})
	root, err := tls.X509KeyPair(rootPEM, rootKeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: c.Now().Add(-time.Hour), NotAfter: c.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	for _, text := range uris {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		leaf.URIs = append(leaf.URIs, uri)
	}
	change(leaf)
	der, err := x509.CreateCertificate(rand.Reader, leaf, root.Leaf, key.Public(), root.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, rootPEM, rootKeyPEM
}

func TestServerRefuses(t *testing.T) {
	c := newClock()
	unchanged := func(*x509.Certificate) {}
	client := []string{"spiffe://clusterset.local/cluster/m1/client"}
	for name, tc := range map[string]struct {
		reason string
		uris   []string
		change func(*x509.Certificate)
		none   bool // no certificate
		alien  bool // the server trusts another authority
		old    bool // TLS 1.2
		want   string
	}{
		"Good":       {reason: "The others differ from this in one thing.", uris: client, change: unchanged},
		"None":       {reason: "Everybody shows who they are.", none: true, uris: client, change: unchanged, want: "didn't provide a certificate"},
		"WrongCA":    {reason: "Signed by somebody else.", alien: true, uris: client, change: unchanged, want: "unknown authority"},
		"Expired":    {reason: "It ended.", uris: client, change: func(l *x509.Certificate) { l.NotAfter = c.Now().Add(-time.Minute) }, want: "expired"},
		"Early":      {reason: "It has not begun.", uris: client, change: func(l *x509.Certificate) { l.NotBefore = c.Now().Add(time.Minute) }, want: "not yet valid"},
		"NoURI":      {reason: "A name is no identity.", change: func(l *x509.Certificate) { l.DNSNames = []string{"m1"} }, want: "no URI SAN"},
		"SeveralURI": {reason: "Which one?", uris: append(client, "spiffe://clusterset.local/admin"), change: unchanged, want: "more than one URI SAN"},
		"Foreign":    {reason: "Our authority does not speak for others.", uris: []string{"spiffe://other.org/admin"}, change: unchanged, want: "trust domain"},
		"Path":       {reason: "It names nobody.", uris: []string{"spiffe://clusterset.local/cluster/m1"}, change: unchanged, want: "names nobody"},
		"NoSPIFFE":   {reason: "Not a SPIFFE ID.", uris: []string{"https://clusterset.local/admin"}, change: unchanged, want: "scheme"},
		"Usage":      {reason: "A certificate for something else.", uris: client, change: func(l *x509.Certificate) { l.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, want: "incompatible key usage"},
		"CA":         {reason: "An authority is nobody.", uris: client, change: func(l *x509.Certificate) { l.IsCA = true }, want: "CA flag"},
		"TLS12":      {reason: "TLS 1.3 encrypts who connects.", uris: client, change: unchanged, old: true, want: "version"},
	} {
		t.Run(name, func(t *testing.T) {
			own, rootPEM, rootKeyPEM := sign(t, c, tc.uris, tc.change)
			if tc.alien {
				rootPEM, rootKeyPEM = authorityPEM(t, c, func(*x509.Certificate) {})
			}
			host := newHost(t, secret(identity.AuthoritySecret, rootPEM, rootKeyPEM))
			server := newServer(t, c, host)
			config := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, Certificates: []tls.Certificate{own}}
			if tc.none {
				config.Certificates = nil
			}
			if tc.old {
				config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			}
			_, _, err, _ := handshake(t, server.TLSConfig(), config)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%s\ngot %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}

func TestClientRefuses(t *testing.T) {
	c := newClock()
	host, authority := stored(t, c)
	_, other := stored(t, c)
	own := issue(t, authority, identity.ClusterID(domain, "m1", identity.RoleClient), 0)
	config := clientConfig(t, c, own, authority)
	if _, _, _, err := handshake(t, newServer(t, c, host).TLSConfig(), config); err != nil {
		t.Fatal("a hub is refused: ", err)
	}
	for name, tc := range map[string]struct {
		reason string
		server *x509svid.SVID
	}{
		"Gateway": {reason: "A member must not pass for a hub.", server: issue(t, authority, identity.ClusterID(domain, "m1", identity.RoleGateway), 0)},
		"OtherCA": {reason: "A hub of another authority.", server: issue(t, other, identity.HubID(domain), 0)},
	} {
		t.Run(name, func(t *testing.T) {
			listener := &tls.Config{
				MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert,
				Certificates: []tls.Certificate{{Certificate: [][]byte{tc.server.Certificates[0].Raw}, PrivateKey: tc.server.PrivateKey}},
			}
			if _, _, _, err := handshake(t, listener, config); err == nil {
				t.Error(tc.reason)
			}
		})
	}
	if _, err := identity.ClientConfigPEM([]byte("x"), nil, nil); err == nil {
		t.Error("rubbish is accepted")
	}
}

// otherInfo is of other credentials than TLS.
type otherInfo struct{}

func (otherInfo) AuthType() string { return "other" }

func TestIdentifyRefuses(t *testing.T) {
	c := newClock()
	authority := newAuthority(t, c)
	leaf := issue(t, authority, identity.AdminID(domain), time.Hour).Certificates[0]
	chain := [][]*x509.Certificate{{leaf, authority.Certificate()}}
	state := func(s tls.ConnectionState) *peer.Peer { return &peer.Peer{AuthInfo: credentials.TLSInfo{State: s}} }
	good := state(tls.ConnectionState{PeerCertificates: chain[0][:1], VerifiedChains: chain})
	if id, err := identity.Identify(good); err != nil || !id.Admin() {
		t.Fatal(id, err)
	}
	for name, tc := range map[string]struct {
		reason string
		peer   *peer.Peer
		domain spiffeid.TrustDomain
		after  time.Duration
		want   string
	}{
		"NoPeer":     {reason: "A call in the same process has none.", want: "no TLS"},
		"NoTLS":      {reason: "Plaintext proves nothing.", peer: &peer.Peer{}, want: "no TLS"},
		"Local":      {reason: "Other credentials prove something else.", peer: &peer.Peer{AuthInfo: otherInfo{}}, want: "wanted is tls"},
		"None":       {reason: "A listener that does not ask for one.", peer: state(tls.ConnectionState{}), want: "no client certificate"},
		"Unverified": {reason: "A listener that does not check.", peer: state(tls.ConnectionState{PeerCertificates: chain[0]}), want: "not verified"},
		"Domain":     {reason: "Of another trust domain.", peer: good, domain: spiffeid.RequireTrustDomainFromString("other.org"), want: "not of the trust domain"},
		"Later":      {reason: "A connection may outlive the certificate; what is asked on it then is refused.", peer: good, after: 2 * time.Hour, want: "ended"},
	} {
		t.Run(name, func(t *testing.T) {
			td := tc.domain
			if td.IsZero() {
				td = domain
			}
			id, err := identity.IdentifyIn(td, tc.peer, c.Now().Add(tc.after))
			if err == nil || !strings.Contains(err.Error(), tc.want) || id != (identity.ID{}) {
				t.Errorf("%s\ngot %v, %v; want an error with %q", tc.reason, id, err, tc.want)
			}
		})
	}
}

// TestServerRenews moves the clock over a life of the certificate, and puts a second root into the Secret.
func TestServerRenews(t *testing.T) {
	c := newClock()
	host, authority := stored(t, c)
	server := newServer(t, c, host, "hub.example")
	listener := server.TLSConfig() // once, for good
	own := issue(t, authority, identity.AdminID(domain), 90*24*time.Hour)
	serial := func(what string) string {
		t.Helper()
		if err := server.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, atClient, serverErr, clientErr := handshake(t, listener, plainConfig(c, own, server))
		if serverErr != nil || clientErr != nil {
			t.Fatal(what, serverErr, clientErr)
		}
		return atClient.PeerCertificates[0].SerialNumber.String()
	}
	first := serial("at first")
	c.Add(9 * 24 * time.Hour)
	if serial("after 9 days") != first {
		t.Error("renewed before a third of its life")
	}
	c.Add(2 * 24 * time.Hour)
	second := serial("after 11 days")
	if second == first {
		t.Error("not renewed after a third of its life")
	}
	live := &corev1.Secret{}
	if err := host.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: identity.AuthoritySecret}, live); err != nil {
		t.Fatal(err)
	}
	other := newAuthority(t, c)
	live.Data["ca.crt"] = other.BundlePEM()
	if err := host.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	if serial("with a second root") == second {
		t.Error("not renewed after the roots changed")
	}
	theirs := issue(t, other, identity.AdminID(domain), 0)
	if _, _, err, _ := handshake(t, listener, plainConfig(c, theirs, server)); err != nil {
		t.Error("a client of the second root is refused: ", err)
	}
}

// TestServerRevokes: certificates of a cluster from before a time are refused, at the handshake and on a connection that
// has been there for longer.
func TestServerRevokes(t *testing.T) {
	c := newClock()
	host, authority := stored(t, c)
	before := map[string]time.Time{}
	server := identity.NewServer(identity.ServerOptions{
		Reader: host, Namespace: namespace, Log: logr.Discard(), Now: c.Now,
		Revoked: func(cluster string, issued time.Time) bool { return issued.Before(before[cluster]) },
	})
	if err := server.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	connect := func(id identity.ID) (*peer.Peer, error) {
		config := clientConfig(t, c, issue(t, authority, id, 0), authority)
		state, _, err, _ := handshake(t, server.TLSConfig(), config)
		return &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}}, err
	}
	m1 := identity.ClusterID(domain, "m1", identity.RoleGateway)
	there, err := connect(m1)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := server.Identify(there); err != nil || id != m1 {
		t.Fatal(id, err)
	}
	before["m1"] = c.Now().Add(time.Second)
	if _, err := server.Identify(there); identity.ReasonOf(err) != identity.ReasonRevoked || !strings.Contains(err.Error(), "enrolment") {
		t.Errorf("on a connection from before: %v", err)
	}
	if _, err := connect(m1); identity.ReasonOf(err) != identity.ReasonRevoked {
		t.Errorf("a certificate from before the revocation: %v", err)
	}
	for _, id := range []identity.ID{identity.ClusterID(domain, "m2", identity.RoleGateway), identity.AdminID(domain)} {
		if _, err := connect(id); err != nil {
			t.Errorf("%s was not revoked: %v", id, err)
		}
	}
	c.Add(time.Second)
	if _, err := connect(m1); err != nil {
		t.Errorf("a certificate from after the revocation: %v", err)
	}
}

// TestServerWaits checks a replica that starts before the leader has made the authority.
func TestServerWaits(t *testing.T) {
	c := newClock()
	host := newHost(t)
	server := identity.NewServer(identity.ServerOptions{
		Reader: host, Namespace: namespace, Log: logr.Discard(), Now: c.Now, Period: time.Millisecond,
	})
	if err := server.Refresh(t.Context()); !errors.Is(err, identity.ErrNoAuthority) {
		t.Fatal(err)
	}
	if server.BundlePEM() != nil {
		t.Error("there are roots before there is an authority")
	}
	if _, _, err, _ := handshake(t, server.TLSConfig(), &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}); err == nil {
		t.Error("it serves without a certificate")
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- server.Start(ctx) }()
	newKeeper(host, c).Keep(t.Context())
	select {
	case <-server.Ready():
	case <-time.After(10 * time.Second):
		t.Error("not ready")
	}
	cancel()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
