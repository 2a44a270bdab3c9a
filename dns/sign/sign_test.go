package sign_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/sign"
)

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func a(t *testing.T, owner string, last ...int) (set []dns.RR) {
	t.Helper()
	for _, n := range last {
		rr, err := dns.NewRR(fmt.Sprintf("%s 5 A 192.0.2.%d", owner, n))
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, rr)
	}
	return set
}

func TestSignaturesAreRemembered(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s, err := sign.New(sign.Options{Key: newKey(t, elliptic.P256()), Entries: 4, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	key := s.Apex("example.org.", dns.TypeDNSKEY)[0].(*dns.DNSKEY)
	check := func(reason string, made uint64, set []dns.RR) *dns.RRSIG {
		t.Helper()
		signature, err := s.Sign("example.org.", set)
		if err != nil {
			t.Fatal(err)
		}
		if err := signature.Verify(key, set); err != nil || !signature.ValidityPeriod(now) {
			t.Errorf("%s: %v", reason, err)
		}
		if signature.Hdr.Ttl != 5 || signature.OrigTtl != 5 {
			t.Errorf("%s: the TTL of a signature is that of its set (RFC 4034, 3), got %s", reason, signature)
		}
		if got := s.Stats().Made; got != made {
			t.Errorf("%s: %d signatures were made, want %d", reason, got, made)
		}
		return signature
	}
	check("the first", 1, a(t, "www.example.org.", 1, 2))
	check("again", 1, a(t, "www.example.org.", 1, 2))
	check("in another order", 1, a(t, "www.example.org.", 2, 1))
	if signature := check("in other letters", 1, a(t, "WwW.example.org.", 1, 2)); signature.Hdr.Name != "WwW.example.org." {
		t.Errorf("the signature is one of %s", signature.Hdr.Name)
	}
	check("other records", 2, a(t, "www.example.org.", 1, 3))
	check("another name", 3, a(t, "ftp.example.org.", 1, 2))
	now = now.Add(3 * 24 * time.Hour)
	check("young enough", 3, a(t, "www.example.org.", 1, 2))
	now = now.Add(24 * time.Hour)
	check("half of its time is over", 4, a(t, "www.example.org.", 1, 2))
	for i := range 10 {
		check("more than are remembered", uint64(5+i), a(t, "www.example.org.", 10+i))
	}
	check("the oldest is forgotten", 15, a(t, "ftp.example.org.", 1, 2))
}

func TestApex(t *testing.T) {
	s, err := sign.New(sign.Options{Key: newKey(t, elliptic.P256())})
	if err != nil {
		t.Fatal(err)
	}
	key := s.Apex("example.org.", dns.TypeDNSKEY)[0].(*dns.DNSKEY)
	if key.Flags != 257 || key.Protocol != 3 || key.Algorithm != 13 {
		t.Errorf("got %s", key)
	}
	ds := s.DS("example.org.")
	if want := key.ToDS(dns.SHA256); ds.Digest != want.Digest || ds.KeyTag != key.KeyTag() || ds.DigestType != 2 {
		t.Errorf("got %s, want %s", ds, want)
	}
	if cds := s.Apex("example.org.", dns.TypeCDS)[0].(*dns.CDS); cds.Digest != ds.Digest {
		t.Errorf("got %s", cds)
	}
	if s.Apex("example.org.", dns.TypeA) != nil {
		t.Error("the signer adds no addresses")
	}
	for _, rrtype := range sign.Types() {
		if s.Apex("example.org.", rrtype) == nil {
			t.Errorf("no %s", dns.TypeToString[rrtype])
		}
	}
}

func TestParseKey(t *testing.T) {
	good, other := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	_, foreign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return block("PRIVATE KEY", der, err)
	}
	sec1, err := x509.MarshalECPrivateKey(good)
	for _, row := range []struct {
		reason string
		text   []byte
		good   bool
	}{
		{"PKCS #8", pkcs8(good), true},
		{"SEC 1", block("EC PRIVATE KEY", sec1, err), true},
		{"another curve", pkcs8(other), false},
		{"another algorithm", pkcs8(foreign), false},
		{"no key", block("PRIVATE KEY", []byte{1, 2}, nil), false},
		{"no PEM", []byte("x"), false},
	} {
		key, err := sign.ParseKey(row.text)
		if (err == nil) != row.good || row.good && !key.Equal(good) {
			t.Errorf("%s: got %v", row.reason, err)
		}
	}
	if _, err := sign.New(sign.Options{}); err == nil {
		t.Error("a signer without a key")
	}
	if _, err := sign.New(sign.Options{Key: other}); err == nil {
		t.Error("a signer with a key of another curve")
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if key, err := sign.ParseKey(text); err == nil && key.Curve != elliptic.P256() {
			t.Error("a key of another curve")
		}
	})
}

// TestOddOwners has names with escapes: a signature is remembered for the records that it is of, and for no others.
func TestOddOwners(t *testing.T) {
	s, err := sign.New(sign.Options{Key: newKey(t, elliptic.P256())})
	if err != nil {
		t.Fatal(err)
	}
	key := s.Apex("example.org.", dns.TypeDNSKEY)[0].(*dns.DNSKEY)
	for _, owner := range []string{`\001\002\003.example.org.`, strings.Repeat(`\001`, 40) + ".example.org.", `a\.b.example.org.`, "."} {
		for _, data := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.1"} {
			set := []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.ParseIP(data)}}
			zone := "example.org."
			if owner == "." {
				zone = "."
			}
			signature, err := s.Sign(zone, set)
			if err != nil {
				t.Fatal(err)
			}
			signer := *key
			signer.Hdr.Name = zone
			if err := signature.Verify(&signer, set); err != nil {
				t.Errorf("%s %s: %v", owner, data, err)
			}
		}
	}
	if stats := s.Stats(); stats.Made != 8 || stats.Remembered != 4 {
		t.Errorf("%+v, want two made for each name", stats)
	}
}
