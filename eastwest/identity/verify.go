package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Reason is why somebody was refused. It is the value of a label of a metric.
type Reason string

// The reasons.
const (
	ReasonWrongCA       Reason = "wrong_ca"       // nobody whom we trust signed it, or it is not for this use
	ReasonExpired       Reason = "expired"        // it has ended, or not begun
	ReasonWrongIdentity Reason = "wrong_identity" // it is good, and for somebody else
	ReasonRevoked       Reason = "revoked"        // it was issued before certificates of the cluster were revoked
	ReasonNoCertificate Reason = "no_certificate" // none was shown
	ReasonProtocol      Reason = "protocol"       // another application protocol (ALPN), or TLS before 1.3
	ReasonPlaintext     Reason = "plaintext"      // not TLS
	ReasonRefusedByPeer Reason = "refused_by_peer"
)

// Reasons returns all of them.
func Reasons() []Reason {
	return []Reason{
		ReasonWrongCA, ReasonExpired, ReasonWrongIdentity, ReasonRevoked, ReasonNoCertificate, ReasonProtocol, ReasonPlaintext, ReasonRefusedByPeer,
	}
}

// RefusedError is an error that says why somebody is refused.
type RefusedError struct {
	Reason Reason
	Err    error
}

// Error says what is wrong.
func (r *RefusedError) Error() string { return r.Err.Error() }

// Unwrap returns what is wrong.
func (r *RefusedError) Unwrap() error { return r.Err }

func refuse(reason Reason, format string, args ...any) error {
	return &RefusedError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// ReasonOf returns why a handshake failed, from the error that it returned; empty when nobody was refused: the connection
// broke, or took too long.
func ReasonOf(err error) Reason {
	var refusal *RefusedError
	var plain tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return refusal.Reason
	case errors.As(err, &plain):
		return ReasonPlaintext
	case errors.As(err, &alert), strings.Contains(err.Error(), "remote error: tls:"):
		return ReasonRefusedByPeer
	}
	if reason := chainReason(err); reason != "" {
		return reason
	}
	// crypto/tls has no types for these.
	switch text := err.Error(); {
	case strings.Contains(text, "didn't provide a certificate"):
		return ReasonNoCertificate
	case strings.Contains(text, "unsupported versions"), strings.Contains(text, "unsupported application protocols"),
		strings.Contains(text, "protocol version not supported"), strings.Contains(text, "unsupported protocol version"):
		return ReasonProtocol
	}
	return ""
}

// chainReason returns why a chain was refused; empty when it was not about a chain.
func chainReason(err error) Reason {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ReasonExpired
	case errors.As(err, &invalid), errors.As(err, &unknown), errors.As(err, &verification):
		return ReasonWrongCA
	}
	return ""
}

// RevokedFunc tells whether certificates of a cluster, by its id, that were issued at a time are not good any more.
type RevokedFunc func(cluster string, issued time.Time) bool

// verifier checks what the other side of a connection shows.
type verifier struct {
	trustDomain spiffeid.TrustDomain
	roots       x509bundle.Source
	usage       x509.ExtKeyUsage // what the certificate has to be for
	revoked     RevokedFunc
	issued      func(*x509.Certificate) time.Time
	now         func() time.Time
}

// verify returns who somebody is by the chain that it shows, and since when. Every error is a *RefusedError.
func (v verifier) verify(chain []*x509.Certificate) (ID, time.Time, error) {
	if len(chain) == 0 {
		return ID{}, time.Time{}, refuse(ReasonNoCertificate, "no certificate was shown")
	}
	leaf, now := chain[0], v.now()
	// Who it says it is, first: the roots of another trust domain are not known here.
	s, err := x509svid.IDFromCert(leaf)
	switch {
	case err != nil:
		return ID{}, time.Time{}, refuse(ReasonWrongIdentity, "the certificate with serial number %x: %w", leaf.SerialNumber, err)
	case s.TrustDomain() != v.trustDomain:
		return ID{}, time.Time{}, refuse(ReasonWrongIdentity, "%s is not of the trust domain %s", s, v.trustDomain)
	}
	if _, _, err := x509svid.Verify(chain, v.roots, x509svid.WithTime(now)); err != nil {
		reason := chainReason(err)
		if reason == "" {
			reason = ReasonWrongCA
		}
		return ID{}, time.Time{}, &RefusedError{Reason: reason, Err: err}
	}
	if len(leaf.ExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, v.usage) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return ID{}, time.Time{}, refuse(ReasonWrongCA, "the certificate of %s is not for this: wanted is the extended key usage %v, it has %v", leaf.URIs[0], v.usage, leaf.ExtKeyUsage)
	}
	id, err := identifyCertificate(v.trustDomain, leaf, now)
	if err != nil {
		return ID{}, time.Time{}, &RefusedError{Reason: ReasonWrongIdentity, Err: err}
	}
	issued := v.issued(leaf)
	return id, issued, notRevoked(v.revoked, id, issued)
}

// notRevoked returns an error when a certificate was revoked.
func notRevoked(revoked RevokedFunc, id ID, issued time.Time) error {
	if revoked == nil || id.Cluster == "" || !revoked(id.Cluster, issued) {
		return nil
	}
	return refuse(ReasonRevoked, "the certificate of %s, issued on %s, was revoked: it needs a new one by enrolment", id, issued.UTC().Format(time.RFC3339))
}
