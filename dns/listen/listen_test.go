package listen_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/hansa-dev/hansa/dns/listen"
)

// patience bounds every wait of these tests. On a quiet machine none comes near it.
const patience = 20 * time.Second

// echo answers a query with itself after its transport and the address that was asked.
func echo(dst, query []byte, from listen.Source) []byte {
	dst = append(dst, from.Transport.String()...)
	dst = append(dst, ' ')
	dst = from.Local.AppendTo(dst)
	dst = append(dst, ' ')
	return append(dst, query...)
}

// start runs a server until the test ends, and returns it and what stops it earlier and waits for its end.
func start(t *testing.T, o listen.Options, h listen.Handler) (*listen.Server, func() error) {
	t.Helper()
	s, err := listen.New(o, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var result error
	stopped := false
	stop := func() error {
		if stopped {
			return result
		}
		stopped = true
		cancel()
		select {
		case result = <-done:
		case <-time.After(patience):
			result = errors.New("the server does not stop")
		}
		return result
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return s, stop
}

func dial(t *testing.T, network string, addr netip.AddrPort) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask sends a query over UDP and returns the response.
func ask(t *testing.T, conn net.Conn, query string) string {
	t.Helper()
	if _, err := conn.Write([]byte(query)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1<<16)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

// frame puts the length before a message.
func frame(message string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

func send(t *testing.T, conn net.Conn, messages ...string) {
	t.Helper()
	var all []byte
	for _, m := range messages {
		all = append(all, frame(m)...)
	}
	if _, err := conn.Write(all); err != nil {
		t.Fatal(err)
	}
}

func read(conn io.Reader) (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return "", err
	}
	message := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(conn, message)
	return string(message), err
}

func receive(t *testing.T, conn io.Reader) string {
	t.Helper()
	message, err := read(conn)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// closed waits until the other side has closed a connection, and returns what came before that.
func closed(t *testing.T, conn net.Conn) string {
	t.Helper()
	rest, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	return string(rest)
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestBurst(t *testing.T) {
	s, _ := start(t, listen.Options{UDP: []string{"127.0.0.1:0"}, TCP: []string{}}, listen.HandlerFunc(echo))
	conn, ok := dial(t, "udp", s.Addrs(listen.UDP)[0]).(*net.UDPConn)
	if !ok {
		t.Fatal("no UDP connection")
	}
	if err := conn.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	const queries = 1000
	for i := range queries {
		if _, err := fmt.Fprintf(conn, "%04d", i); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	buffer := make([]byte, 512)
	for range queries {
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatalf("after %d responses: %v; %+v", len(seen), err, s.Stats())
		}
		seen[string(buffer[:n])] = true
	}
	if len(seen) != queries {
		t.Errorf("got %d different responses, want %d", len(seen), queries)
	}
	eventually(t, "all are counted", func() bool { return s.Stats().Responses == queries })
	if stats := s.Stats(); stats.Packets != queries || stats.Overflows != 0 || stats.Unsent != 0 || stats.ReceiveBuffer == 0 {
		t.Errorf("stats: %+v", stats)
	}
}

// TestEnginesShare shows that the kernel spreads peers over all sockets, the first one included.
func TestEnginesShare(t *testing.T) {
	const engines = 4
	s, _ := start(t, listen.Options{UDP: []string{"127.0.0.1:0"}, Engines: engines}, listen.HandlerFunc(echo))
	eventually(t, "every engine got a packet", func() bool {
		ask(t, dial(t, "udp", s.Addrs(listen.UDP)[0]), "hello")
		return listen.BusyEngines(s) == engines
	})
}

func TestOddPackets(t *testing.T) {
	silent := listen.HandlerFunc(func(dst, query []byte, _ listen.Source) []byte {
		switch {
		case bytes.Equal(query, []byte("silence")):
			return dst
		case bytes.Equal(query, []byte("nil")):
			return nil
		case bytes.Equal(query, []byte("huge")):
			return make([]byte, 1<<16)
		case bytes.Equal(query, []byte("long")):
			return append(dst, make([]byte, 9000)...)
		default:
			return append(dst, query...)
		}
	})
	s, _ := start(t, listen.Options{UDP: []string{"127.0.0.1:0"}, TCP: []string{}, Engines: 1, UDPSize: 512}, silent)
	conn := dial(t, "udp", s.Addrs(listen.UDP)[0])
	for _, odd := range []string{"", "silence", "nil", "huge", strings.Repeat("x", 513)} {
		if _, err := conn.Write([]byte(odd)); err != nil {
			t.Fatal(err)
		}
	}
	if got := ask(t, conn, strings.Repeat("y", 512)); got != strings.Repeat("y", 512) {
		t.Errorf("the largest query got %q", got)
	}
	if got := ask(t, conn, "long"); len(got) != 9000 {
		t.Errorf("got %d octets of a response that is longer than the room for it", len(got))
	}
	eventually(t, "what could not be answered is counted", func() bool {
		stats := s.Stats()
		return stats.Packets == 7 && stats.Responses == 2 && stats.Oversized == 1 && stats.Unsent == 1
	})
}

func TestPanic(t *testing.T) {
	h := &modes{}
	s, _ := start(t, listen.Options{UDP: []string{"127.0.0.1:0"}, Engines: 1}, h)
	conn := dial(t, "udp", s.Addrs(listen.UDP)[0])
	stream := dial(t, "tcp", s.Addrs(listen.TCP)[0])
	for _, bad := range []string{"panic", "wait panic"} {
		if _, err := conn.Write([]byte(bad)); err != nil {
			t.Fatal(err)
		}
		send(t, stream, bad)
	}
	if got := ask(t, conn, "hello"); got != "hello" {
		t.Errorf("after panics got %q", got)
	}
	send(t, stream, "hello")
	if got := receive(t, stream); got != "hello" {
		t.Errorf("after panics got %q over TCP", got)
	}
	send(t, stream, "stream panic")
	if rest := closed(t, stream); rest != "" {
		t.Errorf("after a panic in the middle of a response came %q", rest)
	}
	eventually(t, "each panic is counted", func() bool { return s.Stats().Panics == 5 })
}

// modes does what a query says.
type modes struct {
	waiting atomic.Int32
	hold    chan struct{}
}

func (m *modes) Respond(dst, query []byte, _ listen.Source) []byte {
	switch {
	case bytes.Equal(query, []byte("panic")):
		panic("as asked")
	case bytes.HasPrefix(query, []byte("wait")):
		return nil
	default:
		return append(dst, query...)
	}
}

func (m *modes) Wait(ctx context.Context, dst, query []byte, _ listen.Source) []byte {
	if bytes.HasSuffix(query, []byte("panic")) {
		panic("as asked")
	}
	m.waiting.Add(1)
	select {
	case <-m.hold:
	case <-ctx.Done():
		return dst
	}
	return append(append(dst, "waited: "...), query...)
}

func (m *modes) Stream(query []byte, _ listen.Source, send func([]byte) error) (bool, error) {
	if bytes.Equal(query, []byte("stream panic")) {
		panic("as asked")
	}
	if !bytes.HasPrefix(query, []byte("stream")) {
		return false, nil
	}
	for i := range 3 {
		if err := send(append([]byte{'0' + byte(i)}, query...)); err != nil {
			return true, err
		}
	}
	return true, nil
}

func TestWaiting(t *testing.T) {
	h := &modes{hold: make(chan struct{})}
	s, _ := start(t, listen.Options{UDP: []string{":0"}, Engines: 1, Waiting: 2}, h)
	conn := dial(t, "udp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), s.Addrs(listen.UDP)[0].Port()))
	for i := range 2 {
		if _, err := fmt.Fprintf(conn, "wait %d", i); err != nil {
			t.Fatal(err)
		}
	}
	if got := ask(t, conn, "hello"); got != "hello" {
		t.Errorf("while others wait got %q", got)
	}
	eventually(t, "two wait", func() bool { return h.waiting.Load() == 2 })
	if _, err := conn.Write([]byte("wait 2")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the third is counted", func() bool { return s.Stats().Crowded == 1 })
	close(h.hold)
	got := map[string]bool{}
	for range 2 {
		buffer := make([]byte, 64)
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		got[string(buffer[:n])] = true
	}
	if !got["waited: wait 0"] || !got["waited: wait 1"] {
		t.Errorf("got %v", got)
	}
}

// TestHotPathDoesNotAllocate counts allocations of the whole process while packets go to and fro.
func TestHotPathDoesNotAllocate(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		s, _ := start(t, listen.Options{UDP: []string{addr}, TCP: []string{}, Engines: 1}, listen.HandlerFunc(echo))
		host := "127.0.0.1"
		if s.Addrs(listen.UDP)[0].Addr().Is6() {
			host = "::1"
		}
		conn := dial(t, "udp", netip.AddrPortFrom(netip.MustParseAddr(host), s.Addrs(listen.UDP)[0].Port()))
		query, buffer := []byte("hello"), make([]byte, 512)
		got := testing.AllocsPerRun(500, func() {
			if _, err := conn.Write(query); err != nil {
				t.Error(err)
			}
			if _, err := conn.Read(buffer); err != nil {
				t.Error(err)
			}
		})
		if got != 0 {
			t.Errorf("%s: %v allocations per query, want none", addr, got)
		}
	}
}

// TestBrokenSocket ends the server with an error instead of leaving it half deaf.
func TestBrokenSocket(t *testing.T) {
	s, err := listen.New(listen.Options{UDP: []string{"127.0.0.1:0"}, Engines: 1}, listen.HandlerFunc(echo))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	conn := dial(t, "udp", s.Addrs(listen.UDP)[0])
	ask(t, conn, "hello")
	if err := listen.Break(s); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("hello"))
	select {
	case err := <-done:
		if want := "receiving on udp " + s.Addrs(listen.UDP)[0].String(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	case <-time.After(patience):
		t.Fatal("the server goes on")
	}
}

// TestSmallQueueIsTold logs when the kernel gives less than was asked for.
func TestSmallQueueIsTold(t *testing.T) {
	var said []string
	log := funcr.New(func(_, args string) { said = append(said, args) }, funcr.Options{})
	o := listen.Options{UDP: []string{"127.0.0.1:0"}, TCP: []string{}, Engines: 1, SocketBuffer: 1<<31 - 1, Log: log}
	s, _ := start(t, o, listen.HandlerFunc(echo))
	if got := s.Stats().ReceiveBuffer; got >= o.SocketBuffer || got <= 0 {
		t.Errorf("the kernel gives %d octets of %d", got, o.SocketBuffer)
	}
	if len(said) != 1 || !strings.Contains(said[0], "net.core.rmem_max") {
		t.Errorf("logged %q", said)
	}
}
