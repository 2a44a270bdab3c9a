package dns_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/listen"
)

// TestOverSockets asks as programs do: over UDP, over TCP, and for a whole zone.
func TestOverSockets(t *testing.T) {
	r := responder(t, withSecondary(t, netip.AddrPort{}))
	server, err := listen.New(listen.Options{UDP: []string{"127.0.0.1:0"}, Engines: 1}, r)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	addr := server.Addrs(listen.UDP)[0].String()
	for transport, want := range map[string]int{"udp": 75, "tcp": 300} {
		client := &miekg.Client{Net: transport, UDPSize: 1232}
		m, _, err := client.Exchange(edns(question("big.shop.svc."+apex, miekg.TypeA)), addr)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(m.Answer); n > want || n < want-10 {
			t.Errorf("over %s %d records, want about %d", transport, n, want)
		}
	}
	transfer := &miekg.Transfer{TsigSecret: map[string]string{"second.": encoded}}
	query := axfr(apex)
	query.SetTsig("second.", miekg.HmacSHA256, 300, time.Now().Unix())
	envelopes, err := transfer.In(query, addr)
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for envelope := range envelopes {
		if envelope.Error != nil {
			t.Fatal(envelope.Error)
		}
		records += len(envelope.RR)
	}
	if records < 600 {
		t.Errorf("the zone has %d records", records)
	}
}
