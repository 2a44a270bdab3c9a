package outbound_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/inbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// onlyM2 leaves m3 out.
func onlyM2(_ *union, _ *identity.Peering, b *clusterset.Builder) { b.RemoveExport("m3", web) }

// TestThrough carries everything that clients say through tunnels.
func TestThrough(t *testing.T) {
	u := unite(t, onlyM2)
	m2 := u.sites["m2"]
	u.must("one")
	client := u.dial()
	var sent []byte
	for i := range 1 << 16 {
		sent = fmt.Appendf(sent, "%015d\n", i)
	}
	go func() {
		_, _ = client.Write(sent)
		_ = client.CloseWrite()
	}()
	if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("got %d octets of %d, %v", len(got), len(sent), err)
	}
	udp := u.dialUDP()
	query(t, udp, "datagram")
	query(t, udp, strings.Repeat("z", 20000))

	hops := u.gateway.Trace(context.Background(), web, "http")
	if len(hops) != 3 || hops[1].Step != outbound.Tunnel || hops[2].Problem != "" || hops[2].At != "cluster m2 through "+m2.line.addr.String() {
		t.Errorf("traced %+v", hops)
	}
	until(t, "both sides have counted the same", func() bool {
		flows, refusals := m2.handler.Stats()
		if len(flows) != 2 || len(refusals) != 0 {
			return false
		}
		f, p := flows[1], u.peer("m2") // flows[0] is the one of datagrams
		return f.Flow.Cluster == "m1" && f.Open == 0 && f.Connections >= p.Connections && f.Up == p.Up && f.Down == p.Down && p.Up == uint64(len(sent))+4
	})
	u.builder.SetPolicy(web, clusterset.Policy{FirstFlight: true})
	u.publish()
	until(t, "what clients say flies first", func() bool { u.must(unique()); return u.stats().Races == 0 })
	duplicates(t, m2.pod)
}

// TestThroughResets holds that resets reach the other end.
func TestThroughResets(t *testing.T) {
	u := unite(t, onlyM2)
	m2 := u.sites["m2"]
	client := u.dial()
	talk(t, client, "hello")
	_ = relay.TCP(client).Reset()
	until(t, "the stream is over", func() bool {
		flows, _ := m2.handler.Stats()
		return len(flows) == 1 && flows[0].Open == 0 && flows[0].Outcomes[relay.ClientReset] == 1
	})
	client = u.dial()
	talk(t, client, "hello again")
	m2.pod.kill()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the pod's end reaches the client as %v", err)
	}
}

// TestThroughFaults holds that nobody notices when something in the cluster that is preferred breaks.
func TestThroughFaults(t *testing.T) {
	for name, test := range map[string]struct {
		reason string
		fault  func(*site)
	}{
		"Pod":     {"the gateway there says that the pod is gone", func(s *site) { s.pod.kill() }},
		"Gateway": {"it stops, and says so", func(s *site) { go s.stop() }},
		"Link":    {"nothing arrives, either way", func(s *site) { s.line.cut[0].Store(true); s.line.cut[1].Store(true) }},
		"To":      {"nothing arrives there", func(s *site) { s.line.cut[0].Store(true) }},
		"From":    {"requests arrive there, and no answers", func(s *site) { s.line.cut[1].Store(true) }},
	} {
		t.Run(name, func(t *testing.T) {
			u := unite(t, nil)
			u.up()
			for range 20 {
				u.must(unique())
			}
			test.fault(u.sites["m2"])
			worst, failed := openLoop(u.world, name, 150, 10*time.Millisecond)
			if failed > 0 {
				t.Errorf("%s: %d requests failed: %v", test.reason, failed, u.stats().Refused)
			}
			if worst > 2*time.Second {
				t.Errorf("%s: the slowest took %v", test.reason, worst)
			}
			duplicates(t, u.sites["m2"].pod, u.sites["m3"].pod)
			t.Logf("%s: worst %v", test.reason, worst)
		})
	}
}

