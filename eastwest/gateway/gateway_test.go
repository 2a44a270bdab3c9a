package gateway_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway"
	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
)

func TestPassesThrough(t *testing.T) {
	r := serve(t, gateway.Options{Router: to(echo(t, "a"))})
	for _, server := range []string{web, "outbound_.443_._." + web} {
		for _, size := range []int{0, 1, 20_000, 4 << 20} {
			c, _, err := r.dial(server, 1)
			if err != nil {
				t.Fatal(err)
			}
			says(t, c, make([]byte, size))
			_ = c.Close()
		}
	}
	until(t, "all connections are counted", func() bool { return r.metric("hansa_gateway_service_ended_total", "shop", "web", "443") == 8 })
	if up := r.metric("hansa_gateway_service_bytes_total", "up"); up < 8<<20 {
		t.Errorf("%v octets up were counted, want 8 MiB at least", up)
	}
	if open := r.metric("hansa_gateway_connections"); open != 0 {
		t.Errorf("%v connections are open, want none", open)
	}
}

func TestHTTP2PassesThrough(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.WriteString(w, q.Proto)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	r := serve(t, gateway.Options{Router: to(server.Listener.Addr().(*net.TCPAddr).AddrPort())})
	client := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{ServerName: web, InsecureSkipVerify: true},
	}}
	defer client.CloseIdleConnections()
	got, err := client.Get("https://" + r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	if body, _ := io.ReadAll(got.Body); string(body) != "HTTP/2.0" {
		t.Errorf("the server saw %q, want HTTP/2.0", body)
	}
}

// TestSegments holds that it does not matter how a ClientHello comes, and that what follows it at once is kept.
func TestSegments(t *testing.T) {
	got := make(chan []byte, 1)
	r := serve(t, gateway.Options{Router: to(pod(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		got <- b
	}))})
	whole := clientHello(t, &tls.Config{ServerName: web})
	var records []byte // of 100 octets each
	for rest := whole[5:]; len(rest) > 0; {
		n := min(100, len(rest))
		records = binary.BigEndian.AppendUint16(append(records, whole[:3]...), uint16(n))
		records, rest = append(records, rest[:n]...), rest[n:]
	}
	large := clientHello(t, &tls.Config{ServerName: web, NextProtos: slices.Repeat([]string{strings.Repeat("x", 250)}, 50)})
	for name, test := range map[string]struct {
		hello []byte
		step  int
	}{"Whole": {whole, 1 << 20}, "Octets": {whole, 1}, "Records": {records, 64}, "Large": {large, 5000}, "LargeSegments": {large, 700}} {
		t.Run(name, func(t *testing.T) {
			c := r.raw()
			want := append(slices.Clone(test.hello), make([]byte, 50_000)...)
			for rest := want; len(rest) > 0; {
				n := min(test.step, len(rest))
				if len(rest) <= 50_000 {
					n = len(rest)
				}
				if _, err := c.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			_ = c.CloseWrite()
			if b := <-got; !bytes.Equal(b, want) {
				t.Errorf("the endpoint got %d octets, want the %d that were sent", len(b), len(want))
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	good := clientHello(t, &tls.Config{ServerName: web})
	for name, test := range map[string]struct {
		reason string
		router gateway.Router
		sends  []byte
		alert  hello.Alert // 0: nothing is answered
		metric string
	}{
		"Unknown":    {"there is no such service", refuses(gateway.UnknownService), good, hello.UnrecognizedName, "unknown-service"},
		"Forbidden":  {"nobody learns that there is one", refuses(gateway.Forbidden), good, hello.UnrecognizedName, "forbidden"},
		"NoEndpoint": {"a client that waits could have gone elsewhere", refuses(gateway.NoEndpoint), good, hello.InternalError, "no-endpoint"},
		"NoPool":     {"a router that knows nobody is the same", gateway.RouterFunc(func(hello.Target, netip.Addr) gateway.Decision { return gateway.Decision{} }), good, hello.InternalError, "no-endpoint"},
		"NobodyHome": {"all endpoints are gone", to(free(t), free(t)), good, hello.InternalError, "dial-failed"},
		"OtherName":  {"not a service's name", to(free(t)), clientHello(t, &tls.Config{ServerName: "www.example.org"}), hello.UnrecognizedName, "not-understood"},
		"NoName":     {"it could be for anybody", to(free(t)), clientHello(t, &tls.Config{InsecureSkipVerify: true}), hello.UnrecognizedName, "not-understood"},
		"HTTP":       {"it would not understand an alert", to(free(t)), []byte("GET / HTTP/1.1\r\n\r\n"), 0, "not-understood"},
		"Malformed":  {"a message that ends too early", to(free(t)), []byte{22, 3, 1, 0, 8, 1, 0, 0, 4, 3, 3, 0, 0}, hello.DecodeError, "not-understood"},
		"MoreToSay":  {"what a refused client sends does not take its alert away", refuses(gateway.UnknownService), append(slices.Clone(good), make([]byte, 3000)...), hello.UnrecognizedName, "unknown-service"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, gateway.Options{Router: test.router})
			c := r.raw()
			if _, err := c.Write(test.sends); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			var want []byte
			if test.alert != 0 {
				record := test.alert.Record()
				want = record[:]
			}
			if !bytes.Equal(got, want) || err != nil && test.alert != 0 {
				t.Errorf("%s: got %x, %v; want %x", test.reason, got, err, want)
			}
			_ = c.Close()
			if n := r.metric("hansa_gateway_refused_total", test.metric); n != 1 {
				t.Errorf("%s: %v were refused as %s, want 1", test.reason, n, test.metric)
			}
			until(t, "the connection is gone", func() bool { return r.metric("hansa_gateway_connections") == 0 })
		})
	}
}

func TestGoClientsUnderstandRefusals(t *testing.T) {
	r := serve(t, gateway.Options{Router: refuses(gateway.UnknownService)})
	_, _, err := r.dial(web, 1)
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("the client sees %v, want that the name is not recognized", err)
	}
}

func TestOtherEndpointsAreTried(t *testing.T) {
	alive := echo(t, "b")
	r := serve(t, gateway.Options{Router: to(free(t), free(t), alive)})
	for range 12 {
		c, name, err := r.dial(web, 1)
		if err != nil || name != "b" {
			t.Fatalf("got %q, %v; want the endpoint that lives", name, err)
		}
		says(t, c, []byte("hello"))
	}
	if n := r.metric("hansa_gateway_service_dial_failures_total"); n == 0 {
		t.Error("no failures were counted")
	}
}

// silent is an address that takes no connection and does not say so.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	for range 4 { // its queue is full then
		conn, err := net.DialTimeout("tcp", addr.String(), 100*time.Millisecond)
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	return addr
}

