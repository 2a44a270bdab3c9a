package dns_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// raw makes a message from its header and the sections in wire form.
func raw(flags uint16, counts [4]uint16, sections ...[]byte) []byte {
	b := []byte{0xab, 0xcd}
	b = binary.BigEndian.AppendUint16(b, flags)
	for _, n := range counts {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	for _, s := range sections {
		b = append(b, s...)
	}
	return b
}

var (
	webA  = []byte("\x03web\x04shop\x03svc\x0aclusterset\x05local\x00\x00\x01\x00\x01")
	opt   = []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0}
	arNil = [4]uint16{1, 0, 0, 0}
	arOne = [4]uint16{1, 0, 0, 1}
)

func optWith(options ...byte) []byte {
	b := append([]byte(nil), opt...)
	binary.BigEndian.PutUint16(b[9:], uint16(len(options)))
	return append(b, options...)
}

func TestOddMessages(t *testing.T) {
	const none = -1
	for _, row := range []struct {
		reason  string
		message []byte
		rcode   int // none: no response
		flags   uint16
	}{
		{"nothing can be said to half a header", []byte{1, 2, 3}, none, 0},
		{"a response is never answered, or two servers talk for ever", raw(0x8000, arNil, webA), none, 0},
		{"so is a response that is not a query either", raw(0xa000, arNil, webA), none, 0},
		{"a plain query", raw(0x0100, arNil, webA), miekg.RcodeSuccess, 0x8500},
		{"flags of responses in a query are ignored", raw(0x06b0, arNil, webA), miekg.RcodeSuccess, 0x8410},
		{"NOTIMP echoes no flags but the opcode", raw(0x27b0, arNil, webA), miekg.RcodeNotImplemented, 0xa004},
		{"an update is not implemented", raw(5<<11, arNil, webA), miekg.RcodeNotImplemented, 0x8000 | 5<<11 | 4},
		{"no question", raw(0, [4]uint16{}), miekg.RcodeFormatError, 0x8001},
		{"two questions have no meaning", raw(0, [4]uint16{2, 0, 0, 0}, webA, webA), miekg.RcodeFormatError, 0x8001},
		{"a question that ends early", raw(0, arNil, webA[:9]), miekg.RcodeFormatError, 0x8001},
		{"a question without a type", raw(0, arNil, webA[:len(webA)-4]), miekg.RcodeFormatError, 0x8001},
		{"a name that points at itself", raw(0, arNil, []byte{0xc0, 12, 0, 1, 0, 1}), miekg.RcodeFormatError, 0x8001},
		{"a label of an unknown kind", raw(0, arNil, []byte{0x41, 0, 0, 1, 0, 1}), miekg.RcodeFormatError, 0x8001},
		{"an OPT is fine", raw(0, arOne, webA, opt), miekg.RcodeSuccess, 0x8400},
		{"two OPTs (RFC 6891, 6.1.1)", raw(0, [4]uint16{1, 0, 0, 2}, webA, opt, opt), miekg.RcodeFormatError, 0x8001},
		{"an OPT of somebody (RFC 6891, 6.1.2)", raw(0, arOne, webA, []byte{1, 'x', 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0}), miekg.RcodeFormatError, 0x8001},
		{"an OPT in the answer", raw(0, [4]uint16{1, 1, 0, 0}, webA, opt), miekg.RcodeFormatError, 0x8001},
		{"an OPT that ends early", raw(0, arOne, webA, opt[:7]), miekg.RcodeFormatError, 0x8001},
		{"an option that is longer than the OPT", raw(0, arOne, webA, optWith(0, 3, 0, 9)), miekg.RcodeFormatError, 0x8001},
		{"version 1 of EDNS", raw(0, arOne, webA, []byte{0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0}), miekg.RcodeBadVers, 0x8000},
		{"an unknown option is ignored", raw(0, arOne, webA, optWith(0xfd, 0xe9, 0, 2, 1, 2)), miekg.RcodeSuccess, 0x8400},
		{"a cookie of 5 octets (RFC 7873, 5.2.2)", raw(0, arOne, webA, optWith(0, 10, 0, 5, 1, 2, 3, 4, 5)), miekg.RcodeFormatError, 0x8001},
		{"a cookie of 12 octets", raw(0, arOne, webA, optWith(0, 10, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)), miekg.RcodeFormatError, 0x8001},
		{"a cookie of a client", raw(0, arOne, webA, optWith(0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8)), miekg.RcodeSuccess, 0x8400},
		{"a client subnet of an unknown family", raw(0, arOne, webA, optWith(0, 8, 0, 4, 0, 9, 0, 0)), miekg.RcodeFormatError, 0x8001},
		{"a client subnet with a scope in a query", raw(0, arOne, webA, optWith(0, 8, 0, 4, 0, 1, 0, 8)), miekg.RcodeFormatError, 0x8001},
		{"nobody can ask for an OPT", raw(0, arNil, append(webA[:len(webA)-4:len(webA)-4], 0, 41, 0, 1)), miekg.RcodeFormatError, 0x8001},
		{"an unknown type is one without records", raw(0, arNil, append(webA[:len(webA)-4:len(webA)-4], 0xff, 0, 0, 1)), miekg.RcodeSuccess, 0x8400},
		{"AXFR over UDP", raw(0, arNil, append(webA[:len(webA)-4:len(webA)-4], 0, 252, 0, 1)), miekg.RcodeRefused, 0x8005},
		{"a class that nobody uses", raw(0, arNil, append(webA[:len(webA)-4:len(webA)-4], 0, 1, 0, 4)), miekg.RcodeRefused, 0x8005},
	} {
		t.Run(row.reason, func(t *testing.T) {
			out := responder(t).Respond(nil, row.message, udp)
			if row.rcode == none {
				if len(out) != 0 {
					t.Fatalf("got a response: % x", out)
				}
				return
			}
			if len(out) == 0 {
				t.Fatal("got no response")
			}
			m := unpack(t, out)
			if m.Rcode != row.rcode || binary.BigEndian.Uint16(out[2:]) != row.flags || m.Id != 0xabcd {
				t.Errorf("got %s with flags %04x", miekg.RcodeToString[m.Rcode], binary.BigEndian.Uint16(out[2:]))
			}
		})
	}
}