// TestThroughPinned holds that a session with a cluster that is gone is reset within about a second, and does not wait.
func TestThroughPinned(t *testing.T) {
	u := unite(t, nil)
	u.up()
	var client *net.TCPConn
	until(t, "a session is with m2", func() bool {
		client = u.dial()
		talk(t, client, unique())
		return u.peer("m2").Open > 0
	})
	udp := u.dialUDP()
	query(t, udp, "near")
	u.sites["m2"].line.cut[0].Store(true)
	u.sites["m2"].line.cut[1].Store(true)
	began := time.Now()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the session was reset after %v", took)
	}
	query(t, udp, "far")
	if u.sites["m3"].pod.seen() == 0 {
		t.Error("the session of datagrams did not move")
	}
}

// TestThroughRefused holds that nobody gets in who must not, and that it is counted.
func TestThroughRefused(t *testing.T) {
	other := authority(t)
	for name, test := range map[string]struct {
		reason string
		who    func(*testing.T, *union, *identity.Peering)
		table  func(*clusterset.Builder)
		counts inbound.Refusal // empty: the tunnel itself is refused
	}{
		"WrongCA": {"signed by somebody else", func(t *testing.T, _ *union, p *identity.Peering) {
			p.Own = svid(t, other, gatewayOf("m1"), 0)
		}, nil, ""},
		"OwnRootsOnly": {"the other side is not trusted", func(_ *testing.T, _ *union, p *identity.Peering) { p.Roots = other.Bundle() }, nil, ""},
		"Agent": {"an agent is no gateway", func(t *testing.T, u *union, p *identity.Peering) {
			p.Own = svid(t, u.authority, identity.ClusterID(domain, "m1", identity.RoleAgent), 0)
		}, nil, ""},
		"Client": {"a client is no gateway", func(t *testing.T, u *union, p *identity.Peering) {
			p.Own = svid(t, u.authority, identity.ClusterID(domain, "m1", identity.RoleClient), 0)
		}, nil, ""},
		"Expired": {"it has ended", func(t *testing.T, u *union, p *identity.Peering) {
			p.Own = svid(t, u.authority, gatewayOf("m1"), time.Nanosecond)
		}, nil, ""},
		"Revoked": {"the certificates of m1 were revoked", nil, func(b *clusterset.Builder) {
			b.SetRevocations([]clusterset.Revocation{{Cluster: "m1", Before: time.Now().Add(time.Hour)}})
		}, ""},
		"NotAllowed": {"m9 is not listed; the own gateway would say so too, so it is asked as m9", func(t *testing.T, u *union, p *identity.Peering) {
			p.Own = svid(t, u.authority, gatewayOf("m9"), 0)
		}, func(b *clusterset.Builder) {
			b.SetCluster(clusterset.Cluster{ID: "m9"})
			b.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"m1"}}})
		}, inbound.NotAllowed},
		"NotMember": {"m9 has left, or was never here; its certificate is good", func(t *testing.T, u *union, p *identity.Peering) {
			p.Own = svid(t, u.authority, gatewayOf("m9"), 0)
		}, nil, inbound.NotMember},
	} {
		t.Run(name, func(t *testing.T) {
			u := unite(t, func(u *union, p *identity.Peering, b *clusterset.Builder) {
				if test.who != nil {
					test.who(t, u, p)
				}
				if test.table != nil {
					test.table(b)
				}
			})
			if _, err := u.ask("secret"); err == nil {
				t.Errorf("%s: it was answered", test.reason)
			}
			if n := u.sites["m2"].pod.seen() + u.sites["m3"].pod.seen(); n > 0 {
				t.Errorf("%s: a pod has heard it", test.reason)
			}
			if test.counts != "" && u.sites["m2"].refusals(test.counts) == 0 {
				t.Errorf("%s: it is not counted", test.reason)
			}
			if test.counts == "" && len(u.sites["m2"].handlerRefusals()) > 0 {
				t.Errorf("%s: a tunnel was made", test.reason)
			}
		})
	}
}

func (s *site) handlerRefusals() []inbound.RefusalStats {
	_, refusals := s.handler.Stats()
	return refusals
}

// TestThroughPlaintext holds that who does not speak TLS is not heard.
func TestThroughPlaintext(t *testing.T) {
	u := unite(t, nil)
	conn, err := net.Dial("tcp", u.sites["m2"].line.addr.String()) //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = fmt.Fprint(conn, "GET / HTTP/1.1\r\n\r\n")
	if all, err := io.ReadAll(conn); errors.Is(err, context.DeadlineExceeded) || len(all) > 64 {
		t.Errorf("got %q, %v", all, err)
	}
}
