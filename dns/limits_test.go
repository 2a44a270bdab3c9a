package dns_test

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
)

// cookied asks with a cookie and returns that of the response.
func cookied(t *testing.T, r *dns.Responder, from listen.Source, cookie string) string {
	t.Helper()
	m := ask(t, r, edns(question("web.shop.svc."+apex, miekg.TypeA), &miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: cookie}), from)
	for _, o := range m.IsEdns0().Option {
		if c, ok := o.(*miekg.EDNS0_COOKIE); ok {
			return c.Cookie
		}
	}
	t.Fatalf("no cookie in\n%s", m)
	return ""
}

// TestCookieVectors are those of RFC 9018, appendix A.
func TestCookieVectors(t *testing.T) {
	secret := func(s string) (key [16]byte) {
		_, _ = hex.Decode(key[:], []byte(s))
		return key
	}
	for _, row := range []struct {
		reason  string
		at      int64
		secrets [][16]byte
		peer    string
		cookie  string
		want    string
	}{
		{
			"A.1: a new cookie", 1559731985,
			[][16]byte{secret("e5e973e5a6b2a43f48e7dc849e37bfcf")},
			"198.51.100.100",
			"2464c4abcf10c957", "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
		},
		{
			"A.2: one that is young comes back", 1559734385 - 1200,
			[][16]byte{secret("e5e973e5a6b2a43f48e7dc849e37bfcf")},
			"198.51.100.100",
			"2464c4abcf10c957010000005cf79f111f8130c3eee29480", "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
		},
		{
			"A.2: one that is not is replaced", 1559734385,
			[][16]byte{secret("e5e973e5a6b2a43f48e7dc849e37bfcf")},
			"198.51.100.100",
			"2464c4abcf10c957010000005cf79f111f8130c3eee29480", "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
		},
		{
			"A.4: an IPv6 client, and a secret that was replaced", 1559741961,
			[][16]byte{secret("445536bcd2513298075a5d379663c962"), secret("dd3bdf9344b678b185a6f5cb60fca715")},
			"2001:db8:220:1:59de:d0f4:8769:82b8",
			"22681ab97d52c298010000005cf7c57926556bd0934c72f8", "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
		},
	} {
		r := responder(t, func(o *dns.Options) {
			o.CookieSecrets = row.secrets
			o.Now = func() time.Time { return time.Unix(row.at, 0) }
		})
		from := listen.Source{Peer: netip.AddrPortFrom(netip.MustParseAddr(row.peer), 4242), Local: udp.Local}
		if got := cookied(t, r, from, row.cookie); got != row.want {
			t.Errorf("%s: got %s, want %s", row.reason, got, row.want)
		}
	}
}

func TestForeignCookiesAreReplaced(t *testing.T) {
	now := epoch
	r := responder(t, func(o *dns.Options) { o.Now = func() time.Time { return now } })
	good := cookied(t, r, udp, "0102030405060708")
	other := udp
	other.Peer = netip.MustParseAddrPort("10.1.0.8:4242")
	now = now.Add(time.Minute)
	if got := cookied(t, r, udp, good); got != good {
		t.Errorf("a good cookie was replaced by %s", got)
	}
	last := "00"
	if good[46:] == last {
		last = "01"
	}
	for _, row := range []struct {
		reason, cookie string
		from           listen.Source
	}{
		{"of somebody else", good, other},
		{"with another client part", "ff" + good[2:], udp},
		{"with another hash", good[:46] + last, udp},
		{"that is too long", good + "00", udp},
	} {
		got := cookied(t, r, row.from, row.cookie)
		if got == row.cookie {
			t.Errorf("a cookie %s was taken", row.reason)
		}
		if again := cookied(t, r, row.from, got); again != got {
			t.Errorf("a cookie %s was replaced by one that is not good either", row.reason)
		}
	}
	now = now.Add(2 * time.Hour)
	if got := cookied(t, r, udp, good); got == good {
		t.Error("an old cookie was taken")
	}
}

