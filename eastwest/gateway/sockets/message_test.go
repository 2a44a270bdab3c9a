package sockets_test

import (
	"strings"
	"testing"

	"github.com/hansa-dev/hansa/eastwest/gateway/sockets"
)

func TestParseRequest(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		text   string
		bad    bool
		reason string
	}{
		"tcp":         {text: "listen tcp 10.0.0.1:20000", reason: "an ordinary request"},
		"udp6":        {text: "listen udp [fd00::1]:20000", reason: "both families have addresses"},
		"everywhere":  {text: "listen tcp [::]:15443", reason: "a gateway listens on all addresses for others"},
		"release":     {text: "release 10.0.0.1:20000", reason: "an ordinary request"},
		"ready":       {text: "ready", reason: "an ordinary request"},
		"empty":       {text: "", bad: true, reason: "it asks for nothing"},
		"network":     {text: "listen unix 10.0.0.1:1", bad: true, reason: "only networks of services are opened"},
		"name":        {text: "listen tcp localhost:80", bad: true, reason: "the parent asks no resolver"},
		"zone":        {text: "listen tcp [fe80::1%eth0]:80", bad: true, reason: "addresses of a link are of no use to others"},
		"mapped":      {text: "listen tcp [::ffff:10.0.0.1]:80", bad: true, reason: "one address has one name, or it would be opened twice"},
		"leading":     {text: "listen tcp 10.0.0.1:080", bad: true, reason: "one address has one name"},
		"more":        {text: "listen tcp 10.0.0.1:80 x", bad: true, reason: "what is not understood is not guessed"},
		"space":       {text: "listen tcp  10.0.0.1:80", bad: true, reason: "what is not understood is not guessed"},
		"no address":  {text: "release", bad: true, reason: "everything is never meant"},
		"other":       {text: "exec /bin/sh", bad: true, reason: "the parent does nothing else"},
		"large":       {text: "listen tcp " + strings.Repeat("1", sockets.MaxMessage), bad: true, reason: "messages are small"},
		"no such ip":  {text: "listen tcp 10.0.0.256:80", bad: true, reason: "it is no address"},
		"no port":     {text: "listen tcp 10.0.0.1", bad: true, reason: "it is no address of a socket"},
		"ready extra": {text: "ready now", bad: true, reason: "what is not understood is not guessed"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			again, err := sockets.ParseRequest(c.text)
			if c.bad != (err != nil) || !c.bad && again != c.text {
				t.Errorf("ParseRequest(%q) = %q, %v; %s", c.text, again, err, c.reason)
			}
		})
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{"listen tcp 10.0.0.1:20000", "listen udp [fd00::1]:1", "release [::]:15443", "ready", "listen tcp", "ok 1.2.3.4:5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if again, err := sockets.ParseRequest(text); err == nil && again != text {
			t.Errorf("%q is read as %q", text, again)
		}
		if addr, err := sockets.ParseAnswer(text); err == nil && text != "ok "+addr.String() {
			t.Errorf("%q is read as %v", text, addr)
		}
	})
}
