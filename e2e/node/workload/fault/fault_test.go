package fault_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/node/workload/fault"
)

func protocols() []string { return []string{"http", "tcp"} }

func TestParseControl(t *testing.T) {
	failing := fault.Control{Fail: 503, FailRate: 0.2, Delay: fault.Duration(time.Second), Ready: true, Protocols: []string{"tcp"}}
	tests := []struct {
		reason   string
		document string
		base     fault.Control
		want     fault.Control
		wrong    string // part of the error
	}{
		{reason: "nothing said, nothing changed", document: `{}`, base: failing, want: failing},
		{
			reason: "every field can be set", base: fault.Normal(),
			document: `{"fail":503,"failRate":0.2,"delay":"1s","hang":true,"drop":true,"ready":false,"protocols":["http"]}`,
			want: fault.Control{
				Fail: 503, FailRate: 0.2, Delay: fault.Duration(time.Second), Hang: true, Drop: true, Protocols: []string{"http"},
			},
		},
		{
			reason: "a field is changed and the others stay", document: `{"ready":false}`, base: failing,
			want: fault.Control{Fail: 503, FailRate: 0.2, Delay: fault.Duration(time.Second), Protocols: []string{"tcp"}},
		},
		{
			reason: "a fault may end while its rate stays", document: `{"fail":0}`, base: failing,
			want: fault.Control{FailRate: 0.2, Delay: fault.Duration(time.Second), Ready: true, Protocols: []string{"tcp"}},
		},
		{reason: "null is absent", document: `{"fail":null}`, base: failing, want: failing},
		{reason: "a rate alone would do nothing, silently", document: `{"failRate":0.2}`, base: fault.Normal(), wrong: "nothing to strike with"},
		{reason: "a success is no failure", document: `{"fail":200}`, wrong: "fail is 200"},
		{reason: "there is no such status", document: `{"fail":600}`, wrong: "fail is 600"},
		{reason: "a share of more than all", document: `{"failRate":1.1}`, wrong: "failRate is 1.1"},
		{reason: "a negative share", document: `{"failRate":-0.1}`, wrong: "failRate is -0.1"},
		{reason: "time does not run backwards", document: `{"delay":"-1s"}`, wrong: "delay is -1s"},
		{reason: "nobody waits that long", document: `{"delay":"1h"}`, wrong: "delay is 1h"},
		{reason: "a duration has a unit", document: `{"delay":"5"}`, wrong: `"5" is no duration`},
		{reason: "a number could be any unit", document: `{"delay":5}`, wrong: "want a JSON object"},
		{reason: "a typing error must not pass for a fault", document: `{"fial":503}`, wrong: "fial"},
		{reason: "a protocol that is not known", document: `{"protocols":["sctp"]}`, wrong: "http, tcp"},
		{reason: "a second object would be ignored", document: `{}{}`, wrong: "after the JSON object"},
		{reason: "a list", document: `[]`, wrong: "want a JSON object"},
		{reason: "nothing at all", document: ``, wrong: "want a JSON object"},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			got, err := fault.ParseControl([]byte(test.document), test.base, protocols())
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Fatalf("error is %v, want one with %q", err, test.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseControl(f *testing.F) {
	f.Add([]byte(`{"fail":503,"failRate":0.2,"delay":"1s","hang":true,"drop":true,"ready":false,"protocols":["http"]}`))
	f.Add([]byte(`{"failRate":1e-400}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		c, err := fault.ParseControl(document, fault.Normal(), protocols())
		if err != nil {
			return
		}
		if c.Fail < 0 || c.Fail > 599 || c.FailRate < 0 || c.FailRate > 1 || c.Delay < 0 || time.Duration(c.Delay) > fault.MaxDelay {
			t.Errorf("%s gives %+v, which is out of bounds", document, c)
		}
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := fault.ParseControl(written, fault.Normal(), protocols())
		if err != nil && !strings.Contains(err.Error(), "nothing to strike with") {
			t.Fatalf("what GET says, %s, is refused by PUT: %v", written, err)
		}
		if diff := cmp.Diff(c, again); err == nil && diff != "" {
			t.Errorf("what GET says means something else in PUT (-first +again):\n%s", diff)
		}
	})
}

func TestParseQuery(t *testing.T) {
	tests := []struct {
		reason string
		query  string
		want   fault.Wish
		wrong  string // part of the error
	}{
		{reason: "nothing is wished for", query: ""},
		{
			reason: "everything", query: "status=503&delay=100ms&hang&drop&close&plain&size=1000",
			want: fault.Wish{Status: 503, Delay: 100 * time.Millisecond, Hang: true, Drop: true, Close: true, Plain: true, Size: 1000},
		},
		{reason: "flags may have a value", query: "hang=true&drop=0&plain=1&close=", want: fault.Wish{Hang: true, Plain: true, Close: true}},
		{reason: "others are only echoed", query: "x=1&y"},
		{reason: "an empty number is as good as none", query: "status=&size=&delay="},
		{reason: "a success that is not 200", query: "status=204", want: fault.Wish{Status: 204}},
		{reason: "no final status", query: "status=100", wrong: "status=100"},
		{reason: "no status", query: "status=abc", wrong: "status=abc"},
		{reason: "a negative delay", query: "delay=-1s", wrong: "delay=-1s"},
		{reason: "a delay that is too long", query: "delay=11m", wrong: "10m"},
		{reason: "a delay without a unit", query: "delay=100", wrong: "delay=100"},
		{reason: "too much", query: "size=1073741825", wrong: "size=1073741825"},
		{reason: "less than nothing", query: "size=-1", wrong: "size=-1"},
		{reason: "a flag that is neither", query: "hang=maybe", wrong: "hang=maybe"},
		{reason: "all errors at once", query: "hang=maybe&size=x", wrong: "size=x"},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			query, err := url.ParseQuery(test.query)
			if err != nil {
				t.Fatal(err)
			}
			got, err := fault.ParseQuery(query)
			if (err != nil) != (test.wrong != "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
				t.Fatalf("error is %v, want one with %q", err, test.wrong)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add("status=503&delay=100ms&hang&drop&close&plain&size=1000")
	f.Add("size=99999999999999999999&delay=9e9h")
	f.Fuzz(func(t *testing.T, text string) {
		query, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		w, err := fault.ParseQuery(query)
		if err != nil {
			if w != (fault.Wish{}) {
				t.Errorf("%q is refused and yet gives %+v", text, w)
			}
			return
		}
		if w.Status != 0 && (w.Status < 200 || w.Status > 599) || w.Delay < 0 || w.Delay > fault.MaxDelay || w.Size < 0 || w.Size > fault.MaxSize {
			t.Errorf("%q gives %+v, which is out of bounds", text, w)
		}
	})
}

func TestDecide(t *testing.T) {
	second := fault.Duration(time.Second)
	tests := []struct {
		reason  string
		control fault.Control
		wish    fault.Wish
		chance  float64
		want    fault.Plan
	}{
		{reason: "a server that behaves", control: fault.Normal()},
		{reason: "a request gets what it asks for", control: fault.Normal(), wish: fault.Wish{Status: 404, Delay: 5}, want: fault.Plan{Status: 404, Delay: 5}},
		{reason: "a chance below the rate strikes", control: fault.Control{Fail: 503, FailRate: 0.2}, chance: 0.19, want: fault.Plan{Status: 503}},
		{reason: "a chance at the rate does not, or 0 would strike at times", control: fault.Control{Fail: 503, FailRate: 0.2}, chance: 0.2},
		{reason: "no rate, no failure", control: fault.Control{Fail: 503}, chance: 0},
		{reason: "a rate of 1 always strikes", control: fault.Control{Fail: 503, FailRate: 1}, chance: 0.999999, want: fault.Plan{Status: 503}},
		{reason: "hanging and dropping follow the rate as well", control: fault.Control{Hang: true, Drop: true, FailRate: 0.5}, chance: 0.6},
		{reason: "a slow server is always slow", control: fault.Control{Delay: second, FailRate: 0}, want: fault.Plan{Delay: time.Second}},
		{reason: "delays do not add up", control: fault.Control{Delay: second}, wish: fault.Wish{Delay: time.Minute}, want: fault.Plan{Delay: time.Minute}},
		{
			reason:  "a server that is told to fail does not obey clients",
			control: fault.Control{Fail: 503, FailRate: 1}, wish: fault.Wish{Status: 200}, want: fault.Plan{Status: 503},
		},
		{
			reason:  "a server that does not fail this time does",
			control: fault.Control{Fail: 503, FailRate: 0.1}, chance: 0.5, wish: fault.Wish{Hang: true}, want: fault.Plan{Hang: true},
		},
		{
			reason:  "another protocol is not concerned",
			control: fault.Control{Fail: 503, FailRate: 1, Delay: second, Protocols: []string{"tcp"}},
		},
		{
			reason:  "one of several protocols is",
			control: fault.Control{Drop: true, FailRate: 1, Protocols: []string{"tcp", "http"}}, want: fault.Plan{Drop: true},
		},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			if diff := cmp.Diff(test.want, fault.Decide(test.control, test.wish, "http", test.chance)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
