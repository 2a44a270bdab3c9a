package load_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
	"github.com/hansa-dev/hansa/e2e/node/workload/echo"
	"github.com/hansa-dev/hansa/e2e/node/workload/load"
	"github.com/hansa-dev/hansa/e2e/node/workload/tally"
)

const patience = 10 * time.Second

// serve starts a test server and returns its targets by protocol.
func serve(t *testing.T) map[string]string {
	t.Helper()
	server, err := echo.Listen(echo.Config{
		Identity: answer.Identity{Cluster: "m1", Zone: "z", Pod: "p"},
		HTTP:     "127.0.0.1:0", TCP: "127.0.0.1:0", UDP: "127.0.0.1:0", GRPC: "127.0.0.1:0", MaxWaiting: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	targets := map[string]string{}
	for _, p := range []string{answer.HTTP, answer.TCP, answer.UDP, answer.GRPC} {
		targets[p] = p + "://" + server.Addr(p).String()
	}
	return targets
}

// listen accepts connections and calls handle with each. The address ends with the test.
func listen(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		open.Wait()
	})
	return listener.Addr().String()
}

// vacant is an address where nobody listens.
func vacant(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// options makes about 20 requests.
func options(targets ...string) load.Options {
	return load.Options{
		Client: load.Client{Timeout: patience}, Targets: targets, Rate: 200, Duration: 100 * time.Millisecond,
		Interval: 20 * time.Millisecond, MaxInFlight: 100, Out: io.Discard,
	}
}

func run(t *testing.T, o load.Options) tally.Summary {
	t.Helper()
	summary, err := load.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

func TestEveryProtocolSucceeds(t *testing.T) {
	targets := serve(t)
	for _, protocol := range slices.Sorted(maps.Keys(targets)) {
		for _, query := range []string{"", "?delay=1ms"} {
			for _, fresh := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s%s new=%t", protocol, query, fresh), func(t *testing.T) {
					o := options(targets[protocol] + query)
					o.NewConnections = fresh
					s := run(t, o)
					if s.Sent != 20 || s.OK != 20 || s.Answers["m1/z/p"] != 20 || s.LatencyMS.P50 <= 0 {
						t.Errorf("the summary is %+v, want 20 answers", s)
					}
				})
			}
		}
	}
	t.Run("http2", func(t *testing.T) {
		o := options(targets[answer.HTTP])
		o.HTTP2 = true
		if s := run(t, o); s.OK != 20 {
			t.Errorf("the summary is %+v, want 20 answers", s)
		}
	})
	t.Run("in turn", func(t *testing.T) {
		o := options(slices.Sorted(maps.Values(targets))...)
		s := run(t, o)
		for _, target := range o.Targets {
			if s.Targets[target].OK != 5 {
				t.Errorf("the targets got %v, want 5 requests each", s.Targets)
			}
		}
	})
}

// TestControlPlane has a control plane of its own: a resolver that the test tells what to say.
func TestControlPlane(t *testing.T) {
	const target = "xds:///echo.shop.svc.clusterset.local:9090"
	if resolver.Get(load.XDS) == nil { // it stays registered when the test runs again
		if _, err := load.Run(t.Context(), options(target)); err == nil || !strings.Contains(err.Error(), "xdsload") {
			t.Errorf("without xDS the error is %v, want one that names the program with it", err)
		}
	}
	server, err := url.Parse(serve(t)[answer.GRPC])
	if err != nil {
		t.Fatal(err)
	}
	plane := manual.NewBuilderWithScheme(load.XDS)
	plane.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: server.Host}}})
	resolver.Register(plane)
	for _, fresh := range []bool{false, true} {
		o := options(target + "?delay=1ms")
		o.NewConnections = fresh
		if s := run(t, o); s.OK != 20 || s.Answers["m1/z/p"] != 20 {
			t.Errorf("with new connections %t the summary is %+v, want 20 answers", fresh, s)
		}
	}
	for _, wrong := range []string{"xds://authority/echo:9090", "xds:///echo", "xds:///echo:", "xds:///"} {
		if _, err := load.Run(t.Context(), options(wrong)); err == nil || !strings.Contains(err.Error(), "three slashes") {
			t.Errorf("for %s the error is %v, want one that says how it is written", wrong, err)
		}
	}
}

