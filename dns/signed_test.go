package dns_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/sign"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

func signing(tb testing.TB) func(*dns.Options) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := sign.New(sign.Options{Key: key, Now: func() time.Time { return epoch }})
	if err != nil {
		tb.Fatal(err)
	}
	return func(o *dns.Options) { o.Sign = s }
}

// wanting asks for signatures.
func wanting(name string, rrtype uint16) *miekg.Msg {
	m := edns(question(name, rrtype))
	m.IsEdns0().SetDo()
	return m
}

// validate checks the signature of every set of the answer and authority sections, and returns the types of the sections.
func validate(tb testing.TB, r *dns.Responder, m *miekg.Msg) string {
	tb.Helper()
	var sections []string
	for _, section := range [][]miekg.RR{m.Answer, m.Ns} {
		for i := 0; i < len(section); {
			n := i + 1
			for n < len(section) && section[n].Header().Rrtype == section[i].Header().Rrtype {
				n++
			}
			set := section[i:n]
			if n == len(section) {
				tb.Fatalf("no signature of %s in\n%s", set[0], m)
			}
			signature, ok := section[n].(*miekg.RRSIG)
			if !ok {
				tb.Fatalf("no signature of %s in\n%s", set[0], m)
			}
			key := ask(tb, r, question(signature.SignerName, miekg.TypeDNSKEY), tcp).Answer[0].(*miekg.DNSKEY)
			if err := signature.Verify(key, set); err != nil || !signature.ValidityPeriod(epoch) {
				tb.Fatalf("the signature of %s: %v, in\n%s", set[0], err, m)
			}
			i = n + 1
		}
		sections = append(sections, kinds(section))
	}
	return strings.Join(sections, "|")
}

func TestSignedAnswers(t *testing.T) {
	r := responder(t, signing(t))
	for _, row := range []struct {
		reason, name string
		rrtype       uint16
		want         string
		types        string // in the NSEC
	}{
		{"records", "WEB.shop.svc." + apex, miekg.TypeA, "A RRSIG|", ""},
		{"of headless services", "db.shop.svc." + apex, miekg.TypeA, "A A A RRSIG|", ""},
		{"the key", apex, miekg.TypeDNSKEY, "DNSKEY RRSIG|", ""},
		{"what the parent may copy (RFC 7344)", apex, miekg.TypeCDS, "CDS RRSIG|", ""},
		{"the same as a key", apex, miekg.TypeCDNSKEY, "CDNSKEY RRSIG|", ""},
		{"another zone has the same key", "global.example.org.", miekg.TypeDNSKEY, "DNSKEY RRSIG|", ""},
		{"a type that is not there", "web.shop.svc." + apex, miekg.TypeTXT, "|SOA RRSIG NSEC RRSIG", "A AAAA SRV RRSIG NSEC"},
		{"a key below the top", "web.shop.svc." + apex, miekg.TypeDNSKEY, "|SOA RRSIG NSEC RRSIG", "A AAAA SRV RRSIG NSEC"},
		{"an empty non-terminal (RFC 9824, 3.2)", "svc." + apex, miekg.TypeA, "|SOA RRSIG NSEC RRSIG", "RRSIG NSEC"},
		{"a name that is not there (RFC 9824, 3.1)", "nobody.shop.svc." + apex, miekg.TypeA, "|SOA RRSIG NSEC RRSIG", "RRSIG NSEC NXNAME"},
		{"the top", apex, miekg.TypeA, "|SOA RRSIG NSEC RRSIG", "NS SOA RRSIG NSEC DNSKEY CDS CDNSKEY"},
		{"an NSEC itself", "svc." + apex, miekg.TypeNSEC, "NSEC RRSIG|", ""},
	} {
		m := ask(t, r, wanting(row.name, row.rrtype), tcp)
		if got := validate(t, r, m); got != row.want {
			t.Errorf("%s: got %s, want %s", row.reason, got, row.want)
		}
		if m.Rcode != miekg.RcodeSuccess || !m.IsEdns0().Do() {
			t.Errorf("%s: got %s, DO %v", row.reason, miekg.RcodeToString[m.Rcode], m.IsEdns0().Do())
		}
		for _, rr := range m.Ns {
			nsec, ok := rr.(*miekg.NSEC)
			if !ok {
				continue
			}
			var types []string
			for _, bit := range nsec.TypeBitMap {
				types = append(types, miekg.TypeToString[bit])
			}
			if got := strings.Join(types, " "); got != row.types || nsec.NextDomain != `\000.`+row.name {
				t.Errorf("%s: the NSEC has %s, next %s", row.reason, got, nsec.NextDomain)
			}
		}
	}
	if m := ask(t, r, question("nobody.shop.svc."+apex, miekg.TypeA), udp); m.Rcode != miekg.RcodeNameError || len(m.Ns) != 1 {
		t.Errorf("who wants no signatures gets none, and NXDOMAIN:\n%s", m)
	}
	compact := wanting("nobody.shop.svc."+apex, miekg.TypeA)
	compact.IsEdns0().SetCo()
	if m := ask(t, r, compact, udp); m.Rcode != miekg.RcodeNameError || !m.IsEdns0().Co() {
		t.Errorf("who can do with it gets NXDOMAIN (RFC 9824, 5.1):\n%s", m)
	}
}

