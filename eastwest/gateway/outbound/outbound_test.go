package outbound_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestOwnPodsFirst holds that the own cluster's pods take what they can, and another cluster the rest, at once.
func TestOwnPodsFirst(t *testing.T) {
	near, other := newPod(t, nil), newPod(t, nil)
	w := start(t, tunnels{gateway2: {pod: other}}, local(near))
	for i := range 20 {
		w.must(fmt.Sprint("near-", i))
	}
	if near.seen() != 20 || other.seen() != 0 {
		t.Errorf("the own pod has %d requests, the other cluster %d", near.seen(), other.seen())
	}
	near.kill()
	for i := range 20 {
		if took := w.must(fmt.Sprint("far-", i)); took > 2*time.Second {
			t.Errorf("request %d took %v, although the pod refuses at once", i, took)
		}
	}
	duplicates(t, near, other)
	if p := w.peer("m1"); p.Errors["refused"] == 0 || p.Ejections == 0 || len(w.stats().Ejected) != 1 {
		t.Errorf("the pod that refuses is not left out: %+v", w.stats())
	}
	if n := len(w.stats().Refused); n != 0 {
		t.Errorf("clients were refused: %v", w.stats().Refused)
	}
}

// TestBlackHole holds what this gateway is for: the cluster that is preferred does not answer any more, and nobody notices.
func TestBlackHole(t *testing.T) {
	first, second := newPod(t, nil), newPod(t, nil)
	m2, m3 := &far{pod: first, delay: 5 * time.Millisecond}, &far{pod: second, delay: 10 * time.Millisecond}
	for name, oneWay := range map[string]bool{"BothWays": false, "OneWay": true} {
		t.Run(name, func(t *testing.T) {
			w := start(t, tunnels{gateway2: m2, gateway3: m3}, nil)
			for i := range 20 {
				w.must(fmt.Sprint(name, "-before-", i))
			}
			before, opens := first.seen(), m2.opens.Load()
			m2.hole.Store(!oneWay)
			m2.oneWay.Store(oneWay)
			worst, failed := openLoop(w, name, 100, 2*time.Millisecond)
			if failed > 0 {
				t.Errorf("%d requests failed: %v", failed, w.stats().Refused)
			}
			if limit := 2 * time.Second; worst > limit {
				t.Errorf("the slowest took %v, want at most %v", worst, limit)
			}
			if first.seen() != before {
				t.Error("the cluster that lost was sent something")
			}
			duplicates(t, first, second)
			p := w.peer("m2")
			if p.Lost == 0 || p.Ejections == 0 || w.peer("m3").Won == 0 || w.stats().Races == 0 {
				t.Errorf("races are not counted: %+v", w.stats())
			}
			if tried := m2.opens.Load() - opens; tried > 50 {
				t.Errorf("the dead cluster was tried %d times: it is not left out", tried)
			}
			m2.hole.Store(false)
			m2.oneWay.Store(false)
			until(t, "the cluster is used again", func() bool { w.must(fmt.Sprint(name, "-after-", rand.Uint64())); return first.seen() > before })
		})
	}
}

// openLoop makes n requests, one per interval, whether the others were answered or not.
func openLoop(w *world, name string, n int, interval time.Duration) (worst time.Duration, failed int) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range n {
		<-tick.C
		all.Go(func() {
			took, err := w.ask(fmt.Sprint(name, "-", i))
			mu.Lock()
			defer mu.Unlock()
			worst = max(worst, took)
			if err != nil {
				failed++
			}
		})
	}
	all.Wait()
	return worst, failed
}

// TestNoRace is the control: without races, the same fault is noticed.
func TestNoRace(t *testing.T) {
	first, second := newPod(t, nil), newPod(t, nil)
	m2 := &far{pod: first}
	w := start(t, tunnels{gateway2: m2, gateway3: {pod: second}}, func(_ *clusterset.Builder, o *outbound.Options) {
		o.Connect.NoRace, o.Connect.AttemptTimeout = true, 500*time.Millisecond
	})
	w.must("before")
	m2.hole.Store(true)
	if took := w.must("after"); took < 500*time.Millisecond {
		t.Errorf("the request took %v: something has raced", took)
	}
	if w.stats().Races != 0 || w.peer("m2").Errors["timeout"] != 1 {
		t.Errorf("got %+v", w.stats())
	}
}