func TestFailuresHaveClasses(t *testing.T) {
	targets := serve(t)
	nobody := vacant(t)
	tests := []struct {
		reason, target, want string
		timeout              time.Duration
	}{
		{reason: "a status", target: targets[answer.HTTP] + "?status=503", want: "http-503"},
		{reason: "a connection that is closed", target: targets[answer.HTTP] + "?drop", want: load.Closed},
		{reason: "a server that hangs", target: targets[answer.HTTP] + "?hang", want: load.Timeout, timeout: 20 * time.Millisecond},
		{reason: "an answer that never ends", target: "http://" + listen(t, func(c net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"))
			_, _ = io.Copy(io.Discard, c)
		}), want: load.Timeout, timeout: 20 * time.Millisecond},
		{reason: "an answer that is cut off", target: "http://" + listen(t, func(c net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"))
		}), want: load.Closed},
		{reason: "nobody there", target: "http://" + nobody, want: load.Refused},
		{reason: "nobody there, TCP", target: "tcp://" + nobody, want: load.Refused},
		{reason: "a name that cannot exist", target: "http://" + strings.Repeat("x", 64) + "/", want: load.DNS},
		{reason: "a line that hangs", target: targets[answer.TCP] + "?hang", want: load.Timeout, timeout: 20 * time.Millisecond},
		{reason: "a connection that is reset", target: targets[answer.TCP] + "?drop", want: load.Reset},
		{reason: "a line that fails", target: targets[answer.TCP] + "?status=500", want: load.Closed},
		{reason: "a server of another kind", target: "tcp://" + listen(t, func(c net.Conn) { _, _ = c.Write([]byte("220 smtp\n")) }), want: load.BadAnswer},
		{reason: "a wrong parameter", target: targets[answer.TCP] + "?delay=x", want: load.BadAnswer},
		{reason: "a datagram that is lost", target: targets[answer.UDP] + "?drop", want: load.Timeout, timeout: 20 * time.Millisecond},
		{reason: "a wrong parameter, UDP", target: targets[answer.UDP] + "?delay=x", want: load.BadAnswer},
		{reason: "a code", target: targets[answer.GRPC] + "?status=404", want: "grpc-NotFound"},
		{reason: "a call that hangs", target: targets[answer.GRPC] + "?hang", want: load.Timeout, timeout: 20 * time.Millisecond},
		{reason: "nobody there, gRPC", target: "grpc://" + nobody, want: "grpc-Unavailable"},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			o := options(test.target)
			if test.timeout > 0 {
				o.Timeout = test.timeout
			}
			if s := run(t, o); s.Failed != 20 || s.Errors[test.want] != 20 || s.OK != 0 {
				t.Errorf("%d failed with %v, want 20 with %q", s.Failed, s.Errors, test.want)
			}
		})
	}
}

// The schedule does not wait for answers, and what it cannot send it counts.
func TestOpenLoop(t *testing.T) {
	targets := serve(t)
	o := options(targets[answer.HTTP] + "?delay=200ms")
	if s := run(t, o); s.OK != 20 || s.LatencyMS.P50 < 200 || s.Seconds > 5 {
		t.Errorf("the summary is %+v, want 20 answers of 200 ms that overlap", s)
	}
	o = options(targets[answer.HTTP] + "?hang")
	o.Timeout, o.MaxInFlight = time.Second, 1
	if s := run(t, o); s.Errors[load.Overload] != 19 || s.Errors[load.Timeout] != 1 {
		t.Errorf("the errors are %v, want one request under way and the others not sent", s.Errors)
	}
}

