package dns_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/e2e/bench/dns"
)

// TestMix holds the shares that the row promises, and that every question can be asked and most have an answer.
func TestMix(t *testing.T) {
	records := map[string]bool{}
	parser := miekg.NewZoneParser(strings.NewReader(dns.ZoneFile()), "", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records[strings.ToLower(rr.Header().Name)+miekg.TypeToString[rr.Header().Rrtype]] = true
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	count := map[string]int{}
	for line := range strings.Lines(dns.Questions(n)) {
		name, kind, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !records[name+kind] {
			kind = "missing"
		}
		count[kind]++
	}
	for kind, percent := range map[string]int{"A": 90, "SRV": 5, "missing": 5} {
		if got := count[kind] * 100; got < (percent-1)*n || got > (percent+1)*n {
			t.Errorf("%d of %d questions are %s, want about %d %%", count[kind], n, kind, percent)
		}
	}
}

func TestSender(t *testing.T) {
	// Every third query gets no answer, and every seventh is refused.
	number := 0
	s, err := listen.New(listen.Options{UDP: []string{"127.0.0.1:0"}, TCP: []string{}, Engines: 1},
		listen.HandlerFunc(func(dst, query []byte, _ listen.Source) []byte {
			number++
			if number%3 == 0 {
				return dst
			}
			dst = append(dst, query...)
			dst[2] |= 0x80
			if number%7 == 0 {
				dst[3] |= miekg.RcodeRefused
			}
			return dst
		}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	sent, answered, refused, err := dns.Send(s.Addrs(listen.UDP)[0], 2000, 200*time.Millisecond)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if sent < 100 || sent > 400 {
		t.Errorf("sent %d queries, want about 400", sent)
	}
	if want := sent - sent/3; answered != want {
		t.Errorf("%d of %d queries were answered, want %d", answered, sent, want)
	}
	if want := sent/7 - sent/21; refused != want {
		t.Errorf("%d of %d queries were refused, want %d", refused, sent, want)
	}
}

// TestColdStartIsWatched has a server be silent, then wrong, then right, and then lose some queries.
func TestColdStartIsWatched(t *testing.T) {
	const silent, wrong, lossy = 40, 7, 100
	all := dns.AddressesOf()
	number, right, dropped := 0, 0, 0
	s, err := listen.New(listen.Options{UDP: []string{"127.0.0.1:0"}, TCP: []string{}, Engines: 1},
		listen.HandlerFunc(func(dst, query []byte, _ listen.Source) []byte {
			number++
			question := new(miekg.Msg)
			if number <= silent || question.Unpack(query) != nil {
				return dst
			}
			reply := new(miekg.Msg).SetReply(question)
			if number <= silent+wrong {
				reply.Rcode = miekg.RcodeServerFailure
			} else {
				right++
				if right > lossy && right <= lossy+3 {
					dropped++
					return dst
				}
				for _, addr := range all[question.Question[0].Name] {
					reply.Answer = append(reply.Answer, &miekg.A{
						Hdr: miekg.RR_Header{Name: question.Question[0].Name, Rrtype: miekg.TypeA, Class: miekg.ClassINET}, A: addr.AsSlice(),
					})
				}
			}
			packed, err := reply.Pack()
			if err != nil {
				return dst
			}
			return append(dst, packed...)
		}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	first, failed, lost, err := dns.Watch(s.Addrs(listen.UDP)[0])
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if first < (silent+wrong)*time.Millisecond/2 || first > 10*time.Second {
		t.Errorf("the first right answer came after %s", first)
	}
	if failed != wrong || lost != dropped || dropped != 3 {
		t.Errorf("%d answers were wrong and %d lost, want %d and 3 (the server lost %d)", failed, lost, wrong, dropped)
	}
}

func TestSenderIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		reason string
		to     string
		rate   float64
		period time.Duration
	}{
		"Elsewhere": {"it floods nobody else", "192.0.2.1:53", 1, time.Second},
		"Forever":   {"it ends", "127.0.0.1:9", 1, time.Hour},
		"Endless":   {"a rate is needed", "127.0.0.1:9", 0, time.Second},
		"Faster":    {"rates have a limit", "127.0.0.1:9", 1e9, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, _, err := dns.Send(netip.MustParseAddrPort(test.to), test.rate, test.period); err == nil {
				t.Errorf("%s: no error", test.reason)
			}
		})
	}
}
