package zone_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/zone"
)

// wild is the zone of RFC 4592, section 2.2.1.
const wild = `
$ORIGIN example.
$TTL 3600
@                SOA ns1.example.com. admin.example. 7 3600 600 86400 300
                 NS  ns.example.com.
                 NS  ns.example.net.
*                TXT "this is a wildcard"
*                MX  10 host1.example.
sub.*            TXT "this is not a wildcard"
host1            A   192.0.2.1
_ssh._tcp.host1  SRV 0 0 22 host1
_ssh._tcp.host2  SRV 0 0 22 elsewhere.example.org.
subdel           NS  ns.example.com.
subdel           NS  ns.example.net.
`

// other has what the RFC's zone has not.
const other = `
$ORIGIN Other.Example.
$TTL 60
@          SOA ns admin 4294967295 3600 600 86400 3600
           NS  ns
ns         A   192.0.2.53
           AAAA 2001:db8::53
www        CNAME web
web        30 A 192.0.2.80
web        90 A 192.0.2.81
web        90 A 192.0.2.80
loop       CNAME loop
*.any      CNAME web
a.b.c      A 192.0.2.3
\.dot      TXT "a dot"
child      NS ns.child
child      NS ns2.child
child      DS 1 13 2 00
ns.child   A 192.0.2.54
below.child TXT "not ours"
old        DNAME new.example.
old        TXT "beside it"
mail       MX 10 ns
mail       MX 5 nowhere
`

