package dns_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// names returns all names of the responder's zones for m1, and some that do not exist.
func names(snapshot *clusterset.Snapshot) []string {
	tree := zone.Next(nil, snapshot, zone.Asker{Cluster: "m1"}, zones)
	var all []string
	for apex := range tree.Zones() {
		tree.Walk(apex, func(owner string, _ *zone.Node) bool {
			all = append(all, owner, "nobody."+owner)
			return true
		})
	}
	return append(all, "example.org.", ".", "local.", "com.")
}

// TestBothPathsAgree holds the packed path against the one that goes record by record, octet by octet.
func TestBothPathsAgree(t *testing.T) {
	types := []uint16{miekg.TypeA, miekg.TypeAAAA, miekg.TypeSRV, miekg.TypeTXT, miekg.TypeNS, miekg.TypeSOA, miekg.TypeMX, 65280}
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		snapshot := random(rnd)
		o := options(snapshot)
		o.CookieSecrets = [][16]byte{{1, 2, 3}}
		r := dns.New(o)
		r.SetStale(seed%2 == 1)
		all := names(snapshot)
		plain := 0
		for range 2000 {
			m := question(mixed(rnd, all[rnd.IntN(len(all))]), types[rnd.IntN(len(types))])
			m.RecursionDesired, m.CheckingDisabled = rnd.IntN(2) == 0, rnd.IntN(2) == 0
			if rnd.IntN(2) == 0 {
				edns(m).IsEdns0().SetUDPSize([]uint16{0, 512, 700, 1232, 4096}[rnd.IntN(5)])
				m.IsEdns0().SetDo(rnd.IntN(2) == 0)
				if rnd.IntN(2) == 0 {
					cookie := hex.EncodeToString(fmt.Appendf(nil, "%08d", rnd.IntN(1e8)))
					m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: cookie}}
				}
			}
			from := []listen.Source{udp, udp, tcp}[rnd.IntN(3)]
			from.Peer = netip.AddrPortFrom(from.Peer.Addr(), uint16(rnd.IntN(1<<16)))
			message := pack(t, m)
			if r.Plain(message, from) {
				plain++
			}
			fast, slow := r.Respond(nil, message, from), r.Slow(nil, message, from)
			if !bytes.Equal(fast, slow) {
				t.Fatalf("seed %d: the paths differ for\n%s\nfast\n% x\n%s\nslow\n% x\n%s", seed, m, fast, unpack(t, fast), slow, unpack(t, slow))
			}
			if limit := 1232; from.Transport == listen.UDP && len(fast) > limit {
				t.Fatalf("seed %d: %d octets over UDP", seed, len(fast))
			}
		}
		if plain < 1900 {
			t.Errorf("seed %d: only %d of 2000 questions took the short path", seed, plain)
		}
	}
}

// mixed returns the name with some letters in upper case, as resolvers ask to make answers hard to forge.
func mixed(rnd *rand.Rand, name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' && rnd.IntN(2) == 0 {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

func hotQuestions(tb testing.TB) map[string][]byte {
	tb.Helper()
	cookie := edns(question("web.shop.svc."+apex, miekg.TypeA), &miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "0102030405060708"})
	return map[string][]byte{
		"A":        pack(tb, question("web.shop.svc."+apex, miekg.TypeA)),
		"A-edns":   pack(tb, edns(question("web.shop.svc."+apex, miekg.TypeA))),
		"A-cookie": pack(tb, cookie),
		"A-big":    pack(tb, edns(question("big.shop.svc."+apex, miekg.TypeA))),
		"AAAA":     pack(tb, edns(question("web.shop.svc."+apex, miekg.TypeAAAA))),
		"SRV":      pack(tb, edns(question("_http._tcp.db.shop.svc."+apex, miekg.TypeSRV))),
		"SRV-big":  pack(tb, edns(question("_http._tcp.big.shop.svc."+apex, miekg.TypeSRV))),
		"NODATA":   pack(tb, edns(question("shop.svc."+apex, miekg.TypeA))),
		"NXDOMAIN": pack(tb, edns(question("nobody.shop.svc."+apex, miekg.TypeA))),
		"REFUSED":  pack(tb, edns(question("example.org.", miekg.TypeA))),
	}
}

func TestPlainQueriesDoNotAllocate(t *testing.T) {
	for reason, change := range map[string]func(*dns.Options){
		"by default":   func(*dns.Options) {},
		"with a limit": func(o *dns.Options) { o.RateLimit = dns.RateLimit{PerSecond: 1e6} },
		"with prefixes": func(o *dns.Options) {
			o.Askers.Sources = map[netip.Prefix]zone.Asker{netip.MustParsePrefix("10.0.0.0/8"): {Cluster: "m1"}}
		},
	} {
		r := responder(t, change)
		dst := make([]byte, 0, 4096)
		for name, message := range hotQuestions(t) {
			r.Respond(dst, message, udp)
			if n := testing.AllocsPerRun(100, func() { r.Respond(dst, message, udp) }); n != 0 {
				t.Errorf("%s, %s: %v allocations", name, reason, n)
			}
		}
	}
}

func BenchmarkRespond(b *testing.B) {
	r := responder(b)
	dst := make([]byte, 0, 4096)
	for name, message := range hotQuestions(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Respond(dst, message, udp)
			}
		})
	}
	message := hotQuestions(b)["A-edns"]
	b.Run("long-way", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.Slow(dst, message, udp)
		}
	})
}
