package tunnel_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// TestEnds has each side end in each way, and looks at what the other side sees.
func TestEnds(t *testing.T) {
	say := func(text string, end func(tunnel.Stream) error) func(tunnel.Stream) {
		return func(s tunnel.Stream) {
			_, _ = io.WriteString(s, text)
			_ = end(s)
		}
	}
	none := func(tunnel.Stream) error { return nil }
	asked := func(then func(tunnel.Stream)) func(tunnel.Stream) {
		return func(s tunnel.Stream) {
			_, _ = s.Read(make([]byte, 1))
			then(s)
		}
	}
	p := newPKI(t)
	for name, tc := range map[string]struct {
		reason string
		server func(tunnel.Stream)
		client func(tunnel.Stream)
		want   string
		reset  bool
	}{
		"Whole":  {reason: "The end comes after all that was said.", server: say("hello", tunnel.Stream.CloseWrite), want: "hello"},
		"Closed": {reason: "Close delivers what was written.", server: say("hello", func(s tunnel.Stream) error { return s.Close() }), want: "hello"},
		"Empty":  {reason: "Nothing is a complete answer.", server: say("", tunnel.Stream.CloseWrite)},
		"Reset":  {reason: "A reset is no end: what came before may be a part.", server: asked(say("hello", tunnel.Stream.Reset)), client: say("?", none), reset: true},
		"Silent": {reason: "Nor is it when nothing was said.", server: asked(say("", tunnel.Stream.Reset)), client: say("?", none), reset: true},
		"Echo":   {reason: "One direction ends, the other goes on.", server: echo, client: say("ping", tunnel.Stream.CloseWrite), want: "ping"},
		"Late": {
			reason: "A side that has ended still hears an answer that is made of all it said.",
			server: func(s tunnel.Stream) { all, _ := readAll(s); say(strings.ToUpper(all), tunnel.Stream.CloseWrite)(s) },
			client: say("ping", tunnel.Stream.CloseWrite), want: "PING",
		},
		"Unread": {
			reason: "Who closes without reading what was said resets, as TCP does: it may have mattered.",
			server: asked(func(s tunnel.Stream) { _ = s.Close() }),
			client: say("ping", tunnel.Stream.CloseWrite), reset: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, p, accepting(tc.server), nil)
			d := s.dial(nil)
			stream := s.open(d, ask)
			if tc.client != nil {
				tc.client(stream)
			}
			got, err := readAll(stream)
			_, reset := errors.AsType[*tunnel.ResetError](err)
			if reset != tc.reset || !tc.reset && (err != nil || got != tc.want) {
				t.Errorf("%s\ngot %q, %v", tc.reason, got, err)
			}
		})
	}
}

// TestResetOfClient checks what a handler sees of a client that gives up.
func TestResetOfClient(t *testing.T) {
	read, written := make(chan error, 1), make(chan error, 1)
	s := serve(t, newPKI(t), accepting(func(s tunnel.Stream) {
		go func() {
			_, err := io.Copy(s, rand.NewChaCha8([32]byte{}))
			written <- err
		}()
		_, err := readAll(s)
		read <- err
	}), nil)
	d := s.dial(nil)
	stream := s.open(d, ask)
	if _, err := io.ReadFull(stream, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := stream.Reset(); err != nil {
		t.Fatal(err)
	}
	for what, end := range map[string]chan error{"read": read, "write": written} {
		if _, reset := errors.AsType[*tunnel.ResetError](<-end); !reset {
			t.Errorf("the handler could still %s", what)
		}
	}
	if _, err := stream.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a stream that was reset here is read: %v", err)
	}
	if _, err := stream.Write([]byte("x")); err == nil {
		t.Error("a stream that was reset here is written")
	}
	until(t, "no stream is left", func() bool {
		return metric(t, d, "hansa_tunnel_streams") == 0 && metric(t, s.server, "hansa_tunnel_streams") == 0
	})
}

