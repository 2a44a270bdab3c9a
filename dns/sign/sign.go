// Package sign signs answers at the moment when they are given (DNSSEC: RFC 4033 to 4035), with one P-256 key (RFC 6605) for
// all zones. What does not exist is denied with as little as possible (RFC 9824): the NSEC of a name says that nothing is
// between it and the next name that could be, so zones cannot be walked, and one signature is enough.
package sign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/miekg/dns"
)

const (
	validity = 7 * 24 * time.Hour // of a signature
	early    = time.Hour          // by which signatures seem older than they are: clocks of validators differ
	keyTTL   = 3600               // seconds, of DNSKEY, CDS and CDNSKEY

	flagsKSK = 257 // zone key and secure entry point (RFC 4034, 2.1.1): there is no other key
	protocol = 3

	maxName = 255 // octets (RFC 1035, 2.3.4)
	fixedRR = 10  // octets of type, class, TTL and length
)

// Options say what to sign with. A zero field has the default beside it.
type Options struct {
	Key     *ecdsa.PrivateKey // of curve P-256
	Entries int               // signatures to remember: 16,384
	Now     func() time.Time  // time.Now
}

// Signer signs. Its methods may be called by any number of goroutines.
type Signer struct {
	key    *ecdsa.PrivateKey
	public string
	tag    uint16
	now    func() time.Time
	seed   maphash.Seed
	cache  *lru.Cache[cacheKey, *dns.RRSIG]

	made, remembered atomic.Uint64
}

// cacheKey is what a signature depends on: an RRset that changes has another sum.
type cacheKey struct {
	owner  string // lower case
	rrtype uint16
	sum    uint64
}

// Stats counts signatures.
type Stats struct{ Made, Remembered uint64 }

// ParseKey reads a private key from PEM, in the forms PKCS #8 or SEC 1.
func ParseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("a signing key is a PEM block with an EC private key of curve P-256")
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, checkCurve(key)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading a signing key from a PEM block %q: %w", block.Type, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the signing key is a %T: make an EC key of curve P-256", parsed)
	}
	return key, checkCurve(key)
}

func checkCurve(key *ecdsa.PrivateKey) error {
	if key.Curve != elliptic.P256() {
		return fmt.Errorf("the signing key is of curve %s: make one of P-256", key.Params().Name)
	}
	return nil
}

// New returns a signer.
func New(o Options) (*Signer, error) {
	if o.Key == nil {
		return nil, errors.New("there is no key to sign with")
	}
	if err := checkCurve(o.Key); err != nil {
		return nil, err
	}
	if o.Entries == 0 {
		o.Entries = 16 << 10
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	cache, err := lru.New[cacheKey, *dns.RRSIG](o.Entries)
	if err != nil {
		return nil, fmt.Errorf("making a cache of %d signatures: %w", o.Entries, err)
	}
	point, err := o.Key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("reading the public half of the signing key: %w", err)
	}
	// The first octet says that both coordinates follow; DNS leaves it out (RFC 6605, 4).
	s := &Signer{key: o.Key, public: base64.StdEncoding.EncodeToString(point[1:]), now: o.Now, seed: maphash.MakeSeed(), cache: cache}
	s.tag = s.dnskey(".").KeyTag()
	return s, nil
}

// Stats returns what was counted so far.
func (s *Signer) Stats() Stats { return Stats{s.made.Load(), s.remembered.Load()} }

// Types are those of the records that Apex returns, sorted.
func Types() []uint16 { return []uint16{dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY} }

// Apex returns the records of a type that the signer adds at the top of a zone: the key, and what the parent zone may copy
// (RFC 7344). It returns nil for other types.
func (s *Signer) Apex(zone string, rrtype uint16) []dns.RR {
	switch rrtype {
	case dns.TypeDNSKEY:
		return []dns.RR{s.dnskey(zone)}
	case dns.TypeCDNSKEY:
		return []dns.RR{s.dnskey(zone).ToCDNSKEY()}
	case dns.TypeCDS:
		return []dns.RR{s.DS(zone).ToCDS()}
	default:
		return nil
	}
}

