package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// TestProved reads from certificates when their holders proved who they are. What is not as an Authority writes it makes the
// certificate worthless.
func TestProved(t *testing.T) {
	c := newClock()
	const good = "\x18\x0f20261122020304Z"
	at := time.Date(2026, 11, 22, 2, 3, 4, 0, time.UTC)
	extension := func(value string) pkix.Extension {
		return pkix.Extension{Id: identity.ProvedOID(), Value: []byte(value)}
	}
	critical := extension(good)
	critical.Critical = true
	for name, tc := range map[string]struct {
		reason     string
		extensions []pkix.Extension
		want       time.Time // zero: refused
	}{
		"None":       {reason: "It was signed when its holder proved who it is.", want: c.Now().Add(-time.Hour).Add(identity.Backdating)},
		"Good":       {reason: "The usual case.", extensions: []pkix.Extension{extension(good)}, want: at},
		"Twice":      {reason: "Which of them counts?", extensions: []pkix.Extension{extension(good), extension(good)}},
		"Critical":   {reason: "Others would refuse the certificate.", extensions: []pkix.Extension{critical}},
		"Empty":      {reason: "Nothing.", extensions: []pkix.Extension{extension("")}},
		"Rubbish":    {reason: "No DER.", extensions: []pkix.Extension{extension("2026")}},
		"More":       {reason: "Something after it.", extensions: []pkix.Extension{extension(good + "\x05\x00")}},
		"UTCTime":    {reason: "Another type.", extensions: []pkix.Extension{extension("\x17\x0d261122020304Z")}},
		"Zone":       {reason: "Not UTC.", extensions: []pkix.Extension{extension("\x18\x1320261122020304+0100")}},
		"Month":      {reason: "No such time.", extensions: []pkix.Extension{extension("\x18\x0f20261322020304Z")}},
		"LongLength": {reason: "Not the shortest length: BER.", extensions: []pkix.Extension{extension("\x18\x81\x0f20261122020304Z")}},
	} {
		t.Run(name, func(t *testing.T) {
			own, rootPEM, rootKeyPEM := sign(t, c, []string{"spiffe://clusterset.local/cluster/m1/gateway"}, func(leaf *x509.Certificate) {
				leaf.NotBefore, leaf.ExtraExtensions = c.Now().Add(-time.Hour), tc.extensions
			})
			authority, err := identity.ParseAuthority(domain, rootPEM, rootKeyPEM, nil, c.Now)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(own.Certificate[0])
			if err != nil {
				if tc.want.IsZero() {
					return // crypto/x509 is as strict
				}
				t.Fatal(err)
			}
			if got := identity.Issued(leaf); !got.Equal(tc.want) {
				t.Errorf("%s\nit counts from %s, want %s", tc.reason, got, tc.want)
			}
			shown := &x509svid.SVID{Certificates: []*x509.Certificate{leaf}, PrivateKey: own.PrivateKey.(*ecdsa.PrivateKey)}
			server := peering(c, issue(t, authority, gateway("m2"), time.Minute), authority)
			client := peering(c, shown, authority)
			_, _, serverErr, _ := handshake(t, server.ServerConfig(), client.PeerConfig("m2"))
			if refused := serverErr != nil; refused != tc.want.IsZero() {
				t.Errorf("%s\nthe other gateway says %v", tc.reason, serverErr)
			}
		})
	}
}

// TestSignProved: what a request says is in the certificate, to the second, and all that ask for revocations go by it.
func TestSignProved(t *testing.T) {
	c := newClock()
	authority := newAuthority(t, c)
	proved := c.Now().Add(-100 * day)
	svid := signProved(t, authority, gateway("m1"), proved.Add(time.Millisecond))
	leaf := svid.Certificates[0]
	if !identity.Issued(leaf).Equal(proved) || !identity.Signed(leaf).Equal(c.Now()) || len(leaf.UnhandledCriticalExtensions) > 0 {
		t.Errorf("it counts from %s, signed %s", identity.Issued(leaf), identity.Signed(leaf))
	}
	server, client := peering(c, issueBy(t, authority, gateway("m2")), authority), peering(c, svid, authority)
	state, _, serverErr, clientErr := handshake(t, server.ServerConfig(), client.PeerConfig("m2"))
	if serverErr != nil || clientErr != nil {
		t.Fatal(serverErr, clientErr)
	}
	if _, issued, err := server.Identify(&state); err != nil || !issued.Equal(proved) {
		t.Errorf("the other gateway says %s, %v", issued, err)
	}
	server.Revoked = func(_ string, issued time.Time) bool { return issued.Before(proved.Add(time.Second)) }
	if _, _, err := server.Identify(&state); identity.ReasonOf(err) != identity.ReasonRevoked {
		t.Errorf("it was revoked: %v", err)
	}
}

// FuzzProof: a value is read in one form only, that in which it is written.
func FuzzProof(f *testing.F) {
	f.Add([]byte("\x18\x0f20261122020304Z"))
	f.Add([]byte("\x18\x0f00000101000000Z"))
	f.Add([]byte("\x18\x1120261122020304.5Z"))
	f.Add([]byte("\x17\x0d261122020304Z"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, value []byte) {
		proved, err := identity.ParseProof(value)
		if err != nil {
			return
		}
		again, err := identity.EncodeProof(proved)
		if err != nil || !bytes.Equal(again, value) {
			t.Errorf("%q was read as %s, which is written %q (%v)", value, proved, again, err)
		}
	})
}