func TestRateLimit(t *testing.T) {
	now := epoch
	r := responder(t, func(o *dns.Options) {
		o.RateLimit = dns.RateLimit{PerSecond: 10, Burst: 20, Slip: 2}
		o.Now = func() time.Time { return now }
	})
	message := pack(t, question("web.shop.svc."+apex, miekg.TypeA))
	count := func(n int, from listen.Source, message []byte) (whole, truncated, none int) {
		for range n {
			switch out := r.Respond(nil, message, from); {
			case len(out) == 0:
				none++
			case unpack(t, out).Truncated:
				truncated++
			default:
				whole++
			}
		}
		return whole, truncated, none
	}
	check := func(reason string, whole, truncated, none, wantWhole int) {
		t.Helper()
		if whole != wantWhole || max(truncated, none)-min(truncated, none) > 1 {
			t.Errorf("%s: %d whole, %d truncated, %d without, want %d whole and the others half and half", reason, whole, truncated, none, wantWhole)
		}
	}
	whole, truncated, none := count(100, udp, message)
	check("a burst", whole, truncated, none, 20)
	near := udp
	near.Peer = netip.MustParseAddrPort("10.1.0.200:1")
	whole, truncated, none = count(10, near, message)
	check("the same /24", whole, truncated, none, 0)
	far := udp
	far.Peer = netip.MustParseAddrPort("10.1.1.7:1")
	whole, truncated, none = count(20, far, message)
	check("another network", whole, truncated, none, 20)
	whole, truncated, none = count(100, tcp, message)
	check("TCP proves the address", whole, truncated, none, 100)
	now = now.Add(time.Second)
	whole, truncated, none = count(100, udp, message)
	check("a second later", whole, truncated, none, 10)

	cookie := cookied(t, r, tcp, "0102030405060708")
	trusted := pack(t, edns(question("web.shop.svc."+apex, miekg.TypeA), &miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: cookie}))
	whole, truncated, none = count(100, udp, trusted)
	check("so does a cookie", whole, truncated, none, 100)

	fresh := pack(t, edns(question("WeB.shop.svc."+apex, miekg.TypeA), &miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "0807060504030201"}))
	for _, message := range [][]byte{fresh, fresh, pack(t, question("WeB.shop.svc."+apex, miekg.TypeANY))} {
		out := r.Respond(nil, message, udp)
		if len(out) == 0 {
			continue
		}
		asked, m := unpack(t, message), unpack(t, out)
		if m.Question[0] != asked.Question[0] || !m.Truncated {
			t.Errorf("a truncated response is one to the question, got\n%s", m)
		}
		if asked.IsEdns0() != nil && len(m.IsEdns0().Option) != 1 {
			t.Errorf("and has a cookie for who can use it, got\n%s", m)
		}
	}

	six := udp
	for i := range 30 {
		six.Peer = netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:1:2%02x::1", i)), 1)
		r.Respond(nil, message, six)
	}
	if out := r.Respond(nil, message, six); len(out) > 0 && !unpack(t, out).Truncated {
		t.Error("addresses of one IPv6 /56 are one network")
	}
}

// TestRateLimitIsBounded floods the table with networks: it neither grows nor lets anybody through who is limited.
// TestRateLimitOfThreads holds that a thread which has read the clock a little earlier than another opens no new account.
func TestRateLimitOfThreads(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	for _, rate := range []int{100, 10_000} {
		take := dns.Limit(dns.RateLimit{PerSecond: rate}, start)
		peer := netip.MustParseAddr("192.0.2.1")
		sent := 0
		at := start.Add(time.Minute)
		for range 5 {
			for range 2 * rate {
				if take(peer, at) {
					sent++
				}
			}
			if take(peer, at.Add(-time.Millisecond)) {
				sent++
			}
		}
		if most := rate + 1; sent > most {
			t.Errorf("at %d per second, %d were sent at one moment, want at most %d", rate, sent, most)
		}
	}
}