// TestDeadNode holds that a pod whose node is gone, which answers nothing at all, is passed over.
func TestDeadNode(t *testing.T) {
	dead, alive := silent(t), newPod(t, nil)
	w := start(t, tunnels{}, local(dead, alive))
	for i := range 20 {
		if took := w.must(strconv.Itoa(i)); took > 2*time.Second {
			t.Errorf("request %d took %v", i, took)
		}
	}
	if alive.seen() != 20 {
		t.Errorf("%d requests have arrived", alive.seen())
	}
}

// silent is a pod that does not answer SYNs: its queue is full.
func silent(t *testing.T) *pod {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: loopback.As4()}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{}
	p.addr = addrPort(name.(*syscall.SockaddrInet4).Port)
	for range 4 {
		conn, err := net.DialTimeout("tcp", p.addr.String(), 100*time.Millisecond) //nolint:noctx // a test's
		if err != nil {
			return p
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("the queue does not get full")
	return nil
}

// TestNothingLeft holds that clients fail fast when nobody can help.
func TestNothingLeft(t *testing.T) {
	gone := newPod(t, nil)
	gone.kill()
	for name, test := range map[string]struct {
		reason string
		opener tunnels
		change func(*clusterset.Builder, *outbound.Options)
		why    string
	}{
		"NoPods":    {"there is nothing in the table", tunnels{}, local(), "no-way"},
		"AllRefuse": {"everything refuses", tunnels{gateway2: {pod: gone}, gateway3: {pod: gone}}, local(gone), "all-failed"},
		"Budget": {"something else may work, but too much has failed", tunnels{gateway2: {pod: gone}, gateway3: {pod: gone}}, func(b *clusterset.Builder, o *outbound.Options) {
			local(gone)(b, o)
			o.Connect.Budget = route.Budget{Burst: 1, Share: 0.001}
		}, "budget"},
		"TooMany": {"there are all the connections that there may be", tunnels{gateway2: hole()}, func(b *clusterset.Builder, o *outbound.Options) {
			o.Connections = -1
		}, "limit"},
		"TooManyOfService": {"others have them too", tunnels{gateway2: hole()}, func(b *clusterset.Builder, o *outbound.Options) {
			o.PerService = -1
		}, "limit"},
		"OverTime": {"nobody answers", tunnels{gateway2: hole()}, func(b *clusterset.Builder, o *outbound.Options) {
			o.Connect.ConnectTimeout = 100 * time.Millisecond
		}, "timeout"},
		"AttemptTime": {"nobody answers", tunnels{gateway2: hole()}, func(b *clusterset.Builder, o *outbound.Options) {
			o.Connect.AttemptTimeout = 100 * time.Millisecond
		}, "all-failed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, test.opener, test.change)
			began := time.Now()
			if _, err := w.ask("1"); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("%s: got %v, want a reset", test.reason, err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("%s: it took %v to say so", test.reason, took)
			}
			if got := w.stats().Refused[test.why]; got != 1 {
				t.Errorf("%s: want it counted as %q: %v", test.reason, test.why, w.stats().Refused)
			}
		})
	}
}

func hole() *far {
	f := &far{}
	f.hole.Store(true)
	return f
}

// TestPanic holds that what is left out is used when there is nothing else.
func TestPanic(t *testing.T) {
	p := newPod(t, nil)
	m2 := &far{pod: p}
	m2.breaks(errors.New("broken"))
	w := start(t, tunnels{gateway2: m2}, nil)
	for range 3 {
		if _, err := w.ask("no"); err == nil {
			t.Fatal("a request was answered by nobody")
		}
	}
	m2.breaks(nil)
	w.must("yes")
	if len(w.stats().Ejected) != 0 {
		t.Errorf("it works, and is still left out: %v", w.stats().Ejected)
	}
}

// TestNoTunnel holds that a tunnel that is not up delays nobody, and is used as soon as it is.
func TestNoTunnel(t *testing.T) {
	first, second := newPod(t, nil), newPod(t, nil)
	m2 := &far{pod: first}
	m2.breaks(tunnel.ErrNotUp)
	w := start(t, tunnels{gateway2: m2, gateway3: {pod: second}}, func(_ *clusterset.Builder, o *outbound.Options) {
		o.Connect.Timing.BackOff = 50 * time.Millisecond
	})
	for i := range 5 {
		if took := w.must(strconv.Itoa(i)); took > 2*time.Second {
			t.Errorf("request %d took %v", i, took)
		}
	}
	m2.breaks(nil)
	until(t, "the cluster is used", func() bool { w.must(strconv.FormatUint(rand.Uint64(), 10)); return first.seen() > 0 })
}

