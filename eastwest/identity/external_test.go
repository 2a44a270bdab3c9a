package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// made is an authority as another program makes it.
type made struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func makeKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// makeCA makes an authority that another one signs; by itself when there is none.
func makeCA(t *testing.T, c *clock, name string, key crypto.Signer, above *made, change func(*x509.Certificate)) made {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: c.Now().Add(-time.Minute), NotAfter: c.Now().Add(90 * day),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if above != nil {
		parent, signer = above.certificate, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made{certificate, key}
}

// keyPEM encodes a key in PKCS #8.
func keyPEM(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestParseExternal(t *testing.T) {
	c := newClock()
	root := makeCA(t, c, "root", makeKey(t), nil, nil)
	other := makeCA(t, c, "other", makeKey(t), nil, nil)
	issuing := makeCA(t, c, "issuing", makeKey(t), &root, nil)
	third := makeCA(t, c, "third", makeKey(t), &issuing, func(ca *x509.Certificate) { ca.MaxPathLenZero = true })
	narrow := makeCA(t, c, "narrow", makeKey(t), nil, func(ca *x509.Certificate) { ca.MaxPathLenZero = true })
	below := func(above made, change func(*x509.Certificate)) made {
		return makeCA(t, c, "below", makeKey(t), &above, change)
	}

	ecKey := makeKey(t).(*ecdsa.PrivateKey)
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := url.Parse("spiffe://other.org")
	if err != nil {
		t.Fatal(err)
	}

	for name, tc := range map[string]struct {
		reason       string
		signs        made
		above        []made // that come with it
		key          []byte // instead of its own
		roots        []byte
		further      []byte
		chain, trust int // how many a leaf shows besides itself, how many roots there are
		wantErr      string
	}{
		"CertManager":  {reason: "As a CA issuer of cert-manager makes it.", signs: issuing, roots: pemOf(root.certificate), chain: 1, trust: 1},
		"SelfSigned":   {reason: "As a self-signed issuer of cert-manager makes it: a root shows nothing.", signs: root, roots: pemOf(root.certificate), chain: 0, trust: 1},
		"Deep":         {reason: "What is between it and the root comes with it.", signs: third, above: []made{issuing}, roots: pemOf(root.certificate), chain: 2, trust: 1},
		"WithRoot":     {reason: "A root in the chain is not shown.", signs: issuing, above: []made{root}, roots: pemOf(root.certificate), chain: 1, trust: 1},
		"Further":      {reason: "Those who have certificates from before go on.", signs: issuing, roots: pemOf(root.certificate), further: pemOf(other.certificate, root.certificate), chain: 1, trust: 2},
		"SEC1":         {reason: "cert-manager's encoding PKCS1 with an ECDSA key.", signs: makeCA(t, c, "sec1", ecKey, &root, nil), key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}), roots: pemOf(root.certificate), chain: 1, trust: 1},
		"PKCS1":        {reason: "cert-manager's default.", signs: makeCA(t, c, "rsa", rsaKey, &root, nil), key: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)}), roots: pemOf(root.certificate), chain: 1, trust: 1},
		"Ed25519":      {reason: "Another kind of key.", signs: makeCA(t, c, "ed", edKey, &root, nil), roots: pemOf(root.certificate), chain: 1, trust: 1},
		"Empty":        {reason: "Not issued yet.", wantErr: "tls.crt: there is none", roots: pemOf(root.certificate)},
		"NoRoots":      {reason: "ACME issuers and Vault may leave it out.", signs: issuing, wantErr: "ca.crt is empty"},
		"RootsRubbish": {reason: "Whom to trust must be certain.", signs: issuing, roots: []byte("x"), wantErr: "ca.crt: "},
		"Key":          {reason: "Half of a renewal.", signs: issuing, key: keyPEM(t, makeKey(t)), roots: pemOf(root.certificate), wantErr: "not the key of tls.crt"},
		"KeyRubbish":   {reason: "Not a key.", signs: issuing, key: pemOf(root.certificate), roots: pemOf(root.certificate), wantErr: "PEM block \"CERTIFICATE\""},
		"NoCA":         {reason: "isCA: true was forgotten.", signs: below(root, func(ca *x509.Certificate) { ca.IsCA, ca.KeyUsage = false, x509.KeyUsageDigitalSignature }), roots: pemOf(root.certificate), wantErr: "isCA: true"},
		"KeyUsage":     {reason: "usages without cert sign.", signs: below(root, func(ca *x509.Certificate) { ca.KeyUsage = x509.KeyUsageDigitalSignature }), roots: pemOf(root.certificate), wantErr: "cert sign"},
		"ExtKeyUsage":  {reason: "usages with server auth only: gateways are clients too.", signs: below(root, func(ca *x509.Certificate) { ca.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), roots: pemOf(root.certificate), wantErr: "extended key usages"},
		"Expired":      {reason: "It ended.", signs: below(root, func(ca *x509.Certificate) { ca.NotAfter = c.Now().Add(-time.Second) }), roots: pemOf(root.certificate), wantErr: "ended on"},
		"Early":        {reason: "It has not begun.", signs: below(root, func(ca *x509.Certificate) { ca.NotBefore = c.Now().Add(time.Minute) }), roots: pemOf(root.certificate), wantErr: "begins on"},
		"PathLength":   {reason: "The authority above may have none below it.", signs: below(narrow, nil), roots: pemOf(narrow.certificate), wantErr: "path length"},
		"OtherRoot":    {reason: "It does not lead to the roots.", signs: issuing, roots: pemOf(other.certificate), wantErr: "does not lead to one of the roots"},
		"Gap":          {reason: "What is between is missing.", signs: third, roots: pemOf(root.certificate), wantErr: "does not lead to one of the roots"},
		"Foreign":      {reason: "It is for another trust domain.", signs: below(root, func(ca *x509.Certificate) { ca.URIs = []*url.URL{foreign} }), roots: pemOf(root.certificate), wantErr: "wanted is the trust domain"},
		"Constrained": {reason: "It may not sign our names.", signs: below(root, func(ca *x509.Certificate) {
			ca.PermittedURIDomains, ca.PermittedDNSDomainsCritical = []string{"other.org"}, true
		}), roots: pemOf(root.certificate), wantErr: "would be refused"},
	} {
		t.Run(name, func(t *testing.T) {
			var cert []byte
			if tc.signs.certificate != nil {
				cert = pemOf(tc.signs.certificate)
				if tc.key == nil {
					tc.key = keyPEM(t, tc.signs.key)
				}
			}
			for _, above := range tc.above {
				cert = append(cert, pemOf(above.certificate)...)
			}
			authority, err := identity.ParseExternal(domain, cert, tc.key, tc.roots, tc.further, c.Now)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("%s\ngot %v, want an error with %q", tc.reason, err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s\n%v", tc.reason, err)
			}
			svid := issueBy(t, authority, gateway("m1"))
			if got := len(svid.Certificates) - 1; got != tc.chain {
				t.Errorf("%s\na leaf shows %d certificates besides itself, want %d", tc.reason, got, tc.chain)
			}
			if got := len(authority.Bundle().X509Authorities()); got != tc.trust {
				t.Errorf("%s\n%d roots, want %d", tc.reason, got, tc.trust)
			}
			if _, _, err := x509svid.Verify(svid.Certificates, authority.Bundle(), x509svid.WithTime(c.Now())); err != nil {
				t.Error(err)
			}
		})
	}
}

