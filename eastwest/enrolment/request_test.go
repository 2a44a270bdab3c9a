package enrolment_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
)

const m1 = "spiffe://clusterset.local/cluster/m1/gateway"

func ecdsaKey(tb testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func requestFor(tb testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func uris(tb testing.TB, texts ...string) []*url.URL {
	tb.Helper()
	var all []*url.URL
	for _, text := range texts {
		uri, err := url.Parse(text)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, uri)
	}
	return all
}

func TestParseRequest(t *testing.T) {
	p256, p384 := ecdsaKey(t, elliptic.P256()), ecdsaKey(t, elliptic.P384())
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	plain := &x509.CertificateRequest{}
	good := requestFor(t, p256, plain)
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	for name, tc := range map[string]struct {
		reason  string
		der     []byte
		public  crypto.PublicKey
		wantErr string
		wantFor string // the error of For
	}{
		"P256":      {reason: "What agents send.", der: good, public: p256.Public()},
		"P384":      {reason: "Stronger is fine.", der: requestFor(t, p384, plain), public: p384.Public()},
		"Ed25519":   {reason: "Another good kind.", der: requestFor(t, ed, plain), public: ed.Public()},
		"Itself":    {reason: "It may say who it is.", der: requestFor(t, p256, &x509.CertificateRequest{URIs: uris(t, m1)}), public: p256.Public()},
		"Subject":   {reason: "A subject says nothing.", der: requestFor(t, p256, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin"}}), public: p256.Public()},
		"Other":     {reason: "It asks to be somebody else.", der: requestFor(t, p256, &x509.CertificateRequest{URIs: uris(t, "spiffe://clusterset.local/admin")}), public: p256.Public(), wantFor: "what is proved is"},
		"Two":       {reason: "It asks to be two.", der: requestFor(t, p256, &x509.CertificateRequest{URIs: uris(t, m1, "spiffe://clusterset.local/admin")}), wantErr: "asks for names"},
		"DNS":       {reason: "A certificate for a name could pass for a hub at plain TLS clients.", der: requestFor(t, p256, &x509.CertificateRequest{DNSNames: []string{"hub"}}), wantErr: "asks for names"},
		"IP":        {reason: "As a name.", der: requestFor(t, p256, &x509.CertificateRequest{IPAddresses: []net.IP{{127, 0, 0, 1}}}), wantErr: "asks for names"},
		"Email":     {reason: "As a name.", der: requestFor(t, p256, &x509.CertificateRequest{EmailAddresses: []string{"a@b"}}), wantErr: "asks for names"},
		"RSA":       {reason: "Slow to check, which strangers could use.", der: requestFor(t, rsaKey, plain), wantErr: "has to be for ECDSA"},
		"P521":      {reason: "Not needed.", der: requestFor(t, ecdsaKey(t, elliptic.P521()), plain), wantErr: "has to be for ECDSA"},
		"P224":      {reason: "Too weak.", der: requestFor(t, ecdsaKey(t, elliptic.P224()), plain), wantErr: "has to be for ECDSA"},
		"Forged":    {reason: "Somebody else's public key.", der: forged, wantErr: "its own key"},
		"Nothing":   {reason: "Empty.", wantErr: "not PKCS #10"},
		"More":      {reason: "Something follows.", der: append(bytes.Clone(good), 0), wantErr: "the request"},
		"PEM":       {reason: "Not DER.", der: []byte("-----BEGIN CERTIFICATE REQUEST-----"), wantErr: "not PKCS #10"},
		"Oversized": {reason: "Not even parsed.", der: make([]byte, enrolment.MaxRequest+1), wantErr: "the most is"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := enrolment.ParseRequest(tc.der)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("%s\ngot %v, want an error with %q", tc.reason, err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s\n%v", tc.reason, err)
			}
			if public, ok := got.Public.(interface {
				Equal(key crypto.PublicKey) bool
			}); !ok || !public.Equal(tc.public) {
				t.Errorf("%s\nthe key is another", tc.reason)
			}
			err = got.For(spiffeid.RequireFromString(m1))
			if tc.wantFor == "" && err != nil || tc.wantFor != "" && (err == nil || !strings.Contains(err.Error(), tc.wantFor)) {
				t.Errorf("%s\ngot %v, want an error with %q", tc.reason, err, tc.wantFor)
			}
		})
	}
}

// FuzzParseRequest: what is accepted has a key of a kind that is wanted, and asks for one URI at most.
func FuzzParseRequest(f *testing.F) {
	key := ecdsaKey(f, elliptic.P256())
	for _, template := range []*x509.CertificateRequest{
		{}, {URIs: uris(f, m1)}, {DNSNames: []string{"hub"}}, {Subject: pkix.Name{CommonName: "x"}},
	} {
		f.Add(requestFor(f, key, template))
	}
	f.Add([]byte{})
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, der []byte) {
		request, err := enrolment.ParseRequest(der)
		if err != nil {
			return
		}
		switch key := request.Public.(type) {
		case *ecdsa.PublicKey:
			if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
				t.Errorf("curve %s", key.Curve.Params().Name)
			}
		case ed25519.PublicKey:
		default:
			t.Errorf("key %T", key)
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil || csr.CheckSignature() != nil || len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0 || len(csr.URIs) > 1 {
			t.Errorf("accepted: %+v, %v", csr, err)
		}
		if len(csr.URIs) == 1 && csr.URIs[0].String() != m1 && request.For(spiffeid.RequireFromString(m1)) == nil {
			t.Errorf("%s passes for %s", csr.URIs[0], m1)
		}
	})
}
