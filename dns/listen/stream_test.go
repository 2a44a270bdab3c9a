package listen_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/dns/listen"
)

// loopback are options for TCP on a free port, with one engine beside it.
func loopback() listen.Options {
	return listen.Options{UDP: []string{"127.0.0.1:0"}, Engines: 1}
}

// mirror answers a query with itself.
func mirror(dst, query []byte, _ listen.Source) []byte { return append(dst, query...) }

func TestPipelining(t *testing.T) {
	s, _ := start(t, loopback(), listen.HandlerFunc(mirror))
	var queries []string
	for i := range 300 {
		queries = append(queries, fmt.Sprintf("query %d", i))
	}
	large := strings.Repeat("l", 1<<16-1)
	for name, test := range map[string]struct {
		reason  string
		queries []string
		piece   int // octets that are sent at once; 0: all
	}{
		"Many":       {"all are answered, in order", queries, 0},
		"Pieces":     {"wherever the pieces of a stream begin", queries[:20], 1},
		"OddPieces":  {"also within the length", queries[:100], 7},
		"Large":      {"the largest message, among others", []string{"a", large, "b", large, large, "c"}, 0},
		"LargeParts": {"in parts", []string{"a", large, "b"}, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, "tcp", s.Addrs(listen.TCP)[0])
			var all []byte
			for _, q := range test.queries {
				all = append(all, frame(q)...)
			}
			var writer sync.WaitGroup
			writer.Go(func() {
				piece := test.piece
				if piece == 0 {
					piece = len(all)
				}
				for part := range len(all)/piece + 1 {
					if _, err := conn.Write(all[min(part*piece, len(all)):min((part+1)*piece, len(all))]); err != nil {
						t.Error(err)
					}
				}
			})
			for _, want := range test.queries {
				if got := receive(t, conn); got != want {
					t.Fatalf("%s: got %d octets %.20q, want %d octets %.20q", test.reason, len(got), got, len(want), want)
				}
			}
			writer.Wait()
		})
	}
}

// TestTooLongResponse ends a connection to which a handler wants to say more than a message holds, after what came before.
func TestTooLongResponse(t *testing.T) {
	s, _ := start(t, loopback(), listen.HandlerFunc(func(dst, query []byte, _ listen.Source) []byte {
		if string(query) == "long" {
			return make([]byte, 1<<16)
		}
		return append(dst, query...)
	}))
	conn := dial(t, "tcp", s.Addrs(listen.TCP)[0])
	send(t, conn, "short", "long", "never answered")
	if got := closed(t, conn); got != string(frame("short")) {
		t.Errorf("got %q", got)
	}
}

// TestPartialQueryDoesNotHoldBackAnswers sends one and a half queries: the first is answered before the rest arrives.
func TestPartialQueryDoesNotHoldBackAnswers(t *testing.T) {
	s, _ := start(t, loopback(), listen.HandlerFunc(mirror))
	conn := dial(t, "tcp", s.Addrs(listen.TCP)[0])
	second := frame("second")
	if _, err := conn.Write(append(frame("first"), second[:4]...)); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, conn); got != "first" {
		t.Errorf("got %q", got)
	}
	if _, err := conn.Write(second[4:]); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, conn); got != "second" {
		t.Errorf("got %q", got)
	}
}

