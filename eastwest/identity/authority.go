package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// Lifetime is how long a certificate is good for unless its Request says otherwise.
	Lifetime = 30 * 24 * time.Hour
	// Backdating is how far before its issue a certificate begins: clocks differ.
	Backdating = time.Hour
	// AuthorityLifetime is how long the root is good for.
	AuthorityLifetime = 10 * 365 * 24 * time.Hour

	// serialBits is the size of a serial number, which X.509 limits to 20 bytes.
	serialBits = 128
)

// The types of PEM blocks.
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

// Issuer signs certificates of one trust domain, and says whom to trust in it. Authority is one, and so is a Server, which
// signs with whatever authority there is at the time.
type Issuer interface {
	TrustDomain() spiffeid.TrustDomain
	// Sign signs a certificate for a public key, and returns it in PEM with what is between it and a root.
	Sign(public crypto.PublicKey, request Request) (chainPEM []byte, err error)
	// BundlePEM returns the roots by which everybody of the trust domain is checked; nil when they are not known yet.
	BundlePEM() []byte
}

var _ Issuer = (*Authority)(nil)

// Authority signs certificates of one trust domain: with a root, with an intermediate below one, or with what an external
// issuer gave. It is immutable.
type Authority struct {
	trustDomain spiffeid.TrustDomain
	certificate *x509.Certificate // that it signs with
	key         crypto.Signer
	chain       []*x509.Certificate // shown after a leaf: its own certificate and what is above it, without the root
	bundle      *x509bundle.Bundle
	bundlePEM   []byte
	now         func() time.Time
}

// NewAuthority makes an authority with a new key and a root that it signed itself.
func NewAuthority(td spiffeid.TrustDomain, now func() time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of the authority of %s: %w", td, err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Hansa root of " + td.Name()},
		URIs:         []*url.URL{td.ID().URL()},
		NotBefore:    now().Add(-Backdating),
		NotAfter:     now().Add(AuthorityLifetime),
		KeyUsage:     x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:         true,
		MaxPathLen:   1, // room for one intermediate

		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the root of %s: %w", td, err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the root of %s: %w", td, err)
	}
	return newAuthority(td, signed, key, nil, now), nil
}

