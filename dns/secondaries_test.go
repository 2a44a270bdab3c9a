package dns_test

import (
	"context"
	"encoding/base64"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/transfer"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

var (
	shared  = []byte("0123456789abcdef0123456789abcdef")
	encoded = base64.StdEncoding.EncodeToString(shared)
)

// withSecondary has one secondary with the key second; the key other is nobody's.
func withSecondary(tb testing.TB, addr netip.AddrPort) func(*dns.Options) {
	tb.Helper()
	s, err := transfer.New(transfer.Options{
		Keys:        []transfer.Key{{Name: "second", Secret: shared}, {Name: "other", Secret: shared}},
		Secondaries: []transfer.Secondary{{Key: "second", Addr: addr}}, Rest: time.Millisecond,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return func(o *dns.Options) { o.Transfer = s }
}

// sealed signs a query; at is when.
func sealed(t *testing.T, m *miekg.Msg, key, secret string, at time.Time) (message []byte, mac string) {
	t.Helper()
	m.SetTsig(key, miekg.HmacSHA256, 300, at.Unix())
	message, mac, err := miekg.TsigGenerate(m, secret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	return message, mac
}

// transferred sends a query for a zone as listen does, and returns the records of all messages, whose TSIGs hold.
func transferred(t *testing.T, r *dns.Responder, m *miekg.Msg) (records []miekg.RR, messages int) {
	t.Helper()
	message, mac := sealed(t, m, "second.", encoded, time.Now())
	handled, err := r.Stream(message, tcp, func(out []byte) error {
		envelope := unpack(t, out)
		records = append(records, envelope.Answer...)
		if err := miekg.TsigVerify(slices.Clone(out), encoded, mac, messages > 0); err != nil {
			t.Errorf("message %d: %v", messages, err)
		}
		mac = envelope.IsTsig().MAC
		messages++
		if len(out) > 65535 || !envelope.Authoritative || envelope.Id != m.Id {
			t.Errorf("message %d: %d octets, %s", messages, len(out), envelope.MsgHdr.String())
		}
		return nil
	})
	if err != nil || !handled {
		t.Fatalf("handled %v, %v", handled, err)
	}
	return records, messages
}

func axfr(name string) *miekg.Msg {
	m := new(miekg.Msg)
	return m.SetAxfr(name)
}

func TestAXFR(t *testing.T) {
	snapshot := vips(2).Publish()
	r := responder(t, withSecondary(t, netip.AddrPort{}), func(o *dns.Options) { o.Snapshots = clusterset.NewLatest(snapshot) })
	got, messages := transferred(t, r, axfr("ClusterSet.local."))
	if messages < 2 {
		t.Errorf("the zone with 300 pods came in %d message", messages)
	}
	tree := zone.Next(nil, snapshot, zone.Asker{Cluster: "m1"}, zones)
	var want []string
	for top := range tree.Zones() {
		if top.Name() != apex {
			continue
		}
		soa := top.SOA().RRs(apex)[0].String()
		want = append(want, soa)
		tree.Walk(top, func(owner string, node *zone.Node) bool {
			for _, set := range node.RRsets() {
				for _, rr := range set.RRs(owner) {
					if set.Type() != miekg.TypeSOA {
						want = append(want, rr.String())
					}
				}
			}
			return true
		})
		want = append(want, soa)
	}
	var lines []string
	for _, rr := range got {
		lines = append(lines, rr.String())
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

func TestIXFR(t *testing.T) {
	r := responder(t, withSecondary(t, netip.AddrPort{}))
	soa := ask(t, r, question(apex, miekg.TypeSOA), udp).Answer[0].(*miekg.SOA)
	ixfr := func(serial uint32) *miekg.Msg {
		m := new(miekg.Msg)
		return m.SetIxfr(apex, serial, soa.Ns, soa.Mbox)
	}
	if got, _ := transferred(t, r, ixfr(soa.Serial)); len(got) != 1 || got[0].Header().Rrtype != miekg.TypeSOA {
		t.Errorf("who is up to date gets %d records, want the SOA", len(got))
	}
	if got, _ := transferred(t, r, ixfr(soa.Serial+1)); len(got) != 1 {
		t.Errorf("who is ahead gets %d records, want the SOA", len(got))
	}
	if got, _ := transferred(t, r, ixfr(soa.Serial-1)); len(got) < 100 || got[len(got)-1].Header().Rrtype != miekg.TypeSOA {
		t.Errorf("who is behind gets %d records, want all", len(got))
	}
	message, _ := sealed(t, ixfr(soa.Serial-1), "second.", encoded, time.Now())
	if m := unpack(t, r.Respond(nil, message, udp)); len(m.Answer) != 1 || m.Answer[0].(*miekg.SOA).Serial != soa.Serial || m.IsTsig() == nil {
		t.Errorf("over UDP it gets the SOA, and comes back over TCP; got\n%s", m)
	}
}

// TestDifferences follows a zone by IXFR through random snapshots: what a secondary makes of the differences is the zone.
func TestDifferences(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	b := vips(2)
	latest := clusterset.NewLatest(b.Publish())
	r := responder(t, withSecondary(t, netip.AddrPort{}), func(o *dns.Options) { o.Snapshots = latest })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()

	copied := map[string]bool{}
	first, _ := transferred(t, r, axfr(apex))
	serial := first[0].(*miekg.SOA).Serial
	for _, rr := range first[1 : len(first)-1] {
		copied[rr.String()] = true
	}
	for round := range 40 {
		for range 1 + rnd.IntN(3) {
			key := clusterset.Key{Namespace: "shop", Name: []string{"web", "db", "big", "void"}[rnd.IntN(4)]}
			b.SetEndpoints("m1", key, pods(byte(20+rnd.IntN(3)), rnd.IntN(5), rnd.IntN(2) == 0))
		}
		b.SetImport("m1", clusterset.Key{Namespace: "shop", Name: "web"}, clusterset.Import{ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 1, byte(round)})}})
		snapshot := b.Publish()
		latest.Publish(snapshot)
		until(t, func() bool { return r.Sequence() == snapshot.Sequence() })
		if rnd.IntN(3) == 0 {
			continue // the secondary misses one
		}
		query := new(miekg.Msg)
		got, _ := transferred(t, r, query.SetIxfr(apex, serial, "ns.", "host."))
		if old := got[1].(*miekg.SOA); old.Serial != serial || got[len(got)-1].Header().Rrtype != miekg.TypeSOA {
			t.Fatalf("round %d: the difference from %d begins with %s", round, serial, old)
		}
		parts := 0
		for _, rr := range got[1 : len(got)-1] {
			soa, next := rr.(*miekg.SOA)
			switch {
			case next:
				parts++
				serial = soa.Serial
			case copied[rr.String()] == (parts == 2):
				t.Fatalf("round %d: what goes is there and what comes is not, got %s in part %d", round, rr, parts)
			default:
				copied[rr.String()] = parts == 2
			}
		}
		all, _ := transferred(t, r, axfr(apex))
		want := map[string]bool{}
		for _, rr := range all[1 : len(all)-1] {
			want[rr.String()] = true
		}
		maps.DeleteFunc(copied, func(_ string, there bool) bool { return !there })
		if diff := cmp.Diff(want, copied); diff != "" {
			t.Fatalf("round %d: %s", round, diff)
		}
	}
	query := new(miekg.Msg)
	if got, _ := transferred(t, r, query.SetIxfr(apex, first[0].(*miekg.SOA).Serial, "ns.", "host.")); got[1].Header().Rrtype == miekg.TypeSOA {
		t.Error("what is 40 changes ago is not kept")
	}
}

func TestOnlySecondariesGetZones(t *testing.T) {
	now := time.Now()
	for _, row := range []struct {
		reason string
		query  *miekg.Msg
		key    string // empty: no TSIG
		secret string
		at     time.Time
		from   listen.Source
		rcode  int
		tsig   uint16 // error in the TSIG of the response
		signed bool   // the response has a MAC that holds
	}{
		{"no TSIG", axfr(apex), "", "", now, tcp, miekg.RcodeRefused, 0, false},
		{"nobody's key", axfr(apex), "nobody.", encoded, now, tcp, miekg.RcodeNotAuth, miekg.RcodeBadKey, false},
		{"another secret", axfr(apex), "second.", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", now, tcp, miekg.RcodeNotAuth, miekg.RcodeBadSig, false},
		{"another time (RFC 8945, 5.2.3)", axfr(apex), "second.", encoded, now.Add(-time.Hour), tcp, miekg.RcodeNotAuth, miekg.RcodeBadTime, true},
		{"a key that is no secondary's", axfr(apex), "other.", encoded, now, tcp, miekg.RcodeRefused, 0, true},
		{"a zone that is not ours (RFC 5936, 2.2.1)", axfr("example.org."), "second.", encoded, now, tcp, miekg.RcodeNotAuth, 0, true},
		{"a name in a zone", axfr("svc." + apex), "second.", encoded, now, tcp, miekg.RcodeNotAuth, 0, true},
		{"over UDP", axfr(apex), "second.", encoded, now, udp, miekg.RcodeRefused, 0, true},
		{"a question with a good key", question("web.shop.svc."+apex, miekg.TypeA), "other.", encoded, now, udp, 0, 0, true},
		{"a question with a bad one", question("web.shop.svc."+apex, miekg.TypeA), "nobody.", encoded, now, udp, miekg.RcodeNotAuth, miekg.RcodeBadKey, false},
	} {
		t.Run(row.reason, func(t *testing.T) {
			r := responder(t, withSecondary(t, netip.AddrPort{}))
			message, mac := pack(t, row.query), ""
			if row.key != "" {
				message, mac = sealed(t, row.query, row.key, row.secret, row.at)
			}
			if handled, _ := r.Stream(message, row.from, func([]byte) error { t.Error("a zone went out"); return nil }); handled {
				t.Error("the transfer was taken up")
			}
			out := r.Respond(nil, message, row.from)
			m := unpack(t, out)
			if m.Rcode != row.rcode {
				t.Errorf("got %s, want %s", miekg.RcodeToString[m.Rcode], miekg.RcodeToString[row.rcode])
			}
			tsig := m.IsTsig()
			if (tsig != nil) != (row.key != "") {
				t.Fatalf("the TSIG of the response is %v", tsig)
			}
			if tsig == nil {
				return
			}
			if tsig.Error != row.tsig || (tsig.MACSize > 0) != row.signed {
				t.Errorf("got %s", tsig)
			}
			err := miekg.TsigVerify(slices.Clone(out), row.secret, mac, false)
			if row.signed && err != nil && row.rcode != miekg.RcodeNotAuth { // the library takes no NOTAUTH for good
				t.Errorf("the response's MAC: %v", err)
			}
		})
	}
	if m := ask(t, responder(t), axfr(apex), tcp); m.Rcode != miekg.RcodeRefused {
		t.Errorf("without secondaries got\n%s", m)
	}
}

func TestTSIGHasToBeTheLastRecord(t *testing.T) {
	r := responder(t, withSecondary(t, netip.AddrPort{}))
	message, _ := sealed(t, question("web.shop.svc."+apex, miekg.TypeA), "second.", encoded, time.Now())
	message = append(message, opt...)
	message[11]++
	if m := unpack(t, r.Respond(nil, message, udp)); m.Rcode != miekg.RcodeFormatError {
		t.Errorf("got\n%s", m)
	}
}

// TestSecondariesHearOfChanges goes from a snapshot to a NOTIFY.
func TestSecondariesHearOfChanges(t *testing.T) {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = packets.Close() })
	b := vips(2)
	latest := clusterset.NewLatest(b.Publish())
	r := responder(t, withSecondary(t, netip.MustParseAddrPort(packets.LocalAddr().String())), func(o *dns.Options) { o.Snapshots = latest })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	b.SetImport("m1", clusterset.Key{Namespace: "shop", Name: "web"}, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.7.7")}})
	latest.Publish(b.Publish())
	until(t, func() bool { return vip(t, r, udp) == "10.96.7.7" })
	serial := ask(t, r, question(apex, miekg.TypeSOA), udp).Answer[0].(*miekg.SOA).Serial
	buf := make([]byte, 1500)
	if err := packets.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		n, peer, err := packets.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		m := unpack(t, buf[:n])
		answer := new(miekg.Msg)
		answer.SetReply(m).SetTsig("second.", miekg.HmacSHA256, 300, time.Now().Unix())
		message, _, err := miekg.TsigGenerate(answer, encoded, m.IsTsig().MAC, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := packets.WriteTo(message, peer); err != nil {
			t.Fatal(err)
		}
		if m.Question[0].Name == apex && m.Answer[0].(*miekg.SOA).Serial == serial {
			return
		}
	}
}
