package dns_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	miekg "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const patience = 20 * time.Second

// shop is a table with one service, which has an address in each of two clusters, and a gateway in one of them.
func shop() *clusterset.Snapshot {
	b := clusterset.NewBuilder(1 << 40)
	web := clusterset.Key{Namespace: "shop", Name: "web"}
	b.SetCluster(clusterset.Cluster{ID: "m1", Network: "flat", Gateways: []clusterset.Gateway{{Addr: netip.MustParseAddr("192.0.2.1"), Port: 15443}}})
	b.SetCluster(clusterset.Cluster{ID: "m2", Network: "flat"})
	b.SetExport("m1", web, clusterset.Export{Properties: &clusterset.Properties{Ports: []clusterset.Port{{Name: "http", Port: 80}}}})
	b.SetEndpoints("m1", web, clusterset.Endpoints{Groups: []clusterset.Group{{
		Ports:     []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: 8080}},
		Endpoints: []clusterset.Endpoint{{Addr: netip.MustParseAddr("10.1.0.1"), Conditions: clusterset.Ready | clusterset.Serving}},
	}}})
	b.SetImport("m1", web, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.9")}})
	b.SetImport("m2", web, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.97.0.9")}})
	return b.Publish()
}

// run runs a server of some snapshots.
func run(t *testing.T, snapshots dns.Snapshots, line string) *dns.Server {
	t.Helper()
	s, err := dns.New(dns.Options{Flags: parse(t, "", "--addr 127.0.0.1:0 "+line), Snapshots: snapshots, Log: logr.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s.Check(nil) == nil {
			t.Error("it is ready after its end")
		}
	})
	return s
}

// ask asks for A records, from an address of this machine.
func ask(t *testing.T, s *dns.Server, network, from, name string, over *tls.Config) string {
	t.Helper()
	query := new(miekg.Msg)
	query.SetQuestion(name, miekg.TypeA)
	transport := listen.UDP
	if over != nil {
		transport = listen.TLS
	}
	client := &miekg.Client{Net: network, Timeout: patience, TLSConfig: over}
	if from != "" {
		client.Dialer = dialFrom(from)
	}
	response, _, err := client.ExchangeContext(t.Context(), query, s.Addrs(transport)[0].String())
	if err != nil {
		t.Fatal(err)
	}
	words := []string{miekg.RcodeToString[response.Rcode]}
	for _, rr := range response.Answer {
		words = append(words, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(words, " ")
}

// dialFrom returns a dialer that binds an address.
func dialFrom(addr string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(addr)}, Timeout: patience}
}

// TestAskers holds that flags say who is answered how.
func TestAskers(t *testing.T) {
	s := run(t, clusterset.NewLatest(shop()), "--cluster m1 --source 127.0.0.2=m2 --region 127.0.0.3=eu --external-zone global.example.org --per-cluster-zone clusters.example.org --kubefed-zone fed=example.com")
	for _, c := range []struct{ reason, from, name, want string }{
		{"the default is in m1", "127.0.0.1", "web.shop.svc.clusterset.local.", "NOERROR 10.96.0.9"},
		{"the source is in m2", "127.0.0.2", "web.shop.svc.clusterset.local.", "NOERROR 10.97.0.9"},
		{"who is in a region is in no cluster", "127.0.0.3", "web.shop.svc.clusterset.local.", "NOERROR"},
		{"and gets gateways", "127.0.0.3", "web.shop.global.example.org.", "NOERROR 192.0.2.1"},
		{"a zone of clusters", "127.0.0.1", "web.shop.m1.clusters.example.org.", "NOERROR 10.1.0.1"},
		{"KubeFed's names", "127.0.0.1", "web.shop.fed.svc.example.com.", "NOERROR 192.0.2.1"},
		{"other zones", "127.0.0.1", "example.net.", "REFUSED"},
	} {
		if got := ask(t, s, "udp", c.from, c.name, nil); got != c.want {
			t.Errorf("%s: %s is %q, want %q", c.reason, c.name, got, c.want)
		}
	}
	if err := s.Check(nil); err != nil {
		t.Errorf("it is not ready: %v", err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.Collectors()...)
	if families, err := registry.Gather(); err != nil || len(families) < 10 {
		t.Errorf("the metrics are %v, %v", families, err)
	}
}

// TestNotReady holds that a server without a snapshot is not ready, and becomes it.
func TestNotReady(t *testing.T) {
	latest := clusterset.NewLatest(&clusterset.Snapshot{})
	s := run(t, latest, "--cluster m1")
	if got := ask(t, s, "tcp", "", "web.shop.svc.clusterset.local.", nil); got != "SERVFAIL" {
		t.Errorf("without a snapshot it says %q", got)
	}
	if err := s.Check(nil); err == nil || !strings.Contains(err.Error(), "no names are known yet") {
		t.Errorf("without a snapshot its check says %v", err)
	}
	latest.Publish(shop())
	eventually(t, func() bool { return s.Check(nil) == nil })
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not come to that")
		}
	}
}

