package outbound_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestAffinity holds that a service with session affinity sends a client to one pod, several clients to several, and a
// client whose pod is gone to another one.
func TestAffinity(t *testing.T) {
	pods := []*pod{newPod(t, nil), newPod(t, nil), newPod(t, nil)}
	w := start(t, tunnels{}, func(b *clusterset.Builder, o *outbound.Options) {
		local(pods...)(b, o)
		b.SetExport("m1", web, clusterset.Export{Created: time.Unix(1, 0), Properties: &clusterset.Properties{
			Ports: bothPorts, SessionAffinity: corev1.ServiceAffinityClientIP,
		}})
	})
	dial := func(from byte) net.Conn {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, from}), 0)), Timeout: patience}
		conn, err := d.DialContext(context.Background(), "tcp", w.places.where(httpListener))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		return conn
	}
	home := func(from byte) *pod {
		before := make([]int, len(pods))
		for i, p := range pods {
			before[i] = p.seen()
		}
		conn := dial(from)
		defer func() { _ = conn.Close() }()
		talk(t, conn.(*net.TCPConn), unique())
		for i, p := range pods {
			if p.seen() > before[i] {
				return p
			}
		}
		t.Fatal("no pod has heard it")
		return nil
	}
	used := map[*pod]byte{}
	for from := range byte(30) {
		first := home(from + 1)
		used[first] = from + 1
		for range 3 {
			if again := home(from + 1); again != first {
				t.Fatalf("client %d went to two pods", from+1)
			}
		}
	}
	if len(used) != len(pods) {
		t.Errorf("thirty clients used %d pods of %d", len(used), len(pods))
	}
	gone := pods[1]
	who := used[gone]
	gone.kill()
	if next := home(who); next == gone || next != home(who) {
		t.Error("the client of a pod that is gone has no new home")
	}
}