// TestDefectsOfCoreDNS holds what its multicluster mode does and should not.
func TestDefectsOfCoreDNS(t *testing.T) {
	for _, row := range []struct {
		reason  string
		query   *miekg.Msg
		message []byte // instead of a query
		want    string // records of the answer section without owner and TTL, or a count
		rcode   int
	}{
		{reason: "TXT at the apex gets NXDOMAIN", query: question(apex, miekg.TypeTXT)},
		{reason: "an empty non-terminal gets NXDOMAIN: svc", query: question("svc."+apex, miekg.TypeA)},
		{reason: "an empty non-terminal gets NXDOMAIN: a namespace", query: question("shop.svc."+apex, miekg.TypeA)},
		{reason: "an empty non-terminal gets NXDOMAIN: a protocol", query: question("_tcp.web.shop.svc."+apex, miekg.TypeSRV)},
		{reason: "an empty non-terminal gets NXDOMAIN: a cluster of a headless service", query: question("m2.db.shop.svc."+apex, miekg.TypeA)},
		{reason: "dns-version says 1.1.0", query: question("dns-version."+apex, miekg.TypeTXT), want: `TXT "1.0.0"`},
		{reason: "NS at the apex gets NODATA", query: question(apex, miekg.TypeNS), want: "NS ns.dns." + apex},
		{
			reason: "SRV for a port without a name", query: question("_._tcp.web.shop.svc."+apex, miekg.TypeSRV),
			rcode: miekg.RcodeNameError,
		},
		{
			reason: "two OPTs get NOERROR", message: raw(0, [4]uint16{1, 0, 0, 2}, webA, opt, opt),
			rcode: miekg.RcodeFormatError,
		},
		{
			reason: "a cookie of 5 octets gets NOERROR", message: raw(0, arOne, webA, optWith(0, 10, 0, 5, 1, 2, 3, 4, 5)),
			rcode: miekg.RcodeFormatError,
		},
		{reason: "out of zone gets SERVFAIL", query: question("example.org.", miekg.TypeA), rcode: miekg.RcodeRefused},
	} {
		t.Run(row.reason, func(t *testing.T) {
			if row.message == nil {
				row.message = pack(t, row.query)
			}
			m := unpack(t, responder(t).Respond(nil, row.message, udp))
			if m.Rcode != row.rcode {
				t.Errorf("got %s, want %s", miekg.RcodeToString[m.Rcode], miekg.RcodeToString[row.rcode])
			}
			var got []string
			for _, rr := range m.Answer {
				got = append(got, miekg.TypeToString[rr.Header().Rrtype]+" "+strings.TrimPrefix(rr.String(), rr.Header().String()))
			}
			if diff := cmp.Diff(row.want, strings.Join(got, "; ")); diff != "" {
				t.Error(diff)
			}
			if soa := len(m.Ns) == 1 && m.Ns[0].Header().Rrtype == miekg.TypeSOA; soa != (row.want == "" && m.Authoritative) {
				t.Errorf("negative answers have the SOA, others not:\n%s", m)
			}
		})
	}
	t.Run("answers of 3 KB over UDP", func(t *testing.T) {
		out := responder(t).Respond(nil, pack(t, edns(question("big.shop.svc."+apex, miekg.TypeA))), udp)
		if len(out) > 1232 || len(out) < 1200 {
			t.Errorf("got %d octets", len(out))
		}
	})
	t.Run("no socket while the API is down", func(t *testing.T) {
		r := dns.New(options(&clusterset.Snapshot{}))
		m := ask(t, r, edns(question("web.shop.svc."+apex, miekg.TypeA)), udp)
		if m.Rcode != miekg.RcodeServerFailure || !cmp.Equal(edes(m), []uint16{miekg.ExtendedErrorCodeNotReady}) || r.Ready() {
			t.Errorf("before the first snapshot a name is neither there nor not, got\n%s", m)
		}
	})
}

