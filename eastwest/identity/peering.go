package identity

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Peering says how gateways of different clusters prove to each other who they are: by TLS 1.3 on both sides, with
// certificates of one trust domain and the role of a gateway. The sources are asked at each handshake, so certificates and
// roots that change need no new configuration, and break no connection.
type Peering struct {
	Own   x509svid.Source
	Roots x509bundle.Source
	// TrustDomain is the default one when it is zero.
	TrustDomain spiffeid.TrustDomain
	// ALPN are the application protocols, of which both sides must have one. None means that it does not matter.
	ALPN []string
	// Revoked is asked at each handshake; nil means that nothing was revoked.
	Revoked RevokedFunc
	// Foreign says that the certificates are not of an Authority but of SPIRE for example, whose certificates do not begin
	// Backdating before they are issued: they count as issued when they begin.
	Foreign bool
	Now     func() time.Time
}

// ServerConfig returns the configuration of a listener for gateways of any cluster of the trust domain.
func (p Peering) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             slices.Clone(p.ALPN),
		GetCertificate:         tlsconfig.GetCertificate(p.Own),
		ClientAuth:             tls.RequireAnyClientCert, // VerifyConnection checks it
		SessionTicketsDisabled: true,                     // connections live long, and each is checked
		VerifyConnection: func(state tls.ConnectionState) error {
			_, _, err := p.check(&state, x509.ExtKeyUsageClientAuth)
			return err
		},
	}
}

// PeerConfig returns the configuration with which to connect to a gateway of a cluster, by its id.
func (p Peering) PeerConfig(cluster string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		NextProtos:           slices.Clone(p.ALPN),
		GetClientCertificate: tlsconfig.GetClientCertificate(p.Own),
		InsecureSkipVerify:   true, //nolint:gosec // names do not say who a gateway is: VerifyConnection checks its SPIFFE ID
		VerifyConnection: func(state tls.ConnectionState) error {
			id, _, err := p.check(&state, x509.ExtKeyUsageServerAuth)
			if err == nil && id.Cluster != cluster {
				err = refuse(ReasonWrongIdentity, "%s answered, wanted is a gateway of cluster %s", id, cluster)
			}
			return err
		},
	}
}

// Identify returns which gateway a client of a listener with ServerConfig is, and when its certificate was issued. It checks
// everything as it is now: a connection that has lived for long may not be good any more. Every error is a *RefusedError.
func (p Peering) Identify(state *tls.ConnectionState) (ID, time.Time, error) {
	return p.check(state, x509.ExtKeyUsageClientAuth)
}

func (p Peering) check(state *tls.ConnectionState, usage x509.ExtKeyUsage) (ID, time.Time, error) {
	td, now, _ := defaults(p.TrustDomain, p.Now, 0)
	v := verifier{trustDomain: td, roots: p.Roots, usage: usage, revoked: p.Revoked, issued: Issued, now: now}
	if p.Foreign {
		v.issued = func(leaf *x509.Certificate) time.Time { return leaf.NotBefore }
	}
	id, issued, err := v.verify(state.PeerCertificates)
	switch {
	case err != nil:
		return ID{}, time.Time{}, err
	case id.Role != RoleGateway:
		return ID{}, time.Time{}, refuse(ReasonWrongIdentity, "%s is no gateway", id)
	case len(p.ALPN) > 0 && !slices.Contains(p.ALPN, state.NegotiatedProtocol):
		return ID{}, time.Time{}, refuse(ReasonProtocol, "%s speaks %q, wanted is one of %q", id, state.NegotiatedProtocol, p.ALPN)
	}
	return id, issued, nil
}
