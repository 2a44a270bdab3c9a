package dns_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/forward"
)

// forwarding asks a server on loopback for names outside.
func forwarding(t *testing.T, answer func(response *miekg.Msg)) func(*dns.Options) {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &miekg.Server{PacketConn: packets, Handler: miekg.HandlerFunc(func(w miekg.ResponseWriter, query *miekg.Msg) {
		response := new(miekg.Msg)
		response.SetReply(query)
		if answer(response); response.Response {
			_ = w.WriteMsg(response)
		}
	})}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { _ = server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown() })
	f, err := forward.New(forward.Options{
		Upstreams: []netip.AddrPort{netip.MustParseAddrPort(packets.LocalAddr().String())}, Timeout: time.Second, Attempts: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *dns.Options) { o.Forward = f }
}

func TestForward(t *testing.T) {
	r := responder(t, forwarding(t, func(response *miekg.Msg) {
		for range 8 {
			rr, err := miekg.NewRR("www.example.net. 60 TXT " + strings.Repeat("x", 100))
			if err != nil {
				t.Error(err)
			}
			response.Answer = append(response.Answer, rr)
		}
		if !strings.HasPrefix(response.Question[0].Name, "big.") {
			response.Answer = response.Answer[:1]
		}
	}))
	cookie := &miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "0102030405060708"}
	message := pack(t, edns(question("wWw.example.net.", miekg.TypeTXT), cookie))
	if out := r.Respond(make([]byte, 0, 512), message, udp); out != nil {
		t.Fatalf("the answer takes time, and that is nil; got % x", out)
	}
	waited := unpack(t, r.Wait(t.Context(), nil, message, udp))
	if len(waited.Answer) != 1 || !waited.RecursionAvailable || waited.Authoritative || waited.Question[0].Name != "wWw.example.net." ||
		len(waited.IsEdns0().Option) != 1 {
		t.Errorf("got\n%s", waited)
	}
	if remembered := ask(t, r, edns(question("www.example.net.", miekg.TypeTXT)), udp); len(remembered.Answer) != 1 {
		t.Errorf("what is remembered takes no time, got\n%s", remembered)
	}
	big := pack(t, question("big.example.net.", miekg.TypeTXT))
	if out := r.Wait(t.Context(), nil, big, udp); len(out) > 512 || !unpack(t, out).Truncated {
		t.Errorf("got %d octets over UDP", len(out))
	}
	if whole := unpack(t, r.Wait(t.Context(), nil, big, tcp)); len(whole.Answer) != 8 || whole.Truncated {
		t.Errorf("got %d records over TCP", len(whole.Answer))
	}
	alone := question("other.example.net.", miekg.TypeTXT)
	alone.RecursionDesired = false
	if m := ask(t, r, alone, udp); m.Rcode != miekg.RcodeRefused {
		t.Errorf("who does not want recursion gets none (RFC 1035, 4.3.1), got\n%s", m)
	}
	if m := ask(t, r, question("web.shop.svc."+apex, miekg.TypeA), udp); !m.RecursionAvailable || !m.Authoritative || len(m.Answer) != 1 {
		t.Errorf("names of ours are answered as ever, got\n%s", m)
	}
	if got := gather(t, r.Collector()); got["hansa_dns_forward_cache_total hit"] < 1 || got["hansa_dns_forward_attempts_total answered"] < 1 {
		t.Errorf("metrics: %v", got)
	}
}

func TestForwardFails(t *testing.T) {
	r := responder(t, forwarding(t, func(response *miekg.Msg) { response.Response = false }))
	m := unpack(t, r.Wait(t.Context(), nil, pack(t, edns(question("www.example.net.", miekg.TypeA))), udp))
	if m.Rcode != miekg.RcodeServerFailure || !cmp.Equal(edes(m), []uint16{miekg.ExtendedErrorCodeNoReachableAuthority}) {
		t.Errorf("got\n%s", m)
	}
}

// TestForwardOnlyForThoseWhoBelongHere holds that the server is no open resolver (RFC 5358).
func TestForwardOnlyForThoseWhoBelongHere(t *testing.T) {
	upstream := forwarding(t, func(response *miekg.Msg) {
		rr, err := miekg.NewRR("www.example.net. 60 A 192.0.2.1")
		if err != nil {
			t.Error(err)
		}
		response.Answer = []miekg.RR{rr}
	})
	given := func(o *dns.Options) {
		o.ForwardFor = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	}
	all := func(o *dns.Options) { o.ForwardFor = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }
	for i, row := range []struct {
		reason, peer string
		more         func(*dns.Options)
		good         bool
	}{
		{"a pod", "10.1.2.3", nil, true},
		{"this machine", "127.0.0.1", nil, true},
		{"this machine, over IPv6", "::1", nil, true},
		{"a private network over IPv6", "fd00::1", nil, true},
		{"IPv4 within IPv6", "::ffff:192.168.1.1", nil, true},
		{"a stranger", "198.51.100.1", nil, false},
		{"a stranger over IPv6", "2001:db8::1", nil, false},
		{"just outside of a private network", "172.32.0.1", nil, false},
		{"a network that is given", "203.0.113.9", given, true},
		{"also over IPv6", "2001:db8::1", given, true},
		{"private ones are then not", "10.1.2.3", given, false},
		{"everybody, for who wants that", "198.51.100.1", all, true},
	} {
		more := []func(*dns.Options){upstream}
		if row.more != nil {
			more = append(more, row.more)
		}
		r := responder(t, more...)
		from := udp
		from.Peer = netip.AddrPortFrom(netip.MustParseAddr(row.peer), 4242)
		message := pack(t, edns(question(fmt.Sprintf("w%d.example.net.", i), miekg.TypeA)))
		out := r.Respond(make([]byte, 0, 512), message, from)
		if row.good {
			if out != nil {
				t.Errorf("%s: is answered at once", row.reason)
			}
			out = r.Wait(t.Context(), nil, message, from)
		}
		m := unpack(t, out)
		if row.good != (m.Rcode == 0 && len(m.Answer) == 1 && m.RecursionAvailable) {
			t.Errorf("%s: got\n%s", row.reason, m)
		}
		if !row.good && (m.Rcode != miekg.RcodeRefused || m.RecursionAvailable || !cmp.Equal(edes(m), []uint16{miekg.ExtendedErrorCodeProhibited})) {
			t.Errorf("%s: got\n%s", row.reason, m)
		}
		if own := ask(t, r, question("web.shop.svc."+apex, miekg.TypeA), from); len(own.Answer) != 1 || own.RecursionAvailable != row.good {
			t.Errorf("%s: names of ours are for everybody, got\n%s", row.reason, own)
		}
	}
}
