package tunnel_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
)

// BenchmarkOpen opens a stream, says one octet, hears it and ends, both sides in this process.
func BenchmarkOpen(b *testing.B) {
	s := serve(b, newPKI(b), accepting(echo), nil)
	d := s.dial(func(o *tunnel.Options) { o.Tunnels = 4 })
	until(b, "all tunnels are up", func() bool { return d.State()[0].Tunnels == 4 })
	ctx := context.Background()
	begin := cpu()
	b.RunParallel(func(pb *testing.PB) {
		p := make([]byte, 1)
		for pb.Next() {
			stream, err := d.Open(ctx, s.peer, ask)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = stream.Write(p)
			_ = stream.CloseWrite()
			if _, err := io.ReadFull(stream, p); err != nil {
				b.Error(err)
			}
			_, _ = stream.Read(p)
		}
	})
	b.ReportMetric(float64((cpu()-begin).Nanoseconds())/1e3/float64(b.N), "cpu-us/op")
}

// cpu returns how long processors have worked for this process: a busy machine changes that less than the time.
func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBulk moves octets one way, both sides in this process, with TLS.
func BenchmarkBulk(b *testing.B) {
	for _, size := range []int{4 << 10, 16 << 10, 64 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			s := serve(b, newPKI(b), accepting(func(s tunnel.Stream) {
				p := make([]byte, 64<<10)
				for {
					if _, err := s.Read(p); err != nil {
						_ = s.CloseWrite()
						return
					}
				}
			}), nil)
			stream := s.open(s.dial(nil), ask)
			p := make([]byte, size)
			b.SetBytes(int64(size))
			begin := cpu()
			for b.Loop() {
				if _, err := stream.Write(p); err != nil {
					b.Fatal(err)
				}
			}
			_ = stream.CloseWrite()
			_, _ = stream.Read(p)
			b.ReportMetric((cpu()-begin).Seconds()/float64(b.N)/float64(size)*1e9, "cpu-s/GB")
		})
	}
}

// BenchmarkTLS moves octets through TLS and nothing else, to compare.
func BenchmarkTLS(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	p := newPKI(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{tls.Server(c, p.gateway("m2"))}, make([]byte, 64<<10))
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), p.gateway("m1"))
	if err != nil {
		b.Fatal(err)
	}
	const size = 64 << 10
	buffer := make([]byte, size)
	b.SetBytes(size)
	begin := cpu()
	for b.Loop() {
		if _, err := c.Write(buffer); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.Close()
	<-done
	b.ReportMetric((cpu()-begin).Seconds()/float64(b.N)/size*1e9, "cpu-s/GB")
}

// BenchmarkFar moves octets one way over 20 ms there and back: what limits it is the window.
func BenchmarkFar(b *testing.B) {
	done := make(chan struct{}, 1)
	s := serve(b, newPKI(b), accepting(func(s tunnel.Stream) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, make([]byte, 64<<10))
		done <- struct{}{}
	}), nil)
	d := s.dial(func(o *tunnel.Options) {
		o.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
			if err != nil {
				return nil, err
			}
			return newFar(c, 10*time.Millisecond), nil
		}
	})
	stream := s.open(d, ask)
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if _, err := stream.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	_ = stream.CloseWrite()
	<-done
	b.ReportMetric(float64(d.State()[0].RTT.Microseconds())/1e3, "rtt-ms")
	b.ReportMetric(metric(b, s.server, "hansa_tunnel_window_bytes")/1e6+0.25, "window-MB")
}
