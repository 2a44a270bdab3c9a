package agent_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hansa-dev/hansa/cmd/internal/agent"
)

const samples = "../../../config/samples/dns/"

// TestSampleZone serves the sample.
func TestSampleZone(t *testing.T) {
	p := run(t, "--zone-file", samples+"example.org.zone")
	for name, want := range map[string]string{
		"www.example.org.": "NOERROR 192.0.2.80", "shop.example.org.": "NOERROR 192.0.2.80", "a.apps.example.org.": "NOERROR 192.0.2.81",
	} {
		if got := p.ask("udp", name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	p.stop()
}

// TestFlagsOfSamples holds that the unit and the page name flags that there are.
func TestFlagsOfSamples(t *testing.T) {
	cmd := agent.NewCommand(genericiooptions.IOStreams{})
	tap, _, err := cmd.Find([]string{"tap"})
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`hansa dns (.*)`)
	flag := regexp.MustCompile(`--([a-z-]+)`)
	for _, name := range []string{samples + "hansa-dns.service", samples + "example.org.zone", "../../../docs/dns.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, match := range line.FindAllStringSubmatch(string(text), -1) {
			flags := cmd.Flags()
			if strings.HasPrefix(match[1], "tap") {
				flags = tap.Flags()
			}
			for _, named := range flag.FindAllStringSubmatch(match[1], -1) {
				if found++; flags.Lookup(named[1]) == nil {
					t.Errorf("%s: hansa dns %s: there is no flag --%s", name, match[1], named[1])
				}
			}
		}
		if found == 0 {
			t.Errorf("%s names no flag", name)
		}
	}
}