func TestSlowPeers(t *testing.T) {
	flood := listen.HandlerFunc(func(dst, _ []byte, _ listen.Source) []byte { return append(dst, make([]byte, 60_000)...) })
	for name, test := range map[string]struct {
		reason  string
		options listen.Options
		send    func(conn net.Conn, tick <-chan time.Time) error // until it fails
		want    listen.StreamStats
	}{
		"OneOctetATime": {
			"a query has to arrive as a whole in time, however often a part of it comes",
			listen.Options{ReadTimeout: 100 * time.Millisecond},
			func(conn net.Conn, tick <-chan time.Time) error {
				query := frame(strings.Repeat("x", 60_000))
				for i := range query {
					if _, err := conn.Write(query[i : i+1]); err != nil {
						return err
					}
					<-tick
				}
				return nil
			},
			listen.StreamStats{Accepted: 1, TimedOut: 1},
		},
		"NeverReads": {
			"a response has to be taken in time",
			listen.Options{WriteTimeout: 100 * time.Millisecond},
			func(conn net.Conn, _ <-chan time.Time) error {
				for {
					if _, err := conn.Write(frame("more")); err != nil {
						return err
					}
				}
			},
			listen.StreamStats{Accepted: 1, TimedOut: 1},
		},
		"Idle": {
			"a connection that asks nothing is closed, and that is nobody's fault",
			listen.Options{IdleTimeout: 50 * time.Millisecond},
			func(conn net.Conn, _ <-chan time.Time) error {
				_, err := conn.Read(make([]byte, 1))
				return err
			},
			listen.StreamStats{Accepted: 1},
		},
		"Empty": {
			"a message of no octets is no message",
			listen.Options{},
			func(conn net.Conn, _ <-chan time.Time) error {
				if _, err := conn.Write([]byte{0, 0}); err != nil {
					return err
				}
				_, err := conn.Read(make([]byte, 1))
				return err
			},
			listen.StreamStats{Accepted: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.UDP, test.options.Engines = []string{"127.0.0.1:0"}, 1
			s, _ := start(t, test.options, flood)
			ticker := time.NewTicker(5 * time.Millisecond)
			defer ticker.Stop()
			if err := test.send(dial(t, "tcp", s.Addrs(listen.TCP)[0]), ticker.C); err == nil {
				t.Errorf("%s: the connection stays", test.reason)
			}
			eventually(t, test.reason, func() bool {
				got := s.Stats().Streams[listen.TCP]
				got.Queries = 0
				return got == test.want
			})
		})
	}
}

func TestLimits(t *testing.T) {
	for name, test := range map[string]struct {
		reason             string
		limit, perPeer     int
		peers              []string // one connection each; all but the last get an answer first
		busy               bool     // those wait for an answer
		evicted, refused   uint64
		gone               int // which connection is closed
		stillThereAfterAll []int
	}{
		"Room":         {"within the limits nobody goes", 3, 3, []string{"127.0.0.1", "127.0.0.1", "127.0.0.1"}, false, 0, 0, -1, []int{0, 1, 2}},
		"InAll":        {"who was idle for longest makes room", 2, 9, []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}, false, 1, 0, 0, []int{1, 2}},
		"OfOnePeer":    {"a peer makes room for itself", 9, 2, []string{"127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.2"}, false, 1, 0, 1, []int{0, 2, 3}},
		"AllBusy":      {"who is being answered stays, and the new one goes", 2, 9, []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}, true, 0, 1, 2, nil},
		"OnePeersBusy": {"also of one peer", 9, 1, []string{"127.0.0.1", "127.0.0.2", "127.0.0.2"}, true, 0, 1, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := &modes{hold: make(chan struct{})}
			s, _ := start(t, listen.Options{UDP: []string{"127.0.0.1:0"}, Engines: 1, Connections: test.limit, PerPeer: test.perPeer}, h)
			var conns []net.Conn
			for i, peer := range test.peers {
				dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(peer)}, Deadline: time.Now().Add(patience)}
				conn, err := dialer.Dial("tcp", s.Addrs(listen.TCP)[0].String())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				conns = append(conns, conn)
				if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				if i == len(test.peers)-1 {
					break
				}
				if test.busy {
					send(t, conn, "wait")
					eventually(t, "it waits", func() bool { return int(h.waiting.Load()) == i+1 })
					continue
				}
				send(t, conn, "hello")
				receive(t, conn)
				eventually(t, "it is idle", func() bool { return listen.Idle(s) == i+1 })
			}
			if test.gone >= 0 {
				closed(t, conns[test.gone])
			}
			close(h.hold)
			for _, i := range test.stillThereAfterAll {
				send(t, conns[i], "still there")
				if got := receive(t, conns[i]); got != "still there" {
					t.Errorf("%s: connection %d got %q", test.reason, i, got)
				}
			}
			if got := s.Stats().Streams[listen.TCP]; got.Evicted != test.evicted || got.Refused != test.refused {
				t.Errorf("%s: %+v", test.reason, got)
			}
		})
	}
}