func TestRateLimitIsBounded(t *testing.T) {
	r := responder(t, func(o *dns.Options) { o.RateLimit = dns.RateLimit{PerSecond: 1, Slip: -1, Networks: 64} })
	message := pack(t, question("web.shop.svc."+apex, miekg.TypeA))
	from := udp
	for i := range 10_000 {
		from.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 1}), 1)
		r.Respond(nil, message, from)
	}
	r.Respond(nil, message, from)
	if out := r.Respond(nil, message, from); len(out) != 0 {
		t.Error("a network that asks all the time is limited even then")
	}
}

func TestTap(t *testing.T) {
	r := responder(t)
	all, stop, ok := r.Tap().Subscribe(1, 10)
	some, stopSome, _ := r.Tap().Subscribe(10, 1000)
	if !ok {
		t.Fatal("cannot subscribe")
	}
	message := pack(t, question("wEb.shop.svc."+apex, miekg.TypeA))
	r.Respond(nil, message, udp)
	want := dns.Event{
		Time: epoch, Peer: udp.Peer, Local: udp.Local, Transport: listen.UDP, Name: "wEb.shop.svc." + apex, Type: miekg.TypeA, Size: len(message) + 16,
		Asker: "m1",
	}
	if got := <-all; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for range 1000 {
		r.Respond(nil, pack(t, question("web.shop.svc."+apex, miekg.TypeA)), udp)
	}
	if n := len(all); n != 10 || r.Tap().Lost() != 990 {
		t.Errorf("a tap that nobody reads holds %d, and %d are lost", n, r.Tap().Lost())
	}
	if n := len(some); n < 40 || n > 200 {
		t.Errorf("one in 10 of 1000 queries are %d", n)
	}
	stop()
	stopSome()
	stop()
	before := len(all)
	<-all
	r.Respond(nil, message, udp)
	if len(all) != before-1 {
		t.Error("a tap goes on after its end")
	}
	for range 16 {
		_, _, _ = r.Tap().Subscribe(1, 1)
	}
	if _, _, ok := r.Tap().Subscribe(1, 1); ok {
		t.Error("there is no end of taps")
	}
}

func TestMetrics(t *testing.T) {
	r := responder(t)
	for range 3 {
		ask(t, r, question("web.shop.svc."+apex, miekg.TypeA), udp)
	}
	ask(t, r, question("nobody.shop.svc."+apex, miekg.TypeSRV), tcp)
	ask(t, r, question("front.shop.global.example.org.", miekg.TypeANY), udp)
	ask(t, r, question("example.org.", 65280), udp)
	r.Respond(nil, []byte{1}, udp)
	r.SetStale(true)
	ask(t, r, question("web.shop.svc."+apex, miekg.TypeAAAA), udp)
	ask(t, r, question("web.shop.svc."+apex, miekg.TypeANY), udp)
	got := gather(t, r.Collector())
	for series, want := range map[string]float64{
		"dropped_total noise":                               1,
		"queries_total NOERROR udp A clusterset.local.":     3,
		"queries_total NOERROR udp AAAA clusterset.local.":  1,
		"queries_total NOERROR udp ANY clusterset.local.":   1,
		"queries_total NOERROR udp ANY global.example.org.": 1,
		"queries_total NXDOMAIN tcp SRV clusterset.local.":  1,
		"queries_total REFUSED udp other .":                 1,
		"snapshot_sequence":                                 float64(r.Sequence()),
		"snapshot_age_seconds":                              0,
		"stale":                                             1,
		"stale_answers_total":                               2,
		"views":                                             1,
		"forward_cache_entries":                             0,
		"rate_limited_total nothing":                        0,
	} {
		if value, ok := got["hansa_dns_"+series]; !ok || value != want {
			t.Errorf("%s is %v, want %v", series, value, want)
		}
		delete(got, "hansa_dns_"+series)
	}
	for series, value := range got {
		if value != 0 && !strings.HasPrefix(series, "hansa_dns_response_seconds") {
			t.Errorf("%s is %v", series, value)
		}
	}
}

// gather returns the values of all series, by name and values of labels.
func gather(t *testing.T, collector prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(collector); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			series := family.GetName()
			for _, label := range metric.GetLabel() {
				series += " " + label.GetValue() //nolint:perfsprint // few
			}
			values[series] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return values
}
