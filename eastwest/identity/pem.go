package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// parseCertificates reads one certificate or more. Blocks of another type are a mistake: a key must not get where
// certificates are shown.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil:
			return nil, errors.New("there is something that is not PEM")
		case block.Type != pemCertificate:
			return nil, fmt.Errorf("there is a PEM block %q, wanted is %s", block.Type, pemCertificate)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, errors.New("there is none")
	}
	return certificates, nil
}

func encodeCertificates(certificates ...*x509.Certificate) []byte {
	var text bytes.Buffer
	for _, certificate := range certificates {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: certificate.Raw}))
	}
	return text.Bytes()
}

// Types of PEM blocks with keys in the formats that external issuers use.
const (
	pemKeySEC1  = "EC PRIVATE KEY"
	pemKeyPKCS1 = "RSA PRIVATE KEY"
)

// minimumRSA is how many bits an RSA key needs (NIST SP 800-131A).
const minimumRSA = 2048

// parseKey reads a private key in PKCS #8. Its errors say nothing of the content.
func parseKey(text []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pemKey || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("the key is not one PEM block %q", pemKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key is not in PKCS #8")
	}
	return signer(parsed)
}

// parseForeignKey reads a private key in one of the formats that external issuers use. Its errors say nothing of the
// content.
func parseForeignKey(text []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("the key is not one PEM block")
	}
	var parsed any
	var err error
	switch block.Type {
	case pemKey:
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case pemKeySEC1:
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	case pemKeyPKCS1:
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("the key is a PEM block %q, wanted is %q, %q or %q", block.Type, pemKey, pemKeySEC1, pemKeyPKCS1)
	}
	if err != nil {
		return nil, fmt.Errorf("the key cannot be read as what its PEM block says, %q", block.Type)
	}
	return signer(parsed)
}

// signer returns a parsed key if it is of a kind that signs certificates well enough.
func signer(parsed any) (crypto.Signer, error) {
	switch key := parsed.(type) {
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	case *rsa.PrivateKey:
		if key.N.BitLen() < minimumRSA {
			return nil, fmt.Errorf("the key is for RSA with %d bits, wanted are at least %d", key.N.BitLen(), minimumRSA)
		}
		return key, nil
	}
	return nil, fmt.Errorf("the key is a %T, wanted is one for ECDSA, Ed25519 or RSA", parsed)
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}
