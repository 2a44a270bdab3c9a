package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
)

// opaque hides that a stream is a socket.
type opaque struct{ relay.Stream }

// wire returns both ends of a TCP connection.
func wire(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	one, err := net.Dial("tcp", l.Addr().String()) //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = one.Close(), other.Close() })
	for _, c := range []net.Conn{one, other} {
		_ = c.SetDeadline(time.Now().Add(patience))
	}
	return one.(*net.TCPConn), other.(*net.TCPConn)
}

// between is what relays between a client and a server.
type between func(t *testing.T, ctx context.Context, client, server *net.TCPConn, up []byte, idle time.Duration, b *relay.Bytes) <-chan relay.Outcome

// ways are all that relay between two connections.
func ways(t *testing.T) map[string]between {
	t.Helper()
	streams := func(wrap func(*net.TCPConn) relay.Stream) between {
		return func(_ *testing.T, ctx context.Context, client, server *net.TCPConn, up []byte, idle time.Duration, b *relay.Bytes) <-chan relay.Outcome {
			ended := make(chan relay.Outcome, 1)
			go func() { ended <- relay.Streams(ctx, relay.TCP(client), wrap(server), up, idle, b) }()
			return ended
		}
	}
	return map[string]between{
		"Sockets": streams(relay.TCP),
		"Streams": streams(func(c *net.TCPConn) relay.Stream { return opaque{relay.TCP(c)} }),
		"Loops": func(t *testing.T, ctx context.Context, client, server *net.TCPConn, up []byte, idle time.Duration, b *relay.Bytes) <-chan relay.Outcome {
			pipes := relay.NewPipes(2, 0)
			loops, err := relay.NewLoops(2, idle, pipes)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { loops.Close(); pipes.Close() })
			ended := make(chan relay.Outcome, 1)
			if err := loops.Join(client, server, up, b, func(o relay.Outcome) { ended <- o }); err != nil {
				t.Fatal(err)
			}
			context.AfterFunc(ctx, loops.Abort)
			return ended
		},
	}
}

// each runs a test for all that relay, between a client and a server that the test has the far ends of.
func each(t *testing.T, idle time.Duration, up string, test func(t *testing.T, client, server *net.TCPConn, b *relay.Bytes, ended <-chan relay.Outcome, abort func())) {
	t.Helper()
	for name, way := range ways(t) {
		t.Run(name, func(t *testing.T) {
			client, a := wire(t)
			b, server := wire(t)
			ctx, abort := context.WithCancel(context.Background())
			defer abort()
			count := &relay.Bytes{}
			test(t, client, server, count, way(t, ctx, a, b, []byte(up), idle, count), abort)
		})
	}
}

func ends(t *testing.T, ended <-chan relay.Outcome, want relay.Outcome) {
	t.Helper()
	select {
	case got := <-ended:
		if got != want {
			t.Errorf("ended as %s, want %s", got, want)
		}
	case <-time.After(patience):
		t.Error("does not end")
	}
}

// TestBothWays holds that everything arrives, and that the end of each direction does alone.
func TestBothWays(t *testing.T) {
	each(t, time.Hour, "first ", func(t *testing.T, client, server *net.TCPConn, b *relay.Bytes, ended <-chan relay.Outcome, _ func()) {
		large := make([]byte, 5<<20)
		chance := rand.NewChaCha8([32]byte{1})
		_, _ = chance.Read(large)
		go func() {
			for rest := large; len(rest) > 0; {
				n := min(len(rest), 1+rand.IntN(100_000))
				_, _ = client.Write(rest[:n])
				rest = rest[n:]
			}
			_ = client.CloseWrite()
		}()
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, append([]byte("first "), large...)) {
			t.Fatalf("the server has %d octets, %v", len(got), err)
		}
		go func() {
			_, _ = server.Write(large[:1<<20])
			_ = server.CloseWrite()
		}()
		if got, err = io.ReadAll(client); err != nil || !bytes.Equal(got, large[:1<<20]) {
			t.Fatalf("the client has %d octets, %v", len(got), err)
		}
		ends(t, ended, relay.Done)
		if b.Up.Load() != uint64(len(large))+6 || b.Down.Load() != 1<<20 {
			t.Errorf("counted %d up and %d down", b.Up.Load(), b.Down.Load())
		}
	})
}