func TestLargeSets(t *testing.T) {
	r := responder(t)
	seen := map[string]int{}
	for range 200 {
		m := ask(t, r, edns(question("big.shop.svc."+apex, miekg.TypeA)), udp)
		if m.Truncated {
			t.Fatal("a part of the addresses is as good as all: nobody is sent to TCP for them")
		}
		for _, rr := range m.Answer {
			seen[rr.String()]++
		}
	}
	if len(seen) != 300 {
		t.Errorf("200 answers showed %d of 300 addresses", len(seen))
	}
	for address, n := range seen {
		if n < 10 {
			t.Errorf("%s was in %d of 200 answers, the others in about 50", address, n)
		}
	}
	for _, rrtype := range []uint16{miekg.TypeA, miekg.TypeSRV} {
		name := map[uint16]string{miekg.TypeA: "", miekg.TypeSRV: "_http._tcp."}[rrtype] + "big.shop.svc." + apex
		if m := ask(t, r, question(name, rrtype), tcp); len(m.Answer) != 300 || m.Truncated {
			t.Errorf("%s over TCP: %d records", miekg.TypeToString[rrtype], len(m.Answer))
		}
		small := pack(t, question(name, rrtype))
		if out := r.Respond(nil, small, udp); len(out) > 512 || unpack(t, out).Truncated {
			t.Errorf("%s without EDNS: %d octets", miekg.TypeToString[rrtype], len(out))
		}
	}
}

// TestHugeSets holds that a set which does not even fit into TCP is no dead end.
func TestHugeSets(t *testing.T) {
	b := world()
	b.SetEndpoints("m1", clusterset.Key{Namespace: "shop", Name: "big"}, pods(6, 5000, false))
	r := responder(t, func(o *dns.Options) { o.Snapshots = clusterset.NewLatest(b.Publish()) })
	for name, rrtype := range map[string]uint16{"": miekg.TypeA, "_http._tcp.": miekg.TypeSRV} {
		message := pack(t, question(name+"big.shop.svc."+apex, rrtype))
		out := r.Respond(nil, message, tcp)
		if m := unpack(t, out); len(out) > 65535 || len(out) < 65000 || m.Truncated {
			t.Errorf("%s: %d octets, TC %v", miekg.TypeToString[rrtype], len(out), m.Truncated)
		}
		if slow := r.Slow(nil, message, tcp); !bytes.Equal(out, slow) {
			t.Errorf("%s: the paths differ", miekg.TypeToString[rrtype])
		}
	}
}

func TestRotation(t *testing.T) {
	r := responder(t)
	first := map[string]bool{}
	for range 100 {
		m := ask(t, r, question("db.shop.svc."+apex, miekg.TypeA), udp)
		if len(m.Answer) != 3 {
			t.Fatalf("got %d of 3 addresses", len(m.Answer))
		}
		first[m.Answer[0].String()] = true
	}
	if len(first) != 3 {
		t.Errorf("%d of 3 addresses came first in 100 answers", len(first))
	}
}

func TestStaticSetsAreWholeOrTruncated(t *testing.T) {
	text := []byte("@ 60 SOA ns host 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\n")
	for i := range 100 {
		text = fmt.Appendf(text, "big 60 A 10.0.0.%d\n", i)
	}
	r := responder(t, func(o *dns.Options) { o.Static, o.Snapshots = static(t, string(text)), nil })
	if m := ask(t, r, edns(question("big.example.org.", miekg.TypeA)), udp); !m.Truncated || len(m.Answer) != 0 {
		t.Errorf("an RRset is whole or not there (RFC 2181, 9): %d records, TC %v", len(m.Answer), m.Truncated)
	}
	if m := ask(t, r, edns(question("big.example.org.", miekg.TypeA)), tcp); m.Truncated || len(m.Answer) != 100 {
		t.Errorf("over TCP %d records, TC %v", len(m.Answer), m.Truncated)
	}
}

