package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// ParseExternal reads an authority that somebody else made and renews, as cert-manager does for a Certificate with
// isCA: true: its certificate with what is between it and the root, its key (PKCS #8, PKCS #1 or SEC 1), and the roots, all
// in PEM. Further roots are trusted besides. It checks that what the authority signs will be accepted, and says what is
// wrong with it otherwise.
func ParseExternal(td spiffeid.TrustDomain, certPEM, keyPEM, rootsPEM, furtherPEM []byte, now func() time.Time) (*Authority, error) {
	certificates, err := parseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("tls.crt: %w", err)
	}
	key, err := parseForeignKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("tls.key: %w", err)
	}
	if len(bytes.TrimSpace(rootsPEM)) == 0 {
		return nil, errors.New("ca.crt is empty: the issuer does not say whom to trust. Use an issuer that does, one of type CA for example")
	}
	roots, err := parseCertificates(rootsPEM)
	if err != nil {
		return nil, fmt.Errorf("ca.crt: %w", err)
	}
	var further []*x509.Certificate
	if len(bytes.TrimSpace(furtherPEM)) > 0 {
		if further, err = parseCertificates(furtherPEM); err != nil {
			return nil, fmt.Errorf("the further roots: %w", err)
		}
	}
	if !belongs(key, certificates[0]) {
		return nil, errors.New("tls.key is not the key of tls.crt")
	}
	a := &Authority{trustDomain: td, certificate: certificates[0], key: key, now: now}
	for _, certificate := range certificates {
		if !selfSigned(certificate) { // a root is known to whoever trusts it
			a.chain = append(a.chain, certificate)
		}
	}
	a.trust(unite(roots, further))
	if err := a.check(); err != nil {
		return nil, err
	}
	return a, nil
}

// check returns why what the authority signs would not be accepted.
func (a *Authority) check() error {
	c, now := a.certificate, a.now()
	lacks := func(usage x509.ExtKeyUsage) bool {
		return len(c.ExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, usage) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
	}
	switch {
	case !c.IsCA:
		return errors.New("the certificate is not that of an authority (with cert-manager: isCA: true)")
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("the certificate is not for signing certificates: its key usage has to have \"cert sign\"")
	case lacks(x509.ExtKeyUsageServerAuth), lacks(x509.ExtKeyUsageClientAuth):
		return errors.New("the extended key usages of the certificate leave out servers or clients: it has to have both, or none")
	case now.After(a.ends()):
		return fmt.Errorf("the certificate ended on %s", a.ends().UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("the certificate begins on %s only", c.NotBefore.UTC().Format(time.RFC3339))
	}
	for _, uri := range c.URIs {
		if strings.EqualFold(uri.Scheme, "spiffe") && uri.String() != a.trustDomain.IDString() {
			return fmt.Errorf("the certificate is for %s, wanted is the trust domain %s", uri, a.trustDomain.IDString())
		}
	}
	return a.try()
}

// try signs something, and checks it as others will.
func (a *Authority) try() error {
	hub, err := HubID(a.trustDomain).SPIFFE()
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key to try the authority with: %w", err)
	}
	text, err := a.Sign(key.Public(), Request{ID: hub})
	if err != nil {
		return err
	}
	chain, err := parseCertificates(text)
	if err != nil {
		return fmt.Errorf("reading what the authority signed: %w", err)
	}
	_, _, err = x509svid.Verify(chain, a.bundle, x509svid.WithTime(a.now()))
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.TooManyIntermediates:
		return errors.New("an authority above the certificate has a path length that leaves no room for it")
	case errors.As(err, &unknown):
		return fmt.Errorf("the certificate does not lead to one of the roots: %w", unknown)
	case err != nil:
		return fmt.Errorf("what the authority signs would be refused: %w", err)
	}
	return nil
}

func selfSigned(certificate *x509.Certificate) bool {
	return bytes.Equal(certificate.RawSubject, certificate.RawIssuer) && certificate.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature) == nil
}