// TestClientLeaves holds that everything is undone when a client resets its connection, and that nobody is blamed.
func TestClientLeaves(t *testing.T) {
	m2, m3 := hole(), hole()
	w := start(t, tunnels{gateway2: m2, gateway3: m3}, nil)
	client := w.dial()
	if _, err := io.WriteString(client, "something\n"); err != nil {
		t.Fatal(err)
	}
	until(t, "both clusters are tried", func() bool { return m2.opens.Load() == 1 && m3.opens.Load() == 1 })
	_ = relay.TCP(client).Reset()
	until(t, "both are given up", func() bool { return m2.undone.Load() == 1 && m3.undone.Load() == 1 })
	until(t, "it is counted", func() bool { return w.stats().Refused["client-gone"] == 1 })
	if s := w.stats(); len(s.Ejected) != 0 || s.Open != 0 {
		t.Errorf("somebody is blamed, or not forgotten: %+v", s)
	}
}

// TestHalfClose holds that the end of each direction is passed on alone.
func TestHalfClose(t *testing.T) {
	handle := func(conn *net.TCPConn) { // answers when it has heard all
		defer func() { _ = conn.Close() }()
		all, err := io.ReadAll(conn)
		if err == nil {
			_, _ = conn.Write(bytes.ToUpper(all))
		}
	}
	for name, world := range map[string]func(*testing.T) *world{
		"Direct": func(t *testing.T) *world { return start(t, tunnels{}, local(newPod(t, handle))) },
		"Tunnel": func(t *testing.T) *world { return start(t, tunnels{gateway2: {pod: newPod(t, handle)}}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			w := world(t)
			for _, size := range []int{0, 1, 4096, 3 << 20} {
				client := w.dial()
				sent := bytes.Repeat([]byte("x"), size)
				go func() {
					_, _ = client.Write(sent)
					_ = client.CloseWrite()
				}()
				got, err := io.ReadAll(client)
				if err != nil || !bytes.Equal(got, bytes.ToUpper(sent)) {
					t.Errorf("%d octets: got %d, %v", size, len(got), err)
				}
			}
			until(t, "all have ended", func() bool { return w.stats().Open == 0 })
			p := w.stats().Peers[0]
			if p.Up != 3<<20+4097 || p.Down != p.Up || p.Outcomes[relay.Done] != 4 || p.Open != 0 {
				t.Errorf("got %+v", p)
			}
		})
	}
}

// TestReset holds that the reset of one side is the reset of the other.
func TestReset(t *testing.T) {
	for name, tunnel := range map[string]bool{"Direct": false, "Tunnel": true} {
		t.Run(name, func(t *testing.T) {
			resets := make(chan error, 1)
			handle := func(conn *net.TCPConn) {
				b := make([]byte, 1)
				_, _ = conn.Read(b)
				if b[0] == 'x' {
					_ = relay.TCP(conn).Reset()
					return
				}
				_, err := conn.Read(b)
				resets <- err
			}
			p := newPod(t, handle)
			var w *world
			if tunnel {
				w = start(t, tunnels{gateway2: {pod: p}}, nil)
			} else {
				w = start(t, tunnels{}, local(p))
			}
			client := w.dial()
			_, _ = io.WriteString(client, "x")
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the pod's reset reaches the client as %v", err)
			}
			client = w.dial()
			_, _ = io.WriteString(client, "y")
			until(t, "the pod has the connection", func() bool { return w.stats().Peers[0].Open == 1 && w.stats().Peers[0].Up == 2 })
			_ = relay.TCP(client).Reset()
			if err := <-resets; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client's reset reaches the pod as %v", err)
			}
			until(t, "both have ended", func() bool { return w.stats().Open == 0 })
			if o := w.stats().Peers[0].Outcomes; o[relay.ServerReset] != 1 || o[relay.ClientReset] != 1 {
				t.Errorf("got %v", o)
			}
		})
	}
}

// TestIdle holds that connections in which nothing moves end, and others do not.
func TestIdle(t *testing.T) {
	w := start(t, tunnels{gateway2: {pod: newPod(t, nil)}}, func(_ *clusterset.Builder, o *outbound.Options) { o.IdleTimeout = 100 * time.Millisecond })
	client := w.dial()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	until(t, "it is counted", func() bool { return w.peer("m2").Outcomes[relay.Idle] == 1 })
}