// DS returns what the parent of a zone has to publish.
func (s *Signer) DS(zone string) *dns.DS { return s.dnskey(zone).ToDS(dns.SHA256) }

func (s *Signer) dnskey(zone string) *dns.DNSKEY {
	return &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: keyTTL},
		Flags: flagsKSK, Protocol: protocol, Algorithm: dns.ECDSAP256SHA256, PublicKey: s.public,
	}
}

// Sign returns the signature of an RRset: records of one name and type, not empty. zone is the top of their zone.
func (s *Signer) Sign(zone string, set []dns.RR) (*dns.RRSIG, error) {
	header := set[0].Header()
	key, err := s.keyOf(zone, set)
	if err != nil {
		return nil, err
	}
	now := s.now()
	made, known := s.cache.Get(key)
	if known && now.Before(time.Unix(int64(made.Expiration), 0).Add(-validity/2)) {
		s.remembered.Add(1)
	} else if made, err = s.sign(zone, set, now); err != nil {
		return nil, fmt.Errorf("signing the records %s %s: %w", header.Name, dns.TypeToString[header.Rrtype], err)
	} else {
		s.made.Add(1)
		s.cache.Add(key, made)
	}
	signature := *made
	signature.Hdr.Name, signature.Hdr.Ttl = header.Name, header.Ttl // in the letters that were asked
	return &signature, nil
}

func (s *Signer) sign(zone string, set []dns.RR, now time.Time) (*dns.RRSIG, error) {
	signature := &dns.RRSIG{
		Algorithm: dns.ECDSAP256SHA256, KeyTag: s.tag, SignerName: zone,
		Inception:  uint32(now.Add(-early).Unix()),   //nolint:gosec // serial arithmetic (RFC 4034, 3.1.5)
		Expiration: uint32(now.Add(validity).Unix()), //nolint:gosec // serial arithmetic
	}
	if err := signature.Sign(s.key, set); err != nil {
		return nil, err //nolint:wrapcheck // by the caller
	}
	return signature, nil
}

func (s *Signer) keyOf(zone string, set []dns.RR) (cacheKey, error) {
	header := set[0].Header()
	key := cacheKey{owner: strings.ToLower(header.Name), rrtype: header.Rrtype}
	var packed [][]byte
	for _, rr := range set {
		wire := make([]byte, dns.Len(rr)+fixedRR)
		end, err := dns.PackRR(rr, wire, 0, nil, false)
		if err != nil {
			return key, fmt.Errorf("packing the record %s %s: %w", header.Name, dns.TypeToString[header.Rrtype], err)
		}
		packed = append(packed, wire[ownerLength(wire):end])
	}
	slices.SortFunc(packed, slices.Compare) // sets are answered in any order
	var hash maphash.Hash
	hash.SetSeed(s.seed)
	_, _ = hash.WriteString(zone)
	for _, wire := range packed {
		_, _ = hash.Write(wire)
	}
	key.sum = hash.Sum64()
	return key, nil
}

// ownerLength returns how many octets the owner of a packed record takes. Escapes make that less than what people read.
func ownerLength(wire []byte) int {
	n := 0
	for wire[n] != 0 {
		n += 1 + int(wire[n])
	}
	return n + 1
}

// Deny returns the NSEC that says which types a name has, and no others; it says that nothing is between the name and the
// next. exists is false for a name that is not there (NXNAME, RFC 9824, 3.1). It returns nil for names so long that no name can
// follow them.
func Deny(name string, types []uint16, exists bool, ttl uint32) *dns.NSEC {
	next := `\000.` + name
	if name == "." {
		next = `\000.`
	}
	if _, err := dns.PackDomainName(next, make([]byte, maxName), 0, nil, false); err != nil {
		return nil
	}
	all := append([]uint16{dns.TypeRRSIG, dns.TypeNSEC}, types...)
	if !exists {
		all = append(all, dns.TypeNXNAME)
	}
	slices.Sort(all)
	return &dns.NSEC{
		Hdr:        dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: ttl},
		NextDomain: next, TypeBitMap: slices.Compact(all),
	}
}
