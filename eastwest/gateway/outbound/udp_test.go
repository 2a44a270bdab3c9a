package outbound_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// dialUDP connects a client to the UDP port.
func (w *world) dialUDP() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("udp", w.places.where(dnsListener)) //nolint:noctx // a test's
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// query sends a datagram until it is answered: datagrams may get lost.
func query(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	b := make([]byte, 65536)
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if _, err := conn.Write([]byte(text)); err != nil && !errors.Is(err, net.ErrClosed) {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := conn.Read(b); err == nil && string(b[:n]) == text {
			return
		}
	}
	t.Fatalf("no answer to %.20q", text)
}

// udpStats returns those of the UDP port.
func (w *world) udpStats() outbound.ServiceStats {
	for _, s := range w.gateway.Stats() {
		if s.Port.Name == "dns" {
			return s
		}
	}
	return outbound.ServiceStats{}
}

func TestUDP(t *testing.T) {
	p := newPod(t, nil)
	for name, world := range map[string]func(*testing.T) *world{
		"Direct": func(t *testing.T) *world { return start(t, tunnels{}, local(p)) },
		"Tunnel": func(t *testing.T) *world { return start(t, tunnels{gateway2: {pod: p}}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			w := world(t)
			one, two := w.dialUDP(), w.dialUDP()
			for _, text := range []string{"a", "b", strings.Repeat("x", 1400), strings.Repeat("y", 60000)} {
				query(t, one, text+name)
				query(t, two, text+name)
			}
			until(t, "everything is counted", func() bool {
				s := w.udpStats()
				return s.Open == 2 && s.Peers[0].Connections == 2 && s.Peers[0].Up >= 2*61400 && s.Peers[0].Down >= 2*61400
			})
		})
	}
}

// TestUDPMoves holds that a session whose way dies goes on by another.
func TestUDPMoves(t *testing.T) {
	near, other := newPod(t, nil), newPod(t, nil)
	w := start(t, tunnels{gateway2: {pod: other}}, local(near))
	client := w.dialUDP()
	query(t, client, "near")
	near.kill()
	query(t, client, "other")
	if other.seen() == 0 {
		t.Error("the other cluster has nothing")
	}
	if s := w.udpStats(); s.Open != 1 || s.Peers[0].Errors["broken"] == 0 {
		t.Errorf("got %+v", s)
	}
}

// TestUDPEnds holds that sessions end when nothing comes, and that there are not more than there may be.
func TestUDPEnds(t *testing.T) {
	w := start(t, tunnels{}, func(b *clusterset.Builder, o *outbound.Options) {
		local(newPod(t, nil))(b, o)
		o.SessionTimeout, o.Sessions = 200*time.Millisecond, 1
	})
	one, two := w.dialUDP(), w.dialUDP()
	query(t, one, "one")
	if _, err := two.Write([]byte("two")); err != nil {
		t.Fatal(err)
	}
	until(t, "the second client is refused", func() bool { return w.udpStats().Refused[connect.TooMany] > 0 })
	until(t, "the session has ended", func() bool { return w.udpStats().Open == 0 })
	if o := w.udpStats().Peers[0].Outcomes; o[relay.Idle] != 1 {
		t.Errorf("got %v", o)
	}
	query(t, two, "two")
}

// TestUDPNoWay holds that datagrams for which there is no way are dropped, and cost little.
func TestUDPNoWay(t *testing.T) {
	m2 := &far{pod: newPod(t, nil)}
	m2.breaks(&tunnel.Refused{Code: tunnel.NoEndpoint})
	w := start(t, tunnels{gateway2: m2}, nil)
	client := w.dialUDP()
	for range 50 {
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "it is counted", func() bool { return w.udpStats().Refused[connect.AllFailed] > 0 })
	if n := m2.opens.Load(); n > 3 {
		t.Errorf("50 datagrams opened %d streams", n)
	}
	m2.breaks(nil)
	query(t, client, "y")
}
