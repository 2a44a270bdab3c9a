package dns_test

import (
	"net/netip"
	"testing"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
)

// emptyTSIG is a TSIG without data.
var emptyTSIG = []byte{0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0}

// TestMalformed has messages that the library takes.
func TestMalformed(t *testing.T) {
	front := []byte("\x05front\x04shop\x06global\x07example\x03org\x00\x00\x01\x00\x01")
	subnet := func(source byte, address ...byte) []byte {
		return optWith(append([]byte{0, 8, 0, byte(4 + len(address)), 0, 1, source, 0}, address...)...)
	}
	r := responder(t, func(o *dns.Options) {
		o.Askers.Regions = map[netip.Prefix]string{netip.MustParsePrefix("32.0.0.0/5"): "eu"}
	})
	for _, row := range []struct {
		reason  string
		message []byte
		rcode   int
	}{
		{"octets behind the question", raw(0, arNil, webA, []byte{0}), miekg.RcodeFormatError},
		{"octets behind the OPT", raw(0, arOne, webA, opt, []byte{1, 2, 3}), miekg.RcodeFormatError},
		{"records that are not there", raw(0, [4]uint16{1, 65535, 65535, 65535}, webA), miekg.RcodeFormatError},
		{"one record that is not there", raw(0, [4]uint16{1, 0, 1, 0}, webA), miekg.RcodeFormatError},
		{"an OPT that is not there", raw(0, arOne, webA), miekg.RcodeFormatError},
		{"an OPT that is not announced", raw(0, arNil, webA, opt), miekg.RcodeFormatError},
		{"all as announced", raw(0, [4]uint16{1, 0, 1, 1}, webA, []byte{0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0}, opt), miekg.RcodeSuccess},
		{"a TSIG of nothing", raw(0, arOne, webA, emptyTSIG), miekg.RcodeFormatError},
		{"a network", raw(0, arOne, front, subnet(20, 203, 0, 112)), miekg.RcodeSuccess},
		{"bits behind its length (RFC 7871, 6)", raw(0, arOne, front, subnet(20, 203, 0, 113)), miekg.RcodeFormatError},
		{"more octets than its length says", raw(0, arOne, front, subnet(16, 203, 0, 0)), miekg.RcodeFormatError},
		{"fewer octets", raw(0, arOne, front, subnet(24, 203, 0)), miekg.RcodeFormatError},
		{"bits in an address of no length", raw(0, arOne, front, subnet(0, 0)), miekg.RcodeFormatError},
		{"no network", raw(0, arOne, front, subnet(0)), miekg.RcodeSuccess},
	} {
		for _, from := range []listen.Source{udp, tcp} {
			if m := unpack(t, r.Respond(nil, row.message, from)); m.Rcode != row.rcode {
				t.Errorf("%s: got %s over %s, want %s", row.reason, miekg.RcodeToString[m.Rcode], from.Transport, miekg.RcodeToString[row.rcode])
			}
		}
	}
	m := unpack(t, r.Respond(nil, raw(0, arOne, front, subnet(0)), udp))
	if echoed, ok := m.IsEdns0().Option[0].(*miekg.EDNS0_SUBNET); !ok || echoed.SourceNetmask != 0 || echoed.SourceScope != 0 {
		t.Errorf("who tells no network gets a scope of 0 (RFC 7871, 7.2.1), got\n%s", m)
	}
}

// TestCookieWithoutAQuestion is RFC 7873, 5.4.
func TestCookieWithoutAQuestion(t *testing.T) {
	r := responder(t)
	hello := func(cookie ...byte) *miekg.Msg {
		option := append([]byte{0, 10, 0, byte(len(cookie))}, cookie...)
		return unpack(t, r.Respond(nil, raw(0x0100, [4]uint16{0, 0, 0, 1}, optWith(option...)), udp))
	}
	m := hello(1, 2, 3, 4, 5, 6, 7, 8)
	if m.Rcode != miekg.RcodeSuccess || len(m.Question)+len(m.Answer)+len(m.Ns) != 0 || m.IsEdns0() == nil || len(m.IsEdns0().Option) != 1 {
		t.Fatalf("got\n%s", m)
	}
	cookie, ok := m.IsEdns0().Option[0].(*miekg.EDNS0_COOKIE)
	if !ok || len(cookie.Cookie) != 2*24 || cookie.Cookie[:16] != "0102030405060708" {
		t.Errorf("got %s", m.IsEdns0())
	}
	for reason, message := range map[string][]byte{
		"a cookie of a wrong length": raw(0, [4]uint16{0, 0, 0, 1}, optWith(0, 10, 0, 5, 1, 2, 3, 4, 5)),
		"no cookie":                  raw(0, [4]uint16{0, 0, 0, 1}, opt),
		"nothing":                    raw(0, [4]uint16{}),
		"an OPT that is not there":   raw(0, [4]uint16{0, 0, 0, 1}),
		"another record":             raw(0, [4]uint16{0, 1, 0, 1}, []byte{0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0}, optWith(0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8)),
	} {
		if m := unpack(t, r.Respond(nil, message, udp)); m.Rcode != miekg.RcodeFormatError {
			t.Errorf("%s: got %s", reason, miekg.RcodeToString[m.Rcode])
		}
	}
	bad := optWith(0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8)
	bad[6] = 1 // the version
	if m := unpack(t, r.Respond(nil, raw(0, [4]uint16{0, 0, 0, 1}, bad), udp)); m.Rcode != miekg.RcodeBadVers {
		t.Errorf("another version of EDNS: got %s", miekg.RcodeToString[m.Rcode])
	}
}
