package zone_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/zone"
)

// walked lists the names and types of one zone.
func walked(tree *zone.Tree, name string) (all []string) {
	for apex := range tree.Zones() {
		if apex.Name() != name {
			continue
		}
		tree.Walk(apex, func(owner string, node *zone.Node) bool {
			for _, rrtype := range node.Types() {
				all = append(all, owner+" "+dns.TypeToString[rrtype])
			}
			return true
		})
	}
	return all
}

const (
	outer = "$ORIGIN par.test.\n@ 60 SOA ns host 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\n"
	inner = "$ORIGIN child.par.test.\n@ 60 SOA ns host 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.2\n"
)

// TestCuts has zones inside of others: what is at the cut belongs to the one around (RFC 4035, section 3.1.4.1).
func TestCuts(t *testing.T) {
	files := func(texts ...string) *zone.Tree {
		var all []zone.File
		for _, text := range texts {
			all = append(all, zone.File{Name: "test", Reader: strings.NewReader(text)})
		}
		tree, err := zone.Static(all...)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	snapshots := twoClusters().tree("m1", everything)
	const parentOnly = "par.test. NS|par.test. SOA|ns.par.test. A"
	for _, c := range []struct {
		reason, around string
		tree           *zone.Tree
		cut            string // its name; empty: none
		types          string
		walk           string // of the zone around, as far as the zone inside is concerned
	}{
		{
			"files that do not say where the zone is cut", "par.test.", files(outer, inner), "child.par.test.", "NS",
			"child.par.test. NS|ns.child.par.test. A",
		}, {
			"in the other order", "par.test.", files(inner, outer), "child.par.test.", "NS",
			"child.par.test. NS|ns.child.par.test. A",
		}, {
			"one that says it keeps what it says", "par.test.", files(outer+"child 60 NS other\nchild 60 DS 1 13 2 AABB\nother 60 A 192.0.2.3\n", inner),
			"child.par.test.", "NS DS", "child.par.test. NS|child.par.test. DS",
		}, {
			"only DS", "par.test.", files(outer+"child 60 DS 1 13 2 AABB\n", inner), "child.par.test.", "NS DS",
			"child.par.test. NS|child.par.test. DS|ns.child.par.test. A",
		}, {
			"another cut is between", "par.test.", files(outer+"sub 60 NS ns\n", strings.ReplaceAll(inner, "child", "child.sub")), "", "", "",
		}, {
			"nothing is around", "par.test.", files(outer), "", "", "",
		}, {
			"zones of snapshots", "clusterset.local.", snapshots, "per.clusterset.local.", "NS", "per.clusterset.local. NS|ns.dns.per.clusterset.local. A",
		},
	} {
		name := c.cut
		if name == "" {
			name = "child.sub.par.test."
		}
		match := c.tree.FindType(wire(t, name), dns.TypeDS)
		got := []string{}
		if match.Kind == zone.Delegated && match.Node.Name() == name {
			for _, rrtype := range match.Node.Types() {
				got = append(got, dns.TypeToString[rrtype])
			}
			if match.Apex.Name() != c.around {
				t.Errorf("%s: it is found in %s", c.reason, match.Apex.Name())
			}
			if at := c.tree.Find(wire(t, name)); at.Apex.Name() != name || at.Kind != zone.Exists {
				t.Errorf("%s: the zone inside is gone: %+v", c.reason, at)
			}
		}
		if strings.Join(got, " ") != c.types {
			t.Errorf("%s: the cut has %s, want %s", c.reason, got, c.types)
		}
		inside := slices.DeleteFunc(walked(c.tree, c.around), func(line string) bool {
			return c.cut == "" || !strings.Contains(line, c.cut)
		})
		if c.cut != "" && strings.Join(inside, "|") != c.walk {
			t.Errorf("%s: the zone around has %q", c.reason, inside)
		}
	}
	if got := strings.Join(walked(files(outer), "par.test."), "|"); got != parentOnly {
		t.Errorf("without a zone inside there is %s", got)
	}
}