func TestSilentEndpoints(t *testing.T) {
	hole, alive := silent(t), echo(t, "b")
	r := serve(t, gateway.Options{Router: to(hole, alive), DialTimeout: 50 * time.Millisecond})
	for range 6 {
		c, name, err := r.dial(web, 1)
		if err != nil || name != "b" {
			t.Fatalf("got %q, %v; want the endpoint that lives", name, err)
		}
		_ = c.Close()
	}
	alone := serve(t, gateway.Options{Router: to(hole), DialTimeout: 50 * time.Millisecond})
	if _, _, err := alone.dial(web, 1); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("the client sees %v, want an alert", err)
	}
}

func TestClientsThatLeaveWhileDialing(t *testing.T) {
	r := serve(t, gateway.Options{Router: to(silent(t)), DialTimeout: time.Minute})
	c := r.raw()
	if _, err := c.Write(clientHello(t, &tls.Config{ServerName: web})); err != nil {
		t.Fatal(err)
	}
	until(t, "the gateway knows where it goes", func() bool { return r.metric("hansa_gateway_connections") == 1 })
	_ = c.SetLinger(0)
	_ = c.Close()
	until(t, "the connection is gone", func() bool { return r.metric("hansa_gateway_connections") == 0 })
	if n := r.metric("hansa_gateway_refused_total", "gone"); n != 1 {
		t.Errorf("%v have left, want 1", n)
	}
}

func TestSlowHello(t *testing.T) {
	r := serve(t, gateway.Options{Router: to(echo(t, "a")), HelloTimeout: 100 * time.Millisecond})
	for name, begin := range map[string][]byte{"Nothing": nil, "Half": clientHello(t, &tls.Config{ServerName: web})[:100]} {
		c := r.raw()
		if _, err := c.Write(begin); err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(c); len(b) > 0 {
			t.Errorf("%s: got %x", name, b)
		}
	}
	if n := r.metric("hansa_gateway_refused_total", "too-slow"); n != 2 {
		t.Errorf("%v were too slow, want 2", n)
	}
}

