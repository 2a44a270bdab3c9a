package transfer_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/transfer"
)

func key(name string) transfer.Key {
	return transfer.Key{Name: name, Secret: []byte("0123456789abcdef0123456789abcdef")}
}

// listen is a secondary on loopback that takes NOTIFYs, all but the first refused of them.
func listen(t *testing.T, refused int32) (netip.AddrPort, <-chan *dns.Msg) {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *dns.Msg, 100)
	var seen atomic.Int32
	server := &dns.Server{
		PacketConn: packets, TsigSecret: map[string]string{"second.": secret},
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
			answer := new(dns.Msg)
			answer.SetReply(m)
			if m.IsTsig() == nil || w.TsigStatus() != nil || m.Question[0].Name == "refused." || seen.Add(1) <= refused {
				answer.Rcode = dns.RcodeRefused
			} else {
				answer.SetTsig("second.", dns.HmacSHA256, 300, time.Now().Unix())
				got <- m
			}
			_ = w.WriteMsg(answer)
		}),
	}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { _ = server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown() })
	return netip.MustParseAddrPort(packets.LocalAddr().String()), got
}

func soa(serial uint32) []*dns.SOA {
	return []*dns.SOA{{
		Hdr: dns.RR_Header{Name: "clusterset.local.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 5}, Ns: "ns.", Mbox: "host.", Serial: serial,
	}}
}

func run(t *testing.T, o transfer.Options) *transfer.Server {
	t.Helper()
	s, err := transfer.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func await(t *testing.T, got <-chan *dns.Msg) *dns.Msg {
	t.Helper()
	select {
	case m := <-got:
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("the secondary is not told")
		return nil
	}
}

func TestSecondariesAreTold(t *testing.T) {
	addr, got := listen(t, 0)
	rest := 200 * time.Millisecond
	s := run(t, transfer.Options{
		Keys: []transfer.Key{key("second")}, Secondaries: []transfer.Secondary{{Key: "second", Addr: addr}}, Rest: rest,
	})
	s.Announce(0, soa(7))
	first := await(t, got)
	begin := time.Now()
	if first.Opcode != dns.OpcodeNotify || first.Question[0].Name != "clusterset.local." || first.Answer[0].(*dns.SOA).Serial != 7 {
		t.Errorf("got\n%s", first)
	}
	s.Announce(0, soa(7))
	for serial := range uint32(100) {
		s.Announce(0, soa(8+serial))
	}
	for last := uint32(0); last != 107; last = await(t, got).Answer[0].(*dns.SOA).Serial {
		if last != 0 && last < 8 {
			t.Errorf("it is told of %d again", last)
		}
	}
	if took := time.Since(begin); took < rest-rest/10 || len(got) > 1 {
		t.Errorf("100 changes are told within %s, and %d more", took, len(got))
	}
}

func TestSecondariesAreToldAgain(t *testing.T) {
	addr, got := listen(t, 2)
	s := run(t, transfer.Options{
		Keys: []transfer.Key{key("second")}, Secondaries: []transfer.Secondary{{Key: "second", Addr: addr}}, Rest: 10 * time.Millisecond,
	})
	s.Announce(0, soa(7))
	await(t, got)
}

// TestOneZoneDoesNotHoldUpAnother has a zone that the secondary does not want.
func TestOneZoneDoesNotHoldUpAnother(t *testing.T) {
	addr, got := listen(t, 0)
	s := run(t, transfer.Options{
		Keys: []transfer.Key{key("second")}, Secondaries: []transfer.Secondary{{Key: "second", Addr: addr}}, Rest: 20 * time.Millisecond,
	})
	begin := time.Now()
	for serial := range uint32(20) {
		zones := append(soa(serial+1), soa(serial + 1)[0])
		zones[0].Hdr.Name = "refused."
		s.Announce(0, zones)
		if last := await(t, got).Answer[0].(*dns.SOA).Serial; last != serial+1 {
			t.Fatalf("it is told of %d, want %d", last, serial+1)
		}
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("20 changes took %s", took)
	}
}

func TestOptions(t *testing.T) {
	_, err := transfer.New(transfer.Options{Secondaries: []transfer.Secondary{{Key: "x"}}})
	if err == nil || !strings.Contains(err.Error(), `"x."`) {
		t.Errorf("a secondary without a key: %v", err)
	}
	if _, err := transfer.New(transfer.Options{Keys: []transfer.Key{key("a"), key("A.")}}); err == nil {
		t.Error("two keys have one name")
	}
}