// TestRequest checks that a handler gets what was asked for.
func TestRequest(t *testing.T) {
	got := make(chan tunnel.Request, 1)
	who := make(chan identity.ID, 1)
	s := serve(t, newPKI(t), func(_ context.Context, from identity.ID, issued time.Time, r tunnel.Request, in tunnel.Incoming) {
		if issued.IsZero() {
			t.Error("nobody knows when the certificate was issued")
		}
		got <- r
		who <- from
		_, _ = in.Accept()
	}, nil)
	d := s.dial(nil)
	for name, r := range map[string]tunnel.Request{
		"Plain":       ask,
		"Probe":       {},
		"Datagrams":   {Service: web, Port: 53, Datagrams: true},
		"Pod":         {Service: web, Port: 80, Hostname: "web-0"},
		"FirstFlight": {Service: web, Port: 80, Data: bytes.Repeat([]byte("x"), tunnel.MaxData)},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() { _ = s.open(d, r).Reset() }()
		})
		if diff := cmp.Diff(r, <-got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if from := <-who; from != identity.ClusterID(domain, "m1", identity.RoleGateway) {
			t.Errorf("%s: from %s", name, from)
		}
	}
}

func TestRefuse(t *testing.T) {
	p := newPKI(t)
	for name, tc := range map[string]struct {
		reason  string
		handler func(tunnel.Incoming)
		request tunnel.Request
		want    tunnel.Refused
		wantErr string
	}{
		"Refused": {
			reason: "The code and the message arrive.", request: ask,
			handler: func(in tunnel.Incoming) { in.Refuse(tunnel.Forbidden, "m1 may not use shop/web") },
			want:    tunnel.Refused{Code: tunnel.Forbidden, Message: "m1 may not use shop/web"},
		},
		"Nobody": {
			reason: "A handler that forgets to answer does not leave anybody waiting.", request: ask,
			handler: func(tunnel.Incoming) {}, want: tunnel.Refused{Code: tunnel.Internal, Message: "nobody answered"},
		},
		"Long": {
			reason: "A message has an end.", request: ask,
			handler: func(in tunnel.Incoming) { in.Refuse(tunnel.Busy, strings.Repeat("x", 1000)+"\n") },
			want:    tunnel.Refused{Code: tunnel.Busy, Message: strings.Repeat("x", tunnel.MaxMessage)},
		},
		"Control": {
			reason: "What is logged elsewhere is text.", request: ask,
			handler: func(in tunnel.Incoming) { in.Refuse(tunnel.Busy, "a\nb\x1b[1m\xff") },
			want:    tunnel.Refused{Code: tunnel.Busy, Message: "a?b?[1m?"},
		},
		"Twice": {
			reason: "The first answer counts.", request: ask,
			handler: func(in tunnel.Incoming) {
				in.Refuse(tunnel.NotFound, "")
				in.Refuse(tunnel.Busy, "")
				if _, err := in.Accept(); err == nil {
					panic("accepted after it was refused")
				}
			},
			want: tunnel.Refused{Code: tunnel.NotFound},
		},
		"BadRequest": {reason: "What cannot be asked for is not sent.", request: tunnel.Request{Service: web}, wantErr: "no port"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, p, func(_ context.Context, _ identity.ID, _ time.Time, _ tunnel.Request, in tunnel.Incoming) {
				tc.handler(in)
			}, nil)
			d := s.dial(nil)
			_, err := d.Open(t.Context(), s.peer, tc.request)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("%s\ngot %v", tc.reason, err)
				}
				return
			}
			no, _ := errors.AsType[*tunnel.Refused](err)
			if diff := cmp.Diff(&tc.want, no); diff != "" {
				t.Errorf("%s\n%v\n%s", tc.reason, err, diff)
			}
			until(t, "the stream is gone", func() bool { return metric(t, s.server, "hansa_tunnel_streams") == 0 })
		})
	}
}

