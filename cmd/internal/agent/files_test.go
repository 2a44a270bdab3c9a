package agent_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
)

const zoneFile = `$TTL 60
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 192.0.2.1
www IN A 192.0.2.2
`

// write writes a file of the test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestZoneFiles runs the program with zone files, asks over UDP and TCP, looks at queries, and stops it.
func TestZoneFiles(t *testing.T) {
	p := run(t, "--zone-file", "example.org="+write(t, "one.zone", zoneFile),
		"--zone-file", write(t, "two.zone", "$ORIGIN example.net.\n"+zoneFile), "--nsid", "here")
	for _, c := range []struct{ network, name, want string }{
		{"udp", "www.example.org.", "NOERROR 192.0.2.2"},
		{"tcp", "www.example.org.", "NOERROR 192.0.2.2"},
		{"udp", "ns.example.net.", "NOERROR 192.0.2.1"},
		{"tcp", "none.example.net.", "NXDOMAIN"},
		{"udp", "www.example.com.", "REFUSED EDE 20"},
	} {
		if got := p.ask(c.network, c.name); got != c.want {
			t.Errorf("%s over %s is %q, want %q", c.name, c.network, got, c.want)
		}
	}
	for path, want := range map[string]string{
		"/healthz": "200 ok", "/readyz": "200 ok", "/dns/tap?every=0": "400 ", "/dns/tap?below=a..b": "400 ", "/metrics": "200 ", "/none": "404 ",
	} {
		if got := p.get(path); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := p.get("/metrics"); !strings.Contains(got, `hansa_dns_queries_total{rcode="NXDOMAIN",transport="tcp",type="A",zone="example.net."} 1`) {
		t.Errorf("the query is not counted:\n%s", got)
	}
	watch(t, p)

	// A connection that is open does not keep it from stopping.
	idle, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = idle.Close() }()
	began := time.Now()
	p.stop()
	p.says("Stopped")
	t.Logf("it stopped within %v", time.Since(began))
}

// watch looks at queries, and asks until one is seen.
func watch(t *testing.T, p *program) {
	t.Helper()
	seen := make(chan dns.Query, 1)
	errSeen := errors.New("seen")
	watched := make(chan error, 1)
	go func() {
		watched <- dns.Watch(t.Context(), p.web(), 1, "Example.Net", func(q dns.Query) error {
			seen <- q
			return errSeen
		})
	}()
	for {
		p.ask("udp", "www.example.org.")
		p.ask("tcp", "www.example.net.")
		select {
		case err := <-watched:
			if !errors.Is(err, errSeen) {
				t.Fatalf("nothing is to be seen: %v", err)
			}
			q := <-seen
			if q.Name != "www.example.net." || q.Type != "A" || q.Rcode != "NOERROR" || q.Transport != "tcp" || !q.Peer.Addr().IsLoopback() || q.Bytes == 0 {
				t.Errorf("what is seen is %+v", q)
			}
			return
		case <-time.After(time.Millisecond): // it may not look yet
		}
	}
}

// TestTap runs `hansa dns tap` beside a server. It ends when the server does.
func TestTap(t *testing.T) {
	p := run(t, "--zone-file", "example.org="+write(t, "one.zone", zoneFile))
	for format, want := range map[string]string{"json": "www.example.org.", "": "www.example.org. A NOERROR"} {
		tap := start(t, "tap", "--addr", p.web(), "-o", format)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		deadline := time.After(patience)
		for !strings.Contains(tap.log(), want) {
			p.ask("udp", "www.example.org.")
			select {
			case <-tick.C:
			case <-tap.ended:
				t.Fatalf("-o %q: it has ended: %v\n%s", format, tap.err, tap.log())
			case <-deadline:
				t.Fatalf("-o %q: nothing is shown:\n%s", format, tap.log())
			}
		}
		tap.stop()
	}
	tap := start(t, "tap", "--addr", p.web())
	p.stop()
	tap.wait()
	if tap.err == nil {
		t.Errorf("the tap of a server that has ended says nothing:\n%s", tap.log())
	}
}

// TestPortIsTaken holds that what cannot be opened is named, with what to do about it.
func TestPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	file := write(t, "one.zone", "$ORIGIN example.org.\n"+zoneFile)
	for flag, want := range map[string]string{"--addr": "listening on tcp", "--metrics-addr": "--metrics-addr"} {
		p := run(t, "--zone-file", file, flag, taken.Addr().String())
		if flag == "--addr" {
			p = start(t, "--zone-file", file, "--addr", taken.Addr().String())
		}
		p.wait()
		if p.err == nil || !strings.Contains(p.log(), want) || !strings.Contains(p.log(), taken.Addr().String()) {
			t.Errorf("%s: %v\n%s", flag, p.err, p.log())
		}
	}
}

// TestCompletion holds that a shell is told what flags take.
func TestCompletion(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--log-format", "json\n"}, {"--tls-dir", ":16\n"}, {"--cluster", ":4\n"}, {"tap -o", "json\n"}, {"tap --addr", ":4\n"},
	} {
		p := start(t, append(append([]string{"__complete"}, strings.Fields(c.args)...), "")...)
		p.wait()
		var told strings.Builder
		for _, line := range p.lines {
			fmt.Fprintln(&told, line["msg"])
		}
		if p.err != nil || !strings.Contains(told.String(), c.want) {
			t.Errorf("hansa dns %s: %v, %q, want %q", c.args, p.err, told.String(), c.want)
		}
	}
}