// ParseAuthority reads an authority: its certificate, its key, and further roots that are trusted beside it, all in PEM.
// It checks that they belong together and to the trust domain, and that the authority has not ended.
func ParseAuthority(td spiffeid.TrustDomain, certPEM, keyPEM, bundlePEM []byte, now func() time.Time) (*Authority, error) {
	certificates, err := parseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	certificate := certificates[0]
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	switch {
	case !belongs(key, certificate):
		return nil, errors.New("the key is not that of the certificate")
	case !certificate.IsCA || certificate.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("the certificate is not that of an authority")
	case len(certificate.URIs) != 1 || certificate.URIs[0].String() != td.IDString():
		return nil, fmt.Errorf("the certificate is for %v, wanted is the trust domain %s", certificate.URIs, td.IDString())
	case now().After(certificate.NotAfter):
		return nil, fmt.Errorf("the certificate ended on %s", certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	var others []*x509.Certificate
	if len(bytes.TrimSpace(bundlePEM)) > 0 {
		if others, err = parseCertificates(bundlePEM); err != nil {
			return nil, fmt.Errorf("the trusted roots: %w", err)
		}
	}
	return newAuthority(td, certificate, key, others, now), nil
}

func newAuthority(td spiffeid.TrustDomain, certificate *x509.Certificate, key crypto.Signer, others []*x509.Certificate, now func() time.Time) *Authority {
	a := &Authority{trustDomain: td, certificate: certificate, key: key, now: now}
	a.trust(unite([]*x509.Certificate{certificate}, others))
	return a
}

// trust sets the roots.
func (a *Authority) trust(roots []*x509.Certificate) {
	a.bundle, a.bundlePEM = x509bundle.FromX509Authorities(a.trustDomain, roots), encodeCertificates(roots...)
}

// unite returns the certificates of all lists, in their order, each once.
func unite(lists ...[]*x509.Certificate) []*x509.Certificate {
	var all []*x509.Certificate
	for _, list := range lists {
		for _, each := range list {
			if !slices.ContainsFunc(all, each.Equal) {
				all = append(all, each)
			}
		}
	}
	return all
}

// belongs tells whether a key is that of a certificate.
func belongs(key crypto.Signer, certificate *x509.Certificate) bool {
	public, ok := key.Public().(interface {
		Equal(other crypto.PublicKey) bool
	})
	return ok && public.Equal(certificate.PublicKey)
}

// TrustDomain returns the trust domain whose IDs it signs.
func (a *Authority) TrustDomain() spiffeid.TrustDomain { return a.trustDomain }

// BundlePEM returns the roots by which its certificates are checked. The first is the one that it signs with or below,
// unless an external issuer says otherwise.
func (a *Authority) BundlePEM() []byte { return bytes.Clone(a.bundlePEM) }

// Bundle returns the roots by which its certificates are checked.
func (a *Authority) Bundle() *x509bundle.Bundle { return a.bundle.Clone() }

// Certificate returns its own certificate, the one that it signs with.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// Request says what a certificate should hold.
type Request struct {
	ID       spiffeid.ID
	DNSNames []string // of a server
	IPs      []net.IP // of a server
	Lifetime time.Duration
	// Proved is when its holder proved who it is, which a certificate keeps that is renewed. The zero time means when the
	// certificate is signed.
	Proved time.Time
}

// Sign signs a certificate for somebody's public key and returns it in PEM with what is between it and the root. The
// request's Lifetime of 0 means Lifetime; the certificate never outlives the authority, but may seem to have begun before
// it, by Backdating. Only IDs that Parse accepts are signed.
func (a *Authority) Sign(public crypto.PublicKey, request Request) ([]byte, error) {
	now := a.now()
	who, err := Parse(request.ID)
	switch {
	case err != nil:
		return nil, err
	case who.TrustDomain != a.trustDomain:
		return nil, fmt.Errorf("%s is not of the trust domain %s", request.ID, a.trustDomain)
	case now.After(a.ends()):
		return nil, fmt.Errorf("the authority of %s ended on %s", a.trustDomain, a.ends().UTC().Format(time.RFC3339))
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	lifetime := request.Lifetime
	if lifetime <= 0 {
		lifetime = Lifetime
	}
	leaf := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName(who)},
		URIs:         []*url.URL{request.ID.URL()},
		DNSNames:     request.DNSNames,
		IPAddresses:  request.IPs,
		NotBefore:    now.Add(-Backdating), // always by as much: Signed counts on it
		NotAfter:     earlier(now.Add(lifetime), a.ends()),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  usages(who, request),

		BasicConstraintsValid: true,
	}
	if !request.Proved.IsZero() {
		proof, err := proofOf(request.Proved)
		if err != nil {
			return nil, err
		}
		leaf.ExtraExtensions = []pkix.Extension{proof}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.certificate, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate for %s: %w", request.ID, err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}), encodeCertificates(a.chain...)...), nil
}

// ends returns when nothing that it signs is good any more.
func (a *Authority) ends() time.Time {
	ends := a.certificate.NotAfter
	for _, above := range a.chain {
		ends = earlier(ends, above.NotAfter)
	}
	return ends
}

// Issue makes a key and signs a certificate for it; both in PEM. A lifetime of 0 means Lifetime.
func (a *Authority) Issue(id spiffeid.ID, dnsNames []string, ips []net.IP, lifetime time.Duration) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key for %s: %w", id, err)
	}
	certPEM, err = a.Sign(key.Public(), Request{ID: id, DNSNames: dnsNames, IPs: ips, Lifetime: lifetime})
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	return certPEM, keyPEM, err
}

// usages lets everybody be a client, and those be servers whom somebody connects to.
func usages(who ID, request Request) []x509.ExtKeyUsage {
	serves := who.Role == RoleHub || who.Role == RoleGateway || len(request.DNSNames) > 0 || len(request.IPs) > 0
	if !serves {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
}

// maxCommonName is the limit that X.509 sets.
const maxCommonName = 64

func commonName(who ID) string {
	name := string(who.Role)
	if who.Cluster != "" {
		name += "." + who.Cluster
	}
	return name[:min(len(name), maxCommonName)]
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
