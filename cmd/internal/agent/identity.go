package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// tlsFiles is a directory with a certificate for the hub. It is read at each handshake, of which there are few.
type tlsFiles struct{ dir string }

// GetX509SVID implements x509svid.Source.
func (f tlsFiles) GetX509SVID() (*x509svid.SVID, error) {
	own, err := x509svid.Load(filepath.Join(f.dir, corev1.TLSCertKey), filepath.Join(f.dir, corev1.TLSPrivateKeyKey))
	if err != nil {
		return nil, fmt.Errorf("reading the certificate for the hub: %w", err)
	}
	return own, nil
}

// GetX509BundleForTrustDomain implements x509bundle.Source.
func (f tlsFiles) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	text, err := os.ReadFile(filepath.Join(f.dir, identity.CAKey))
	if err != nil {
		return nil, fmt.Errorf("reading whom to trust as a hub: %w", err)
	}
	roots, err := x509bundle.Parse(td, text)
	if err != nil {
		return nil, fmt.Errorf("reading whom to trust as a hub, %s: %w", filepath.Join(f.dir, identity.CAKey), err)
	}
	return roots, nil
}