func TestStale(t *testing.T) {
	r := responder(t)
	r.SetStale(true)
	for name, want := range map[string][]uint16{
		"web.shop.svc." + apex:    {miekg.ExtendedErrorCodeStaleAnswer},
		"nobody.shop.svc." + apex: {miekg.ExtendedErrorCodeStaleAnswer},
		"example.org.":            {miekg.ExtendedErrorCodeNotAuthoritative},
	} {
		if m := ask(t, r, edns(question(name, miekg.TypeA)), udp); !cmp.Equal(edes(m), want) {
			t.Errorf("%s: extended errors %v, want %v", name, edes(m), want)
		}
	}
	if m := ask(t, r, question("web.shop.svc."+apex, miekg.TypeA), udp); len(m.Answer) != 1 || len(m.Extra) != 0 {
		t.Errorf("who does not know EDNS gets the answer all the same:\n%s", m)
	}
	r.SetStale(false)
	if m := ask(t, r, edns(question("web.shop.svc."+apex, miekg.TypeA)), udp); edes(m) != nil {
		t.Errorf("got %v when it is fresh again", edes(m))
	}
}

func TestChaos(t *testing.T) {
	told := responder(t, func(o *dns.Options) { o.Version, o.Hostname = "hansa 1.2", "dns-0" })
	for _, row := range []struct {
		reason string
		r      *dns.Responder
		name   string
		rcode  int
		want   string
	}{
		{"what the operators want told", told, "VERSION.bind.", miekg.RcodeSuccess, "hansa 1.2"},
		{"which server", told, "hostname.bind.", miekg.RcodeSuccess, "dns-0"},
		{"by the standard's name (RFC 4892)", told, "id.server.", miekg.RcodeSuccess, "dns-0"},
		{"nothing else is there", told, "authors.bind.", miekg.RcodeRefused, ""},
		{"nothing is told by default", responder(t), "version.bind.", miekg.RcodeRefused, ""},
	} {
		m := question(row.name, miekg.TypeTXT)
		m.Question[0].Qclass = miekg.ClassCHAOS
		got := ask(t, row.r, m, udp)
		text := ""
		if len(got.Answer) == 1 {
			text = strings.Join(got.Answer[0].(*miekg.TXT).Txt, "")
		}
		if got.Rcode != row.rcode || text != row.want {
			t.Errorf("%s: got %s %q", row.reason, miekg.RcodeToString[got.Rcode], text)
		}
	}
}

func TestAny(t *testing.T) {
	m := ask(t, responder(t), question("web.shop.svc."+apex, miekg.TypeANY), udp)
	if len(m.Answer) != 1 || m.Answer[0].Header().Rrtype != miekg.TypeA {
		t.Errorf("ANY gets the records of one type (RFC 8482), got\n%s", m)
	}
	if m := ask(t, responder(t), question("shop.svc."+apex, miekg.TypeANY), udp); len(m.Answer) != 0 || len(m.Ns) != 1 {
		t.Errorf("ANY where nothing is gets NODATA, got\n%s", m)
	}
}

func TestNSID(t *testing.T) {
	r := responder(t, func(o *dns.Options) { o.Hostname = "dns-0" })
	m := ask(t, r, edns(question("web.shop.svc."+apex, miekg.TypeA), &miekg.EDNS0_NSID{Code: miekg.EDNS0NSID}), udp)
	if nsid, ok := m.IsEdns0().Option[0].(*miekg.EDNS0_NSID); !ok || nsid.Nsid != "646e732d30" {
		t.Errorf("got\n%s", m)
	}
	if m := ask(t, r, edns(question("web.shop.svc."+apex, miekg.TypeA)), udp); len(m.IsEdns0().Option) != 0 {
		t.Errorf("only who asks for it is told, got\n%s", m)
	}
}

