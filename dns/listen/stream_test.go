package listen_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/dns/listen"
)

// loopback are options for TCP on a free port, with one engine beside it.
func loopback() listen.Options {
	return listen.Options{UDP: []string{"127.0.0.1:0"}, Engines: 1}
}

// mirror answers a query with itself.
func mirror(dst, query []byte, _ listen.Source) []byte { return append(dst, query...) }

func TestPipelining(t *testing.T) {
	s, _ := start(t, loopback(), listen.HandlerFunc(mirror))
	var queries []string
	for i := range 300 {
		queries = append(queries, fmt.Sprintf("query %d", i))
	}
	large := strings.Repeat("l", 1<<16-1)
	for name, test := range map[string]struct {
		reason  string
		queries []string
		piece   int // octets that are sent at once; 0: all
	}{
		"Many":       {"all are answered, in order", queries, 0},
		"Pieces":     {"wherever the pieces of a stream begin", queries[:20], 1},
		"OddPieces":  {"also within the length", queries[:100], 7},
		"Large":      {"the largest message, among others", []string{"a", large, "b", large, large, "c"}, 0},
		"LargeParts": {"in parts", []string{"a", large, "b"}, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, "tcp", s.Addrs(listen.TCP)[0])
			var all []byte
			for _, q := range test.queries {
				all = append(all, frame(q)...)
			}
			var writer sync.WaitGroup
			writer.Go(func() {
				piece := test.piece
				if piece == 0 {
					piece = len(all)
				}
				for part := range len(all)/piece + 1 {
					if _, err := conn.Write(all[min(part*piece, len(all)):min((part+1)*piece, len(all))]); err != nil {
						t.Error(err)
					}
				}
			})
			for _, want := range test.queries {
				if got := receive(t, conn); got != want {
					t.Fatalf("%s: got %d octets %.20q, want %d octets %.20q", test.reason, len(got), got, len(want), want)
				}
			}
			writer.Wait()
		})
	}
}

// TestPartialQueryDoesNotHoldBackAnswers sends one and a half queries: the first is answered before the rest arrives.
func TestPartialQueryDoesNotHoldBackAnswers(t *testing.T) {
	s, _ := start(t, loopback(), listen.HandlerFunc(mirror))
	conn := dial(t, "tcp", s.Addrs(listen.TCP)[0])
	second := frame("second")
	if _, err := conn.Write(append(frame("first"), second[:4]...)); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, conn); got != "first" {
		t.Errorf("got %q", got)
	}
	if _, err := conn.Write(second[4:]); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, conn); got != "second" {
		t.Errorf("got %q", got)
	}
}

func TestSlowPeers(t *testing.T) {
	flood := listen.HandlerFunc(func(dst, _ []byte, _ listen.Source) []byte { return append(dst, make([]byte, 60_000)...) })
	for name, test := range map[string]struct {
		reason  string
		options listen.Options
		send    func(conn net.Conn, tick <-chan time.Time) error // until it fails
		want    listen.StreamStats
	}{
		"OneOctetATime": {
			"a query has to arrive as a whole in time, however often a part of it comes",
			listen.Options{ReadTimeout: 100 * time.Millisecond},
			func(conn net.Conn, tick <-chan time.Time) error {
				query := frame(strings.Repeat("x", 60_000))
				for i := range query {
					if _, err := conn.Write(query[i : i+1]); err != nil {
						return err
					}
					<-tick
				}
				return nil
			},
			listen.StreamStats{Accepted: 1, TimedOut: 1},
		},
		"NeverReads": {
			"a response has to be taken in time",
			listen.Options{WriteTimeout: 100 * time.Millisecond},
			func(conn net.Conn, _ <-chan time.Time) error {
				for {
					if _, err := conn.Write(frame("more")); err != nil {
						return err
					}
				}
			},
			listen.StreamStats{Accepted: 1, TimedOut: 1},
		},
		"Idle": {
			"a connection that asks nothing is closed, and that is nobody's fault",
			listen.Options{IdleTimeout: 50 * time.Millisecond},
			func(conn net.Conn, _ <-chan time.Time) error {
				_, err := conn.Read(make([]byte, 1))
				return err
			},
			listen.StreamStats{Accepted: 1},
		},
		"Empty": {
			"a message of no octets is no message",
			listen.Options{},
			func(conn net.Conn, _ <-chan time.Time) error {
				if _, err := conn.Write([]byte{0, 0}); err != nil {
					return err
				}
				_, err := conn.Read(make([]byte, 1))
				return err
			},
			listen.StreamStats{Accepted: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.UDP, test.options.Engines = []string{"127.0.0.1:0"}, 1
			s, _ := start(t, test.options, flood)
			ticker := time.NewTicker(5 * time.Millisecond)
			defer ticker.Stop()
			if err := test.send(dial(t, "tcp", s.Addrs(listen.TCP)[0]), ticker.C); err == nil {
				t.Errorf("%s: the connection stays", test.reason)
			}
			eventually(t, test.reason, func() bool {
				got := s.Stats().Streams[listen.TCP]
				got.Queries = 0
				return got == test.want
			})
		})
	}
}

