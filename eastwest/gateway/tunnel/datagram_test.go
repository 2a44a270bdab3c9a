package tunnel_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
)

var askUDP = tunnel.Request{Service: web, Port: 53, Datagrams: true}

// each sends back datagram by datagram.
func each(s tunnel.Stream) {
	p := make([]byte, tunnel.MaxDatagram)
	for {
		n, err := s.Read(p)
		if err != nil {
			_ = s.Close()
			return
		}
		_, _ = s.Write(p[:n])
	}
}

func TestDatagrams(t *testing.T) {
	s := serve(t, newPKI(t), accepting(each), nil)
	stream := s.open(s.dial(nil), askUDP)
	for _, size := range []int{1, 0, 100, 1500, 16384, 40000, tunnel.MaxDatagram, 2} {
		sent, got := bytes.Repeat([]byte{byte(size)}, size), make([]byte, tunnel.MaxDatagram)
		if n, err := stream.Write(sent); n != size || err != nil {
			t.Fatalf("writing %d octets: %d, %v", size, n, err)
		}
		if n, err := stream.Read(got); !bytes.Equal(got[:n], sent) || err != nil {
			t.Errorf("of %d octets %d came back: %v", size, n, err)
		}
	}
	if _, err := stream.Write(make([]byte, tunnel.MaxDatagram+1)); err == nil {
		t.Error("a datagram that UDP does not have is sent")
	}
	_, _ = io.WriteString(stream, "long")
	if n, err := stream.Read(make([]byte, 2)); n != 2 || err != nil {
		t.Errorf("what does not fit: %d, %v", n, err)
	}
	_, _ = io.WriteString(stream, "next")
	got := make([]byte, 10)
	if n, err := stream.Read(got); string(got[:n]) != "next" || err != nil {
		t.Errorf("the rest of a datagram is not the next one: %q, %v", got[:n], err)
	}
	_, _ = io.WriteString(stream, "whole")
	if next, err := stream.(interface{ Next() ([]byte, error) }).Next(); string(next) != "whole" || err != nil {
		t.Errorf("the next datagram is %q, %v", next, err)
	}
	_ = stream.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := stream.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading with a deadline: %v", err)
	}
	_ = stream.SetReadDeadline(time.Time{})
	_ = stream.CloseWrite()
	if _, err := stream.Read(got); !errors.Is(err, io.EOF) {
		t.Errorf("reading at the end: %v", err)
	}
}

// TestDatagramsOverflow checks that a slow reader gets the newest, and keeps the other side from nothing.
func TestDatagramsOverflow(t *testing.T) {
	const sent = 5000
	done := make(chan struct{})
	s := serve(t, newPKI(t), accepting(func(s tunnel.Stream) {
		for i := range sent {
			_, _ = fmt.Fprintf(s, "%d %s", i, bytes.Repeat([]byte("x"), i%2000))
		}
		_ = s.CloseWrite()
		close(done)
	}), nil)
	d := s.dial(nil)
	stream := s.open(d, askUDP)
	<-done
	dropped := func() int { return int(metric(t, d, "hansa_tunnel_datagrams_dropped_total")) }
	until(t, "most are dropped", func() bool { return dropped() > sent-300 })
	until(t, "all have arrived", func() bool { return metric(t, d, "hansa_tunnel_streams") == 0 || dropped() == sent-256 })
	got, last := 0, -1
	p := make([]byte, tunnel.MaxDatagram)
	for {
		n, err := stream.Read(p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var i int
		if _, err := fmt.Sscanf(string(p[:n]), "%d", &i); err != nil || i <= last {
			t.Fatalf("%d after %d: %v", i, last, err)
		}
		last = i
		got++
	}
	if last != sent-1 || got+dropped() != sent {
		t.Errorf("got %d, the last %d; %d were dropped", got, last, dropped())
	}
}

func TestDatagramsClosed(t *testing.T) {
	s := serve(t, newPKI(t), accepting(each), nil)
	stream := s.open(s.dial(nil), askUDP)
	read := make(chan error, 1)
	go func() { _, err := stream.Read(make([]byte, 1)); read <- err }()
	_ = stream.Close()
	if err := <-read; err == nil {
		t.Error("reading from what was closed")
	}
	if _, err := stream.Write([]byte("x")); err == nil {
		t.Error("writing to what was closed")
	}
	until(t, "no stream is left", func() bool { return metric(t, s.server, "hansa_tunnel_streams") == 0 })
}
