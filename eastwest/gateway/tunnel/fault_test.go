package tunnel_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// TestDead cuts a tunnel in all ways there are, without anybody being told, and measures until both sides know.
func TestDead(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		cut    func(*wire)
		within time.Duration
	}{
		"Both": {reason: "Nobody hears anything: both know after a second.", cut: (*wire).cut, within: time.Second},
		"ThereDeaf": {
			reason: "The other side hears nothing and hangs up, which is heard here.",
			cut:    func(w *wire) { w.mute.Store(true) }, within: time.Second,
		},
		"HereDeaf": {
			reason: "Here nothing is heard, and the end of the connection is what the other side hears.",
			cut:    func(w *wire) { w.deaf.Store(true) }, within: time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				net := newNetwork()
				there := make(chan time.Duration, 1)
				var begin time.Time
				s := serve(t, newPKI(t), accepting(func(s tunnel.Stream) {
					_, err := readAll(s)
					if _, reset := errors.AsType[*tunnel.ResetError](err); !reset {
						t.Errorf("%s\nthe handler reads %v", tc.reason, err)
					}
					there <- time.Since(begin)
				}), func(o *tunnel.ServerOptions) { o.Listener, o.Dead = net, 0 })
				d := s.dial(func(o *tunnel.Options) { o.Dial, o.Dead = net.Dial, 0 })
				stream := s.open(d, ask)
				time.Sleep(10*time.Second + 100*time.Millisecond) //nolint:forbidigo // it is the bubble's clock
				begin = time.Now()
				_ = stream.SetDeadline(time.Time{})
				tc.cut(net.last())
				_, err := readAll(stream)
				if _, reset := errors.AsType[*tunnel.ResetError](err); !reset {
					t.Errorf("%s\nthe client reads %v", tc.reason, err)
				}
				here := time.Since(begin)
				for side, took := range map[string]time.Duration{"here": here, "there": <-there} {
					if took > tc.within || took < 700*time.Millisecond {
						t.Errorf("%s\n%s it took %v", tc.reason, side, took)
					}
				}
			})
		})
	}
}

// TestBusy checks that a process which is too busy to read does not hold the others for dead.
func TestBusy(t *testing.T) {
	s := serve(t, newPKI(t), accepting(echo), nil)
	r := &relays{}
	d := s.dial(func(o *tunnel.Options) {
		o.Dial, o.Heartbeat, o.Dead = r.Dial, 50*time.Millisecond, 500*time.Millisecond
	})
	stream := s.open(d, ask)
	resume := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(resume) })
	t.Cleanup(goOn)
	r.each(func(w *wire) { w.pause.Store(&resume) })
	begin := d.State()[0].LastHeard
	until(t, "it was not heard for much longer than it may", func() bool {
		state := d.State()[0]
		if !state.Up {
			t.Fatalf("%+v", state)
		}
		if heard := state.LastHeard; heard.After(begin) {
			begin = heard // the last read before the pause
		}
		return time.Since(begin) > 1200*time.Millisecond
	})
	r.each(func(w *wire) { w.pause.Store(nil) })
	goOn()
	_, _ = io.WriteString(stream, "x")
	_ = stream.CloseWrite()
	if got, err := readAll(stream); got != "x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestQuiet checks that a tunnel on which nothing happens lives, with the heartbeats that it should have.
func TestQuiet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newNetwork()
		s := serve(t, newPKI(t), accepting(echo), func(o *tunnel.ServerOptions) { o.Listener, o.Dead = net, 0 })
		d := s.dial(func(o *tunnel.Options) { o.Dial, o.Dead = net.Dial, 0 })
		stream := s.open(d, ask)
		_ = stream.SetDeadline(time.Time{})
		time.Sleep(10 * time.Minute) //nolint:forbidigo // it is the bubble's clock
		state := d.State()[0]
		if !state.Up || state.Problem != "" || time.Since(state.LastHeard) > 250*time.Millisecond || time.Since(state.Since) < 9*time.Minute {
			t.Errorf("%+v", state)
		}
		if _, err := io.WriteString(stream, "x"); err != nil {
			t.Fatal(err)
		}
		_ = stream.CloseWrite()
		if got, err := readAll(stream); got != "x" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if died := metric(t, d, "hansa_tunnel_died_total") + metric(t, d, "hansa_tunnel_heartbeats_missed_total"); died != 0 {
			t.Errorf("%v tunnels died or heartbeats were missed", died)
		}
	})
}