// TestStreamsReset holds that what breaks on one side breaks on the other.
func TestStreamsReset(t *testing.T) {
	each(t, time.Hour, "", func(t *testing.T, client, server *net.TCPConn, _ *relay.Bytes, ended <-chan relay.Outcome, _ func()) {
		_ = relay.TCP(client).Reset()
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
		ends(t, ended, relay.ClientReset)
	})
	each(t, time.Hour, "", func(t *testing.T, client, server *net.TCPConn, _ *relay.Bytes, ended <-chan relay.Outcome, _ func()) {
		_ = relay.TCP(server).Reset()
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
		ends(t, ended, relay.ServerReset)
	})
}

// TestStreamsEnd holds that what rests too long, or must end, does.
func TestStreamsEnd(t *testing.T) {
	each(t, 100*time.Millisecond, "", func(t *testing.T, client, _ *net.TCPConn, _ *relay.Bytes, ended <-chan relay.Outcome, _ func()) {
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
		ends(t, ended, relay.Idle)
	})
	each(t, time.Hour, "", func(t *testing.T, client, server *net.TCPConn, _ *relay.Bytes, ended <-chan relay.Outcome, abort func()) {
		_, _ = client.Write([]byte("x"))
		_, _ = io.ReadFull(server, make([]byte, 1))
		abort()
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
		ends(t, ended, relay.Aborted)
	})
}

// TestStuck holds that a side that takes nothing holds up the other, and that its reset is noticed then too.
func TestStuck(t *testing.T) {
	each(t, time.Hour, "", func(t *testing.T, client, server *net.TCPConn, _ *relay.Bytes, ended <-chan relay.Outcome, _ func()) {
		_ = client.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		for { // until nothing goes any more
			if _, err := client.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		_ = relay.TCP(server).Reset()
		ends(t, ended, relay.ServerReset)
	})
}

// TestJoinClosed holds that loops that have ended take nothing.
func TestJoinClosed(t *testing.T) {
	pipes := relay.NewPipes(0, 0)
	loops, err := relay.NewLoops(0, time.Hour, pipes)
	if err != nil {
		t.Fatal(err)
	}
	loops.Close()
	client, a := wire(t)
	b, _ := wire(t)
	if err := loops.Join(a, b, nil, nil, nil); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := a.Write([]byte("x")); err != nil {
		t.Errorf("the connection is not the caller's any more: %v", err)
	}
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// TestExchange holds that datagrams stay whole, and that the end of one side is the end of both.
func TestExchange(t *testing.T) {
	udp := func() (near net.PacketConn, far *net.UDPConn) {
		near, err := net.ListenPacket("udp", "127.0.0.1:0") //nolint:noctx // a test's
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("udp", near.LocalAddr().String()) //nolint:noctx // a test's
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = near.Close(), conn.Close() })
		_ = near.SetDeadline(time.Now().Add(patience))
		return near, conn.(*net.UDPConn)
	}
	client, a := udp()
	server, b := udp()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan relay.Outcome, 1)
	count := &relay.Bytes{}
	go func() {
		ended <- relay.Exchange(ctx, opaque{relay.UDP(a)}, relay.UDP(b), []byte("first"), time.Hour, count)
	}()
	buffer := make([]byte, 65536)
	n, _, err := server.ReadFrom(buffer)
	if err != nil || string(buffer[:n]) != "first" {
		t.Fatalf("got %q, %v", buffer[:n], err)
	}
	for _, size := range []int{0, 1, 1400, 40000} {
		for _, way := range []struct {
			from net.PacketConn
			peer net.Addr
			to   net.PacketConn
		}{{client, a.LocalAddr(), server}, {server, b.LocalAddr(), client}} {
			if _, err := way.from.WriteTo(make([]byte, size), way.peer); err != nil {
				t.Fatal(err)
			}
			if n, _, err := way.to.ReadFrom(buffer); err != nil || n != size {
				t.Errorf("got %d octets of %d, %v", n, size, err)
			}
		}
	}
	cancel()
	ends(t, ended, relay.Aborted)
	if count.Up.Load() != 41406 || count.Down.Load() != 41401 {
		t.Errorf("counted %d up and %d down", count.Up.Load(), count.Down.Load())
	}
	_, c := udp()
	_, d := udp()
	if o := relay.Exchange(context.Background(), relay.UDP(c), relay.UDP(d), nil, 50*time.Millisecond, count); o != relay.Idle {
		t.Errorf("got %s", o)
	}
}