func newExternal(host client.Client, c *clock) (*identity.Keeper, *identity.Server) {
	return identity.NewKeeper(identity.KeeperOptions{
			Client: host, Namespace: namespace, Log: logr.Discard(), Now: c.Now, External: "issuer",
			ClusterID: func(name string) (string, bool) { return name, true },
		}), identity.NewServer(identity.ServerOptions{
			Reader: host, Namespace: namespace, Log: logr.Discard(), Now: c.Now, External: "issuer",
		})
}

// TestExternal lets another program hold the authority, renew it, and take it away.
func TestExternal(t *testing.T) {
	c := newClock()
	root := makeCA(t, c, "root", makeKey(t), nil, func(ca *x509.Certificate) { ca.NotAfter = c.Now().Add(365 * day) })
	first := makeCA(t, c, "issuing", makeKey(t), &root, nil)
	host := newHost(t, member("m1", "u1"))
	keeper, server := newExternal(host, c)
	for _, err := range []error{keeper.Keep(t.Context())["the authority"], server.Refresh(t.Context())} {
		if !errors.Is(err, identity.ErrNoAuthority) || !strings.Contains(err.Error(), namespace+"/issuer") {
			t.Errorf("before the external issuer made it: %v", err)
		}
	}
	theirs := secret("issuer", pemOf(first.certificate), keyPEM(t, first.key))
	theirs.Data["ca.crt"] = pemOf(root.certificate)
	if err := host.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	keep(t, keeper)
	if err := server.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := host.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: identity.AuthoritySecret}, theirs.DeepCopy()); err == nil {
		t.Error("there is an authority of our own besides")
	}
	if !signer(t, read(t, host, identity.ClientSecret("m1"))).Equal(first.certificate) || string(server.BundlePEM()) != string(pemOf(root.certificate)) {
		t.Error("the external issuer does not sign, or its root is not the one that is trusted")
	}
	before := issueBy(t, server, gateway("m1"))

	c.Add(29 * day)
	second := makeCA(t, c, "issuing", makeKey(t), &root, nil)
	setData(t, host, "issuer", "tls.crt", pemOf(second.certificate))
	if err := server.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "not the key") {
		t.Errorf("half of a renewal is used: %v", err)
	}
	setData(t, host, "issuer", "tls.key", keyPEM(t, second.key))
	if err := server.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := issueBy(t, server, gateway("m1")); !after.Certificates[1].Equal(second.certificate) {
		t.Error("what was renewed does not sign")
	}
	config := identity.HubClient{Own: before, Roots: readRoots(t, server), Now: c.Now}.Config()
	if _, _, serverErr, clientErr := handshake(t, server.TLSConfig(), config); serverErr != nil || clientErr != nil {
		t.Error("a certificate from before the renewal: ", serverErr, clientErr)
	}
}

