package enrolment

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// maxRequest is the most that a request may have, in bytes: one with a key and a SPIFFE ID has some 300.
const maxRequest = 8 << 10

// Request is a request for a certificate (PKCS #10, RFC 2986) whose signature was checked.
type Request struct {
	Public crypto.PublicKey
	asks   string // the URI it asks for; empty: none
}

// ParseRequest reads a request in DER. Its key has to be for ECDSA on P-256 or P-384, or for Ed25519, and to have signed
// the request. It may ask for one URI and for no other name; what else it asks for is not regarded.
func ParseRequest(der []byte) (Request, error) {
	if len(der) > maxRequest {
		return Request{}, fmt.Errorf("the request for a certificate has %d bytes; the most is %d", len(der), maxRequest)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return Request{}, fmt.Errorf("the request for a certificate is not PKCS #10 in DER: %w", err)
	}
	if !bytes.Equal(csr.Raw, der) {
		return Request{}, errors.New("there is something after the request for a certificate")
	}
	if err := checkKey(csr.PublicKey); err != nil { // before the signature: what it costs to check depends on the key
		return Request{}, err
	}
	if err := csr.CheckSignature(); err != nil {
		return Request{}, fmt.Errorf("the request for a certificate is not signed with its own key: %w", err)
	}
	if n := len(csr.DNSNames) + len(csr.IPAddresses) + len(csr.EmailAddresses); n > 0 || len(csr.URIs) > 1 {
		return Request{}, errors.New("the request for a certificate asks for names: it may ask for its own SPIFFE ID, and for nothing else")
	}
	request := Request{Public: csr.PublicKey}
	if len(csr.URIs) == 1 {
		request.asks = csr.URIs[0].String()
	}
	return request, nil
}

func checkKey(public any) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("the key of the request for a certificate is a %T: it has to be for ECDSA on P-256 or P-384, or for Ed25519", public)
}

// For returns an error if the request asks for somebody else than id.
func (r Request) For(id spiffeid.ID) error {
	if r.asks != "" && r.asks != id.String() {
		return fmt.Errorf("the request for a certificate is for %q; what is proved is %s", r.asks, id)
	}
	return nil
}

// newRequest makes a key on P-256 and a request for it. It asks for no name: the hub knows.
func newRequest() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("making a request for a certificate: %w", err)
	}
	return key, der, nil
}
