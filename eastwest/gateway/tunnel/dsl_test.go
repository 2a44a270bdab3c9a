package tunnel_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// patience is after which a test that waits has failed.
const patience = 20 * time.Second

var (
	domain = identity.DefaultTrustDomain()
	web    = clusterset.Key{Namespace: "shop", Name: "web"}
	ask    = tunnel.Request{Service: web, Port: 80}
)

// pki is an authority, and what gateways get from it.
type pki struct {
	tb        testing.TB
	authority *identity.Authority
	roots     *x509.CertPool
}

func newPKI(tb testing.TB) *pki {
	tb.Helper()
	authority, err := identity.NewAuthority(domain, time.Now)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.BundlePEM())
	return &pki{tb, authority, roots}
}

// config returns the configuration of somebody, as a server and as a client.
func (p *pki) config(who identity.ID) *tls.Config {
	p.tb.Helper()
	id, err := who.SPIFFE()
	if err != nil {
		p.tb.Fatal(err)
	}
	certPEM, keyPEM, err := p.authority.Issue(id, nil, nil, 0)
	if err != nil {
		p.tb.Fatal(err)
	}
	own, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		p.tb.Fatal(err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own},
		ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: p.roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
	}
}

func (p *pki) gateway(cluster string) *tls.Config {
	p.tb.Helper()
	return p.config(identity.ClusterID(domain, cluster, identity.RoleGateway))
}

func identify(s *tls.ConnectionState) (identity.ID, time.Time, error) {
	if len(s.PeerCertificates) == 0 {
		return identity.ID{}, time.Time{}, errors.New("no certificate")
	}
	id, err := x509svid.IDFromCert(s.PeerCertificates[0])
	if err != nil {
		return identity.ID{}, time.Time{}, err
	}
	who, err := identity.Parse(id)
	return who, s.PeerCertificates[0].NotBefore, err
}

// site is a server that runs until the test ends.
type site struct {
	tb     testing.TB
	pki    *pki
	server *tunnel.Server
	peer   tunnel.Peer
	stop   context.CancelFunc
	end    func() // stops it and waits
}

// serve starts the gateway of cluster m2.
func serve(tb testing.TB, p *pki, h tunnel.HandlerFunc, change func(*tunnel.ServerOptions)) *site {
	tb.Helper()
	o := tunnel.ServerOptions{TLS: p.gateway("m2"), Identify: identify, Handler: h, DrainTimeout: time.Millisecond}
	o.Log, o.Dead = logTo(tb), patience // a busy machine is no fault
	if change != nil {
		change(&o)
	}
	if o.Listener == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		o.Listener = l
	}
	s, err := tunnel.NewServer(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &site{tb: tb, pki: p, server: s, stop: cancel}
	if at, err := netip.ParseAddrPort(s.Addr().String()); err == nil {
		r.peer = tunnel.Peer{Cluster: "m2", Addr: at}
	}
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(r.end)
	return r
}

// dial starts the gateway of cluster m1, with tunnels to s.
func (s *site) dial(change func(*tunnel.Options)) *tunnel.Dialer {
	s.tb.Helper()
	config := s.pki.gateway("m1")
	o := tunnel.Options{TLS: func(string) *tls.Config { return config }, Identify: identify, Tunnels: 1, Log: logTo(s.tb), Dead: patience}
	if change != nil {
		change(&o)
	}
	d, err := tunnel.NewDialer(o)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(d.Close)
	d.SetPeers([]tunnel.Peer{s.peer})
	return d
}

// logTo logs to what a failed test prints.
func logTo(tb testing.TB) logr.Logger {
	tb.Helper()
	return testr.NewWithInterface(tb, testr.Options{LogTimestamp: true, Verbosity: 1})
}

// open opens a stream that must be accepted.
func (s *site) open(d *tunnel.Dialer, r tunnel.Request) tunnel.Stream {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := d.Open(ctx, s.peer, r)
	if err != nil {
		s.tb.Fatal(err)
	}
	if err := stream.SetDeadline(time.Now().Add(patience)); err != nil {
		s.tb.Fatal(err)
	}
	return stream
}

// accepting serves streams that it accepts.
func accepting(f func(tunnel.Stream)) tunnel.HandlerFunc {
	return func(_ context.Context, _ identity.ID, _ time.Time, _ tunnel.Request, in tunnel.Incoming) {
		s, err := in.Accept()
		if err != nil {
			return
		}
		f(s)
	}
}

// echo sends everything back, and ends when the other side does.
func echo(s tunnel.Stream) {
	if _, err := io.Copy(s, s); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.CloseWrite()
}

// metric returns the sum of a metric over what has the given label values, in any order.
func metric(tb testing.TB, of prometheus.Collector, name string, labels ...string) float64 {
	tb.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(of)
	families, err := registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			has := map[string]bool{}
			for _, l := range m.GetLabel() {
				has[l.GetValue()] = true
			}
			fits := f.GetName() == name
			for _, l := range labels {
				fits = fits && has[l]
			}
			if fits {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// until waits for a condition.
func until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	deadline, tick := time.After(patience), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			tb.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// readAll reads to the end, and tells how it ended.
func readAll(s io.Reader) (string, error) {
	all, err := io.ReadAll(s)
	return string(all), err
}
