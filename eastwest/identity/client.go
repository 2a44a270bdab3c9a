package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// HubClient says how somebody connects to a hub. The sources are asked at each handshake, so one that reloads needs no new
// configuration.
type HubClient struct {
	Own   x509svid.Source // nil: it has no certificate yet, and shows none
	Roots x509bundle.Source
	// TrustDomain is the default one when it is zero.
	TrustDomain spiffeid.TrustDomain
	Now         func() time.Time
}

// Config returns the configuration of a client that accepts whoever proves to be a hub of the trust domain, at whatever
// address, and nobody else.
func (c HubClient) Config() *tls.Config {
	td, now, _ := defaults(c.TrustDomain, c.Now, 0)
	v := verifier{trustDomain: td, roots: c.Roots, usage: x509.ExtKeyUsageServerAuth, issued: Issued, now: now}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // names do not say who is a hub: VerifyConnection checks its SPIFFE ID
		VerifyConnection: func(state tls.ConnectionState) error {
			id, _, err := v.verify(state.PeerCertificates)
			if err == nil && !id.Hub() {
				err = refuse(ReasonWrongIdentity, "%s answered, wanted is a hub", id)
			}
			return err
		},
	}
	if c.Own != nil {
		config.GetClientCertificate = tlsconfig.GetClientCertificate(c.Own)
	}
	return config
}

// ClientConfig returns the configuration of a client that connects to a hub with its own certificate, as HubClient does.
func ClientConfig(own x509svid.Source, roots x509bundle.Source, td spiffeid.TrustDomain) (*tls.Config, error) {
	if td.IsZero() {
		return nil, errors.New("connecting to a hub: there is no trust domain")
	}
	return HubClient{Own: own, Roots: roots, TrustDomain: td}.Config(), nil
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
