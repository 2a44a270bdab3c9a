package echo_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
	"github.com/hansa-dev/hansa/e2e/node/workload/echo"
)

// dial connects; the connection ends with the test.
func dial(t *testing.T, r *running, protocol string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial(protocol, r.at(protocol))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReaderSize(conn, 1<<20)
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func tell(t *testing.T, r *running, control string) {
	t.Helper()
	if got := do(t, client(t), http.MethodPut, "http://"+r.at(answer.HTTP)+"/control", control); got.status != 200 {
		t.Fatalf("control %s: %s (%v)", control, got.body, got.err)
	}
}

func TestTCP(t *testing.T) {
	r := serve(t, nil)
	conn, lines := dial(t, r, answer.TCP)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	a := parse(t, first)
	if a.Name() != "m1/z/p" || a.Protocol != answer.TCP || a.Client != conn.LocalAddr().String() || a.Server != r.at(answer.TCP) {
		t.Errorf("the first line is %s", first)
	}
	tests := []struct {
		reason, send, want string
	}{
		{"a line comes back", "hello\n", "hello\n"},
		{"an empty one, too", "\n", "\n"},
		{"two at once", "a\nb\n", "a\nb\n"},
		{"a long one", strings.Repeat("x", echo.MaxLine-2) + "\n", strings.Repeat("x", echo.MaxLine-2) + "\n"},
		{"parameters are answered by who answers", "?plain&delay=1ms\n", "m1/z/p v1\n"},
		{"filled with spaces", "?plain&size=20\n", "m1/z/p v1          \n"},
		{"wrong ones are named", "?delay=x\n", `{"error":"delay=x: want a duration from 0s to 10m0s, like 200ms"}` + "\n"},
		{"which is no reason to stop", "hello\n", "hello\n"},
	}
	for _, test := range tests {
		say(t, conn, test.send)
		got := make([]byte, len(test.want))
		if _, err := io.ReadFull(lines, got); err != nil || string(got) != test.want {
			t.Fatalf("%s: %.100q comes back (%v), want %.100q", test.reason, got, err, test.want)
		}
	}
	say(t, conn, "the end without a line feed")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); err != nil || string(rest) != "the end without a line feed\n" {
		t.Errorf("%q follows (%v)", rest, err)
	}
}

func TestTCPLineThatIsTooLong(t *testing.T) {
	r := serve(t, nil)
	conn, lines := dial(t, r, answer.TCP)
	if _, err := lines.ReadBytes('\n'); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write(make([]byte, 2*echo.MaxLine)) // fails if the server is quicker
	if data, err := io.ReadAll(lines); len(data) > 0 {
		t.Errorf("%d bytes come back (%v), want the end of the connection", len(data), err)
	}
}

func TestTCPFaults(t *testing.T) {
	r := serve(t, nil)
	standing, lines := dial(t, r, answer.TCP)
	if _, err := lines.ReadBytes('\n'); err != nil {
		t.Fatal(err)
	}

	tell(t, r, `{"fail":503}`)
	if _, failing := dial(t, r, answer.TCP); true {
		if data, err := io.ReadAll(failing); err != nil || len(data) > 0 {
			t.Errorf("a connection that fails says %q (%v), want nothing and its end", data, err)
		}
	}

	tell(t, r, `{"drop":true,"protocols":["tcp"]}`)
	conn, err := net.Dial("tcp", r.at(answer.TCP))
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that is dropped gets %v, want a reset", err)
	}

	tell(t, r, `{"hang":true}`)
	say(t, standing, "hello\n")
	eventually(t, "the line hangs", func() bool { return r.Waiting() == 1 })
	_ = standing.Close()
	eventually(t, "its place is free when the client has gone", func() bool { return r.Waiting() == 0 })

	tell(t, r, `{"fail":503,"protocols":["http"]}`)
	if _, other := dial(t, r, answer.TCP); true {
		if first, err := other.ReadBytes('\n'); err != nil || answer.Who(first) != "m1/z/p" {
			t.Errorf("while HTTP fails, TCP says %q (%v)", first, err)
		}
	}
}

// Idle connections end with the server; clients do not have to close them.
func TestTCPShutdown(t *testing.T) {
	r := serve(t, func(c *echo.Config) { c.Grace = time.Hour })
	_, lines := dial(t, r, answer.TCP)
	if _, err := lines.ReadBytes('\n'); err != nil {
		t.Fatal(err)
	}
	r.end()
	if data, err := io.ReadAll(lines); err != nil || len(data) > 0 {
		t.Errorf("%q follows (%v), want the end of the connection", data, err)
	}
	r.wait(t)
}

func TestUDP(t *testing.T) {
	r := serve(t, nil)
	tests := []struct {
		reason, send string
		want         string // part of the answer
		length       int    // unless 0
	}{
		{"the datagram comes back in the answer", "hello", `"echo":"hello"`, 0},
		{"with who answers", "hello", `"cluster":"m1"`, 0},
		{"an empty one is answered, too", "", `"protocol":"udp"`, 0},
		{"parameters come first", "?delay=1ms\nhello", `"echo":"hello"`, 0},
		{"the short form", "?plain", "m1/z/p v1\n", 10},
		{"an answer of a given size", "?size=2000\nx", `"echo":"x"`, 2000},
		{"wrong parameters are named", "?size=x\nhello", `{"error":"size=x`, 0},
		{"what would not fit is refused", strings.Repeat("\x01", 20_000), `{"error":"the datagram is too long`, 0},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			conn, answers := dial(t, r, answer.UDP)
			say(t, conn, test.send)
			got, err := answers.ReadBytes('\n')
			if err != nil || !strings.Contains(string(got), test.want) {
				t.Fatalf("the answer is %.300q (%v), want %q in it", got, err, test.want)
			}
			if test.length > 0 && len(got) != test.length {
				t.Errorf("the answer has %d bytes, want %d", len(got), test.length)
			}
		})
	}
}

// A datagram that is to fail gets nothing: the next one's answer is the first.
func TestUDPFaults(t *testing.T) {
	r := serve(t, nil)
	for _, control := range []string{`{"fail":503}`, `{"hang":true}`, `{"drop":true}`} {
		t.Run(control, func(t *testing.T) {
			conn, answers := dial(t, r, answer.UDP)
			before := r.Requests()
			tell(t, r, control)
			say(t, conn, "lost")
			eventually(t, "the datagram has arrived", func() bool { return r.Requests() == before+1 })
			tell(t, r, `{}`)
			say(t, conn, "answered")
			if got, err := answers.ReadBytes('\n'); err != nil || parse(t, got).Echo != "answered" {
				t.Errorf("the first answer is %q (%v)", got, err)
			}
		})
	}
}