func TestLimits(t *testing.T) {
	for name, test := range map[string]struct {
		reason             string
		limit, perPeer     int
		peers              []string // one connection each; all but the last get an answer first
		busy               bool     // those wait for an answer
		evicted, refused   uint64
		gone               int // which connection is closed
		stillThereAfterAll []int
	}{
		"Room":         {"within the limits nobody goes", 3, 3, []string{"127.0.0.1", "127.0.0.1", "127.0.0.1"}, false, 0, 0, -1, []int{0, 1, 2}},
		"InAll":        {"who was idle for longest makes room", 2, 9, []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}, false, 1, 0, 0, []int{1, 2}},
		"OfOnePeer":    {"a peer makes room for itself", 9, 2, []string{"127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.2"}, false, 1, 0, 1, []int{0, 2, 3}},
		"AllBusy":      {"who is being answered stays, and the new one goes", 2, 9, []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}, true, 0, 1, 2, nil},
		"OnePeersBusy": {"also of one peer", 9, 1, []string{"127.0.0.1", "127.0.0.2", "127.0.0.2"}, true, 0, 1, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := &modes{hold: make(chan struct{})}
			s, _ := start(t, listen.Options{UDP: []string{"127.0.0.1:0"}, Engines: 1, Connections: test.limit, PerPeer: test.perPeer}, h)
			var conns []net.Conn
			for i, peer := range test.peers {
				dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(peer)}, Deadline: time.Now().Add(patience)}
				conn, err := dialer.Dial("tcp", s.Addrs(listen.TCP)[0].String())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				conns = append(conns, conn)
				if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				if i == len(test.peers)-1 {
					break
				}
				if test.busy {
					send(t, conn, "wait")
					eventually(t, "it waits", func() bool { return int(h.waiting.Load()) == i+1 })
					continue
				}
				send(t, conn, "hello")
				receive(t, conn)
				eventually(t, "it is idle", func() bool { return listen.Idle(s) == i+1 })
			}
			if test.gone >= 0 {
				closed(t, conns[test.gone])
			}
			close(h.hold)
			for _, i := range test.stillThereAfterAll {
				send(t, conns[i], "still there")
				if got := receive(t, conns[i]); got != "still there" {
					t.Errorf("%s: connection %d got %q", test.reason, i, got)
				}
			}
			if got := s.Stats().Streams[listen.TCP]; got.Evicted != test.evicted || got.Refused != test.refused {
				t.Errorf("%s: %+v", test.reason, got)
			}
		})
	}
}

