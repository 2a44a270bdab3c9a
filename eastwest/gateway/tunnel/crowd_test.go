package tunnel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
)

// silent is a gateway that opens streams and does not say what for.
func silent(t *testing.T, s *site) (open func() net.Conn) {
	t.Helper()
	config := s.pki.gateway("m1")
	config.NextProtos = []string{tunnel.Protocol}
	conn, err := tls.Dial("tcp", s.server.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	quiet := yamux.DefaultConfig()
	quiet.LogOutput, quiet.AcceptBacklog = io.Discard, 4096
	session, err := yamux.Client(conn, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return func() net.Conn {
		stream, err := session.Open()
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SetDeadline(time.Now().Add(patience))
		return stream
	}
}

// TestSilentStreams has streams opened of which nothing is said: they count from the first moment.
func TestSilentStreams(t *testing.T) {
	for name, change := range map[string]func(*tunnel.ServerOptions){
		"InAll":      func(o *tunnel.ServerOptions) { o.InAll = 3 },
		"PerCluster": func(o *tunnel.ServerOptions) { o.PerCluster = 3 },
		"Tunnel":     func(o *tunnel.ServerOptions) { o.Streams = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, newPKI(t), accepting(echo), func(o *tunnel.ServerOptions) {
				o.OpenTimeout = time.Hour
				change(o)
			})
			open := silent(t, s)
			answers := make(chan error, 4) // they may be taken in another order than they were opened in
			for range 4 {
				stream := open()
				go func() { answers <- tunnel.ReadAnswer(stream) }()
			}
			err := <-answers
			if no, _ := errors.AsType[*tunnel.Refused](err); no == nil || no.Code != tunnel.Busy {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestTurnedAway has so many streams turned away that most are not told why.
func TestTurnedAway(t *testing.T) {
	s := serve(t, newPKI(t), accepting(echo), func(o *tunnel.ServerOptions) { o.OpenTimeout, o.InAll = time.Hour, -1 })
	open := silent(t, s)
	for range 600 {
		open()
	}
	until(t, "all are counted", func() bool { return metric(t, s.server, "hansa_tunnel_opens_total", "refused") == 600 })
	until(t, "most are gone", func() bool { return metric(t, s.server, "hansa_tunnel_streams") <= 256 })
}

// TestPerCluster holds that one cluster leaves room for others, however many tunnels it has.
func TestPerCluster(t *testing.T) {
	p := newPKI(t)
	s := serve(t, p, accepting(echo), func(o *tunnel.ServerOptions) { o.PerCluster = 3 })
	d := s.dial(func(o *tunnel.Options) { o.Tunnels = 2 })
	for range 3 {
		s.open(d, ask)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := d.Open(ctx, s.peer, ask)
	if no, ok := errors.AsType[*tunnel.Refused](err); !ok || no.Code != tunnel.Busy {
		t.Errorf("got %v", err)
	}
	other := p.gateway("m3")
	s.open(s.dial(func(o *tunnel.Options) { o.TLS = func(string) *tls.Config { return other } }), ask)
}

// TestMaxAge holds that a server has tunnels replaced that are old, and that nobody notices.
func TestMaxAge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNetwork()
		s := serve(t, newPKI(t), accepting(echo), func(o *tunnel.ServerOptions) { o.Listener, o.MaxAge = n, 10*time.Minute })
		s.peer = tunnel.Peer{Cluster: "m2", Addr: netip.MustParseAddrPort("192.0.2.1:15445")}
		d := s.dial(func(o *tunnel.Options) { o.Dial = n.Dial })
		for range 25 {
			stream := s.open(d, ask)
			_, _ = io.WriteString(stream, "hello")
			_ = stream.CloseWrite()
			if got, err := readAll(stream); got != "hello" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			<-time.After(time.Minute)
		}
		n.mu.Lock()
		if len(n.wires) != 3 {
			t.Errorf("%d tunnels were built, one after another", len(n.wires))
		}
		n.mu.Unlock()
		if now := metric(t, s.server, "hansa_tunnel_tunnels"); now != 1 {
			t.Errorf("there are %v", now)
		}
		d.Close()
		s.end()
	})
}
