package agent_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/agent"
)

// forwarded is a connection that is forwarded, seen from its two ends.
type forwarded struct {
	client, pod *net.TCPConn
	cancel      context.CancelFunc
	done        chan struct{} // closed when nothing is forwarded any more
}

// halfStream is a stream as the library has it: Close ends one direction.
type halfStream struct{ *net.TCPConn }

func (s halfStream) Close() error { return s.CloseWrite() }
func (s halfStream) Reset() error { return s.TCPConn.Close() }

func pair(t *testing.T) (dialled, accepted *net.TCPConn) {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	if dialled, err = net.DialTCP("tcp", nil, listener.Addr().(*net.TCPAddr)); err != nil {
		t.Fatal(err)
	}
	if accepted, err = listener.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*net.TCPConn{dialled, accepted} {
		t.Cleanup(func() { _ = c.Close() })
	}
	if err := dialled.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return dialled, accepted
}

func forward(t *testing.T) *forwarded {
	t.Helper()
	client, stream := pair(t)
	pod, conn := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	f := &forwarded{client: client, pod: pod, cancel: cancel, done: make(chan struct{})}
	t.Cleanup(cancel)
	go func() {
		defer close(f.done)
		agent.Relay(ctx, halfStream{stream}, conn)
	}()
	return f
}

func TestRelay(t *testing.T) {
	// says writes a word and ends that direction; hears expects a word and the end.
	says := func(t *testing.T, c *net.TCPConn, text string) {
		t.Helper()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	hears := func(t *testing.T, c *net.TCPConn, want string) {
		t.Helper()
		if got, err := io.ReadAll(c); err != nil || string(got) != want {
			t.Errorf("heard %q, %v, want %q and the end", got, err, want)
		}
	}
	breaks := func(t *testing.T, c *net.TCPConn) {
		t.Helper()
		if err := c.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	ends := func(t *testing.T, c *net.TCPConn) {
		t.Helper()
		if n, err := io.Copy(io.Discard, c); n > 0 || isTimeout(err) {
			t.Errorf("heard %d bytes, %v, want the end", n, err)
		}
	}
	for name, course := range map[string]func(t *testing.T, f *forwarded){
		"the pod ends first": func(t *testing.T, f *forwarded) {
			says(t, f.pod, "answer")
			hears(t, f.client, "answer")
			says(t, f.client, "thanks")
			hears(t, f.pod, "thanks")
		},
		"the client ends first": func(t *testing.T, f *forwarded) {
			says(t, f.client, "question")
			hears(t, f.pod, "question")
			says(t, f.pod, "answer")
			hears(t, f.client, "answer")
		},
		"the pod breaks off":    func(t *testing.T, f *forwarded) { breaks(t, f.pod); ends(t, f.client) },
		"the client breaks off": func(t *testing.T, f *forwarded) { breaks(t, f.client); ends(t, f.pod) },
		"the session ends":      func(t *testing.T, f *forwarded) { f.cancel(); ends(t, f.client); ends(t, f.pod) },
		"the session ends after the client has said all": func(t *testing.T, f *forwarded) {
			says(t, f.client, "question")
			hears(t, f.pod, "question")
			f.cancel()
			ends(t, f.client)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := forward(t)
			course(t, f)
			select {
			case <-f.done:
			case <-time.After(patience):
				t.Error("it is still forwarded")
			}
		})
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