func TestIPv6PeersAreNetworks(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7":         "192.0.2.7",
		"2001:db8:1:2:3::4": "2001:db8:1:2::",
		"2001:db8:1:2:9::1": "2001:db8:1:2::",
	} {
		if got := listen.Who(netip.MustParseAddr(addr)); got != netip.MustParseAddr(want) {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
}

func TestStreamer(t *testing.T) {
	s, _ := start(t, loopback(), &modes{})
	conn := dial(t, "tcp", s.Addrs(listen.TCP)[0])
	send(t, conn, "before", "stream", "after")
	for _, want := range []string{"before", "0stream", "1stream", "2stream", "after"} {
		if got := receive(t, conn); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestShutdown(t *testing.T) {
	h := &modes{hold: make(chan struct{})}
	s, stop := start(t, loopback(), h)
	idle, busy, udp := dial(t, "tcp", s.Addrs(listen.TCP)[0]), dial(t, "tcp", s.Addrs(listen.TCP)[0]), dial(t, "udp", s.Addrs(listen.UDP)[0])
	send(t, idle, "hello")
	receive(t, idle)
	send(t, busy, "wait")
	if _, err := udp.Write([]byte("wait")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two queries wait", func() bool { return h.waiting.Load() == 2 })
	done := make(chan error, 1)
	go func() { done <- stop() }()
	if rest := closed(t, idle); rest != "" {
		t.Errorf("an idle connection got %q in the end", rest)
	}
	close(h.hold)
	if got := receive(t, busy); got != "waited: wait" {
		t.Errorf("a query that was under way got %q", got)
	}
	if rest := closed(t, busy); rest != "" {
		t.Errorf("after the answer came %q", rest)
	}
	buffer := make([]byte, 64)
	if n, err := udp.Read(buffer); err != nil || string(buffer[:n]) != "waited: wait" {
		t.Errorf("over UDP a query that was under way got %q, %v", buffer[:n], err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", s.Addrs(listen.TCP)[0].String()); err == nil {
		_ = conn.Close()
		t.Error("the port is still open")
	}
	if got := s.Stats(); got.Streams[listen.TCP].Open != 0 || got.Packets != 1 {
		t.Errorf("after the end: %+v", got)
	}
}

// TestShutdownDoesNotWaitForever has queries wait for what never comes.
func TestShutdownDoesNotWaitForever(t *testing.T) {
	h := &modes{hold: make(chan struct{})}
	o := loopback()
	o.DrainTimeout = 20 * time.Millisecond
	s, stop := start(t, o, h)
	conn, udp := dial(t, "tcp", s.Addrs(listen.TCP)[0]), dial(t, "udp", s.Addrs(listen.UDP)[0])
	send(t, conn, "wait")
	if _, err := udp.Write([]byte("wait")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two queries wait", func() bool { return h.waiting.Load() == 2 })
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestNeverStarted frees the sockets of a server that nobody needs after all.
func TestNeverStarted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s, err := listen.New(loopback(), listen.HandlerFunc(mirror))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	o := listen.Options{UDP: []string{s.Addrs(listen.UDP)[0].String()}, Engines: 2}
	start(t, o, listen.HandlerFunc(mirror))
}

// FuzzStream sends anything over TCP: whole messages are answered in order, and nothing else comes.
func FuzzStream(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0})
	f.Add([]byte{0, 0, 0, 1, 'a'})
	f.Add(append(frame("a"), frame("bc")...))
	f.Add(append(frame("a"), 0, 0)) // an answer is not lost because of what follows
	f.Add(append(frame(strings.Repeat("x", 2000)), 0xff, 0xff, 1))
	s, err := listen.New(loopback(), listen.HandlerFunc(mirror))
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn, err := net.Dial("tcp", s.Addrs(listen.TCP)[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			t.Fatal("no TCP")
		}
		var want []byte
		for rest := bytes.NewReader(sent); ; {
			message, err := read(rest)
			if err != nil || message == "" {
				break
			}
			want = append(want, frame(message)...)
		}
		var writer sync.WaitGroup
		writer.Go(func() {
			_, _ = conn.Write(sent)
			_ = tcp.CloseWrite()
		})
		got, err := io.ReadAll(conn)
		writer.Wait()
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
