package listen_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/dns/listen"
)

// keeper keeps sockets over the end of servers, as another process would.
type keeper struct {
	mu  sync.Mutex
	udp map[netip.AddrPort]*net.UDPConn
	tcp map[netip.AddrPort]*net.TCPListener
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{udp: map[netip.AddrPort]*net.UDPConn{}, tcp: map[netip.AddrPort]*net.TCPListener{}}
	t.Cleanup(func() {
		for _, c := range k.udp {
			_ = c.Close()
		}
		for _, l := range k.tcp {
			_ = l.Close()
		}
	})
	return k
}

func (k *keeper) Listen(_ string, addr netip.AddrPort) (net.Listener, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tcp[addr] == nil {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
		if err != nil {
			return nil, err
		}
		k.tcp[addr] = l
	}
	file, err := k.tcp[addr].File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return net.FileListener(file)
}

func (k *keeper) ListenPacket(_ string, addr netip.AddrPort) (net.PacketConn, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.udp[addr] == nil {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return nil, err
		}
		k.udp[addr] = c
	}
	file, err := k.udp[addr].File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return net.FilePacketConn(file)
}

// TestKeptSockets holds that nobody is refused while one server has ended and the next is not there yet: what comes waits.
func TestKeptSockets(t *testing.T) {
	k := newKeeper(t)
	free, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := free.LocalAddr().String()
	_ = free.Close()
	o := listen.Options{UDP: []string{addr}, Sockets: k, Engines: 2}
	ask := func(network string) net.Conn {
		var d net.Dialer
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		query := []byte("hello")
		if network == "tcp" {
			query = append([]byte{0, byte(len(query))}, query...)
		}
		if _, err := conn.Write(query); err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	answered := func(when string, conn net.Conn) {
		t.Helper()
		if n, err := conn.Read(make([]byte, 64)); err != nil || n < 5 {
			t.Errorf("%s, %s: %d octets, %v", when, conn.LocalAddr().Network(), n, err)
		}
	}
	_, stop := start(t, o, listen.HandlerFunc(echo))
	for _, network := range []string{"udp", "tcp"} {
		answered("while a server runs", ask(network))
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	waiting := []net.Conn{ask("udp"), ask("tcp"), ask("udp")}
	start(t, o, listen.HandlerFunc(echo))
	for _, conn := range waiting {
		answered("once the next one runs", conn)
	}
	answered("and later", ask("udp"))
}

// TestKeptSocketsThatAreNone holds that what is no socket is told as such.
func TestKeptSocketsThatAreNone(t *testing.T) {
	if _, err := listen.New(listen.Options{UDP: []string{"127.0.0.1:0"}, Sockets: nothing{}}, listen.HandlerFunc(echo)); err == nil {
		t.Error("no error")
	}
}

type nothing struct{}

func (nothing) Listen(string, netip.AddrPort) (net.Listener, error) { return nil, unix.EACCES }

func (nothing) ListenPacket(string, netip.AddrPort) (net.PacketConn, error) { return nil, unix.EACCES }
