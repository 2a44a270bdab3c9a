package forward_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/forward"
)

// upstream is a name server on loopback, over UDP and TCP on the same port.
type upstream struct {
	addr netip.AddrPort

	mu    sync.Mutex
	asked []string // transport, type and flags of each query
}

// pair opens a port of both transports. What is free for one need not be for the other.
func pair(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	var last error
	for range 20 {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("tcp", packets.LocalAddr().String())
		if err == nil {
			return packets, listener
		}
		last = err
		_ = packets.Close()
	}
	t.Fatal(last)
	return nil, nil
}

// serve starts a server; answer fills in the response, and returns false for none.
func serve(t *testing.T, answer func(transport string, query, response *dns.Msg) bool) *upstream {
	t.Helper()
	u := &upstream{}
	packets, listener := pair(t)
	u.addr = netip.MustParseAddrPort(packets.LocalAddr().String())
	handle := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		transport := w.RemoteAddr().Network()
		q := query.Question[0]
		u.mu.Lock()
		u.asked = append(u.asked, fmt.Sprintf("%s %s %s rd=%v cd=%v do=%v", transport, q.Name, dns.TypeToString[q.Qtype],
			query.RecursionDesired, query.CheckingDisabled, query.IsEdns0().Do()))
		u.mu.Unlock()
		response := new(dns.Msg)
		response.SetReply(query)
		response.RecursionAvailable = true
		if answer(transport, query, response) {
			_ = w.WriteMsg(response)
		}
	})
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handle}, {Listener: listener, Handler: handle}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return u
}

func (u *upstream) queries() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.asked...)
}

