package echo_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
	"github.com/hansa-dev/hansa/e2e/node/workload/echo"
	"github.com/hansa-dev/hansa/e2e/node/workload/fault"
)

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   []byte
	last   bool // the server closes the connection
	err    error
}

// client returns one whose connections end with the test.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func do(t *testing.T, c *http.Client, method, url, body string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Test", "yes")
	return send(c, request)
}

func send(c *http.Client, request *http.Request) reply {
	response, err := c.Do(request)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, data, response.Close, err}
}

func TestHTTPAnswers(t *testing.T) {
	r := serve(t, nil)
	c := client(t)
	base := "http://" + r.at(answer.HTTP)
	got := do(t, c, http.MethodPost, base+"/a//b%2Fc?x=1", "hello")
	if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("status %d %v", got.status, got.header)
	}
	want := answer.Answer{
		Identity: answer.Identity{Cluster: "m1", Zone: "z", Pod: "p", Version: "v1"},
		Protocol: answer.HTTP, Requests: 1, Server: r.at(answer.HTTP),
		HTTP: &answer.Web{
			Method: "POST", Path: "/a//b%2Fc", Query: "x=1", Host: r.at(answer.HTTP), Proto: "HTTP/1.1",
			Headers: map[string]string{"X-Test": "yes"}, BodyBytes: 5,
		},
	}
	sent := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "HTTP.Headers" }, cmp.Comparer(func(a, b map[string]string) bool {
		return a["X-Test"] == b["X-Test"]
	}))
	if diff := cmp.Diff(want, parse(t, got.body), cmpopts.IgnoreFields(answer.Answer{}, "Client"), sent); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHTTPRequests(t *testing.T) {
	r := serve(t, nil)
	base := "http://" + r.at(answer.HTTP)
	tests := []struct {
		reason, method, path string
		status               int
		body                 string // part of it
		length               int    // of the body, unless 0
	}{
		{"a request may ask for a failure", "GET", "/?status=503", 503, `"cluster":"m1"`, 0},
		{"or for a success without a body", "GET", "/?status=204", 204, "", 0},
		{"the short form", "GET", "/?plain", 200, "m1/z/p v1\n", 10},
		{"an answer of a given size", "GET", "/?size=100000", 200, `"cluster":"m1"`, 100000},
		{"also in the short form", "GET", "/?size=100&plain", 200, "m1/z/p v1", 100},
		{"the size of an answer is at least what it needs", "GET", "/?size=1&plain", 200, "m1/z/p v1\n", 10},
		{"a slow answer is an answer", "GET", "/?delay=1ms", 200, `"cluster":"m1"`, 0},
		{"a wrong parameter is named", "GET", "/?status=abc", 400, `{"error":"status=abc`, 0},
		{"bytes", "GET", "/bytes?n=200000", 200, "xxx", 200000},
		{"no bytes", "GET", "/bytes?n=0", 200, "", 0},
		{"bytes without a number", "GET", "/bytes", 400, `{"error":"n=`, 0},
		{"too many bytes", "GET", fmt.Sprintf("/bytes?n=%d", int64(echo.MaxBytes)+1), 400, `{"error":"n=`, 0},
		{"bytes may fail as well", "GET", "/bytes?n=5&status=500", 500, `"cluster":"m1"`, 0},
		{"HEAD has no body", "HEAD", "/bytes?n=1000", 200, "", 0},
		{"the server is alive", "GET", "/live", 200, "live\n", 0},
		{"the server is ready", "GET", "/ready", 200, "ready\n", 0},
		{"control is shown", "GET", "/control", 200, `{"fail":0,"failRate":1,"delay":"0s","hang":false,"drop":false,"ready":true,"protocols":[]}` + "\n", 0},
		{"control is not posted", "POST", "/control", 405, "use GET, PUT, PATCH or DELETE", 0},
		{"wrong control is refused", "PUT", "/control", 400, `{"error":"want a JSON object`, 0},
	}
	c := client(t)
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			got := do(t, c, test.method, base+test.path, "")
			if got.err != nil || got.status != test.status || !bytes.Contains(got.body, []byte(test.body)) {
				t.Errorf("status %d, %.200q, %v, want %d and %q", got.status, got.body, got.err, test.status, test.body)
			}
			if test.length != 0 && len(got.body) != test.length {
				t.Errorf("the body has %d bytes, want %d", len(got.body), test.length)
			}
		})
	}
}