// A run that is ended from outside does not call failed what it gave up itself.
func TestAbandoned(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	o := options(server.URL)
	o.Duration = 0
	s, err := load.Run(ctx, o)
	if err != nil || s.Abandoned == 0 || s.Abandoned != s.Sent {
		t.Errorf("the summary is %+v (%v), want every request abandoned", s, err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(line []byte) (int, error) { return w(line) }

func TestOutput(t *testing.T) {
	targets := serve(t)
	var out bytes.Buffer
	o := options(targets[answer.HTTP])
	o.Out = &out
	want := run(t, o)
	var sent int64
	var at float64
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	for _, line := range lines[:len(lines)-1] {
		var i tally.Interval
		if err := json.Unmarshal(line, &i); err != nil || i.Type != "interval" || i.At != at || i.Sent != i.OK+i.Failed+i.Abandoned {
			t.Fatalf("%s is no interval that starts at %v (%v)", line, at, err)
		}
		sent += i.Sent
		at = float64(int((at+0.02)*100+0.5)) / 100
	}
	var s tally.Summary
	if err := json.Unmarshal(lines[len(lines)-1], &s); err != nil || s.Type != "summary" || s.Sent != want.Sent {
		t.Errorf("%s is not the summary %+v (%v)", lines[len(lines)-1], want, err)
	}
	if sent != want.Sent || len(lines) < 6 {
		t.Errorf("%d intervals have %d requests, want 5 with %d", len(lines)-1, sent, want.Sent)
	}
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	targets := serve(t)
	o := options(targets[answer.HTTP])
	o.Duration = 0 // it ends by itself nevertheless
	full := errors.New("no space left")
	o.Out = writer(func([]byte) (int, error) { return 0, full })
	if _, err := load.Run(t.Context(), o); !errors.Is(err, full) {
		t.Errorf("the error is %v, want %v", err, full)
	}
}

func TestUntilSuccess(t *testing.T) {
	var asked sync.Mutex
	count := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Lock()
		defer asked.Unlock()
		if count++; count < 4 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	o := options(server.URL)
	o.Duration, o.UntilSuccess = 0, true
	s := run(t, o)
	if s.OK < 1 || s.Failed != 3 || s.Answers["unknown"] != s.OK {
		t.Errorf("the summary is %+v, want 3 failures and a success of an unknown server", s)
	}
}

// Kept connections save connections, and new ones are new.
func TestConnectionsAreKeptOrNew(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		t.Run(fmt.Sprint("new=", fresh), func(t *testing.T) {
			var mu sync.Mutex
			made := 0
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				mu.Lock()
				defer mu.Unlock()
				if s == http.StateNew {
					made++
				}
			}
			server.Start()
			defer server.Close()
			o := options(server.URL)
			o.NewConnections, o.MaxInFlight = fresh, 1 // one at a time, others are not sent
			s := run(t, o)
			mu.Lock()
			defer mu.Unlock()
			if fresh && int64(made) != s.OK || !fresh && made != 1 {
				t.Errorf("%d connections were made for %d requests", made, s.OK)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(answer.Answer{Identity: answer.Identity{Cluster: r.TLS.ServerName, Zone: r.Host, Pod: r.Header.Get("X-Test")}}.JSON())
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // the client's refusals
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	o := options(server.URL)
	o.CAFile, o.ServerName = ca, "example.com"
	o.Header = http.Header{"Host": {"other.org"}, "X-Test": {"yes"}}
	if s := run(t, o); s.Answers["example.com/other.org/yes"] != 20 {
		t.Errorf("the answers are %v", s.Answers)
	}
	o.ServerName = "example.net"
	if s := run(t, o); s.Errors[load.TLS] != 20 {
		t.Errorf("with a name that is not in the certificate: %v", s.Errors)
	}
	o.CAFile = filepath.Join(t.TempDir(), "none.pem")
	if _, err := load.Run(t.Context(), o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
}

func TestRunRefuses(t *testing.T) {
	tests := []struct {
		reason string
		change func(*load.Options)
		wrong  string
	}{
		{"nothing to ask", func(o *load.Options) { o.Targets = nil }, "no target"},
		{"no rate", func(o *load.Options) { o.Rate = 0 }, "rate is 0"},
		{"too much", func(o *load.Options) { o.Rate = 1e6 }, "rate is"},
		{"a negative duration", func(o *load.Options) { o.Duration = -1 }, "duration"},
		{"no interval", func(o *load.Options) { o.Interval = 0 }, "interval"},
		{"no time", func(o *load.Options) { o.Timeout = 0 }, "timeout"},
		{"no place", func(o *load.Options) { o.MaxInFlight = 0 }, "want at least 1"},
		{"an unknown scheme", func(o *load.Options) { o.Targets = []string{"ftp://a"} }, "ftp://a"},
		{"no scheme", func(o *load.Options) { o.Targets = []string{"a.b"} }, "a.b"},
		{"no port", func(o *load.Options) { o.Targets = []string{"tcp://a"} }, "tcp://HOST:PORT"},
		{"a path where there is none", func(o *load.Options) { o.Targets = []string{"tcp://a:1/b"} }, "path"},
		{"no host", func(o *load.Options) { o.Targets = []string{"http:///b"} }, "no host"},
		{"no URL", func(o *load.Options) { o.Targets = []string{"http://a b"} }, "http://a b"},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			o := options("http://127.0.0.1:1/")
			test.change(&o)
			if _, err := load.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("the error is %v, want one with %q", err, test.wrong)
			}
		})
	}
}

func TestWait(t *testing.T) {
	targets := serve(t)
	client := load.Client{Timeout: patience}
	for protocol, target := range targets {
		if who, err := load.Wait(t.Context(), client, target, time.Millisecond); err != nil || who != "m1/z/p" {
			t.Errorf("%s: %q (%v)", protocol, who, err)
		}
	}
	port := strings.TrimPrefix(targets[answer.TCP], "tcp://")
	if _, err := load.Wait(t.Context(), client, port, time.Millisecond); err != nil {
		t.Errorf("a port: %v", err)
	}
	if _, err := load.Wait(t.Context(), client, "nothing", time.Millisecond); err == nil {
		t.Error("a name without a port is accepted")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	nobody := vacant(t)
	if _, err := load.Wait(ctx, client, nobody, time.Millisecond); err == nil || !strings.Contains(err.Error(), nobody+" does not answer") {
		t.Errorf("the error is %v", err)
	}
}
