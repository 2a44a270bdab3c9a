package dns_test

import (
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestRateLimitIsWhatItSays asks at twice the limit for three seconds, for limits of all sizes.
func TestRateLimitIsWhatItSays(t *testing.T) {
	for _, limit := range []int{1, 10, 1000, 10_000, 20_000, 50_000, 300_000, dns.MaxPerSecond} {
		now := epoch
		r := responder(t, func(o *dns.Options) {
			o.RateLimit = dns.RateLimit{PerSecond: limit, Burst: 10, Slip: -1}
			o.Now = func() time.Time { return now }
		})
		message := pack(t, question("web.shop.svc."+apex, miekg.TypeA))
		out := make([]byte, 0, 512)
		got, asked := 0, 0
		duration := min(3*time.Second, 3*time.Second*20_000/time.Duration(limit)+time.Millisecond)
		for ; now.Sub(epoch) < duration; now = now.Add(time.Second / time.Duration(2*limit)) {
			asked++
			if len(r.Respond(out, message, udp)) > 0 {
				got++
			}
		}
		if want := int(duration * time.Duration(limit) / time.Second); got < want*95/100 || got > want*105/100+11 {
			t.Errorf("a limit of %d let %d of %d through in %s, want %d", limit, got, asked, duration, want)
		}
	}
}

// TestRateLimitAfterADay looks whether a network that was limited is forgiven, when the times that are kept go round.
func TestRateLimitAfterADay(t *testing.T) {
	now := epoch
	r := responder(t, func(o *dns.Options) {
		o.RateLimit = dns.RateLimit{PerSecond: 10, Burst: 10, Slip: -1}
		o.Now = func() time.Time { return now }
	})
	message := pack(t, question("web.shop.svc."+apex, miekg.TypeA))
	for hour := range 100 {
		got := 0
		for range 20 {
			if len(r.Respond(nil, message, udp)) > 0 {
				got++
			}
		}
		if got != 10 {
			t.Errorf("hour %d: %d responses in a burst, want 10", hour, got)
		}
		now = now.Add(time.Hour)
	}
}

// TestTapOfAnything has a tap open while messages come that are none.
func TestTapOfAnything(t *testing.T) {
	r := responder(t)
	events, stop, _ := r.Tap().Subscribe(1, 10)
	defer stop()
	for n := range 4 {
		for _, from := range []listen.Source{udp, tcp} {
			r.Respond(make([]byte, 0, 512), make([]byte, n), from)
			if e := <-events; e.Rcode != -1 || e.Name != "" {
				t.Errorf("%d octets are %+v", n, e)
			}
		}
	}
}

// TestLongHostname asks a server that calls itself too much.
func TestLongHostname(t *testing.T) {
	for length, want := range map[int]int{dns.MaxHostname: dns.MaxHostname, dns.MaxHostname + 1: 0, 3000: 0, 70_000: 0} {
		r := responder(t, func(o *dns.Options) { o.Hostname = strings.Repeat("x", length) })
		message := pack(t, edns(question("web.shop.svc."+apex, miekg.TypeA), &miekg.EDNS0_NSID{Code: miekg.EDNS0NSID}))
		out := r.Respond(nil, message, udp)
		got := 0
		for _, option := range unpack(t, out).IsEdns0().Option {
			if nsid, ok := option.(*miekg.EDNS0_NSID); ok {
				got = len(nsid.Nsid) / 2
			}
		}
		if got != want || len(out) > 512 {
			t.Errorf("a name of %d octets: %d of them in %d octets", length, got, len(out))
		}
	}
}

// TestConsecutiveNumbersDiffer holds that metrics tell one snapshot from the next.
func TestConsecutiveNumbersDiffer(t *testing.T) {
	b := world()
	value := func(at time.Time) (sequence, age float64) {
		b.SetPolicy(clusterset.Key{Namespace: "shop", Name: "web"}, clusterset.Policy{TTL: uint32(at.Nanosecond()) + 1})
		snapshot := b.PublishAs(clusterset.NextSequence(b.Current().Sequence(), epoch))
		r := responder(t, func(o *dns.Options) {
			o.Snapshots = clusterset.NewLatest(snapshot)
			o.Now = func() time.Time { return epoch.Add(time.Hour) }
		})
		got := gather(t, r.Collector())
		if uint64(got["hansa_dns_snapshot_sequence"]) != snapshot.Sequence() {
			t.Errorf("the metric of %d is %v", snapshot.Sequence(), got["hansa_dns_snapshot_sequence"])
		}
		return got["hansa_dns_snapshot_sequence"], got["hansa_dns_snapshot_age_seconds"]
	}
	first, age := value(epoch)
	second, _ := value(epoch.Add(1))
	if first >= second {
		t.Errorf("%v and %v", first, second)
	}
	if age < 3500 || age > 3600 {
		t.Errorf("a snapshot of an hour ago is %v s old for a server that has just started", age)
	}
}

// TestHTTPSGoesRound asks as RFC 8484 wants it, always with the same id: the answers are not always the same.
func TestHTTPSGoesRound(t *testing.T) {
	r := responder(t)
	from := udp
	from.Transport = listen.HTTPS
	for _, m := range []*miekg.Msg{question("db.shop.svc."+apex, miekg.TypeA), question("db.shop.svc."+apex, miekg.TypeANY)} {
		m.Id = 0
		first := map[string]bool{}
		for range 200 {
			first[ask(t, r, m, from).Answer[0].String()] = true
		}
		if len(first) != 3 {
			t.Errorf("%d of 3 records ever come first", len(first))
		}
	}
}

// TestStaleFlips turns staleness on and off while sets are answered that fill responses: none is larger than it may be.
func TestStaleFlips(t *testing.T) {
	r := responder(t)
	over := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for stale := true; ; stale = !stale {
			select {
			case <-over:
				return
			default:
				r.SetStale(stale)
			}
		}
	}()
	defer func() { close(over); <-done }()
	out := make([]byte, 0, 2048)
	for size := uint16(600); size < 616; size++ {
		m := edns(question("big.shop.svc."+apex, miekg.TypeA))
		m.IsEdns0().SetUDPSize(size)
		message := pack(t, m)
		for range 20_000 {
			if got := r.Respond(out, message, udp); len(got) > int(size) {
				t.Fatalf("%d octets for somebody who takes %d", len(got), size)
			}
		}
	}
}
