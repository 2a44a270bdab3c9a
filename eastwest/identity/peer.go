package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Identify returns who the other side of a gRPC connection proved to be, in the default trust domain.
func Identify(p *peer.Peer) (ID, error) { return IdentifyIn(DefaultTrustDomain(), p, time.Now()) }

// IdentifyIn returns who the other side of a gRPC connection proved to be. The connection must be one of TLS whose
// handshake verified the certificate. That was when it began; whether the certificate is still good is checked against
// now.
func IdentifyIn(td spiffeid.TrustDomain, p *peer.Peer, now time.Time) (ID, error) {
	state, err := stateOf(p)
	if err != nil {
		return ID{}, err
	}
	return identify(td, state, now)
}

func stateOf(p *peer.Peer) (*tls.ConnectionState, error) {
	if p == nil || p.AuthInfo == nil {
		return nil, errors.New("the connection has no TLS: connect with the client certificate of a bootstrap file")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, fmt.Errorf("the connection is secured by %s, wanted is tls with a client certificate", p.AuthInfo.AuthType())
	}
	return &info.State, nil
}

func identify(td spiffeid.TrustDomain, state *tls.ConnectionState, now time.Time) (ID, error) {
	switch {
	case len(state.PeerCertificates) == 0:
		return ID{}, errors.New("no client certificate was given")
	case len(state.VerifiedChains) == 0:
		return ID{}, errors.New("the client certificate was not verified")
	}
	return identifyCertificate(td, state.VerifiedChains[0][0], now)
}

func identifyCertificate(td spiffeid.TrustDomain, leaf *x509.Certificate, now time.Time) (ID, error) {
	s, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return ID{}, fmt.Errorf("the certificate with serial number %x: %w", leaf.SerialNumber, err)
	}
	id, err := Parse(s)
	switch {
	case err != nil:
		return ID{}, err
	case id.TrustDomain != td:
		return ID{}, fmt.Errorf("%s is not of the trust domain %s", s, td)
	case leaf.IsCA:
		return ID{}, fmt.Errorf("%s shows the certificate of an authority as its own", s)
	case now.After(leaf.NotAfter):
		return ID{}, fmt.Errorf("the certificate of %s ended on %s", s, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if _, err := Proved(leaf); err != nil {
		return ID{}, fmt.Errorf("%s: %w", s, err)
	}
	return id, nil
}
