package dns_test

import (
	"strings"
	"testing"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/zone"
)

// nested are two files, of a zone and one inside of it.
func nested(tb testing.TB, more string) *zone.Tree {
	tb.Helper()
	outer := "$ORIGIN par.test.\n@ 60 SOA ns host 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\n" + more
	inner := "$ORIGIN child.par.test.\n@ 60 SOA ns host 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.2\nwww 60 A 192.0.2.3\n"
	tree, err := zone.Static(zone.File{Name: "outer", Reader: strings.NewReader(outer)}, zone.File{Name: "inner", Reader: strings.NewReader(inner)})
	if err != nil {
		tb.Fatal(err)
	}
	return tree
}

// TestDSOfServedZones asks for what the parent has of a zone that the same server has (RFC 4035, 3.1.4.1).
func TestDSOfServedZones(t *testing.T) {
	files := func(more string) func(*dns.Options) {
		return func(o *dns.Options) { o.Static, o.Snapshots = nested(t, more), nil }
	}
	snapshots := func(o *dns.Options) {
		o.Zone.External = []zone.External{{Zone: "example.org."}}
		o.Zone.PerCluster = "c.example.org."
	}
	for _, row := range []struct {
		reason        string
		from          func(*dns.Options)
		parent, child string
		foreign       bool // the DS is what the file says
	}{
		{"zone files", files(""), "par.test.", "child.par.test.", false},
		{"zones of snapshots", snapshots, "example.org.", "c.example.org.", false},
		{"a file that says the DS itself", files("child 60 DS 1 13 2 AABBCCDD\n"), "par.test.", "child.par.test.", true},
	} {
		r := responder(t, signing(t), row.from)
		m := ask(t, r, wanting(row.child, miekg.TypeDS), tcp)
		if got := validate(t, r, m); got != "DS RRSIG|" || !m.Authoritative {
			t.Fatalf("%s: got %s\n%s", row.reason, got, m)
		}
		if signer := m.Answer[1].(*miekg.RRSIG).SignerName; signer != row.parent {
			t.Errorf("%s: the DS is signed by %s", row.reason, signer)
		}
		key := ask(t, r, question(row.child, miekg.TypeDNSKEY), tcp).Answer[0].(*miekg.DNSKEY)
		if ds := m.Answer[0].(*miekg.DS); (ds.Digest == key.ToDS(miekg.SHA256).Digest) == row.foreign {
			t.Errorf("%s: the DS is %s", row.reason, ds)
		}
		if m := ask(t, r, question(row.child, miekg.TypeDS), udp); len(m.Answer) != 1 || len(m.Ns) != 0 {
			t.Errorf("%s: without signatures got\n%s", row.reason, m)
		}
		for _, name := range []string{row.child, "nobody." + row.child} {
			m := ask(t, r, wanting(name, miekg.TypeTXT), tcp)
			if validate(t, r, m); m.Ns[1].(*miekg.RRSIG).SignerName != row.child {
				t.Errorf("%s: %s is denied by\n%s", row.reason, name, m)
			}
		}
		if m := ask(t, r, wanting(row.parent, miekg.TypeDS), tcp); len(m.Answer) != 0 {
			t.Errorf("%s: nobody around the outer zone is known, got\n%s", row.reason, m)
		}
	}
	// Unsigned, the parent says that there is none.
	r := responder(t, files(""))
	if m := ask(t, r, question("child.par.test.", miekg.TypeDS), udp); len(m.Answer) != 0 || m.Rcode != 0 || m.Ns[0].Header().Name != "par.test." {
		t.Errorf("got\n%s", m)
	}
	if m := ask(t, r, question("child.par.test.", miekg.TypeNS), udp); len(m.Answer) != 1 || !m.Authoritative {
		t.Errorf("the zone inside answers for itself, got\n%s", m)
	}
}
