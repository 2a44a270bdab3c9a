package outbound_test

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
)

// pod answers each line with the same line, over TCP and UDP, and counts them.
type pod struct {
	addr netip.AddrPort
	tcp  net.Listener
	udp  net.PacketConn

	mu    sync.Mutex
	lines map[string]int
	conns map[net.Conn]struct{}
}

// newPod starts a pod; handle is called for each connection, nil: the echo.
func newPod(t *testing.T, handle func(*net.TCPConn)) *pod {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{tcp: l, addr: l.Addr().(*net.TCPAddr).AddrPort(), lines: map[string]int{}, conns: map[net.Conn]struct{}{}}
	if p.udp, err = net.ListenPacket("udp", p.addr.String()); err != nil { //nolint:noctx // a test's
		t.Fatal(err)
	}
	if handle == nil {
		handle = p.echo
	}
	go p.accept(handle)
	go p.datagrams()
	t.Cleanup(p.kill)
	return p
}

func (p *pod) accept(handle func(*net.TCPConn)) {
	for {
		conn, err := p.tcp.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[conn] = struct{}{}
		p.mu.Unlock()
		go handle(conn.(*net.TCPConn))
	}
}

func (p *pod) echo(conn *net.TCPConn) {
	defer func() { _ = conn.Close() }()
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			p.count(line)
			_, _ = io.WriteString(conn, line)
		}
		if err != nil {
			return
		}
	}
}

func (p *pod) datagrams() {
	b := make([]byte, 65536)
	for {
		n, from, err := p.udp.ReadFrom(b)
		if err != nil {
			return
		}
		p.count(string(b[:n]))
		_, _ = p.udp.WriteTo(b[:n], from)
	}
}

func (p *pod) count(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines[strings.TrimSpace(line)]++
}

func (p *pod) seen() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// kill ends the pod as a crash does.
func (p *pod) kill() {
	_, _ = p.tcp.Close(), p.udp.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = relay.TCP(conn.(*net.TCPConn)).Reset()
	}
}