func static(t *testing.T, zones ...string) *zone.Tree {
	t.Helper()
	files := make([]zone.File, len(zones))
	for i, text := range zones {
		files[i] = zone.File{Name: "test", Reader: strings.NewReader(text)}
	}
	tree, err := zone.Static(files...)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestWildcards(t *testing.T) {
	check(t, static(t, wild), []row{
		{"RFC 4592, 2.2.1: no such host, so the wildcard", "host3.example. MX", "wildcard 3600 10 host1.example."},
		{"the wildcard has no A", "host3.example. A", "wildcard NODATA"},
		{"below a name that does not exist too", "foo.bar.example. TXT", `wildcard 3600 "this is a wildcard"`},
		{"host1 exists", "host1.example. MX", "NODATA"},
		{"the wildcard itself may be asked for", "*.example. TXT", `3600 "this is a wildcard"`},
		{"*.example exists, so sub.*.example is below no other wildcard", "sub.*.example. MX", "NODATA"},
		{"_tcp.host1 exists", "_telnet._tcp.host1.example. SRV", "NXDOMAIN"},
		{"it is an empty non-terminal", "_tcp.host1.example. SRV", "NODATA"},
		{"so does host2, for what is below it", "host2.example. TXT", "NODATA"},
		{"subdel is delegated", "host.subdel.example. A", "delegated 3600 ns.example.com., 3600 ns.example.net."},
		{"the closest encloser has no wildcard", "ghost.*.example. MX", "NXDOMAIN"},
		{"out of zone", "example.org. A", "REFUSED"},
	})
}

func TestStatic(t *testing.T) {
	tree := static(t, other, wild)
	check(t, tree, []row{
		{"names of files are compared without regard to case", "OTHER.example SOA", "60 ns.Other.Example. admin.Other.Example. 4294967295 3600 600 86400 3600"},
		{"an alias", "www.other.example. A", "alias 60 web.Other.Example."},
		{"an alias by a wildcard", "x.any.other.example. A", "alias 60 web.Other.Example."},
		{"an alias of itself is for those who follow", "loop.other.example. A", "alias 60 loop.Other.Example."},
		{"a set has the least TTL, and no record twice", "web.other.example. A", "30 192.0.2.80, 30 192.0.2.81"},
		{"RFC 2308: the name exists", "web.other.example. AAAA", "NODATA"},
		{"RFC 8020: so do all names above", "b.c.other.example. A", "NODATA"},
		{"RFC 8020: and nothing below what does not", "x.y.z.other.example. A", "NXDOMAIN"},
		{"a dot in a label is no end of it", `\.dot.other.example. TXT`, `60 "a dot"`},
		{"at a cut it is delegated", "child.other.example. A", "delegated 60 ns.child.Other.Example., 60 ns2.child.Other.Example."},
		{"below too, what the file says included", "below.child.other.example. TXT", "delegated 60 ns.child.Other.Example., 60 ns2.child.Other.Example."},
		{"glue is no answer", "ns.child.other.example. A", "delegated 60 ns.child.Other.Example., 60 ns2.child.Other.Example."},
		{"below a DNAME everything is renamed", "a.b.old.other.example. A", "renamed 60 new.example."},
		{"the name itself is not", "old.other.example. TXT", `60 "beside it"`},
		{"a zone inside another one has its own names, the wildcard of the outer one not among them", "host3.other.example. MX", "NXDOMAIN"},
		{"beside it the wildcard holds", "host3.example. MX", "wildcard 3600 10 host1.example."},
	})
	match := tree.Find(wire(t, "below.child.other.example."))
	if got := additional(match.Node.RRset(dns.TypeNS).Additional()[0]); got != "ns.child.other.example. [60 192.0.2.54]" {
		t.Errorf("the glue is %s", got)
	}
	mail := tree.Find(wire(t, "mail.other.example.")).Node.RRset(dns.TypeMX)
	if got := additional(mail.Additional()[0]) + " " + additional(mail.Additional()[1]); got != "- ns.other.example. [60 192.0.2.53] [60 2001:db8::53]" {
		t.Errorf("the mail servers' addresses are %s", got)
	}
}

// TestNegativeTTL is RFC 2308, section 3: the lesser one of the SOA's TTL and its last field.
func TestNegativeTTL(t *testing.T) {
	for apex := range static(t, wild, other).Zones() {
		want := map[string]uint32{"example.": 300, "other.example.": 60}[apex.Name()]
		if got := apex.Negative().TTL(); got != want {
			t.Errorf("negative answers of %s last %d s, want %d", apex.Name(), got, want)
		}
		if got := apex.Negative().RRs("x.")[0].Header().Ttl; got != want {
			t.Errorf("the record of %s lasts %d s, want %d", apex.Name(), got, want)
		}
	}
}

func TestRoot(t *testing.T) {
	check(t, static(t, ". 60 IN SOA a. b. 1 2 3 4 5\n. 60 IN NS a.\na. 60 IN A 192.0.2.1\norg. 60 IN NS a.org.\n"), []row{
		{"the root is a zone too", ". NS", "60 a."},
		{"every name is in it", "example.com. A", "NXDOMAIN"},
		{"it delegates", "example.org. A", "delegated 60 a.org."},
	})
}

func TestErrors(t *testing.T) {
	const top = "$ORIGIN example.\n$TTL 60\n@ SOA ns admin 1 2 3 4 5\n"
	for _, c := range []struct{ reason, text, want string }{
		{"the line of a mistake", top + "@ NS ns\na A 1.2.3\n", "line: 5"},
		{"nothing", "", "there is no SOA"},
		{"two beginnings", top + "@ SOA ns admin 1 2 3 4 5\n", "second SOA, of example."},
		{"no server", top, "example. has no NS"},
		{"a record of another zone", top + "@ NS ns\na.org. A 192.0.2.1\n", "a.org. A is not in the zone example."},
		{"an alias with company", top + "@ NS ns\na CNAME b\na A 192.0.2.1\n", "a.example. has a CNAME and other records, of type A"},
		{"an alias of two", top + "@ NS ns\na CNAME b\na CNAME c\n", "a.example. has 2 records of type CNAME"},
		{"the apex is no alias", top + "@ NS ns\n@ CNAME b\n", "example. has a CNAME and other records"},
		{"another class", top + "@ NS ns\na CH TXT b\n", "class CH"},
		{"something below a DNAME", top + "@ NS ns\na DNAME b\nb.a A 192.0.2.1\n", "b.a.example. is below a.example."},
		{"a wildcard that delegates", top + "@ NS ns\n*.a NS b\n", "a wildcard can neither delegate nor rename"},
		{"more than a message has", top + "@ NS ns\n" + texts(400), "more than the"},
		{"the other zone's name", "", ""},
	} {
		file := zone.File{Name: "db.example", Reader: strings.NewReader(c.text)}
		if c.reason == "the other zone's name" {
			file.Origin, file.Reader, c.want = "example.org", strings.NewReader(top), "not of the zone example.org"
		}
		_, err := zone.Static(file)
		switch {
		case err == nil:
			t.Errorf("%s is no error", c.reason)
		case !strings.Contains(err.Error(), "db.example") || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v; want it to say %q", c.reason, err, c.want)
		}
	}
	if _, err := zone.Static(zone.File{Reader: strings.NewReader(top + "@ NS ns\n")}, zone.File{Reader: strings.NewReader(top)}); err == nil {
		t.Error("a zone may be there once")
	}
}

func wire(tb testing.TB, name string) []byte {
	tb.Helper()
	wire, err := zone.Wire(name)
	if err != nil {
		tb.Fatal(err)
	}
	return wire
}

// FuzzStatic reads anything as a zone file, and asks for every name that is in it.
func FuzzStatic(f *testing.F) {
	f.Add(wild)
	f.Add(other)
	f.Add("a. 1 IN SOA a. a. 1 1 1 1 1\na. 1 IN NS a.\n*.a. 1 IN CNAME *.a.\n")
	f.Add("$ORIGIN a.\n@ 1 SOA . . 1 1 1 1 1\n@ 1 NS @\n$GENERATE 1-3 x$ A 10.0.0.$\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(strings.ToUpper(text), "$GENERATE") && len(text) > 200 {
			return // as many records as it likes
		}
		tree, err := zone.Static(zone.File{Name: "fuzz", Reader: strings.NewReader(text)})
		if err != nil {
			return
		}
		for apex := range tree.Zones() {
			if apex.SOA() == nil || apex.NS() == nil || apex.Node() == nil {
				t.Fatal("a zone without a top")
			}
			tree.Walk(apex, func(owner string, node *zone.Node) bool {
				match := tree.Find(wire(t, owner))
				if match.Node == nil || match.Kind == zone.Wildcard {
					t.Fatalf("%s is in the zone and not found: %+v", owner, match)
				}
				for _, set := range node.RRsets() {
					if len(set.RRs(owner)) != set.Len() {
						t.Fatalf("%s: %d records of type %d, and %d are unpacked", owner, set.Len(), set.Type(), len(set.RRs(owner)))
					}
				}
				return true
			})
		}
	})
}

// texts returns so many records of one name.
func texts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "big TXT \"%d %s\"\n", i, strings.Repeat("x", 200))
	}
	return b.String()
}
