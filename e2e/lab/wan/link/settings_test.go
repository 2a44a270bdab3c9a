package link_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab/wan/link"
)

func TestParseBandwidth(t *testing.T) {
	tests := []struct {
		reason, text string
		want         link.Bandwidth
		err          string // part of the error; empty: none
	}{
		{reason: "what the page of the command shows", text: "100Mbit", want: 100 * link.Mbit},
		{reason: "each unit", text: "1Gbit", want: link.Gbit},
		{reason: "each unit", text: "800kbit", want: 800 * link.Kbit},
		{reason: "each unit", text: "64000bit", want: 64 * link.Kbit},
		{reason: "0 takes the limit away", text: "0", want: 0},
		{reason: "0 with a unit is 0 all the same", text: "0Mbit", want: 0},
		{reason: "parts of a unit are common", text: "1.5Gbit", want: 1500 * link.Mbit},
		{reason: "nobody means millibits", text: "10mbit", want: 10 * link.Mbit},
		{reason: "without a unit it could be anything", text: "100", err: "100Mbit"},
		{reason: "bytes are not bits", text: "100MB", err: "100Mbit"},
		{reason: "a unit alone", text: "Mbit", err: "write it like"},
		{reason: "nothing", text: "", err: "write it like"},
		{reason: "no negative numbers", text: "-1Mbit", err: "write it like"},
		{reason: "no exponents", text: "1e3Mbit", err: "write it like"},
		{reason: "no infinity", text: "infMbit", err: "write it like"},
		{reason: "two points", text: "1.2.3Mbit", err: "write it like"},
		{reason: "no spaces", text: "1 Mbit", err: "write it like"},
		{reason: "a packet would take 12 seconds and more", text: "10bit", err: "must be 1kbit to 1000Gbit"},
		{reason: "less than a bit is not unlimited", text: "0.0001bit", err: "must be 1kbit"},
		{reason: "more than can be told apart", text: "2000Gbit", err: "more than 1000Gbit"},
		{reason: "more than a number holds", text: strings.Repeat("9", 400) + "Gbit", err: "write it like"},
	}
	for _, test := range tests {
		got, err := link.ParseBandwidth(test.text)
		check(t, "bandwidth", test.text, test.reason, err, test.err)
		if err == nil && got != test.want {
			t.Errorf("%q is %d, want %d: %s", test.text, got, test.want, test.reason)
		}
	}
}

func TestBandwidthString(t *testing.T) {
	tests := map[link.Bandwidth]string{ // the largest unit that needs no fraction
		0: "0", link.Gbit: "1Gbit", 1500 * link.Mbit: "1500Mbit", 1001: "1001bit", 64 * link.Kbit: "64kbit",
	}
	for b, want := range tests {
		if got := b.String(); got != want {
			t.Errorf("%d is written %q, want %q", int64(b), got, want)
		}
	}
}

func FuzzParseBandwidth(f *testing.F) {
	for _, seed := range []string{"0", "100Mbit", "1.5gbit", "800kbit", ".", "..bit", "999999999999999999999bit"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := link.ParseBandwidth(text)
		if err != nil {
			return
		}
		if err := (link.Settings{Bandwidth: b}).Check(); err != nil {
			t.Errorf("%q was read, but %v", text, err)
		}
		if again, err := link.ParseBandwidth(b.String()); err != nil || again != b {
			t.Errorf("%q is %d, written %q, which is %d, %v", text, b, b, again, err)
		}
	})
}

