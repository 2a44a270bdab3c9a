package soak_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// pod answers each line with the same line, in plain text, by TLS, and in datagrams.
type pod struct {
	books   *books
	tcp     *net.TCPListener
	tls     *net.TCPListener
	udp     *net.UDPConn
	config  *tls.Config
	running sync.WaitGroup

	mu    sync.Mutex
	dead  bool
	conns map[net.Conn]struct{}
}

func newPod(t *testing.T, b *books, config *tls.Config) *pod {
	t.Helper()
	p := &pod{books: b, tcp: listen(t), tls: listen(t), config: config, conns: map[net.Conn]struct{}{}}
	var err error
	if p.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	p.running.Go(func() { p.accept(p.tcp, func(c net.Conn) io.ReadWriter { return c }) })
	p.running.Go(func() { p.accept(p.tls, func(c net.Conn) io.ReadWriter { return tls.Server(c, p.config) }) })
	p.running.Go(p.datagrams)
	t.Cleanup(p.kill)
	return p
}

// group returns the pod as the service table has it.
func (p *pod) group() clusterset.Group {
	udp := p.udp.LocalAddr().(*net.UDPAddr).AddrPort()
	return clusterset.Group{
		Ports: []clusterset.TargetPort{
			{Name: clusterset.Intern("http"), Port: at(p.tcp).Port()},
			{Name: clusterset.Intern("https"), Port: at(p.tls).Port()},
			{Name: clusterset.Intern("dns"), Protocol: corev1.ProtocolUDP, Port: udp.Port()},
		},
		Endpoints: []clusterset.Endpoint{{Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}), Conditions: clusterset.Ready}},
	}
}

func (p *pod) accept(l net.Listener, speak func(net.Conn) io.ReadWriter) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		dead := p.dead
		if !dead {
			p.conns[conn] = struct{}{}
			p.running.Go(func() { p.serve(conn, speak(conn)) })
		}
		p.mu.Unlock()
		if dead {
			_ = reset(conn)
		}
	}
}

func (p *pod) serve(conn net.Conn, says io.ReadWriter) {
	p.echo(says)
	_ = conn.Close()
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
}

// echo repeats lines. Those that begin with a number are requests.
func (p *pod) echo(conn io.ReadWriter) {
	lines := bufio.NewReaderSize(conn, 32<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
		if number, _, _ := strings.Cut(strings.TrimSpace(string(line[:min(len(line), 24)])), " "); number != "" {
			if n, err := strconv.ParseUint(number, 10, 64); err == nil {
				p.books.arrived(n)
			}
		}
		if _, err := conn.Write(line); err != nil {
			return
		}
	}
}

func (p *pod) datagrams() {
	b := make([]byte, 2048)
	for {
		n, from, err := p.udp.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		_, _ = p.udp.WriteToUDPAddrPort(b[:n], from)
	}
}

// kill ends the pod as a crash does, and returns when nothing of it is left.
func (p *pod) kill() {
	_, _, _ = p.tcp.Close(), p.tls.Close(), p.udp.Close()
	p.mu.Lock()
	p.dead = true
	for conn := range p.conns {
		_ = reset(conn)
	}
	p.mu.Unlock()
	p.running.Wait()
}