// TestToExternal moves a hub from its own authority to another program's: the root of the other is trusted first, and the
// own one goes on being trusted.
func TestToExternal(t *testing.T) {
	c := newClock()
	host, own := stored(t, c)
	root := makeCA(t, c, "root", makeKey(t), nil, nil)
	setData(t, host, identity.AuthoritySecret, "ca.crt", slices.Concat(own.BundlePEM(), pemOf(root.certificate)))
	before := newServer(t, c, host)
	old := &agent{}
	old.renew(t, before, "m1")

	theirs := secret("issuer", pemOf(root.certificate), keyPEM(t, root.key))
	theirs.Data["ca.crt"] = pemOf(root.certificate)
	if err := host.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	_, after := newExternal(host, c)
	if err := after.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	young := &agent{}
	young.renew(t, after, "m1")
	connect(t, c, old, young).echo(t)
	connect(t, c, young, old).echo(t)
	if _, _, serverErr, clientErr := handshake(t, after.TLSConfig(), identity.HubClient{Own: old, Roots: old, Now: c.Now}.Config()); serverErr != nil || clientErr != nil {
		t.Error(serverErr, clientErr)
	}
}

func readRoots(t *testing.T, issuer identity.Issuer) *x509bundle.Bundle {
	t.Helper()
	bundle, err := x509bundle.Parse(domain, issuer.BundlePEM())
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}