func TestHTTPControl(t *testing.T) {
	r := serve(t, nil)
	c := client(t)
	base := "http://" + r.at(answer.HTTP)
	tests := []struct {
		reason, method, body string
		status, ready        int    // of / and /ready afterwards; 0: no answer
		control              string // part of what is told then
	}{
		{"a server that fails is ready nevertheless", "PUT", `{"fail":503}`, 503, 200, `"fail":503`},
		{"what is not said stays", "PATCH", `{"ready":false}`, 503, 503, `"fail":503`},
		{"what is wrong changes nothing", "PUT", `{"fail":1}`, 503, 503, `"fail":503`},
		{"what is not said gets its usual value", "PUT", `{"drop":true}`, 0, 200, `"fail":0`},
		{"another protocol is not concerned", "PUT", `{"fail":500,"protocols":["grpc","tcp"]}`, 200, 200, `["grpc","tcp"]`},
		{"all is well again", "DELETE", ``, 200, 200, `"protocols":[]`},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			do(t, c, test.method, base+"/control", test.body)
			if got := do(t, c, "GET", base+"/control", ""); !bytes.Contains(got.body, []byte(test.control)) {
				t.Errorf("control is %s, want %s in it", got.body, test.control)
			}
			if got := do(t, c, "GET", base+"/ready", ""); got.status != test.ready {
				t.Errorf("/ready is %d, want %d", got.status, test.ready)
			}
			// POST, so that the client does not try again by itself
			if got := do(t, c, "POST", base+"/", "x"); got.status != test.status {
				t.Errorf("status is %d (%v), want %d", got.status, got.err, test.status)
			}
		})
	}
}

func TestHTTPDropAndClose(t *testing.T) {
	r := serve(t, nil)
	c := client(t)
	base := "http://" + r.at(answer.HTTP)
	if got := do(t, c, "POST", base+"/?drop", "x"); !errors.Is(got.err, io.EOF) {
		t.Errorf("a dropped request gets status %d, %v, want the end of the connection", got.status, got.err)
	}
	if got := do(t, c, "GET", base+"/?close", ""); got.status != 200 || !got.last {
		t.Errorf("status %d %v, want 200 and Connection: close", got.status, got.header)
	}
}

func TestHTTPBodies(t *testing.T) {
	r := serve(t, nil)
	c := client(t)
	base := "http://" + r.at(answer.HTTP)
	big := strings.Repeat("0123456789", 300_000)
	if got := do(t, c, "POST", base+"/echo", big); got.status != 200 || string(got.body) != big {
		t.Errorf("status %d with %d bytes, want the %d that were sent", got.status, len(got.body), len(big))
	}
	if got := parse(t, do(t, c, "POST", base+"/", big).body); got.HTTP.BodyBytes != int64(len(big)) {
		t.Errorf("%d bytes are counted, want %d", got.HTTP.BodyBytes, len(big))
	}
	for _, path := range []string{"/", "/echo"} {
		request, err := http.NewRequestWithContext(t.Context(), "POST", base+path, io.LimitReader(zeros{}, echo.MaxBody+1))
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = echo.MaxBody + 1
		request.Header.Set("Expect", "100-continue")
		if got := send(&http.Client{Transport: &http.Transport{ExpectContinueTimeout: patience, DisableKeepAlives: true}}, request); got.status != http.StatusRequestEntityTooLarge {
			t.Errorf("a body of more than %d bytes to %s gets status %d (%v), want 413", echo.MaxBody, path, got.status, got.err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// What arrives at /echo is sent back before the request has ended.
func TestHTTPEchoStreams(t *testing.T) {
	r := serve(t, nil)
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("http2=", http2), func(t *testing.T) {
			protocols := new(http.Protocols)
			protocols.SetHTTP1(!http2)
			protocols.SetUnencryptedHTTP2(http2)
			transport := &http.Transport{Protocols: protocols}
			defer transport.CloseIdleConnections()
			body, input := io.Pipe()
			request, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+r.at(answer.HTTP)+"/echo", body)
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = input.Write([]byte("one")) }()
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			for _, word := range []string{"one", "two"} {
				got := make([]byte, 3)
				if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != word {
					t.Fatalf("%q comes back (%v), want %q", got, err, word)
				}
				if word == "one" {
					if _, err := input.Write([]byte("two")); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = input.Close()
			if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
				t.Errorf("%q follows (%v)", rest, err)
			}
		})
	}
}

// Requests that wait are bounded, and their places are free again when their clients have gone.
func TestHTTPWaitingIsBounded(t *testing.T) {
	r := serve(t, func(c *echo.Config) { c.MaxWaiting = 1 })
	c := client(t)
	base := "http://" + r.at(answer.HTTP)
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	request, err := http.NewRequestWithContext(ctx, "GET", base+"/?hang", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan reply, 1)
	go func() { gone <- send(c, request) }()
	eventually(t, "the request hangs", func() bool { return r.Waiting() == 1 })
	if got := do(t, c, "GET", base+"/?delay=1ms", ""); got.status != 503 || !bytes.Contains(got.body, []byte("too many requests")) {
		t.Errorf("another one that waits gets %d %s, want 503", got.status, got.body)
	}
	if got := do(t, c, "GET", base+"/", ""); got.status != 200 {
		t.Errorf("one that does not wait gets %d, want 200", got.status)
	}
	giveUp()
	if got := <-gone; !errors.Is(got.err, context.Canceled) {
		t.Errorf("the request that hangs got %d (%v), want no answer", got.status, got.err)
	}
	eventually(t, "the place is free", func() bool { return r.Waiting() == 0 })
}

// From the signal to the end of the drain the server is not ready and serves; then it finishes what is under way.
func TestShutdown(t *testing.T) {
	r := serve(t, func(c *echo.Config) { c.Drain = time.Hour })
	c := client(t)
	base := "http://" + r.at(answer.HTTP)
	body, input := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), "POST", base+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	slow := make(chan reply, 1)
	go func() { slow <- send(c, request) }()
	eventually(t, "the request is under way", func() bool { return r.Requests() == 1 })
	hanging := make(chan reply, 1)
	go func() { hanging <- do(t, c, "POST", base+"/?hang", "x") }()
	eventually(t, "a request hangs", func() bool { return r.Waiting() == 1 })

	r.end()
	eventually(t, "the server is not ready", func() bool { return do(t, c, "GET", base+"/ready", "").status == 503 })
	if got := do(t, c, "GET", base+"/", ""); got.status != 200 || !got.last {
		t.Errorf("while it drains a request gets %d %v, want 200 and Connection: close", got.status, got.header)
	}
	if got := do(t, c, "PUT", base+"/control", `{"ready":true}`); got.status != 200 {
		t.Errorf("control gets %d", got.status)
	}
	if got := do(t, c, "GET", base+"/ready", ""); got.status != 503 {
		t.Errorf("a server that leaves is ready again: %d", got.status)
	}

	r.Release()
	eventually(t, "new connections are refused", func() bool { return do(t, client(t), "GET", base+"/", "").err != nil })
	if got := <-hanging; got.err == nil {
		t.Errorf("the request that hangs got %d, want the end of the connection", got.status)
	}
	_ = input.Close()
	if got := <-slow; got.status != 200 {
		t.Errorf("the request under way got %d (%v), want 200", got.status, got.err)
	}
	r.wait(t)
}