func TestParseDuration(t *testing.T) {
	tests := []struct {
		reason, text string
		want         time.Duration
		err          string
	}{
		{reason: "milliseconds", text: "20ms", want: 20 * time.Millisecond},
		{reason: "parts of seconds", text: "1.5s", want: 1500 * time.Millisecond},
		{reason: "0 needs no unit", text: "0", want: 0},
		{reason: "the most", text: "1m", want: time.Minute},
		{reason: "a number could be anything", text: "20", err: "write it like 20ms"},
		{reason: "no packet arrives before it was sent", text: "-1ms", err: "negative"},
		{reason: "memory is finite", text: "61s", err: "longer than 1m0s"},
		{reason: "nothing", text: "", err: "write it like 20ms"},
	}
	for _, test := range tests {
		got, err := link.ParseDuration(test.text)
		check(t, "duration", test.text, test.reason, err, test.err)
		if err == nil && got != test.want {
			t.Errorf("%q is %s, want %s: %s", test.text, got, test.want, test.reason)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"0", "20ms", "-1s", "1h", "9223372036854775807ns"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := link.ParseDuration(text)
		if err != nil {
			return
		}
		if err := (link.Settings{Delay: d, Jitter: d}).Check(); err != nil {
			t.Errorf("%q was read, but %v", text, err)
		}
	})
}

func TestParseLoss(t *testing.T) {
	tests := []struct {
		reason, text string
		want         float64
		err          string
	}{
		{reason: "percent", text: "1%", want: 0.01},
		{reason: "a probability", text: "0.5", want: 0.5},
		{reason: "all", text: "100%", want: 1},
		{reason: "all", text: "1", want: 1},
		{reason: "5 was meant to be 5%", text: "5", err: "more than 100%"},
		{reason: "more than all", text: "101%", err: "more than 100%"},
		{reason: "less than none", text: "-1%", err: "write it like 1%"},
		{reason: "a sign alone", text: "%", err: "write it like 1%"},
		{reason: "no number", text: "NaN", err: "write it like 1%"},
	}
	for _, test := range tests {
		got, err := link.ParseLoss(test.text)
		check(t, "loss", test.text, test.reason, err, test.err)
		if err == nil && got != test.want {
			t.Errorf("%q is %v, want %v: %s", test.text, got, test.want, test.reason)
		}
	}
}

func FuzzParseLoss(f *testing.F) {
	for _, seed := range []string{"1%", "0.01", "1", ".", "1e5%", "%%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		loss, err := link.ParseLoss(text)
		if err != nil {
			return
		}
		if err := (link.Settings{Loss: loss}).Check(); err != nil {
			t.Errorf("%q was read, but %v", text, err)
		}
	})
}

func TestCheck(t *testing.T) {
	tests := []struct {
		reason   string
		settings link.Settings
		err      string
	}{
		{reason: "a link without distance", settings: link.Settings{}},
		{reason: "everything at its most", settings: link.Settings{
			Delay: link.MaxDelay, Jitter: link.MaxDelay, Loss: 1, Bandwidth: 1000 * link.Gbit, Cut: true,
		}},
		{reason: "before it was sent", settings: link.Settings{Delay: -1}, err: "delay -1ns"},
		{reason: "too long", settings: link.Settings{Delay: link.MaxDelay + 1}, err: "0s to 1m0s"},
		{reason: "jitter is a distance", settings: link.Settings{Jitter: -1}, err: "negative"},
		{reason: "it would arrive before it was sent", settings: link.Settings{Delay: 1, Jitter: 2}, err: "more than the delay"},
		{reason: "less than none", settings: link.Settings{Loss: -0.1}, err: "0 to 1"},
		{reason: "more than all", settings: link.Settings{Loss: 1.1}, err: "0 to 1"},
		{reason: "no number", settings: link.Settings{Loss: math.NaN()}, err: "0 to 1"},
		{reason: "less than none", settings: link.Settings{Bandwidth: -1}, err: "bandwidth"},
	}
	for _, test := range tests {
		check(t, "settings", test.reason, test.reason, test.settings.Check(), test.err)
	}
}

// check compares an error with a part of it that is wanted.
func check(t *testing.T, what, text, reason string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s %q: %v: %s", what, text, err, reason)
	case want != "" && err == nil:
		t.Errorf("%s %q: no error, want %q: %s", what, text, want, reason)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("%s %q: %q does not say %q: %s", what, text, err, want, reason)
	}
}
