package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// IntermediateLifetime is how long an intermediate is good for. The Keeper makes the next one when a third of it is gone:
// what the old one signed last is good for Lifetime at most, and so ends before it.
const IntermediateLifetime = 3 * Lifetime

// NewIntermediate makes an authority below this one, which has to be a root, with a key of its own.
func (a *Authority) NewIntermediate() (*Authority, error) {
	if !a.delegates() {
		return nil, fmt.Errorf("the root of %s has path length 0: there cannot be an authority below it", a.trustDomain)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of an intermediate of %s: %w", a.trustDomain, err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := a.now()
	if now.After(a.ends()) {
		return nil, fmt.Errorf("the root of %s ended on %s", a.trustDomain, a.ends().UTC().Format(time.RFC3339))
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:   serial,
		Subject:        pkix.Name{CommonName: "Hansa intermediate of " + a.trustDomain.Name(), SerialNumber: serial.Text(16)},
		URIs:           []*url.URL{a.trustDomain.ID().URL()},
		NotBefore:      now.Add(-Backdating),
		NotAfter:       earlier(now.Add(IntermediateLifetime), a.ends()),
		KeyUsage:       x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:           true,
		MaxPathLenZero: true, // it signs leaves only

		BasicConstraintsValid: true,
	}, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("signing an intermediate of %s: %w", a.trustDomain, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading an intermediate of %s: %w", a.trustDomain, err)
	}
	return a.below(certificate, key), nil
}

// ParseIntermediate reads an authority below one of the roots that this one trusts: certificate and key, in PEM. It checks
// that they belong together and to the root, and that it has not ended.
func (a *Authority) ParseIntermediate(certPEM, keyPEM []byte) (*Authority, error) {
	certificates, err := parseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	certificate := certificates[0]
	switch {
	case len(certificates) > 1:
		return nil, fmt.Errorf("there are %d certificates, wanted is one", len(certificates))
	case !belongs(key, certificate):
		return nil, errors.New("the key is not that of the certificate")
	}
	below := a.below(certificate, key)
	if err := below.check(); err != nil {
		return nil, err
	}
	return below, nil
}

// below returns the authority with a key whose certificate this one, or another of its roots, has signed.
func (a *Authority) below(certificate *x509.Certificate, key crypto.Signer) *Authority {
	return &Authority{
		trustDomain: a.trustDomain, certificate: certificate, key: key, chain: []*x509.Certificate{certificate},
		bundle: a.bundle, bundlePEM: a.bundlePEM, now: a.now,
	}
}

// delegates tells whether there may be an authority below it.
func (a *Authority) delegates() bool {
	return a.certificate.MaxPathLen != 0 || !a.certificate.MaxPathLenZero
}

// signed tells whether it signed another authority.
func (a *Authority) signed(other *Authority) bool {
	return other.certificate.CheckSignatureFrom(a.certificate) == nil
}
