package outbound_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/sockets"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// talk says a line on a connection and expects it back.
func talk(t *testing.T, conn net.Conn, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(conn, line); err != nil {
		t.Fatalf("saying %q: %v", line, err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != line {
		t.Fatalf("said %q, heard %q, %v", line, answer, err)
	}
}

// TestListeners holds that listeners follow the table, and that connections outlive theirs.
func TestListeners(t *testing.T) {
	w := start(t, tunnels{}, local(newPod(t, nil)))
	first := w.dial()
	talk(t, first, "first")
	api := clusterset.Key{Namespace: "shop", Name: "api"}
	set := func(key clusterset.Key, ports ...clusterset.GatewayPort) {
		w.builder.SetImport("m1", key, clusterset.Import{GatewayPorts: ports})
	}
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(loopback, port) }

	// Another service comes, and an import of another cluster: neither touches what is there.
	before := w.places.where(httpListener)
	w.builder.SetExport("m1", api, clusterset.Export{Created: time.Unix(1, 0), Properties: &clusterset.Properties{Ports: []clusterset.Port{httpPort}}})
	w.builder.SetImport("m9", api, clusterset.Import{GatewayPorts: []clusterset.GatewayPort{{Name: "http", Port: 20050}}})
	set(api, clusterset.GatewayPort{Name: "http", Port: 20010}, clusterset.GatewayPort{Name: "other", Protocol: corev1.ProtocolSCTP, Port: 20011})
	w.publish()
	until(t, "the new service is served", func() bool { return w.places.where(20010) != "" })
	if w.places.where(httpListener) != before || w.places.where(20050) != "" || w.places.where(20011) != "" {
		t.Errorf("served at %v", w.places.at)
	}

	// A port moves: its connection goes on, and the address is released. Another service may have the old one at once.
	set(web, clusterset.GatewayPort{Name: "http", Port: 20010})
	set(api, clusterset.GatewayPort{Name: "http", Port: httpListener})
	w.publish()
	until(t, "ports have changed places", func() bool {
		s := w.gateway.Stats()
		return len(s) == 2 && s[0].Addr == at(httpListener) && s[1].Addr == at(20010)
	})
	talk(t, first, "still here")
	if want := []netip.AddrPort{at(httpListener), at(dnsListener), at(20010)}; !sameSet(w.places.released, want) {
		t.Errorf("released %v, want %v", w.places.released, want)
	}

	// Everything goes.
	w.builder.RemoveExport("m1", web)
	w.builder.RemoveExport("m1", api)
	w.builder.RemoveImport("m1", web)
	w.builder.RemoveImport("m1", api)
	w.publish()
	until(t, "nothing is served", func() bool { return len(w.gateway.Stats()) == 0 })
	talk(t, first, "and still here")
	if _, err := net.DialTimeout("tcp", before, patience); !errors.Is(err, syscall.ECONNREFUSED) { //nolint:noctx // a test's
		t.Errorf("the old listener takes connections: %v", err)
	}
}

func sameSet(a, b []netip.AddrPort) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.AddrPort.Compare)
	slices.SortFunc(b, netip.AddrPort.Compare)
	return slices.Equal(a, b)
}

// TestListenFails holds that a port that cannot be opened is told, and opened as soon as it can.
func TestListenFails(t *testing.T) {
	places := &places{at: map[netip.AddrPort]string{}, refuse: syscall.EADDRINUSE}
	p := newPod(t, nil)
	w := start(t, tunnels{}, func(b *clusterset.Builder, o *outbound.Options) {
		local(p)(b, o)
		o.Sockets = places
	})
	w.places = places
	if s := w.stats(); s.Problem == "" || s.Addr.Port() != httpListener {
		t.Errorf("the trouble is not told: %+v", s)
	}
	places.mu.Lock()
	places.refuse = nil
	places.mu.Unlock()
	until(t, "it is served", func() bool { return w.stats().Problem == "" })
	w.must("1")
}