func TestHTTPS(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	r := serve(t, func(c *echo.Config) {
		c.HTTPS = "127.0.0.1:0"
		c.CertFile, c.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	})
	for _, want := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(want, func(t *testing.T) {
			transport := &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com"}, ForceAttemptHTTP2: want == "HTTP/2.0",
			}
			defer transport.CloseIdleConnections()
			got := parse(t, do(t, &http.Client{Transport: transport}, "GET", "https://"+r.at(answer.HTTPS), "").body)
			if diff := cmp.Diff(&answer.TLS{ServerName: "example.com", Version: "TLS 1.3"}, got.TLS); diff != "" {
				t.Error(diff)
			}
			if got.Protocol != answer.HTTPS || got.HTTP.Proto != want {
				t.Errorf("protocol is %s over %s, want https over %s", got.Protocol, got.HTTP.Proto, want)
			}
		})
	}
}

// certificate writes cert.pem and key.pem, made for example.com, and returns a pool that trusts them.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	made := httptest.NewUnstartedServer(nil)
	made.StartTLS()
	defer made.Close()
	pair := made.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(made.Certificate())
	return pool
}

// Any control and any query are answered, and the server survives both.
func FuzzHTTP(f *testing.F) {
	server, err := echo.Listen(echo.Config{HTTP: "127.0.0.1:0", MaxWaiting: 0})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
	})
	base := "http://" + server.Addr(answer.HTTP).String()
	f.Add(`{"fail":503}`, "plain&size=5")
	f.Add(`{"delay":"1s"}`, "status=204")
	f.Add(`{`, "delay=1s")
	f.Fuzz(func(t *testing.T, control, query string) {
		put, err := http.NewRequestWithContext(t.Context(), "PUT", base+"/control", strings.NewReader(control))
		if err != nil {
			t.Fatal(err)
		}
		told := send(http.DefaultClient, put)
		var c fault.Control
		if told.status != 400 && (told.status != 200 || json.Unmarshal(told.body, &c) != nil) {
			t.Fatalf("control %q gets %d %q (%v)", control, told.status, told.body, told.err)
		}
		get, err := http.NewRequestWithContext(t.Context(), "GET", base+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		get.URL.RawQuery = strings.Map(printable, query)
		if strings.Contains(query, "size") { // a large answer is no bug, and takes time
			return
		}
		if got := send(http.DefaultClient, get); got.err != nil && !c.Drop && !strings.Contains(query, "drop") {
			t.Errorf("query %q after control %q: %v", query, control, got.err)
		}
	})
}

// printable leaves out what a client cannot send in a URL.
func printable(r rune) rune {
	if r <= ' ' || r >= 0x7f || r == '#' {
		return -1
	}
	return r
}
