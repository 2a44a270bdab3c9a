package identity

import (
	"crypto/tls"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// ClientConfig returns the configuration of a client that connects to a hub: it shows its own certificate, and accepts
// whoever proves to be a hub of the same trust domain, at whatever address. The sources are asked at each handshake, so
// one that reloads needs no new configuration.
func ClientConfig(own x509svid.Source, roots x509bundle.Source, td spiffeid.TrustDomain) (*tls.Config, error) {
	hub, err := HubID(td).SPIFFE()
	if err != nil {
		return nil, err
	}
	config := tlsconfig.MTLSClientConfig(own, roots, tlsconfig.AuthorizeID(hub))
	config.MinVersion = tls.VersionTLS13
	return config, nil
}

// ClientConfigPEM returns the configuration of a client as ClientConfig does, from what a Secret or a directory holds.
// The trust domain is that of the certificate.
func ClientConfigPEM(certPEM, keyPEM, rootsPEM []byte) (*tls.Config, error) {
	own, err := x509svid.Parse(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the client certificate: %w", err)
	}
	roots, err := x509bundle.Parse(own.ID.TrustDomain(), rootsPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the trusted roots: %w", err)
	}
	return ClientConfig(own, roots, own.ID.TrustDomain())
}
