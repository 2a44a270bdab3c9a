package clusterset_test

import (
	"strings"
	"testing"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

func TestGatewayPorts(t *testing.T) {
	tests := map[string]struct{ text, want, problem string }{
		"None":       {},
		"One":        {text: "http/TCP=20017", want: "http/TCP=20017"},
		"Nameless":   {text: "/UDP=20018", want: "/UDP=20018"},
		"Sorted":     {text: "http/TCP=20017,dns/UDP=20018", want: "dns/UDP=20018,http/TCP=20017"},
		"NoPort":     {text: "http/TCP", problem: "want NAME/PROTOCOL=PORT"},
		"Zero":       {text: "http/TCP=0", problem: "want NAME/PROTOCOL=PORT"},
		"TooGreat":   {text: "http/TCP=65536", problem: "want NAME/PROTOCOL=PORT"},
		"OtherForm":  {text: "http/TCP=020017", problem: "want NAME/PROTOCOL=PORT"},
		"NoProtocol": {text: "http=20017", problem: "want NAME/PROTOCOL=PORT"},
		"Protocol":   {text: "http/tcp=20017", problem: "want TCP, UDP or SCTP"},
		"Twice":      {text: "http/TCP=20017,http/TCP=20018", problem: "twice"},
		"Spaces":     {text: "http/TCP=20017, dns/UDP=20018", problem: "want the name of a Service's port"},
		"Trailing":   {text: "http/TCP=20017,", problem: "want NAME/PROTOCOL=PORT"},
		"TooMany":    {text: strings.Repeat("a/TCP=1,", 1000) + "b/TCP=2", problem: "more than a Service has"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ports, err := clusterset.ParseGatewayPorts(test.text)
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) || ports != nil {
					t.Errorf("%v, %v, want a problem with %q", ports, err, test.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := clusterset.FormatGatewayPorts(ports); got != test.want {
				t.Errorf("%q comes back as %q, want %q", test.text, got, test.want)
			}
		})
	}
}

func FuzzGatewayPorts(f *testing.F) {
	for _, text := range []string{"", "http/TCP=20017", "/UDP=1,a/SCTP=65535", "a/TCP=1,a/TCP=2", "=,/"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ports, err := clusterset.ParseGatewayPorts(text)
		if err != nil {
			return
		}
		again, err := clusterset.ParseGatewayPorts(clusterset.FormatGatewayPorts(ports))
		if err != nil || clusterset.FormatGatewayPorts(again) != clusterset.FormatGatewayPorts(ports) {
			t.Errorf("%q is read as %v, and what that is written as, as %v: %v", text, ports, again, err)
		}
	})
}