func TestSignedSetsAreWhole(t *testing.T) {
	r := responder(t, signing(t))
	if m := ask(t, r, wanting("big.shop.svc."+apex, miekg.TypeA), udp); !m.Truncated || len(m.Answer) != 0 {
		t.Errorf("a part of a set has no signature that holds, got %d records", len(m.Answer))
	}
	if m := ask(t, r, wanting("big.shop.svc."+apex, miekg.TypeA), tcp); len(m.Answer) != 301 {
		t.Errorf("over TCP %d records", len(m.Answer))
	}
}

func TestSignedStaticZone(t *testing.T) {
	r := responder(t, signing(t), func(o *dns.Options) {
		o.Snapshots = nil
		o.Static = static(t, `
@ 60 SOA ns host 1 2 3 4 5
@ 60 NS ns
ns 60 A 192.0.2.1
*.wild 60 A 192.0.2.2
alias 60 CNAME x.wild
gone 60 CNAME nobody
old 60 DNAME wild
signed 60 NS ns.signed
signed 60 DS 1 13 2 AABBCCDD
plain 60 NS ns.plain
`)
	})
	for _, row := range []struct {
		reason, name string
		rrtype       uint16
		want         string
	}{
		{"what a wildcard makes is signed as if it were there", "a.wild.example.org.", miekg.TypeA, "A RRSIG|"},
		{"an alias and its end", "alias.example.org.", miekg.TypeA, "CNAME RRSIG A RRSIG|"},
		{"an alias of nothing", "gone.example.org.", miekg.TypeA, "CNAME RRSIG|SOA RRSIG NSEC RRSIG"},
		{"DS at a cut", "signed.example.org.", miekg.TypeDS, "DS RRSIG|"},
		{"no DS at a cut", "plain.example.org.", miekg.TypeDS, "|SOA RRSIG NSEC RRSIG"},
	} {
		if got := validate(t, r, ask(t, r, wanting(row.name, row.rrtype), tcp)); got != row.want {
			t.Errorf("%s: got %s, want %s", row.reason, got, row.want)
		}
	}
	for name, want := range map[string]string{
		"x.signed.example.org.": "|NS DS RRSIG",
		"x.plain.example.org.":  "|NS NSEC RRSIG",
		"x.old.example.org.":    "DNAME RRSIG CNAME A RRSIG|",
	} {
		m := ask(t, r, wanting(name, miekg.TypeA), tcp)
		if got := kinds(m.Answer) + "|" + kinds(m.Ns); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestHugeSignedSets holds that what does not fit into TCP is cut before it is signed.
func TestHugeSignedSets(t *testing.T) {
	b := world()
	b.SetEndpoints("m1", clusterset.Key{Namespace: "shop", Name: "big"}, pods(6, 5000, false))
	r := responder(t, signing(t), func(o *dns.Options) { o.Snapshots = clusterset.NewLatest(b.Publish()) })
	out := r.Respond(nil, pack(t, wanting("big.shop.svc."+apex, miekg.TypeA)), tcp)
	if m := unpack(t, out); len(out) < 65000 || len(out) > 65535 || m.Truncated || !strings.HasSuffix(validate(t, r, m), "A RRSIG|") {
		t.Errorf("%d octets, TC %v", len(out), m.Truncated)
	}
}

// TestSignedAnswersOfAllKinds signs whatever random snapshots have.
func TestSignedAnswersOfAllKinds(t *testing.T) {
	rnd := mrand.New(mrand.NewPCG(1, 2))
	snapshot := random(rnd)
	r := responder(t, signing(t), func(o *dns.Options) { o.Snapshots = clusterset.NewLatest(snapshot) })
	for _, name := range names(snapshot) {
		for _, rrtype := range []uint16{miekg.TypeA, miekg.TypeSRV} {
			if m := ask(t, r, wanting(mixed(rnd, name), rrtype), listen.Source{Peer: udp.Peer, Transport: listen.TCP}); m.Rcode == 0 {
				validate(t, r, m)
			}
		}
	}
	got := gather(t, r.Collector())
	if got["hansa_dns_signatures_total made"] == 0 || got["hansa_dns_signatures_total remembered"] == 0 {
		t.Errorf("metrics: %v", got)
	}
}

func TestTooLongToDeny(t *testing.T) {
	label := strings.Repeat("x", 63)
	name := strings.Join([]string{label, label, label, strings.Repeat("x", 43), apex}, ".")
	m := ask(t, responder(t, signing(t)), wanting(name, miekg.TypeA), tcp)
	if m.Rcode != miekg.RcodeServerFailure || !slices.Contains(edes(m), miekg.ExtendedErrorCodeNSECMissing) {
		t.Errorf("nothing can be said of a name that no other can follow, got\n%s", m)
	}
}

// TestSignedOddNames asks for names whose form for people is longer than they are.
func TestSignedOddNames(t *testing.T) {
	r := responder(t, signing(t))
	for _, label := range []string{strings.Repeat(`\001`, 30), strings.Repeat(`\.`, 63), `\000`, `\"\(\@`, strings.Repeat(`\255`, 63)} {
		m := ask(t, r, wanting(label+".svc."+apex, miekg.TypeA), tcp)
		if got := validate(t, r, m); got != "|SOA RRSIG NSEC RRSIG" {
			t.Errorf("%s: got %s", label, got)
		}
	}
}
