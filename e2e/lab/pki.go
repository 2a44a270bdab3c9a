package lab

import (
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
	"time"
)

// certLife is how long certificates of a lab are valid; a lab is thrown away long before.
const certLife = 365 * 24 * time.Hour

// certSkew is how far back validity begins, for clocks that disagree.
const certSkew = 5 * time.Minute

// keyPair is a certificate and its private key, both in PEM.
type keyPair struct {
	Cert, Key []byte
}

// authority signs the certificates of one cluster.
type authority struct {
	keyPair
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes a self-signed certificate authority.
func newAuthority(name string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of %s: %w", name, err)
	}
	tmpl := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-certSkew),
		NotAfter:              now.Add(certLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	pair, err := sign(tmpl, key, nil)
	if err != nil {
		return nil, fmt.Errorf("making %s: %w", name, err)
	}
	return loadAuthority(pair)
}

// loadAuthority reads an authority back from its PEM form.
func loadAuthority(pair keyPair) (*authority, error) {
	block, _ := pem.Decode(pair.Cert)
	if block == nil {
		return nil, errors.New("the authority's certificate is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing the authority's certificate: %w", err)
	}
	block, _ = pem.Decode(pair.Key)
	if block == nil {
		return nil, errors.New("the authority's key is not PEM")
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing the authority's key: %w", err)
	}
	return &authority{keyPair: pair, cert: cert, key: key}, nil
}

// client issues a certificate for a user and its groups; Kubernetes reads them from common name and organisation.
func (a *authority) client(now time.Time, user string, groups ...string) (keyPair, error) {
	return a.issue(now, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// server issues a certificate for a server on the loopback interface and the given further names. It can be used as
// a client certificate too: an etcd member presents it to its own peers and gateway.
func (a *authority) server(now time.Time, name string, names []string, ips []net.IP) (keyPair, error) {
	return a.issue(now, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    append([]string{"localhost"}, names...),
		IPAddresses: append([]net.IP{net.IPv4(127, 0, 0, 1)}, ips...),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

func (a *authority) issue(now time.Time, tmpl *x509.Certificate) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("making the key of %s: %w", tmpl.Subject.CommonName, err)
	}
	tmpl.NotBefore, tmpl.NotAfter = now.Add(-certSkew), now.Add(certLife)
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	pair, err := sign(tmpl, key, a)
	if err != nil {
		return keyPair{}, fmt.Errorf("issuing the certificate of %s: %w", tmpl.Subject.CommonName, err)
	}
	return pair, nil
}

// sign makes the certificate for key, signed by parent, or by itself if parent is nil.
func sign(tmpl *x509.Certificate, key *ecdsa.PrivateKey, parent *authority) (keyPair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return keyPair{}, err
	}
	tmpl.SerialNumber = serial
	issuer, issuerKey := tmpl, key
	if parent != nil {
		issuer, issuerKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		return keyPair{}, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: keyPEM}, nil
}

// newSigningKey makes the key pair that signs and verifies service-account tokens: public key in Cert.
func newSigningKey() (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("making the service-account key: %w", err)
	}
	private, err := encodeKey(key)
	if err != nil {
		return keyPair{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return keyPair{}, fmt.Errorf("encoding the service-account key: %w", err)
	}
	return keyPair{Cert: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), Key: private}, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
