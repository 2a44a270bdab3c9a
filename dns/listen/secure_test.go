package listen_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/dns/listen"
)

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
	s, _ := start(t, listen.Options{TLS: []string{"127.0.0.1:0"}, TLSConfig: server}, listen.HandlerFunc(echo))
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
}

// TestNoHandshake sends away who connects and says nothing.
func TestNoHandshake(t *testing.T) {
	server, _ := certified(t)
	s, _ := start(t, listen.Options{TLS: []string{"127.0.0.1:0"}, TLSConfig: server, ReadTimeout: 20 * time.Millisecond}, listen.HandlerFunc(echo))
	if rest := closed(t, dial(t, "tcp", s.Addrs(listen.TLS)[0])); rest != "" {
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

// TestTLSSessionsGoOn connects twice: the second time there is no need for certificates (RFC 7858, 3.4).
func TestTLSSessionsGoOn(t *testing.T) {
	server, client := certified(t)
	client.ServerName, client.ClientSessionCache = "127.0.0.1", tls.NewLRUClientSessionCache(1)
	s, _ := start(t, listen.Options{TLS: []string{"127.0.0.1:0"}, TLSConfig: server}, listen.HandlerFunc(echo))
	for _, resumed := range []bool{false, true} {
		conn := tls.Client(dial(t, "tcp", s.Addrs(listen.TLS)[0]), client)
		send(t, conn, "a")
		receive(t, conn) // and with it the ticket
		if got := conn.ConnectionState().DidResume; got != resumed {
			t.Errorf("the session was there before: %t, want %t", got, resumed)
		}
	}
}
