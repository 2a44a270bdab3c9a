package ads_test

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

func TestMetrics(t *testing.T) {
	w, p := setup(t)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(p.Collectors()...)
	w.Change(EDS, "a=1", "b=1")
	c := p.SotW(t, "n")
	c.Request(EDS, "a").Equals("a=1")
	w.Change(EDS, "a=2")
	c.Next(EDS).Equals("a=2")
	w.Change(EDS, "a=3")
	c.Next(EDS).Refuse("no")
	c.Quiet()
	for name, want := range map[string]float64{
		"hansa_xds_streams protocol=sotw":                              1,
		"hansa_xds_views":                                              1,
		"hansa_xds_resources type=ClusterLoadAssignment":               2,
		"hansa_xds_pushes_total type=ClusterLoadAssignment":            3,
		"hansa_xds_nacks_total type=ClusterLoadAssignment":             1,
		"hansa_xds_publish_to_send_seconds type=ClusterLoadAssignment": 2, // the first response is no news
		"hansa_xds_publish_to_ack_seconds type=ClusterLoadAssignment":  1, // nor is a NACK an ACK
	} {
		if got := metric(t, registry, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got := metric(t, registry, "hansa_xds_pushed_bytes_total type=ClusterLoadAssignment"); got <= 0 {
		t.Errorf("%v bytes were pushed", got)
	}
}

// metric returns a gauge, a counter, or the count of a histogram. It is called as "name label=value".
func metric(t *testing.T, registry *prometheus.Registry, full string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	name, label, _ := strings.Cut(full, " ")
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if pairs := m.GetLabel(); len(pairs) > 0 && pairs[0].GetName()+"="+pairs[0].GetValue() != label {
				continue
			}
			return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return -1
}

func TestASourceSeesWhoAsks(t *testing.T) {
	w, p := setup(t)
	seen := make(chan ads.Client, 1)
	w.admit = func(c ads.Client) (ads.Admission, error) {
		seen <- c
		return ads.Admission{View: "v", Identity: "spiffe://hansa/m1"}, nil
	}
	w.Change(EDS, "a=1")
	p.Delta(t, "m1/pod").Request(EDS, "a").Equals("a=1")
	if c := <-seen; c.Node.GetId() != "m1/pod" || c.Peer == nil || c.Peer.Addr == nil {
		t.Errorf("got %+v", c)
	}
	if state := p.Clients()[0]; state.Identity != "spiffe://hansa/m1" || state.Address == "" {
		t.Errorf("got %+v", state)
	}
}

func TestAWholeUpdateRemovesWhatItDoesNotName(t *testing.T) {
	var encoder ads.Encoder
	desk := ads.NewDesk(true, ads.Limits{})
	desk.Apply(ads.Update{Changed: []ads.Resource{resource(t, &encoder, CDS, "a=1"), resource(t, &encoder, CDS, "b=1")}})
	if err := desk.Request(ads.Question{URL: CDS}); err != nil {
		t.Fatal(err)
	}
	first, _ := desk.Next()
	if err := desk.Request(ads.Question{URL: CDS, Nonce: first.Nonce}); err != nil {
		t.Fatal(err)
	}
	desk.Advance(ads.DefaultLimits().MaxRest)
	desk.Apply(ads.Update{Whole: true, Changed: []ads.Resource{resource(t, &encoder, CDS, "b=1")}})
	letter, _ := desk.Next()
	if letter == nil || len(letter.Removed) != 1 || letter.Removed[0] != "a" || len(letter.Versions) != 0 {
		t.Errorf("got %+v, want the removal of a alone", letter)
	}
}

func TestVersionsAreThoseOfContent(t *testing.T) {
	var one, two ads.Encoder
	a, b := resource(t, &one, EDS, "a=1"), resource(t, &two, EDS, "a=1")
	if a.Version() == "" || a.Version() != b.Version() {
		t.Errorf("two servers call the same content %q and %q", a.Version(), b.Version())
	}
	if c := resource(t, &one, EDS, "a=2"); c.Version() == a.Version() {
		t.Error("different content has the same version")
	}
}

func TestTypeURLsAreKeptOnce(t *testing.T) {
	var encoder ads.Encoder
	one := resource(t, &encoder, CDS, "one=1")
	two := resource(t, &encoder, CDS, "two=2")
	if one.Type != CDS || unsafe.StringData(one.Type) != unsafe.StringData(two.Type) {
		t.Errorf("two resources have %q and %q, which are not the same string in memory", one.Type, two.Type)
	}
}

func TestEqualContentIsKeptOnceAndNotForever(t *testing.T) {
	var encoder ads.Encoder
	a, b := resource(t, &encoder, EDS, "a=1"), resource(t, &encoder, EDS, "a=1")
	if !ads.Shared(a, b) {
		t.Error("equal content is kept twice")
	}
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
	for range 1000 {
		if runtime.GC(); encoder.Known() == 0 {
			return
		}
		runtime.Gosched()
	}
	t.Error("content that nobody uses is kept")
}

// TestPace tells when a change goes out, by the time since the response before and by what the client answered.
func TestPace(t *testing.T) {
	limits := ads.DefaultLimits()
	var encoder ads.Encoder
	desk := ads.NewDesk(true, ads.Limits{})
	content := 0
	change := func() {
		content++
		desk.Apply(ads.Update{Changed: []ads.Resource{resource(t, &encoder, EDS, "a="+strconv.Itoa(content))}})
	}
	say := func(q ads.Question) {
		q.URL = EDS
		if err := desk.Request(q); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(sent bool, reason string) *ads.Letter {
		letter, _ := desk.Next()
		if (letter != nil) != sent {
			t.Fatalf("sent %t, want %t: %s", letter != nil, sent, reason)
		}
		return letter
	}
	change()
	say(ads.Question{Subscribe: []string{"a"}})
	say(ads.Question{Nonce: expect(true, "a question is answered at once").Nonce})
	change()
	expect(false, "a burst may have begun")
	change()
	desk.Advance(limits.Rest)
	letter := expect(true, "nobody waits longer than the rest")
	if want := resource(t, &encoder, EDS, "a=3").Version(); letter.Versions["a"] != want {
		t.Error("what was replaced meanwhile is not left out")
	}
	say(ads.Question{Nonce: letter.Nonce})
	desk.Advance(limits.Rest)
	change()
	expect(true, "the first change after some time goes at once")
	for range limits.Unanswered - 1 {
		change()
		expect(false, "the client may be about to answer")
		desk.Advance(limits.Pace)
		letter = expect(true, "a client that is far away does not get everything late")
	}
	change()
	desk.Advance(limits.Pace)
	expect(false, "a client that answers nothing gets no more")
	say(ads.Question{Subscribe: []string{"b"}})
	expect(false, "whatever it asks for")
	say(ads.Question{Nonce: letter.Nonce})
	expect(true, "an answer counts for all before it")
}

// TestBurst holds that a burst becomes fewer and fewer responses while it goes on, and that it is forgotten when it is over.
func TestBurst(t *testing.T) {
	limits := ads.DefaultLimits()
	var encoder ads.Encoder
	desk := ads.NewDesk(true, ads.Limits{})
	content := 0
	change := func() {
		content++
		desk.Apply(ads.Update{Changed: []ads.Resource{resource(t, &encoder, EDS, "a="+strconv.Itoa(content))}})
	}
	// responses has a change every millisecond, and a client that answers at once.
	responses := func(changes int) (sent int) {
		for range changes {
			change()
			for letter, _ := desk.Next(); letter != nil; letter, _ = desk.Next() {
				sent++
				if err := desk.Request(ads.Question{URL: EDS, Nonce: letter.Nonce}); err != nil {
					t.Fatal(err)
				}
			}
			desk.Advance(time.Millisecond)
		}
		return sent
	}
	if err := desk.Request(ads.Question{URL: EDS, Subscribe: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	change()
	desk.Advance(time.Second)
	for _, row := range []struct {
		why           string
		changes, most int
	}{
		{"the first of a few go out with the usual rest", 6, 4},
		{"a second more is about as many as the longest rest allows", 1000, int(time.Second/limits.MaxRest) + 5},
	} {
		if sent := responses(row.changes); sent == 0 || sent > row.most {
			t.Errorf("%s: %d changes were %d responses, at most %d expected", row.why, row.changes, sent, row.most)
		}
	}
	desk.Advance(limits.MaxRest)
	responses(1) // what the burst left over
	desk.Advance(limits.MaxRest)
	if sent := responses(1); sent != 1 {
		t.Error("a change after the burst does not go out at once")
	}
	desk.Advance(limits.Rest)
	if sent := responses(1); sent != 1 {
		t.Error("the next one has to rest as if the burst went on")
	}
}