// TestRoutesFollow holds that the next connection goes where the newest table says.
func TestRoutesFollow(t *testing.T) {
	first, second, third := newPod(t, nil), newPod(t, nil), newPod(t, nil)
	w := start(t, tunnels{gateway2: {pod: third}}, local(first))
	w.must("1")
	local(second)(w.builder, nil)
	w.publish()
	until(t, "the new pod is used", func() bool { w.must(unique()); return second.seen() > 0 })
	had := first.seen()
	w.builder.SetCluster(clusterset.Cluster{ID: "m1", Region: "eu", State: clusterset.Draining})
	w.publish()
	until(t, "the other cluster is used", func() bool { w.must(unique()); return third.seen() > 0 })
	if first.seen() != had {
		t.Error("the old pod is still used")
	}
	w.builder.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{}})
	w.publish()
	until(t, "the service is closed", func() bool { _, err := w.ask(unique()); return err != nil })
	if w.stats().Refused["no-way"] == 0 {
		t.Errorf("got %v", w.stats().Refused)
	}
}

var counter int

func unique() string { counter++; return fmt.Sprint("u", counter) }

// TestDrain holds that a gateway that stops lets connections end, and cuts off those that do not.
func TestDrain(t *testing.T) {
	for name, opener := range map[string]bool{"Direct": false, "Tunnel": true} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t, nil)
			o, change := tunnels{}, local(p)
			if opener {
				o, change = tunnels{gateway2: {pod: p}}, nil
			}
			w := start(t, o, func(b *clusterset.Builder, o *outbound.Options) {
				if change != nil {
					change(b, o)
				}
				o.DrainTimeout = 300 * time.Millisecond
			})
			ends, stays := w.dial(), w.dial()
			talk(t, ends, "ends")
			talk(t, stays, "stays")
			where := w.places.where(httpListener)
			done := make(chan struct{})
			go func() { w.stop(); close(done) }()
			until(t, "nothing is accepted", func() bool {
				conn, err := net.DialTimeout("tcp", where, patience) //nolint:noctx // a test's
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			})
			talk(t, ends, "goes on")
			_ = ends.CloseWrite()
			if _, err := io.ReadAll(ends); err != nil {
				t.Errorf("the connection that ends: %v", err)
			}
			if _, err := stays.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection that stays: %v", err)
			}
			<-done
			if len(w.places.released) != 0 {
				t.Errorf("%v is released, and the next process does not find it", w.places.released)
			}
		})
	}
}

// TestRestFds holds that a connection at rest costs two descriptors when it is direct, and that nothing is left when the
// gateway is gone: neither descriptors nor goroutines.
func TestLeaks(t *testing.T) {
	p, q := newPod(t, nil), newPod(t, nil)
	once := func(n int) {
		w := start(t, tunnels{gateway2: {pod: q}}, local(p))
		var clients []*net.TCPConn
		for range n {
			client := w.dial()
			talk(t, client, unique())
			clients = append(clients, client)
		}
		if n > 0 {
			had, held := fds(t), runtime.NumGoroutine()
			for range n {
				client := w.dial()
				talk(t, client, unique())
				clients = append(clients, client)
			}
			until(t, "the connections are at rest", func() bool { return runtime.NumGoroutine()-held <= n+4 }) // the pod's
			if more := fds(t) - had; more > 4*n+4 {                                                            // of them one is the client's, and one the pod's
				t.Errorf("%d connections have %d descriptors", n, more)
			}
		}
		for i, client := range clients {
			if i%2 == 0 {
				_ = relay.TCP(client).Reset()
			} else {
				_ = client.Close()
			}
		}
		p.kill()
		q.kill()
		w.stop()
	}
	once(0)
	p, q = newPod(t, nil), newPod(t, nil)
	goroutines, files := runtime.NumGoroutine(), fds(t)
	once(20)
	until(t, "goroutines and descriptors are as before", func() bool { return runtime.NumGoroutine() <= goroutines && fds(t) <= files })
}

// fds returns how many descriptors this process has.
func fds(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

var _ outbound.Sockets = sockets.Direct{}
