package dns_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
)

// FuzzRespond sends anything. Whatever comes, the server does not panic, what it says can be read and is not larger than
// it may be, and both paths say the same.
func FuzzRespond(f *testing.F) {
	for _, message := range hotQuestions(f) {
		f.Add(message)
	}
	subnet := &miekg.EDNS0_SUBNET{Code: miekg.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{192, 0, 2, 0}}
	f.Add(pack(f, edns(question("front.shop.global.example.org.", miekg.TypeA), subnet)))
	f.Add(pack(f, edns(question(apex, miekg.TypeANY), &miekg.EDNS0_NSID{Code: miekg.EDNS0NSID})))
	f.Add(pack(f, question(apex, miekg.TypeAXFR)))
	signed := question(apex, miekg.TypeSOA)
	signed.SetTsig("key.", miekg.HmacSHA256, 300, 1)
	f.Add(pack(f, signed))
	f.Add(raw(0x2800, arNil, webA))
	f.Add(raw(0, [4]uint16{1, 0, 0, 2}, webA, opt, opt))
	f.Add(raw(0, arNil, []byte{0xc0, 12, 0, 1, 0, 1}))
	f.Add(pack(f, wanting("nobody.shop.svc."+apex, miekg.TypeA)))
	f.Add(pack(f, wanting(strings.Repeat(`\001`, 30)+".svc."+apex, miekg.TypeA)))
	f.Add(pack(f, wanting(`a\.b\000\255.svc.`+apex, miekg.TypeSRV)))
	f.Add(pack(f, wanting("clusters.local.", miekg.TypeDS)))
	f.Add(raw(0, arOne, webA, emptyTSIG))
	f.Add([]byte{1})
	f.Add([]byte{})
	f.Add(raw(0, [4]uint16{0, 0, 0, 1}, optWith(0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8)))
	f.Add(raw(0, [4]uint16{1, 65535, 65535, 65535}, webA))
	f.Add(raw(0, arOne, webA, opt, []byte{0}))
	f.Add(raw(0, arOne, webA, optWith(0, 8, 0, 7, 0, 1, 17, 0, 192, 0, 255)))
	r := responder(f, func(o *dns.Options) { o.Hostname, o.Version = "dns-0", "1" })
	all := responder(f, signing(f), withSecondary(f, netip.AddrPort{}), func(o *dns.Options) {
		o.Hostname, o.RateLimit = "dns-0", dns.RateLimit{PerSecond: dns.MaxPerSecond}
		o.Zone.PerCluster = "per." + apex
	})
	for _, tapped := range []*dns.Responder{r, all} {
		if _, _, ok := tapped.Tap().Subscribe(1, 1); !ok {
			f.Fatal("cannot subscribe")
		}
	}
	nets := responder(f, signing(f), func(o *dns.Options) { o.Static, o.Snapshots = nested(f, ""), nil })
	f.Fuzz(func(t *testing.T, message []byte) {
		if out := all.Respond(nil, message, udp); len(out) > 1232 || len(out) > 0 && unpack(t, out).Id != binary.BigEndian.Uint16(message) {
			t.Fatalf("with all options: % x", out)
		}
		for _, from := range []listen.Source{udp, tcp, {Peer: udp.Peer, Transport: listen.HTTPS}} {
			if out := nets.Respond(nil, message, from); len(out) > 0 {
				unpack(t, out)
			}
			if out := all.Respond(nil, message, from); len(out) > 0 {
				unpack(t, out)
			}
		}
		if handled, _ := all.Stream(message, tcp, func([]byte) error { return nil }); handled {
			t.Fatal("a zone for nobody")
		}
		over := r.Respond(nil, message, udp)
		stream := r.Respond(nil, message, tcp)
		if len(over) > 1232 || len(stream) > 65535 {
			t.Fatalf("%d octets over UDP, %d over TCP", len(over), len(stream))
		}
		for _, out := range [][]byte{over, stream} {
			if len(out) == 0 {
				continue
			}
			m := unpack(t, out)
			if !m.Response || !bytes.Equal(out[:2], message[:2]) {
				t.Fatalf("not a response to the query: % x", out)
			}
			if opt := m.IsEdns0(); opt == nil && len(over) > 512 {
				t.Fatalf("%d octets for somebody without EDNS", len(over))
			}
		}
		if r.Plain(message, udp) {
			if slow := r.Slow(nil, message, udp); !bytes.Equal(over, slow) {
				t.Fatalf("the paths differ\n% x\n% x", over, slow)
			}
		}
	})
}

// FuzzLower compares eight octets at a time with one at a time.
func FuzzLower(f *testing.F) {
	f.Add([]byte("\x03WeB\x04shOP@[`{\x00\xff\x80\xc1\xda"))
	f.Fuzz(func(t *testing.T, name []byte) {
		var want []byte
		for _, c := range name {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			want = append(want, c)
		}
		got := make([]byte, len(name)+8)
		dns.Lower(got, name)
		if !bytes.Equal(got[:len(name)], want) {
			t.Errorf("got % x, want % x", got, want)
		}
	})
}