// TestSlowLink sends more than a line can carry: heartbeats wait behind it, but something is always heard.
func TestSlowLink(t *testing.T) {
	s := serve(t, newPKI(t), accepting(func(s tunnel.Stream) { _, _ = io.Copy(io.Discard, s) }), func(o *tunnel.ServerOptions) { o.Dead = 0 })
	r := &relays{}
	d := s.dial(func(o *tunnel.Options) { o.Dial, o.Dead = r.Dial, 0 })
	stream := s.open(d, ask)
	r.each(func(w *wire) { w.rate.Store(200 << 10) })
	go func() { _, _ = io.Copy(stream, rand.NewChaCha8([32]byte{})) }()
	until(t, "much has arrived", func() bool { return metric(t, s.server, "hansa_tunnel_bytes_total", "in") > 500<<10 })
	if n := metric(t, d, "hansa_tunnel_died_total") + metric(t, s.server, "hansa_tunnel_died_total"); n != 0 || !d.State()[0].Up {
		t.Errorf("%v tunnels died", n)
	}
	r.each(func(w *wire) { w.rate.Store(0) })
	_ = stream.Reset()
}

// TestTruncated cuts an answer after every so many octets: it must never look complete.
func TestTruncated(t *testing.T) {
	p := newPKI(t)
	text := make([]byte, 100_000)
	for i := range text {
		text[i] = byte(i)
	}
	kills := map[string]func(*wire){
		"Reset": func(w *wire) { _ = w.Conn.(*net.TCPConn).SetLinger(0); _ = w.Close() },
		"FIN":   func(w *wire) { _ = w.Conn.(*net.TCPConn).CloseWrite() },
		"Close": func(w *wire) { _ = w.Close() },
	}
	for name, kill := range kills {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				r := &relays{}
				sent := make(chan struct{})
				s := serve(t, p, accepting(func(s tunnel.Stream) {
					_, _ = s.Write(text)
					close(sent)
					_, _ = readAll(s) // there is more to come, but it never does
				}), nil)
				d := s.dial(func(o *tunnel.Options) { o.Dial = r.Dial })
				stream := s.open(d, ask)
				if _, err := io.ReadFull(stream, make([]byte, 1+rand.IntN(len(text)))); err != nil {
					t.Fatal(err)
				}
				<-sent
				r.each(kill)
				_, err := readAll(stream)
				if _, reset := errors.AsType[*tunnel.ResetError](err); !reset {
					t.Fatalf("a part looks like the whole: %v", err)
				}
				d.Close()
				s.end()
			}
		})
	}
}

// TestMidFrame loses everything after some octet, wherever that is in a record of TLS or a frame of yamux.
func TestMidFrame(t *testing.T) {
	s := serve(t, newPKI(t), accepting(func(s tunnel.Stream) {
		_, _ = io.Copy(s, rand.NewChaCha8([32]byte{}))
	}), nil)
	r := &relays{}
	d := s.dial(func(o *tunnel.Options) { o.Dial, o.Dead = r.Dial, 0 })
	stream := s.open(d, ask)
	_ = stream.SetDeadline(time.Time{})
	r.each(func(w *wire) { w.until.Store(w.read.Load() + 1 + rand.Int64N(1<<20)) })
	begin := time.Now()
	_, err := io.Copy(io.Discard, stream)
	if _, reset := errors.AsType[*tunnel.ResetError](err); !reset {
		t.Errorf("read %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestGoAway restarts the other gateway while streams are opened all the time: none is refused, none is lost.
func TestGoAway(t *testing.T) {
	p := newPKI(t)
	release := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(release) })
	slow := func(s tunnel.Stream) {
		all, err := readAll(s)
		if all == "slow" {
			<-release
		}
		if err == nil {
			_, _ = io.WriteString(s, all)
			_ = s.CloseWrite()
		}
	}
	patient := func(o *tunnel.ServerOptions) { o.DrainTimeout = patience }
	first, second := serve(t, p, accepting(slow), patient), serve(t, p, accepting(slow), patient)
	t.Cleanup(goOn)
	var now atomic.Pointer[site]
	now.Store(first)
	d := first.dial(func(o *tunnel.Options) {
		o.Tunnels = 2
		o.Dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", now.Load().server.Addr().String())
		}
	})
	old := first.open(d, ask)
	_, _ = io.WriteString(old, "slow")
	_ = old.CloseWrite()
	var all sync.WaitGroup
	stop := make(chan struct{})
	var count atomic.Int64
	for range 8 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				stream, err := d.Open(t.Context(), first.peer, ask)
				if err != nil {
					t.Errorf("opening: %v", err)
					return
				}
				_, _ = io.WriteString(stream, "x")
				_ = stream.CloseWrite()
				if got, err := readAll(stream); got != "x" || err != nil {
					t.Errorf("got %q, %v", got, err)
				}
				count.Add(1)
			}
		})
	}
	until(t, "there is traffic", func() bool { return count.Load() > 100 })
	now.Store(second)
	first.stop()
	mark := count.Load()
	until(t, "the second has all traffic", func() bool {
		return count.Load() > mark+100 && metric(t, second.server, "hansa_tunnel_tunnels") == 2
	})
	close(stop)
	all.Wait()
	if metric(t, first.server, "hansa_tunnel_tunnels") == 0 {
		t.Error("the old tunnel is gone with a stream in it")
	}
	goOn()
	if got, err := readAll(old); got != "slow" || err != nil {
		t.Errorf("the stream that was there before: %q, %v", got, err)
	}
	first.end()
}

