package network_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// forwarded is a forwarder between two namespaces.
type forwarded struct {
	host, cluster network.Namespace
	address       string // of its listener
	port          int
	stop          func()
}

// forward runs a forwarder to a server, which it starts in the cluster if serve is not nil.
func forward(t *testing.T, serve func(net.Conn)) forwarded {
	t.Helper()
	f := forwarded{host: hostNamespace(t), cluster: hostNamespace(t)}
	server := listenIn(t, f.cluster, "127.0.0.1:0")
	f.port = server.Addr().(*net.TCPAddr).Port
	if serve == nil {
		_ = server.Close()
	} else {
		go accept(server, serve)
	}
	listener := listenIn(t, f.host, "127.0.0.1:0")
	f.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- network.Forward(ctx, listener, f.cluster, f.port, quiet()) }()
	stopped := false
	f.stop = func() {
		if cancel(); stopped {
			return
		}
		stopped = true
		if err := receive(t, done); err != nil {
			t.Errorf("the forwarder ended: %v", err)
		}
	}
	t.Cleanup(f.stop)
	return f
}

func accept(listener net.Listener, serve func(net.Conn)) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			serve(conn)
		}()
	}
}

// dial connects to the forwarder, as a program of the host does.
func (f forwarded) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	var conn net.Conn
	err := network.Enter(f.host, func() (err error) { conn, err = net.Dial("tcp4", f.address); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// repeat sends back what it gets, until there is no more.
func repeat(conn net.Conn) { _, _ = io.Copy(conn, conn) }

func TestForward(t *testing.T) {
	isolated(t, func(t *testing.T) {
		f := forward(t, repeat)
		conn := f.dial(t)
		sent := bytes.Repeat([]byte("hansa"), 1<<20)
		go func() {
			_, _ = conn.Write(sent)
			_ = conn.CloseWrite() // the server's answer ends because it is told of this
		}()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes of %d come back: %v", len(got), len(sent), err)
		}
	})
}

func TestForwardHalfClosed(t *testing.T) {
	isolated(t, func(t *testing.T) {
		read := make(chan string, 1)
		f := forward(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, "hello")
			_ = conn.(*net.TCPConn).CloseWrite() // and goes on reading
			got, _ := io.ReadAll(conn)
			read <- string(got)
		})
		conn := f.dial(t)
		if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
			t.Fatalf("the client reads %q, %v", got, err)
		}
		if _, err := io.WriteString(conn, "still here"); err != nil {
			t.Errorf("the client cannot write after the server has ended its part: %v", err)
		}
		_ = conn.CloseWrite()
		if got := receive(t, read); got != "still here" {
			t.Errorf("the server reads %q", got)
		}
	})
}

func TestForwardToNobody(t *testing.T) {
	isolated(t, func(t *testing.T) {
		f := forward(t, nil)
		for range 3 { // it goes on after the first one
			conn := f.dial(t)
			if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("read %d bytes, %v: nobody serves, so the connection is closed at once", n, err)
			}
		}
		server := listenIn(t, f.cluster, "127.0.0.1:"+port(f.port)) // the API server comes back
		go accept(server, repeat)
		conn := f.dial(t)
		_, _ = io.WriteString(conn, "hello")
		_ = conn.CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != "hello" {
			t.Errorf("read %q, %v: the server is there again", got, err)
		}
	})
}

// TestForwardWaits: while a server does nothing, its connections stay open, and they go on when it does.
func TestForwardWaits(t *testing.T) {
	isolated(t, func(t *testing.T) {
		resume := make(chan struct{})
		f := forward(t, func(conn net.Conn) { <-resume; repeat(conn) })
		conn := f.dial(t)
		_, _ = io.WriteString(conn, "hello")
		_ = conn.SetReadDeadline(time.Now().Add(short))
		var timeout net.Error
		if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("error %v, want a timeout", err)
		}
		close(resume)
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
			t.Errorf("the connection does not go on: %v", err)
		}
	})
}

func TestForwardLeavesNothing(t *testing.T) {
	isolated(t, func(t *testing.T) {
		before := runtime.NumGoroutine()
		f := forward(t, repeat)
		open := f.dial(t)
		for range 20 {
			conn := f.dial(t)
			_, _ = io.WriteString(conn, "hello")
			if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetLinger(0) // the client resets the connection
			_ = conn.Close()
		}
		f.stop()
		if _, err := open.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("error %v: the forwarder has ended, and its connections with it", err)
		}
		eventually(t, "all goroutines but the server's end", func() error {
			if after := runtime.NumGoroutine(); after > before+1 {
				return errors.New(stacks())
			}
			return nil
		})
	})
}

func TestForwardIsBounded(t *testing.T) {
	isolated(t, func(t *testing.T) {
		f := forward(t, repeat)
		var conns []net.Conn
		for range network.MaxConnections + 1 {
			conns = append(conns, f.dial(t))
		}
		last := conns[len(conns)-1]
		_, _ = io.WriteString(last, "hello")
		_ = last.SetReadDeadline(time.Now().Add(short))
		if _, err := last.Read(make([]byte, 1)); err == nil {
			t.Error("a connection above the bound is served")
		}
		_ = conns[0].Close()
		_ = last.SetReadDeadline(time.Now().Add(patience))
		if _, err := last.Read(make([]byte, 1)); err != nil {
			t.Errorf("there is room again, but the waiting connection is not served: %v", err)
		}
	})
}

func stacks() string {
	buffer := make([]byte, 1<<16)
	return string(buffer[:runtime.Stack(buffer, true)])
}