// TestCancel checks that what the other gateway does for a stream ends with the context of Open.
func TestCancel(t *testing.T) {
	undone := make(chan error, 1)
	begun := make(chan struct{})
	s := serve(t, newPKI(t), func(ctx context.Context, _ identity.ID, _ time.Time, _ tunnel.Request, _ tunnel.Incoming) {
		close(begun)
		<-ctx.Done()
		undone <- context.Cause(ctx)
	}, nil)
	d := s.dial(nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if _, err := d.Open(ctx, s.peer, ask); !errors.Is(err, context.Canceled) {
		t.Errorf("Open returned %v", err)
	}
	if _, reset := errors.AsType[*tunnel.ResetError](<-undone); !reset {
		t.Error("the handler was not told that the stream was reset")
	}
	if n := metric(t, d, "hansa_tunnel_opens_total", "canceled"); n != 1 {
		t.Errorf("%v streams were counted as canceled", n)
	}
}

// TestCancelAtAnyTime has contexts end while streams are being opened, refused and reset, whichever comes first.
func TestCancelAtAnyTime(t *testing.T) {
	s := serve(t, newPKI(t), func(_ context.Context, _ identity.ID, _ time.Time, _ tunnel.Request, in tunnel.Incoming) {
		in.Refuse(tunnel.NoEndpoint, "")
	}, nil)
	d := s.dial(func(o *tunnel.Options) { o.Streams = 300 })
	until(t, "the tunnel is up", func() bool { return d.State()[0].Tunnels == 1 })
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 250 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(1000))*time.Microsecond)
				if stream, err := d.Open(ctx, s.peer, ask); err == nil {
					t.Errorf("a stream that was refused is open: %v", stream)
				}
				cancel()
			}
		})
	}
	all.Wait()
	until(t, "no stream is left", func() bool { return metric(t, d, "hansa_tunnel_streams") == 0 })
}

// TestThousand has a thousand streams at the same time say different things.
func TestThousand(t *testing.T) {
	s := serve(t, newPKI(t), accepting(echo), nil)
	d := s.dial(func(o *tunnel.Options) { o.Tunnels = 4; o.Streams = 300 })
	until(t, "all tunnels are up", func() bool { return d.State()[0].Tunnels == 4 })
	var all sync.WaitGroup
	open, all1000 := sync.WaitGroup{}, make(chan struct{})
	open.Add(1000)
	go func() { open.Wait(); close(all1000) }()
	for i := range 1000 {
		all.Go(func() {
			text := strings.Repeat(fmt.Sprintf("stream %d ", i), 1000)
			stream, err := d.Open(t.Context(), s.peer, ask)
			open.Done()
			if err != nil {
				t.Error(err)
				return
			}
			<-all1000
			go func() { _, _ = io.WriteString(stream, text); _ = stream.CloseWrite() }()
			if got, err := readAll(stream); got != text || err != nil {
				t.Errorf("stream %d: got %d octets, %v", i, len(got), err)
			}
		})
	}
	all.Wait()
	until(t, "no stream is left", func() bool { return metric(t, d, "hansa_tunnel_streams") == 0 })
	if n := metric(t, d, "hansa_tunnel_opens_total", "opened"); n != 1000 {
		t.Errorf("%v streams were counted", n)
	}
}

// TestFull checks that there are limits on both sides, and what one is told.
func TestFull(t *testing.T) {
	s := serve(t, newPKI(t), accepting(echo), func(o *tunnel.ServerOptions) { o.Streams = 5 })
	d := s.dial(func(o *tunnel.Options) { o.Streams = 6 })
	for range 5 {
		s.open(d, ask)
	}
	_, err := d.Open(t.Context(), s.peer, ask)
	if no, ok := errors.AsType[*tunnel.Refused](err); !ok || no.Code != tunnel.Busy {
		t.Errorf("the server takes more than it should: %v", err)
	}
	d = s.dial(func(o *tunnel.Options) { o.Streams = 1 })
	s.open(d, ask)
	if _, err := d.Open(t.Context(), s.peer, ask); !errors.Is(err, tunnel.ErrFull) {
		t.Errorf("the dialer takes more than it should: %v", err)
	}
}

