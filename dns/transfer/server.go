package transfer

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/go-logr/logr"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/miekg/dns"
)

// Secondary is a server that may have our zones.
type Secondary struct {
	// Key is the name of its key.
	Key string
	// Addr is where it is told of changes; the zero value says nowhere, and then it finds out when the SOA's refresh is over.
	Addr netip.AddrPort
}

// Options say who the secondaries are. A zero field has the default beside it.
type Options struct {
	Keys        []Key
	Secondaries []Secondary

	Rest     time.Duration // between two rounds of telling the same secondary: 1 s
	Timeout  time.Duration // until a secondary has to confirm that it was told: 2 s
	Attempts int           // to tell it of one serial of a zone: 5, each after twice the time, at most a minute

	Log logr.Logger // zero: none
}

// Server decides who gets zones, and sends them.
type Server struct {
	options     Options
	secrets     map[string]string // in base64, by the key's name
	allowed     map[string]bool   // keys of secondaries
	secondaries []*secondary
	sent        *lru.Cache[receiver, versions]
}

// New returns a server. The error names a secondary whose key is not there, or a key that is there twice.
func New(o Options) (*Server, error) {
	o.Rest, o.Timeout = cmp.Or(o.Rest, time.Second), cmp.Or(o.Timeout, 2*time.Second)
	o.Attempts = cmp.Or(o.Attempts, 5)
	sent, err := lru.New[receiver, versions](maxReceivers)
	if err != nil {
		return nil, fmt.Errorf("making a list of who has which zone: %w", err)
	}
	s := &Server{options: o, secrets: map[string]string{}, allowed: map[string]bool{}, sent: sent}
	for _, key := range o.Keys {
		name := dns.CanonicalName(key.Name)
		if _, twice := s.secrets[name]; twice {
			return nil, fmt.Errorf("the key %q is given twice: servers tell keys apart by name", name)
		}
		s.secrets[name] = base64.StdEncoding.EncodeToString(key.Secret)
	}
	for _, to := range o.Secondaries {
		to.Key = dns.CanonicalName(to.Key)
		if _, known := s.secrets[to.Key]; !known {
			return nil, fmt.Errorf("the secondary %s has key %q, which is not given: add it to the key file", to.Addr, to.Key)
		}
		s.allowed[to.Key] = true
		s.secondaries = append(s.secondaries, newSecondary(to))
	}
	return s, nil
}

// Signature is what the TSIG of a query proves. Responses to it have to be signed by its Sign.
type Signature struct {
	tsig   *dns.TSIG // of the query
	secret string
	// mac is that of the message before: of the query, then of the response.
	mac string
	// Error is why it proves nothing: one of the codes of RFC 8945, section 3, or 0.
	Error uint16
	// Secondary says that it is of one.
	Secondary bool
}

// Key returns the name of the key that was used.
func (g *Signature) Key() string { return dns.CanonicalName(g.tsig.Hdr.Name) }

// Verify checks the TSIG of a query, which is the last record of it. message is the query in wire form.
func (s *Server) Verify(message []byte, query *dns.Msg) *Signature {
	g := &Signature{tsig: query.IsTsig()}
	g.mac = g.tsig.MAC
	if s != nil {
		g.secret = s.secrets[g.Key()]
	}
	if g.secret == "" || dns.CanonicalName(g.tsig.Algorithm) != dns.HmacSHA256 {
		g.Error = dns.RcodeBadKey
		return g
	}
	// The library writes into what it verifies.
	switch err := dns.TsigVerify(bytes.Clone(message), g.secret, "", false); {
	case errors.Is(err, dns.ErrTime):
		g.Error = dns.RcodeBadTime
	case err != nil:
		g.Error = dns.RcodeBadSig
	default:
		g.Secondary = s.allowed[g.Key()]
	}
	return g
}

// Size returns how many octets the TSIG of a response takes at most.
func (g *Signature) Size() int {
	const fixed, mac, other = 10 + 6 + 2 + 2 + 2 + 2 + 2, 32, 6
	return len(g.tsig.Hdr.Name) + 1 + len(g.tsig.Algorithm) + 1 + fixed + mac + other
}

// Sign returns a response in wire form with a TSIG. When the query's key or MAC was wrong it is unsigned and says so
// (RFC 8945, 5.2). It modifies the response.
func (g *Signature) Sign(response *dns.Msg) ([]byte, error) { return g.sign(response, false) }

// sign signs a message; later ones of one transfer sign only the time (RFC 8945, 5.3.1).
func (g *Signature) sign(response *dns.Msg, later bool) ([]byte, error) {
	tsig := &dns.TSIG{
		Hdr:       dns.RR_Header{Name: g.tsig.Hdr.Name, Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
		Algorithm: g.tsig.Algorithm, Fudge: g.tsig.Fudge, OrigId: response.Id, Error: g.Error,
		TimeSigned: uint64(time.Now().Unix()), //nolint:gosec // after 1970
	}
	if g.Error == dns.RcodeBadTime {
		tsig.OtherLen, tsig.OtherData = 6, fmt.Sprintf("%012x", tsig.TimeSigned)
		tsig.TimeSigned = g.tsig.TimeSigned
	}
	response.Extra = append(response.Extra, tsig)
	packed, mac, err := dns.TsigGenerate(response, g.secret, g.mac, later)
	if err != nil {
		return nil, fmt.Errorf("signing a response with key %q: %w", g.Key(), err)
	}
	g.mac = mac
	return packed, nil
}