// TestDrainTimeout checks that a stream which does not end is reset when the time to drain is over.
func TestDrainTimeout(t *testing.T) {
	s := serve(t, newPKI(t), accepting(func(s tunnel.Stream) { _, _ = readAll(s) }), nil)
	d := s.dial(nil)
	stream := s.open(d, ask)
	s.end()
	if _, err := readAll(stream); err == nil {
		t.Error("it ended as if it were complete")
	}
	until(t, "the tunnel is gone", func() bool { return !d.State()[0].Up })
}

// TestRevoked revokes a cluster that has a tunnel.
func TestRevoked(t *testing.T) {
	var revoked atomic.Bool
	asked := func(cluster string, issued time.Time) bool {
		return revoked.Load() && (cluster == "m1" || cluster == "m2") && issued.Before(time.Now())
	}
	p := newPKI(t)
	s := serve(t, p, accepting(func(s tunnel.Stream) { _, _ = readAll(s) }), func(o *tunnel.ServerOptions) { o.Revoked = asked })
	d := s.dial(nil)
	stream := s.open(d, ask)
	s.server.Recheck()
	if !d.State()[0].Up {
		t.Error("cut, though nobody was revoked")
	}
	revoked.Store(true)
	s.server.Recheck()
	if _, err := readAll(stream); err == nil {
		t.Error("the stream of a cluster that was revoked ended as if it were complete")
	}
	until(t, "it is refused when it comes again", func() bool {
		return metric(t, s.server, "hansa_tunnel_refused_total", "revoked") > 1
	})
	if s.server.Recheck(); metric(t, s.server, "hansa_tunnel_tunnels") != 0 {
		t.Error("it came in again")
	}

	// The other way round: here it is known, there it is not.
	revoked.Store(false)
	s = serve(t, p, accepting(func(s tunnel.Stream) { _, _ = readAll(s) }), nil)
	d = s.dial(func(o *tunnel.Options) { o.Revoked = asked })
	stream = s.open(d, ask)
	revoked.Store(true)
	d.Recheck()
	if _, err := readAll(stream); err == nil {
		t.Error("the stream to a cluster that was revoked ended as if it were complete")
	}
	until(t, "it is not connected to again", func() bool { return d.State()[0].Problem != "" })
}

// TestMetrics registers both sides in one place, as a gateway does.
func TestMetrics(t *testing.T) {
	s := serve(t, newPKI(t), accepting(echo), nil)
	d := s.dial(nil)
	s.open(d, ask)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.server, d)
	until(t, "the time to the other side is known", func() bool { return d.State()[0].RTT > 0 })
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sides := map[string]int{}
	for _, f := range families {
		sides[f.GetName()] = len(f.GetMetric())
	}
	if sides["hansa_tunnel_tunnels"] != 2 || sides["hansa_tunnel_rtt_seconds"] == 0 {
		t.Errorf("%v", sides)
	}
}

// TestUncertain checks what Open says when the first flight may have arrived.
func TestUncertain(t *testing.T) {
	r := &relays{}
	s := serve(t, newPKI(t), func(_ context.Context, _ identity.ID, _ time.Time, _ tunnel.Request, in tunnel.Incoming) {
		r.each(func(w *wire) { _ = w.Close() })
		in.Refuse(tunnel.Busy, "too late")
	}, nil)
	d := s.dial(func(o *tunnel.Options) { o.Dial = r.Dial })
	request := ask
	request.Data = []byte("order one, please")
	if _, err := d.Open(t.Context(), s.peer, request); !errors.Is(err, tunnel.ErrUncertain) {
		t.Errorf("got %v", err)
	}
}

