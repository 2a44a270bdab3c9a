package gateway_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/gateway"
	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
)

// patience is after which a test that waits has failed.
const patience = 20 * time.Second

// web is the service of most tests.
const web = "web.shop.svc.clusterset.local"

// running is a gateway that serves until the test ends.
type running struct {
	t      *testing.T
	server *gateway.Server
	addr   string
	stop   context.CancelFunc
	end    func() // stops it and waits
}

func serve(t *testing.T, o gateway.Options) *running {
	t.Helper()
	o.Addresses = []string{"127.0.0.1:0"}
	if o.Loops == 0 {
		o.Loops = 2
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = time.Millisecond
	}
	s, err := gateway.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &running{t: t, server: s, addr: s.Addrs()[0].String(), stop: cancel}
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.end)
	return r
}

// metric returns the sum of a metric over what has the given label values, in any order.
func (r *running) metric(name string, labels ...string) float64 {
	r.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.server)
	families, err := registry.Gather()
	if err != nil {
		r.t.Fatal(err)
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
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// to routes everything to the given endpoints.
func to(addrs ...netip.AddrPort) gateway.Router {
	pool := gateway.NewPool(addrs, nil)
	return gateway.RouterFunc(func(hello.Target, netip.Addr) gateway.Decision {
		return gateway.Decision{Pool: pool, Port: 443}
	})
}

// refuses turns everybody away.
func refuses(why gateway.Refusal) gateway.Router {
	return gateway.RouterFunc(func(hello.Target, netip.Addr) gateway.Decision { return gateway.Decision{Refusal: why} })
}

// certificate is one that nobody checks.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{web}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// pod accepts connections and has each handled in a goroutine.
func pod(t *testing.T, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				handle(conn.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// echo is a pod that speaks TLS and says everything again, its own name first.
func echo(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"echo"}}
	return pod(t, func(conn *net.TCPConn) {
		c := tls.Server(conn, config)
		if _, err := io.WriteString(c, name); err != nil {
			return
		}
		_, _ = io.Copy(c, c)
		_ = c.CloseWrite()
	})
}

// free is an address at which nobody listens.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// raw connects to the gateway.
func (r *running) raw() *net.TCPConn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr) //nolint:noctx // a test's
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// dial connects through the gateway, and returns the name that the endpoint says.
func (r *running) dial(server string, nameSize int) (*tls.Conn, string, error) {
	conn, err := net.Dial("tcp", r.addr) //nolint:noctx // a test's
	if err != nil {
		return nil, "", err
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, "", err
	}
	c := tls.Client(conn, &tls.Config{ServerName: server, InsecureSkipVerify: true, NextProtos: []string{"echo"}})
	if err := c.HandshakeContext(context.Background()); err != nil {
		return nil, "", err
	}
	name := make([]byte, nameSize)
	_, err = io.ReadFull(c, name)
	return c, string(name), err
}

// says sends something through an echo and compares what comes back.
func says(t *testing.T, c *tls.Conn, b []byte) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := c.Write(b)
		done <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-done); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got, b) {
		t.Errorf("%d octets came back, want the %d that were sent", len(got), len(b))
	}
}

// clientHello is what a client of a service says first.
func clientHello(t *testing.T, config *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	go func() { _ = tls.Client(near, config).HandshakeContext(t.Context()); _ = near.Close() }()
	b := make([]byte, 5)
	if _, err := io.ReadFull(far, b); err != nil {
		t.Fatal(err)
	}
	b = append(b, make([]byte, int(b[3])<<8|int(b[4]))...)
	if _, err := io.ReadFull(far, b[5:]); err != nil {
		t.Fatal(err)
	}
	return b
}