func record(t *testing.T, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

// says answers with records, in the answer or, for SOA, the authority section.
func says(t *testing.T, rcode int, records ...string) func(string, *dns.Msg, *dns.Msg) bool {
	t.Helper()
	var rrs []dns.RR
	for _, text := range records {
		rrs = append(rrs, record(t, text))
	}
	return func(_ string, _, response *dns.Msg) bool {
		response.Rcode = rcode
		for _, rr := range rrs {
			if rr.Header().Rrtype == dns.TypeSOA {
				response.Ns = append(response.Ns, rr)
			} else {
				response.Answer = append(response.Answer, rr)
			}
		}
		return true
	}
}

func newForwarder(t *testing.T, o forward.Options, upstreams ...*upstream) *forward.Forwarder {
	t.Helper()
	for _, u := range upstreams {
		o.Upstreams = append(o.Upstreams, u.addr)
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	f, err := forward.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func query(name string, rrtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, rrtype)
	return m
}

func ask(t *testing.T, f *forward.Forwarder, m *dns.Msg) *dns.Msg {
	t.Helper()
	answer, err := f.Ask(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestAnswersAreThoseOfUpstream(t *testing.T) {
	u := serve(t, says(t, dns.RcodeSuccess, "www.example.org. 60 A 192.0.2.1"))
	f := newForwarder(t, forward.Options{}, u)
	m := query("WwW.example.org.", dns.TypeA)
	m.CheckingDisabled = true
	m.SetEdns0(4096, true)
	answer := ask(t, f, m)
	if answer.Id != m.Id || !answer.Response || answer.Question[0].Name != "WwW.example.org." || len(answer.Answer) != 1 ||
		!answer.RecursionAvailable || answer.Authoritative || answer.IsEdns0() != nil {
		t.Errorf("got\n%s", answer)
	}
	if got, want := strings.Join(u.queries(), "; "), "udp www.example.org. A rd=true cd=true do=true"; got != want {
		t.Errorf("upstream was asked %q, want %q", got, want)
	}
}

func TestAnswersAreRemembered(t *testing.T) {
	const soa = "example.org. 100 SOA ns. host. 1 2 3 4 30"
	for _, row := range []struct {
		reason string
		answer func(string, *dns.Msg, *dns.Msg) bool
		good   time.Duration // for which it is remembered; 0: not at all
	}{
		{"as long as the shortest TTL says", says(t, 0, "www.example.org. 60 A 192.0.2.1", "www.example.org. 90 A 192.0.2.2"), time.Minute},
		{"at most as long as the options say", says(t, 0, "www.example.org. 86400 A 192.0.2.1"), time.Hour},
		{"with a TTL of 0 not at all", says(t, 0, "www.example.org. 0 A 192.0.2.1"), 0},
		{"no such name: as long as the SOA says (RFC 2308, 5)", says(t, dns.RcodeNameError, soa), 30 * time.Second},
		{"nothing there: the same", says(t, 0, soa), 30 * time.Second},
		{"an alias to nothing: the same", says(t, 0, "www.example.org. 60 CNAME x.example.org.", soa), 30 * time.Second},
		{"nothing without an SOA: not at all (RFC 2308, 5)", says(t, dns.RcodeNameError), 0},
		{"a failure: a second (RFC 9520)", says(t, dns.RcodeServerFailure), time.Second},
	} {
		t.Run(row.reason, func(t *testing.T) {
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			u := serve(t, row.answer)
			f := newForwarder(t, forward.Options{Attempts: 1, Now: func() time.Time { return now }}, u)
			first := ask(t, f, query("www.example.org.", dns.TypeA))
			if row.good == 0 {
				if f.Cached(query("www.example.org.", dns.TypeA)) != nil {
					t.Error("it is remembered")
				}
				return
			}
			now = now.Add(row.good - time.Second/2)
			again := f.Cached(query("WWW.example.org.", dns.TypeA))
			if again == nil {
				t.Fatal("it is forgotten early")
			}
			gone := uint32((row.good - time.Second/2) / time.Second)
			for i, rr := range append(again.Answer, again.Ns...) {
				if before := append(first.Answer, first.Ns...)[i].Header().Ttl; rr.Header().Ttl != before-gone {
					t.Errorf("a TTL of %d is %d after %d seconds", before, rr.Header().Ttl, gone)
				}
			}
			if f.Cached(query("www.example.org.", dns.TypeAAAA)) != nil {
				t.Error("the answer is taken for another type")
			}
			signed := query("www.example.org.", dns.TypeA)
			signed.SetEdns0(1232, true)
			if f.Cached(signed) != nil {
				t.Error("the answer without signatures is taken for one with")
			}
			now = now.Add(time.Second / 2)
			if f.Cached(query("www.example.org.", dns.TypeA)) != nil {
				t.Error("it is remembered for too long")
			}
			if n := len(u.queries()); n != 1 {
				t.Errorf("upstream was asked %d times", n)
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	u := serve(t, func(_ string, query, response *dns.Msg) bool {
		response.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: query.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1),
		}}
		return true
	})
	f := newForwarder(t, forward.Options{Entries: 8}, u)
	for i := range 50 {
		ask(t, f, query(fmt.Sprintf("w%d.example.org.", i), dns.TypeA))
	}
	if n := f.Stats().Remembers; n != 8 {
		t.Errorf("%d answers are remembered", n)
	}
}

func TestWhatDoesNotFitComesOverTCP(t *testing.T) {
	u := serve(t, func(transport string, _, response *dns.Msg) bool {
		if response.Truncated = transport == "udp"; !response.Truncated {
			for i := range 200 {
				response.Answer = append(response.Answer, record(t, fmt.Sprintf("www.example.org. 60 A 192.0.2.%d", i)))
			}
		}
		return true
	})
	f := newForwarder(t, forward.Options{}, u)
	if answer := ask(t, f, query("www.example.org.", dns.TypeA)); len(answer.Answer) != 200 || answer.Truncated {
		t.Errorf("got %d records", len(answer.Answer))
	}
	if n := len(u.queries()); n != 2 {
		t.Errorf("upstream was asked %d times", n)
	}
}

func TestFailover(t *testing.T) {
	good := says(t, 0, "www.example.org. 60 A 192.0.2.1")
	for reason, bad := range map[string]func(string, *dns.Msg, *dns.Msg) bool{
		"a server that fails":     says(t, dns.RcodeServerFailure),
		"a server that refuses":   says(t, dns.RcodeRefused),
		"a server that is silent": func(string, *dns.Msg, *dns.Msg) bool { return false },
		"a server that answers something else": func(_ string, _, response *dns.Msg) bool {
			response.Question[0].Name = "www.example.net."
			return true
		},
	} {
		t.Run(reason, func(t *testing.T) {
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			first, second := serve(t, bad), serve(t, good)
			f := newForwarder(t, forward.Options{Timeout: 200 * time.Millisecond, Now: func() time.Time { return now }}, first, second)
			if answer := ask(t, f, query("www.example.org.", dns.TypeA)); len(answer.Answer) != 1 {
				t.Errorf("got\n%s", answer)
			}
			if order := f.Order(); order[0] != second.addr {
				t.Error("it is asked first again")
			}
			now = now.Add(time.Minute)
			if order := f.Order(); order[0] != first.addr {
				t.Error("it is asked last for ever")
			}
		})
	}
}

func TestFailureOfAll(t *testing.T) {
	failing := serve(t, says(t, dns.RcodeServerFailure))
	f := newForwarder(t, forward.Options{}, failing)
	if answer := ask(t, f, query("www.example.org.", dns.TypeA)); answer.Rcode != dns.RcodeServerFailure {
		t.Errorf("got\n%s", answer)
	}
	if n := len(failing.queries()); n != 3 {
		t.Errorf("one question is %d attempts, want 3 at most", n)
	}
	silent := serve(t, func(string, *dns.Msg, *dns.Msg) bool { return false })
	f = newForwarder(t, forward.Options{Timeout: 50 * time.Millisecond}, silent)
	if _, err := f.Ask(t.Context(), query("www.example.org.", dns.TypeA)); err == nil || !strings.Contains(err.Error(), silent.addr.String()) {
		t.Errorf("the error names the server, got %v", err)
	}
	if n := len(silent.queries()); n != 3 {
		t.Errorf("one question is %d attempts, want 3 at most", n)
	}
}

// TestManyAskOnce holds that clients are not multiplied: who asks what is asked already waits for the same answer.
func TestManyAskOnce(t *testing.T) {
	release := make(chan struct{})
	u := serve(t, func(_ string, _, response *dns.Msg) bool {
		<-release
		response.Answer = append(response.Answer, record(t, "www.example.org. 60 A 192.0.2.1"))
		return true
	})
	f := newForwarder(t, forward.Options{Waiting: 1}, u)
	var wg sync.WaitGroup
	answers := make(chan *dns.Msg, 50)
	for range 50 {
		wg.Go(func() {
			if answer, err := f.Ask(t.Context(), query("www.example.org.", dns.TypeA)); err == nil {
				answers <- answer
			}
		})
	}
	for f.Stats().Joined != 49 {
		select {
		case <-t.Context().Done():
			t.Fatal("they do not come")
		case <-time.After(time.Millisecond):
		}
	}
	if _, err := f.Ask(t.Context(), query("other.example.org.", dns.TypeA)); !errors.Is(err, forward.ErrBusy) {
		t.Errorf("another question is one too many, got %v", err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := f.Ask(gone, query("www.example.org.", dns.TypeA)); !errors.Is(err, context.Canceled) {
		t.Errorf("who leaves does not wait, got %v", err)
	}
	close(release)
	wg.Wait()
	if len(answers) != 50 || len(u.queries()) != 1 {
		t.Errorf("%d answers of %d questions upstream", len(answers), len(u.queries()))
	}
	one, two := <-answers, <-answers
	one.Answer[0].Header().Ttl = 1
	if two.Answer[0].Header().Ttl == 1 {
		t.Error("two clients hold the same message")
	}
}

func TestOptions(t *testing.T) {
	if _, err := forward.New(forward.Options{}); err == nil {
		t.Error("somebody has to be asked")
	}
	if _, err := forward.New(forward.Options{Upstreams: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")}}); err == nil {
		t.Error("a port is needed")
	}
}

// TestSilenceIsRemembered holds that a question which nobody answers is not asked again at once (RFC 9520, 3.2).
func TestSilenceIsRemembered(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	silent := serve(t, func(string, *dns.Msg, *dns.Msg) bool { return false })
	f := newForwarder(t, forward.Options{Timeout: 20 * time.Millisecond, Now: func() time.Time { return now }}, silent)
	ask := func(name string) {
		t.Helper()
		if _, err := f.Ask(t.Context(), query(name, dns.TypeA)); err == nil || !strings.Contains(err.Error(), silent.addr.String()) {
			t.Errorf("the error names the server, got %v", err)
		}
	}
	ask("www.example.org.")
	ask("WWW.example.org.")
	if f.Cached(query("www.example.org.", dns.TypeA)) != nil {
		t.Error("there is an answer")
	}
	if n := f.Stats().Attempts; n != 3 {
		t.Errorf("two questions within a second are %d attempts, want 3", n)
	}
	ask("ftp.example.org.")
	if n := f.Stats().Attempts; n != 6 {
		t.Errorf("another question is asked: %d attempts, want 6", n)
	}
	now = now.Add(time.Second)
	ask("www.example.org.")
	if n := f.Stats().Attempts; n != 9 {
		t.Errorf("a second later it is asked again: %d attempts, want 9", n)
	}
}