func TestIPv6PeersAreNetworks(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7":         "192.0.2.7",
		"2001:db8:1:2:3::4": "2001:db8:1:2::",
		"2001:db8:1:2:9::1": "2001:db8:1:2::",
	} {
		if got := listen.Who(netip.MustParseAddr(addr)); got != netip.MustParseAddr(want) {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
}

func TestStreamer(t *testing.T) {
	s, _ := start(t, loopback(), &modes{})
	conn := dial(t, "tcp", s.Addrs(listen.TCP)[0])
	send(t, conn, "before", "stream", "after")
	for _, want := range []string{"before", "0stream", "1stream", "2stream", "after"} {
		if got := receive(t, conn); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestShutdown(t *testing.T) {
	h := &modes{hold: make(chan struct{})}
	s, stop := start(t, loopback(), h)
	idle, busy, udp := dial(t, "tcp", s.Addrs(listen.TCP)[0]), dial(t, "tcp", s.Addrs(listen.TCP)[0]), dial(t, "udp", s.Addrs(listen.UDP)[0])
	send(t, idle, "hello")
	receive(t, idle)
	send(t, busy, "wait")
	if _, err := udp.Write([]byte("wait")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two queries wait", func() bool { return h.waiting.Load() == 2 })
	done := make(chan error, 1)
	go func() { done <- stop() }()
	if rest := closed(t, idle); rest != "" {
		t.Errorf("an idle connection got %q in the end", rest)
	}
	close(h.hold)
	if got := receive(t, busy); got != "waited: wait" {
		t.Errorf("a query that was under way got %q", got)
	}
	if rest := closed(t, busy); rest != "" {
		t.Errorf("after the answer came %q", rest)
	}
	buffer := make([]byte, 64)
	if n, err := udp.Read(buffer); err != nil || string(buffer[:n]) != "waited: wait" {
		t.Errorf("over UDP a query that was under way got %q, %v", buffer[:n], err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", s.Addrs(listen.TCP)[0].String()); err == nil {
		_ = conn.Close()
		t.Error("the port is still open")
	}
	if got := s.Stats(); got.Streams[listen.TCP].Open != 0 || got.Packets != 1 {
		t.Errorf("after the end: %+v", got)
	}
}

// TestShutdownDoesNotWaitForever has queries wait for what never comes.
func TestShutdownDoesNotWaitForever(t *testing.T) {
	h := &modes{hold: make(chan struct{})}
	o := loopback()
	o.DrainTimeout = 20 * time.Millisecond
	s, stop := start(t, o, h)
	conn, udp := dial(t, "tcp", s.Addrs(listen.TCP)[0]), dial(t, "udp", s.Addrs(listen.UDP)[0])
	send(t, conn, "wait")
	if _, err := udp.Write([]byte("wait")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two queries wait", func() bool { return h.waiting.Load() == 2 })
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestNeverStarted frees the sockets of a server that nobody needs after all.
func TestNeverStarted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s, err := listen.New(loopback(), listen.HandlerFunc(mirror))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	o := listen.Options{UDP: []string{s.Addrs(listen.UDP)[0].String()}, Engines: 2}
	start(t, o, listen.HandlerFunc(mirror))
}

// certified returns configurations for a server and for clients that trust it.
func certified(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12},
		&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

func TestTLS(t *testing.T) {
	server, client := certified(t)
	client.NextProtos, client.ServerName = []string{"dot"}, "127.0.0.1"
	s, _ := start(t, listen.Options{TLS: []string{"127.0.0.1:0"}, TLSConfig: server, ReadTimeout: 200 * time.Millisecond}, listen.HandlerFunc(echo))
	addr := s.Addrs(listen.TLS)[0]
	conn := tls.Client(dial(t, "tcp", addr), client)
	send(t, conn, "a", "b")
	for _, want := range []string{"a", "b"} {
		if got := receive(t, conn); got != "tls "+addr.String()+" "+want {
			t.Errorf("got %q", got)
		}
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != "dot" {
		t.Errorf("negotiated %q", got)
	}
	// Whoever connects and does not shake hands is sent away.
	if rest := closed(t, dial(t, "tcp", addr)); rest != "" {
		t.Errorf("without a handshake came %q", rest)
	}
	eventually(t, "it is counted", func() bool { return s.Stats().Streams[listen.TLS].TimedOut == 1 })
}

func TestHTTPS(t *testing.T) {
	server, trust := certified(t)
	h := &modes{hold: make(chan struct{})}
	close(h.hold)
	s, stop := start(t, listen.Options{HTTPS: []string{"127.0.0.1:0"}, TLSConfig: server}, h)
	base := "https://" + s.Addrs(listen.HTTPS)[0].String()
	encode := base64.RawURLEncoding.EncodeToString
	large := strings.Repeat("x", 1<<16-1)
	for _, version := range []int{1, 2} {
		transport := &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: version == 2}
		client := &http.Client{Transport: transport, Timeout: patience}
		for name, test := range map[string]struct {
			reason, method, path, media, body string
			status                            int
			want                              string
		}{
			"Get":       {"the query may stand in the address", http.MethodGet, "/dns-query?dns=" + encode([]byte("hello")), "", "", 200, "hello"},
			"Post":      {"or in the body", http.MethodPost, "/dns-query", "application/dns-message", "hello", 200, "hello"},
			"Large":     {"up to the largest message", http.MethodPost, "/dns-query", "application/dns-message", large, 200, large},
			"LargeGet":  {"with both methods", http.MethodGet, "/dns-query?dns=" + encode([]byte(large)), "", "", 200, large},
			"Wait":      {"answers may take time", http.MethodPost, "/dns-query", "application/dns-message", "wait", 200, "waited: wait"},
			"TooLarge":  {"but not beyond", http.MethodPost, "/dns-query", "application/dns-message", large + "x", 413, ""},
			"Media":     {"another type is refused (RFC 8484, section 6)", http.MethodPost, "/dns-query", "text/plain", "hello", 415, ""},
			"Method":    {"no other methods", http.MethodPut, "/dns-query", "application/dns-message", "hello", 405, ""},
			"NotBase64": {"what is no query gets no response", http.MethodGet, "/dns-query?dns=*", "", "", 400, ""},
			"Empty":     {"nothing is no query", http.MethodGet, "/dns-query", "", "", 400, ""},
			"Panic":     {"a defect costs one query", http.MethodPost, "/dns-query", "application/dns-message", "panic", 400, ""},
			"Path":      {"one path only", http.MethodGet, "/", "", "", 404, ""},
		} {
			t.Run(fmt.Sprintf("%s%d", name, version), func(t *testing.T) {
				request, err := http.NewRequestWithContext(t.Context(), test.method, base+test.path, strings.NewReader(test.body))
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", test.media)
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = response.Body.Close() }()
				body, err := io.ReadAll(response.Body)
				if err != nil {
					t.Fatal(err)
				}
				if response.StatusCode != test.status || response.ProtoMajor != version {
					t.Errorf("%s: got %s over %s, want %d", test.reason, response.Status, response.Proto, test.status)
				}
				if test.status == http.StatusOK && (string(body) != test.want || response.Header.Get("Content-Type") != "application/dns-message") {
					t.Errorf("%s: got %.40q of type %q", test.reason, body, response.Header.Get("Content-Type"))
				}
			})
		}
		defer transport.CloseIdleConnections()
	}
	// Idle connections are open now; they do not hold up the end.
	if err := stop(); err != nil {
		t.Error(err)
	}
	if got := s.Stats(); got.Streams[listen.HTTPS].Open != 0 || got.Panics != 2 {
		t.Errorf("after the end: %+v", got)
	}
}

// FuzzStream sends anything over TCP: whole messages are answered in order, and nothing else comes.
func FuzzStream(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0})
	f.Add([]byte{0, 0, 0, 1, 'a'})
	f.Add(append(frame("a"), frame("bc")...))
	f.Add(append(frame("a"), 0, 0)) // an answer is not lost because of what follows
	f.Add(append(frame(strings.Repeat("x", 2000)), 0xff, 0xff, 1))
	s, err := listen.New(loopback(), listen.HandlerFunc(mirror))
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn, err := net.Dial("tcp", s.Addrs(listen.TCP)[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			t.Fatal("no TCP")
		}
		var want []byte
		for rest := bytes.NewReader(sent); ; {
			message, err := read(rest)
			if err != nil || message == "" {
				break
			}
			want = append(want, frame(message)...)
		}
		var writer sync.WaitGroup
		writer.Go(func() {
			_, _ = conn.Write(sent)
			_ = tcp.CloseWrite()
		})
		got, err := io.ReadAll(conn)
		writer.Wait()
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
