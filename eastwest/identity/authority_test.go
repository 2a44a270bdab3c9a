package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now().Truncate(time.Second)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newAuthority(t *testing.T, c *clock) *identity.Authority {
	t.Helper()
	authority, err := identity.NewAuthority(domain, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func spiffe(t *testing.T, id identity.ID) spiffeid.ID {
	t.Helper()
	s, err := id.SPIFFE()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func issue(t *testing.T, a *identity.Authority, id identity.ID, lifetime time.Duration) *x509svid.SVID {
	t.Helper()
	certPEM, keyPEM, err := a.Issue(spiffe(t, id), nil, nil, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := x509svid.Parse(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return svid
}

func TestIssue(t *testing.T) {
	c := newClock()
	authority := newAuthority(t, c)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for name, tc := range map[string]struct {
		reason   string
		id       identity.ID
		dns      []string
		ips      []net.IP
		lifetime time.Duration
		usages   []x509.ExtKeyUsage
		want     time.Duration
	}{
		"Client":  {reason: "Nobody connects to a client.", id: identity.ClusterID(domain, "m1", identity.RoleClient), usages: both[1:], want: identity.Lifetime},
		"Admin":   {reason: "Its own lifetime.", id: identity.AdminID(domain), lifetime: time.Hour, usages: both[1:], want: time.Hour},
		"Gateway": {reason: "A gateway is client and server.", id: identity.ClusterID(domain, "m1", identity.RoleGateway), usages: both, want: identity.Lifetime},
		"Hub": {
			reason: "Plain TLS clients check the address.", id: identity.HubID(domain), usages: both, want: identity.Lifetime,
			dns: []string{"hub.example"}, ips: []net.IP{net.IPv4(127, 0, 0, 1)},
		},
		"Eternal": {reason: "Nothing outlives the authority.", id: identity.HubID(domain), usages: both, lifetime: 2 * identity.AuthorityLifetime, want: identity.AuthorityLifetime},
	} {
		t.Run(name, func(t *testing.T) {
			certPEM, keyPEM, err := authority.Issue(spiffe(t, tc.id), tc.dns, tc.ips, tc.lifetime)
			if err != nil {
				t.Fatal(err)
			}
			svid, err := x509svid.Parse(certPEM, keyPEM)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := x509svid.Verify(svid.Certificates, authority.Bundle()); err != nil {
				t.Error(err)
			}
			leaf := svid.Certificates[0]
			if !slices.Equal(leaf.ExtKeyUsage, tc.usages) || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
				t.Errorf("%s\nusages %v, %v", tc.reason, leaf.ExtKeyUsage, leaf.KeyUsage)
			}
			if !slices.Equal(leaf.DNSNames, tc.dns) || len(leaf.IPAddresses) != len(tc.ips) {
				t.Errorf("%s\nnames %v, %v", tc.reason, leaf.DNSNames, leaf.IPAddresses)
			}
			if got := leaf.NotAfter.Sub(c.Now()); got != tc.want {
				t.Errorf("%s\nvalid for %s, want %s", tc.reason, got, tc.want)
			}
			if got := c.Now().Sub(leaf.NotBefore); got != identity.Backdating {
				t.Errorf("backdated by %s", got)
			}
		})
	}
}

func TestIssueRefuses(t *testing.T) {
	c := newClock()
	authority := newAuthority(t, c)
	for name, tc := range map[string]struct{ reason, id, want string }{
		"OtherDomain": {reason: "One authority, one trust domain.", id: "spiffe://other.org/hub", want: "not of the trust domain"},
		"Nobody":      {reason: "What Parse refuses must not be signed.", id: "spiffe://clusterset.local/cluster/m1/root", want: "role"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := authority.Issue(spiffeid.RequireFromString(tc.id), nil, nil, 0)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s\ngot %v", tc.reason, err)
			}
		})
	}
	c.Add(identity.AuthorityLifetime + time.Second)
	if _, _, err := authority.Issue(spiffe(t, identity.HubID(domain)), nil, nil, 0); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("an authority that ended signs: %v", err)
	}
}

// authorityPEM makes what a Secret would hold, with the change of a test.
func authorityPEM(t *testing.T, c *clock, change func(*x509.Certificate)) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, URIs: []*url.URL{domain.ID().URL()},
		NotBefore: c.Now().Add(-time.Hour), NotAfter: c.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	change(root)
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func TestParseAuthority(t *testing.T) {
	c := newClock()
	good, key := authorityPEM(t, c, func(*x509.Certificate) {})
	other, otherKey := authorityPEM(t, c, func(*x509.Certificate) {})
	leaf, leafKey := authorityPEM(t, c, func(r *x509.Certificate) { r.IsCA, r.KeyUsage = false, x509.KeyUsageDigitalSignature })
	foreign, foreignKey := authorityPEM(t, c, func(r *x509.Certificate) { r.URIs[0].Host = "other.org" })
	ended, endedKey := authorityPEM(t, c, func(r *x509.Certificate) { r.NotAfter = c.Now().Add(-time.Minute) })
	for name, tc := range map[string]struct {
		reason            string
		cert, key, bundle []byte
		roots             int
		wantErr           string
	}{
		"Alone":    {reason: "An authority without others trusts itself.", cert: good, key: key, roots: 1},
		"Itself":   {reason: "It is listed once.", cert: good, key: key, bundle: good, roots: 1},
		"Others":   {reason: "While authorities change, both are trusted.", cert: good, key: key, bundle: append(slices.Clone(other), good...), roots: 2},
		"Nothing":  {reason: "An empty Secret.", wantErr: "the certificate: there is none"},
		"NoKey":    {reason: "Half a Secret.", cert: good, wantErr: "the key is not one PEM block"},
		"OtherKey": {reason: "A key of another.", cert: good, key: otherKey, wantErr: "not that of the certificate"},
		"Rubbish":  {reason: "Not PEM.", cert: []byte("x"), key: key, wantErr: "not PEM"},
		"KeyInIt":  {reason: "A key must not get where certificates are shown.", cert: slices.Concat(good, key), key: key, wantErr: "PEM block \"PRIVATE KEY\""},
		"Bundle":   {reason: "Roots that cannot be read would cut clients off.", cert: good, key: key, bundle: []byte("x"), wantErr: "the trusted roots"},
		"Leaf":     {reason: "Not an authority.", cert: leaf, key: leafKey, wantErr: "not that of an authority"},
		"Foreign":  {reason: "Another trust domain's.", cert: foreign, key: foreignKey, wantErr: "trust domain"},
		"Ended":    {reason: "Nothing that it signs would be accepted.", cert: ended, key: endedKey, wantErr: "ended"},
	} {
		t.Run(name, func(t *testing.T) {
			authority, err := identity.ParseAuthority(domain, tc.cert, tc.key, tc.bundle, c.Now)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("%s\ngot %v, want an error with %q", tc.reason, err, tc.wantErr)
				}
				if strings.Contains(err.Error(), "PRIVATE KEY-") {
					t.Errorf("the error shows a key: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes.Count(authority.BundlePEM(), []byte("BEGIN CERTIFICATE")); got != tc.roots {
				t.Errorf("%s\n%d roots, want %d", tc.reason, got, tc.roots)
			}
			if !bytes.HasPrefix(authority.BundlePEM(), good) {
				t.Errorf("its own root is not the first")
			}
		})
	}
}