// issue writes a certificate for 127.0.0.1 and returns those whom it is trusted by.
func issue(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	authority, err := identity.NewAuthority(identity.DefaultTrustDomain(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.HubID(identity.DefaultTrustDomain()).SPIFFE()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := authority.Issue(id, []string{"dns.example.org"}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(certFile, certPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyFile, keyPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.BundlePEM())
	return roots
}

// TestCertificate asks over TLS and HTTPS, and changes the certificate while the server runs.
func TestCertificate(t *testing.T) {
	certFile, keyFile := write(t, "tls.crt", ""), write(t, "tls.key", "")
	first := issue(t, certFile, keyFile)
	s := run(t, clusterset.NewLatest(shop()), fmt.Sprintf("--cluster m1 --tls-addr 127.0.0.1:0 --https-addr 127.0.0.1:0 --tls-cert-file %s --tls-key-file %s", certFile, keyFile))
	trusting := func(roots *x509.CertPool) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: "dns.example.org", MinVersion: tls.VersionTLS12}
	}
	if got := ask(t, s, "tcp-tls", "", "web.shop.svc.clusterset.local.", trusting(first)); got != "NOERROR 10.96.0.9" {
		t.Errorf("over TLS: %q", got)
	}
	if got := askHTTPS(t, s, trusting(first)); got != "NOERROR 1" {
		t.Errorf("over HTTPS: %q", got)
	}

	// What is no certificate changes nothing; a new one is taken, without a connection that fails.
	if err := os.WriteFile(keyFile, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, s, "tcp-tls", "", "web.shop.svc.clusterset.local.", trusting(first)); got != "NOERROR 10.96.0.9" {
		t.Errorf("over TLS, with a broken key: %q", got)
	}
	second := issue(t, certFile, keyFile)
	eventually(t, func() bool {
		connection, err := tls.Dial("tcp", s.Addrs(listen.TLS)[0].String(), trusting(second))
		if err != nil {
			return false
		}
		return connection.Close() == nil
	})
}

// askHTTPS asks as RFC 8484 says, and returns the code and the number of records.
func askHTTPS(t *testing.T, s *dns.Server, config *tls.Config) string {
	t.Helper()
	query := new(miekg.Msg)
	query.SetQuestion("web.shop.svc.clusterset.local.", miekg.TypeA)
	packed, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+s.Addrs(listen.HTTPS)[0].String()+"/dns-query", strings.NewReader(string(packed)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/dns-message")
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer := new(miekg.Msg)
	if err := answer.Unpack(body); err != nil {
		t.Fatalf("%s: %v", response.Status, err)
	}
	return fmt.Sprintf("%s %d", miekg.RcodeToString[answer.Rcode], len(answer.Answer))
}

// TestTapStaysHere holds that queries are shown to nobody elsewhere.
func TestTapStaysHere(t *testing.T) {
	s := run(t, clusterset.NewLatest(shop()), "--cluster m1")
	for peer, want := range map[string]int{
		"192.0.2.1:999": http.StatusForbidden, "[2001:db8::1]:999": http.StatusForbidden, "@": http.StatusForbidden,
		"127.0.0.1:999": http.StatusOK, "[::1]:999": http.StatusOK, "[::ffff:127.0.0.1]:999": http.StatusOK,
	} {
		over, cancel := context.WithCancel(t.Context())
		cancel() // a look is enough
		request := httptest.NewRequestWithContext(over, http.MethodGet, dns.TapPath, nil)
		request.RemoteAddr = peer
		recorder := httptest.NewRecorder()
		s.Tap().ServeHTTP(recorder, request)
		if recorder.Code != want {
			t.Errorf("from %s: %d, want %d", peer, recorder.Code, want)
		}
	}
}

// TestSigned holds that answers are signed with the key of the flag, and that the key is told.
func TestSigned(t *testing.T) {
	s := run(t, clusterset.NewLatest(shop()), "--cluster m1 --dnssec-key-file "+signingKey(t))
	query := new(miekg.Msg)
	query.SetQuestion("clusterset.local.", miekg.TypeDNSKEY)
	query.SetEdns0(1232, true)
	response, _, err := (&miekg.Client{Timeout: patience}).ExchangeContext(t.Context(), query, s.Addrs(listen.UDP)[0].String())
	if err != nil {
		t.Fatal(err)
	}
	if len(response.Answer) != 2 {
		t.Errorf("the key and its signature are %v", response.Answer)
	}
}

// TestSecondary copies a zone with a key of the file.
func TestSecondary(t *testing.T) {
	s := run(t, clusterset.NewLatest(shop()), "--cluster m1 --secondary second --tsig-file "+write(t, "keys", keys))
	query := new(miekg.Msg)
	query.SetAxfr("clusterset.local.")
	query.SetTsig("second.", miekg.HmacSHA256, 300, time.Now().Unix())
	transfer := &miekg.Transfer{TsigSecret: map[string]string{"second.": "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"}}
	envelopes, err := transfer.In(query, s.Addrs(listen.UDP)[0].String())
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for envelope := range envelopes {
		if envelope.Error != nil {
			t.Fatal(envelope.Error)
		}
		records += len(envelope.RR)
	}
	if records < 5 {
		t.Errorf("the zone has %d records", records)
	}
}

// TestTapEnds holds that nobody who looks at queries keeps a web server from stopping.
func TestTapEnds(t *testing.T) {
	s, err := dns.New(dns.Options{Flags: parse(t, "", "--addr 127.0.0.1:0"), Snapshots: clusterset.NewLatest(shop()), Log: logr.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Tap())
	defer web.Close() // waits for requests
	watched := make(chan error, 1)
	go func() {
		watched <- dns.Watch(t.Context(), strings.TrimPrefix(web.URL, "http://"), 1, "", func(dns.Query) error { return nil })
	}()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(over); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-watched:
		if err == nil || !strings.Contains(err.Error(), "has ended") {
			t.Errorf("who looked is told %v", err)
		}
	case <-time.After(patience):
		t.Error("whoever looks goes on looking")
	}
}
