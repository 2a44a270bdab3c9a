package ads_test

import (
	"crypto/tls"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

// TestRefusedConnectionsAreTold holds that who runs a hub sees who does not get in, and why; but not everybody who looks
// whether the port is open.
func TestRefusedConnectionsAreTold(t *testing.T) {
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	lines := make(chan string, 10)
	server := ads.New(ads.Config{
		Source:      newWorld(t),
		Credentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: web.TLS.Certificates, ClientAuth: tls.RequireAnyClientCert}),
		Log:         funcr.New(func(_, args string) { lines <- args }, funcr.Options{}),
	})
	defer server.Close()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(server.Collectors()...)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	for _, send := range []string{"", "GET / HTTP/1.1\r\n\r\n"} {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(send)); err != nil {
			t.Fatal(err)
		}
		if send == "" {
			_ = conn.Close()
			continue
		}
		defer func() { _ = conn.Close() }()
	}
	select {
	case line := <-lines:
		if !strings.Contains(line, "A connection was refused") || !strings.Contains(line, "127.0.0.1:") || !strings.Contains(line, "TLS handshake") {
			t.Errorf("logged %s", line)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody is told that a client without TLS came")
	}
	if got := metric(t, registry, "hansa_xds_refused_streams_total reason=tls"); got != 1 {
		t.Errorf("%v connections are counted as refused, want 1", got)
	}
}