func TestLimits(t *testing.T) {
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	here := []netip.Prefix{elsewhere[0], netip.MustParsePrefix("127.0.0.0/8")}
	for name, test := range map[string]struct {
		reason string
		limit  gateway.Options
		served int // of 3
		metric string
	}{
		"Total":   {"two at a time", gateway.Options{Connections: 2}, 2, "too-many"},
		"Source":  {"one of each", gateway.Options{PerSource: 1}, 1, "too-many-of-source"},
		"Ranges":  {"others only", gateway.Options{Sources: elsewhere}, 0, "source-range"},
		"InRange": {"one's own range", gateway.Options{Sources: here}, 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := test.limit
			o.Router = to(echo(t, "a"))
			r := serve(t, o)
			var open []*tls.Conn
			for range 3 {
				if c, _, err := r.dial(web, 1); err == nil {
					open = append(open, c)
				}
			}
			if len(open) != test.served {
				t.Errorf("%s: %d were served, want %d", test.reason, len(open), test.served)
			}
			if n := r.metric("hansa_gateway_refused_total"); n != float64(3-test.served) || test.metric != "" && r.metric("hansa_gateway_refused_total", test.metric) != n {
				t.Errorf("%s: %v were refused, want %d as %s", test.reason, n, 3-test.served, test.metric)
			}
			for _, c := range open {
				_ = c.Close()
			}
			until(t, "all have left", func() bool { return r.metric("hansa_gateway_connections") == 0 })
			if _, _, err := r.dial(web, 1); (err == nil) != (test.served > 0) {
				t.Errorf("%s: after the others left: %v", test.reason, err)
			}
		})
	}
}

func TestProxyProtocol(t *testing.T) {
	got := make(chan []byte, 1)
	pool := gateway.NewPool([]netip.AddrPort{pod(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		got <- b
	})}, nil)
	r := serve(t, gateway.Options{Router: gateway.RouterFunc(func(hello.Target, netip.Addr) gateway.Decision {
		return gateway.Decision{Pool: pool, Port: 443, Proxy: true}
	})})
	c, first := r.raw(), clientHello(t, &tls.Config{ServerName: web})
	if _, err := c.Write(first); err != nil {
		t.Fatal(err)
	}
	_ = c.CloseWrite()
	from, to := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	want := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01")
	want = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(want, from.Port()), to.Port())
	if b := <-got; !bytes.Equal(b, append(want, first...)) {
		t.Errorf("the endpoint got %q, want %q first", b[:min(len(b), len(want))], want)
	}
	until(t, "the connection is counted", func() bool { return r.metric("hansa_gateway_service_ended_total") == 1 })
	if up := r.metric("hansa_gateway_service_bytes_total", "up"); up != float64(len(first)) {
		t.Errorf("%v octets up were counted, want those of the client, %d", up, len(first))
	}
}

func TestDrain(t *testing.T) {
	r := serve(t, gateway.Options{Router: to(echo(t, "a")), DrainTimeout: patience})
	c, _, err := r.dial(web, 1)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	until(t, "nobody new is served", func() bool {
		conn, err := net.Dial("tcp", r.addr) //nolint:noctx // a test's
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	says(t, c, make([]byte, 1<<20)) // who is there goes on
	_ = c.Close()
	began := time.Now()
	r.end()
	if took := time.Since(began); took > patience/2 {
		t.Errorf("the gateway ended %s after the last connection", took)
	}
}

func TestDrainHasAnEnd(t *testing.T) {
	r := serve(t, gateway.Options{Router: to(echo(t, "a")), DrainTimeout: 20 * time.Millisecond})
	c, _, err := r.dial(web, 1)
	if err != nil {
		t.Fatal(err)
	}
	waits := r.raw() // and never says anything
	r.end()
	for _, conn := range []net.Conn{c, waits} {
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection that was cut off sees %v", err)
		}
	}
}

// descriptors is how many this process has.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestNothingIsLeft holds that a connection at rest has two descriptors, and that none is left when all is over, however
// connections end.
func TestNothingIsLeft(t *testing.T) {
	const n = 60
	endpoint, closed := echo(t, "a"), free(t)
	before := descriptors(t)
	r := serve(t, gateway.Options{Router: to(endpoint, closed)})
	idle := descriptors(t)
	var open []*tls.Conn
	for range n {
		c, _, err := r.dial(web, 1)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if got := descriptors(t) - idle; got > 4*n+12 { // two are the client's and the endpoint's; loops and their like come late
		t.Errorf("%d connections have %d descriptors, want four each", n, got)
	}
	var all sync.WaitGroup
	for i, c := range open {
		all.Go(func() {
			switch i % 3 {
			case 0:
				says(t, c, make([]byte, 300_000))
			case 1:
				_ = c.NetConn().(*net.TCPConn).SetLinger(0)
			}
			_ = c.NetConn().Close()
		})
	}
	all.Wait()
	until(t, "all connections are gone", func() bool { return r.metric("hansa_gateway_connections") == 0 })
	if open := r.metric("hansa_gateway_service_connections"); open != 0 {
		t.Errorf("%v connections to the service are counted as open", open)
	}
	r.end()
	until(t, "all descriptors are closed", func() bool { return descriptors(t) <= before+3 })
}
