package identity

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/peer"
)

// provedOID names the extension of a certificate that says when its holder proved who it is: a GeneralizedTime in DER, to the
// second, in UTC. It is not critical: whoever does not know it checks the certificate all the same. The number is made of a
// UUID as Microsoft's arc for that wants it, in parts: crypto/x509 reads no certificate with a part as long as those of 2.25.
//
// A function, since a variable could be changed.
func provedOID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 48127, 59896, 59600, 16573, 41562, 15799839, 12478797}
}

// proofOf returns the extension that says when somebody proved who it is.
func proofOf(proved time.Time) (pkix.Extension, error) {
	value, err := encodeProof(proved)
	if err != nil {
		return pkix.Extension{}, err
	}
	return pkix.Extension{Id: provedOID(), Value: value}, nil
}

func encodeProof(proved time.Time) ([]byte, error) {
	value, err := asn1.MarshalWithParams(proved.UTC().Truncate(time.Second), "generalized")
	if err != nil {
		return nil, fmt.Errorf("encoding when somebody proved who it is: %w", err)
	}
	return value, nil
}

// errProof says that nobody knows when the holder of a certificate proved who it is.
var errProof = errors.New("the certificate does not say properly when its holder proved who it is: it needs a new one by enrolment")

// parseProof reads the value of the extension, which can be written in one way only.
func parseProof(value []byte) (time.Time, error) {
	var proved time.Time
	rest, err := asn1.UnmarshalWithParams(value, &proved, "generalized")
	if err != nil || len(rest) > 0 {
		return time.Time{}, errProof
	}
	if again, err := encodeProof(proved); err != nil || !bytes.Equal(again, value) {
		return time.Time{}, errProof
	}
	return proved.UTC(), nil
}

// Proved returns when the holder of a certificate proved who it is, for the first of the certificates that were renewed one
// from the other. That of a certificate that says nothing of it is when it was signed. One that says something else is an
// error.
func Proved(leaf *x509.Certificate) (time.Time, error) {
	proved, found := Signed(leaf), false
	for _, extension := range leaf.Extensions {
		if !extension.Id.Equal(provedOID()) {
			continue
		}
		if found || extension.Critical {
			return time.Time{}, errProof
		}
		found = true
		var err error
		if proved, err = parseProof(extension.Value); err != nil {
			return time.Time{}, err
		}
	}
	return proved, nil
}

// ProvedBy returns when the other side of a gRPC connection proved who it is, by the certificate that its handshake verified.
func ProvedBy(p *peer.Peer) (time.Time, error) {
	state, err := stateOf(p)
	if err != nil {
		return time.Time{}, err
	}
	if len(state.VerifiedChains) == 0 {
		return time.Time{}, errors.New("the client certificate was not verified")
	}
	return Proved(state.VerifiedChains[0][0])
}

// Issued returns from when on a certificate counts as issued, for revocations: when its holder proved who it is, however often
// it was renewed since. So a revocation is not outrun by renewing. It is the zero time, which is before every revocation, when
// that cannot be known. Ask it of verified certificates only.
func Issued(leaf *x509.Certificate) time.Time {
	proved, err := Proved(leaf)
	if err != nil {
		return time.Time{}
	}
	return proved
}

// Signed returns when an Authority signed a certificate.
func Signed(leaf *x509.Certificate) time.Time { return leaf.NotBefore.Add(Backdating) }