func TestQuestionComesBackAsItWas(t *testing.T) {
	for _, name := range []string{"wEb.ShOp.sVc.ClusterSet.LOCAL.", "NoBody.shop.svc.clusterset.LOCAL.", "eXample.org."} {
		for _, rrtype := range []uint16{miekg.TypeA, miekg.TypeANY} {
			if m := ask(t, responder(t), question(name, rrtype), udp); m.Question[0].Name != name {
				t.Errorf("asked for %s, got %s", name, m.Question[0].Name)
			} else if len(m.Answer) > 0 && m.Answer[0].Header().Name != name {
				t.Errorf("the records of %s are those of %s", name, m.Answer[0].Header().Name)
			}
		}
	}
}

func TestStaticZones(t *testing.T) {
	r := responder(t, func(o *dns.Options) {
		o.Snapshots = nil
		o.Static = static(t, `
@ 60 SOA ns host 1 2 3 4 5
@ 60 NS ns
ns 60 A 192.0.2.1
*.wild 60 A 192.0.2.2
alias 60 CNAME chain
chain 60 CNAME x.wild
loop 60 CNAME loop
round 60 CNAME about
about 60 CNAME round
away 60 CNAME www.example.net.
gone 60 CNAME nobody
sub 60 NS ns.sub
sub 60 DS 1 13 2 AABBCCDD
ns.sub 60 A 192.0.2.3
old 60 DNAME new
www.new 60 A 192.0.2.4
`)
	})
	for _, row := range []struct {
		reason, name string
		rrtype       uint16
		rcode        int
		aa           bool
		want         string // types of the three sections
	}{
		{"a wildcard answers as if the name were there", "a.wild.example.org.", miekg.TypeA, 0, true, "A||"},
		{"and has no other types", "a.wild.example.org.", miekg.TypeAAAA, 0, true, "|SOA|"},
		{"aliases are followed to the end", "alias.example.org.", miekg.TypeA, 0, true, "CNAME CNAME A||"},
		{"unless they are what is asked for", "alias.example.org.", miekg.TypeCNAME, 0, true, "CNAME||"},
		{"an alias of itself is there once", "loop.example.org.", miekg.TypeA, 0, true, "CNAME||"},
		{"so is each of a circle", "round.example.org.", miekg.TypeA, 0, true, "CNAME CNAME||"},
		{"outside of our zones the resolver goes on", "away.example.org.", miekg.TypeA, 0, true, "CNAME||"},
		{"the code is that of the last name", "gone.example.org.", miekg.TypeA, miekg.RcodeNameError, true, "CNAME|SOA|"},
		{"below a cut is a referral with glue", "x.sub.example.org.", miekg.TypeA, 0, false, "|NS|A"},
		{"DS at the cut is the parent's", "sub.example.org.", miekg.TypeDS, 0, true, "DS||"},
		{"below a DNAME names change", "www.old.example.org.", miekg.TypeA, 0, true, "DNAME CNAME A||"},
		{"SRV at the apex is not there", "example.org.", miekg.TypeSRV, 0, true, "|SOA|"},
		{"addresses of servers come along", "example.org.", miekg.TypeNS, 0, true, "NS||A"},
	} {
		m := ask(t, r, question(row.name, row.rrtype), udp)
		got := strings.Join([]string{kinds(m.Answer), kinds(m.Ns), kinds(m.Extra)}, "|")
		if m.Rcode != row.rcode || m.Authoritative != row.aa || got != row.want {
			t.Errorf("%s: got %s, AA %v, %s; want %s", row.reason, miekg.RcodeToString[m.Rcode], m.Authoritative, got, row.want)
		}
	}
}

// TestAliasOfALargeSet has an owner that is not in the question, so that its name is written once and pointed to.
func TestAliasOfALargeSet(t *testing.T) {
	text := []byte("@ 60 SOA ns host 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\nalias 60 CNAME a-rather-long-name-for-a-host\n")
	for i := range 60 {
		text = fmt.Appendf(text, "a-rather-long-name-for-a-host 60 A 10.0.0.%d\n", i)
	}
	r := responder(t, func(o *dns.Options) { o.Static, o.Snapshots = static(t, string(text)), nil })
	if m := ask(t, r, edns(question("alias.example.org.", miekg.TypeA)), udp); len(m.Answer) != 61 || m.Truncated {
		t.Errorf("got %d records, TC %v", len(m.Answer), m.Truncated)
	}
	if m := ask(t, r, question("alias.example.org.", miekg.TypeA), udp); len(m.Answer) != 0 || !m.Truncated {
		t.Errorf("without EDNS got %d records, TC %v", len(m.Answer), m.Truncated)
	}
}

func kinds(rrs []miekg.RR) string {
	var all []string
	for _, rr := range rrs {
		all = append(all, miekg.TypeToString[rr.Header().Rrtype])
	}
	return strings.Join(all, " ")
}