// TestPeers changes who is there.
func TestPeers(t *testing.T) {
	p := newPKI(t)
	a, b := serve(t, p, accepting(echo), nil), serve(t, p, accepting(echo), nil)
	d := a.dial(nil)
	stream := a.open(d, ask)
	if _, err := d.Open(t.Context(), b.peer, ask); !errors.Is(err, tunnel.ErrUnknownPeer) {
		t.Errorf("a gateway that nobody named: %v", err)
	}
	changed := d.Changed()
	d.SetPeers([]tunnel.Peer{b.peer})
	<-changed
	b.open(d, ask)
	if states := d.State(); len(states) != 1 || states[0].Peer != b.peer || !states[0].Up || states[0].Streams != 1 {
		t.Errorf("%+v", states)
	}
	if _, err := d.Open(t.Context(), a.peer, ask); !errors.Is(err, tunnel.ErrUnknownPeer) {
		t.Errorf("a gateway that is gone: %v", err)
	}
	_, _ = io.WriteString(stream, "still there")
	_ = stream.CloseWrite()
	if got, err := readAll(stream); got != "still there" || err != nil {
		t.Errorf("a stream to a gateway that is gone: %q, %v", got, err)
	}
	until(t, "its tunnel ends with it", func() bool { return metric(t, a.server, "hansa_tunnel_tunnels") == 0 })
	if n := metric(t, d, "hansa_tunnel_died_total") + metric(t, a.server, "hansa_tunnel_died_total"); n != 0 {
		t.Errorf("%v tunnels are said to have died", n)
	}

	b.end()
	until(t, "nobody is there", func() bool { s := d.State()[0]; return !s.Up && s.Problem != "" && s.Tunnels == 0 })
	until(t, "that is said at once", func() bool {
		_, err := d.Open(t.Context(), b.peer, ask)
		return errors.Is(err, tunnel.ErrNotUp)
	})
	d.Close()
	d.SetPeers([]tunnel.Peer{a.peer})
	if len(d.State()) != 0 {
		t.Error("a dialer that was closed has peers")
	}
}

// TestGone checks that a gateway which dies is told from one that leaves.
func TestGone(t *testing.T) {
	p := newPKI(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 16)
	s := serve(t, p, accepting(echo), func(o *tunnel.ServerOptions) { o.Listener = kept{l, conns} })
	d := s.dial(nil)
	s.open(d, ask)
	_ = (<-conns).(*net.TCPConn).CloseWrite()
	until(t, "it is counted", func() bool { return metric(t, d, "hansa_tunnel_died_total") == 1 })
	until(t, "there is another tunnel", func() bool { return d.State()[0].Up })
	s.open(d, ask)

	leaving := serve(t, p, accepting(echo), nil)
	d = leaving.dial(nil)
	_ = leaving.open(d, ask).Reset()
	until(t, "no stream is left", func() bool { return metric(t, leaving.server, "hansa_tunnel_streams") == 0 })
	leaving.end()
	until(t, "its tunnel is gone", func() bool { return !d.State()[0].Up })
	if n := metric(t, d, "hansa_tunnel_died_total"); n != 0 {
		t.Errorf("%v tunnels are said to have died", n)
	}
}

// kept hands on what it accepts.
type kept struct {
	net.Listener

	conns chan<- net.Conn
}

func (k kept) Accept() (net.Conn, error) {
	c, err := k.Listener.Accept()
	if err == nil {
		k.conns <- c
	}
	return c, err
}

// TestNotUpAtOnce checks that nobody waits for a tunnel to a gateway whose tunnels died.
func TestNotUpAtOnce(t *testing.T) {
	s := serve(t, newPKI(t), accepting(echo), nil)
	r := &relays{}
	var dials atomic.Int64
	d := s.dial(func(o *tunnel.Options) {
		o.DialTimeout = patience
		o.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			if dials.Add(1) > 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return r.Dial(ctx, to)
		}
	})
	s.open(d, ask)
	r.each(func(w *wire) { _ = w.Close() })
	until(t, "it is known", func() bool { return !d.State()[0].Up })
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	if _, err := d.Open(ctx, s.peer, ask); !errors.Is(err, tunnel.ErrNotUp) {
		t.Errorf("got %v", err)
	}
}

// TestLeaving checks that a gateway which said that it leaves is up until its last stream has ended and nobody took over.
func TestLeaving(t *testing.T) {
	s := serve(t, newPKI(t), accepting(echo), func(o *tunnel.ServerOptions) { o.DrainTimeout = patience })
	d := s.dial(nil)
	stream := s.open(d, ask)
	s.stop()
	until(t, "nobody took over", func() bool { return d.State()[0].Problem != "" })
	if state := d.State()[0]; !state.Up || state.Tunnels != 0 {
		t.Errorf("%+v", state)
	}
	_ = stream.CloseWrite()
	if got, err := readAll(stream); got != "" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	until(t, "it is down", func() bool { return !d.State()[0].Up })
}