// TestSlowReader checks that one stream that nobody reads stops neither the others nor the memory from having an end.
func TestSlowReader(t *testing.T) {
	wrote := make(chan int64, 1)
	s := serve(t, newPKI(t), accepting(func(s tunnel.Stream) {
		first := make([]byte, 1)
		if _, err := s.Read(first); err != nil || first[0] != 's' {
			_, _ = s.Write(first)
			echo(s)
			return
		}
		n, _ := io.Copy(s, rand.NewChaCha8([32]byte{}))
		wrote <- n
	}), nil)
	d := s.dial(nil)
	slow := s.open(d, ask)
	if _, err := slow.Write([]byte("s")); err != nil {
		t.Fatal(err)
	}
	before := -1.0
	until(t, "the slow stream is stuck", func() bool {
		now := metric(t, s.server, "hansa_tunnel_bytes_total", "out")
		stuck := now == before && now > 200<<10
		before = now
		return stuck
	})
	for range 10 {
		stream := s.open(d, ask)
		if _, err := io.WriteString(stream, "hello"); err != nil {
			t.Fatal(err)
		}
		_ = stream.CloseWrite()
		if got, err := readAll(stream); got != "hello" || err != nil {
			t.Fatalf("beside a stream that is stuck: %q, %v", got, err)
		}
	}
	_ = slow.Reset()
	if n := <-wrote; n > 256<<10 {
		t.Errorf("%d octets were sent to somebody who reads nothing", n)
	}
}

// TestBulk moves more than any window, both ways at once.
func TestBulk(t *testing.T) {
	const size = 24 << 20
	s := serve(t, newPKI(t), accepting(echo), nil)
	d := s.dial(nil)
	stream := s.open(d, ask)
	sent, got := sha256.New(), sha256.New()
	go func() {
		_, _ = io.Copy(io.MultiWriter(stream, sent), io.LimitReader(rand.NewChaCha8([32]byte{1}), size))
		_ = stream.CloseWrite()
	}()
	n, err := io.Copy(got, stream)
	if err != nil || n != size || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Errorf("%d octets came back: %v", n, err)
	}
	until(t, "windows are given back", func() bool {
		return metric(t, d, "hansa_tunnel_window_bytes")+metric(t, s.server, "hansa_tunnel_window_bytes") == 0
	})
}

// TestLinger checks that a stream which was closed here does not stay because the other side says nothing.
func TestLinger(t *testing.T) {
	ended := make(chan error, 1)
	s := serve(t, newPKI(t), accepting(func(s tunnel.Stream) {
		_, _ = readAll(s) // and does not close
		_, err := s.Read(make([]byte, 1))
		for err == nil || errors.Is(err, io.EOF) {
			_, err = s.Read(make([]byte, 1))
		}
		ended <- err
	}), nil)
	d := s.dial(func(o *tunnel.Options) { o.Linger = time.Millisecond })
	if err := s.open(d, ask).Close(); err != nil {
		t.Fatal(err)
	}
	if _, reset := errors.AsType[*tunnel.ResetError](<-ended); !reset {
		t.Error("it was not reset")
	}
	until(t, "no stream is left", func() bool { return metric(t, d, "hansa_tunnel_streams") == 0 })
}

func TestDeadlines(t *testing.T) {
	s := serve(t, newPKI(t), accepting(func(s tunnel.Stream) { _, _ = s.Read(make([]byte, 1)) }), nil)
	stream := s.open(s.dial(nil), ask)
	var timeout interface{ Timeout() bool }
	_ = stream.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := stream.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("reading with a deadline: %v", err)
	}
	_ = stream.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := io.Copy(stream, rand.NewChaCha8([32]byte{})); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("writing with a deadline: %v", err)
	}
}
