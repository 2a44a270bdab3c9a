package soak_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway"
	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/inbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// loopback is where everything is.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// drainTime is for how long gateways let connections go on when they stop.
const drainTime = 1500 * time.Millisecond

// member is a cluster: gateways that take tunnels, one with the outbound listeners, one for passthrough, and pods.
type member struct {
	id       string
	world    *world
	identity *certificate
	sockets  *kept
	doors    []*door
	out      *exit
	pass     *run
	pods     map[clusterset.Key][]*pod
}

// run is something that runs until it is stopped.
type run struct {
	cancel context.CancelFunc
	over   chan struct{}
	err    error
}

func start(f func(context.Context) error) *run {
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{cancel: cancel, over: make(chan struct{})}
	go func() {
		defer close(r.over)
		r.err = f(ctx)
	}()
	return r
}

// stop stops it and waits.
func (r *run) stop() error {
	r.cancel()
	<-r.over
	return r.err
}

// door is a gateway that takes tunnels.
type door struct {
	member  *member
	socket  *net.TCPListener
	line    *line
	handler *inbound.Handler
	server  *tunnel.Server
	run     *run
}

func (m *member) newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{member: m, socket: listen(t)}
	d.line = newLine(t, at(d.socket))
	if err := d.open(drainTime); err != nil {
		t.Fatal(err)
	}
	return d
}

// open starts the gateway.
func (d *door) open(drain time.Duration) error {
	l, err := again(d.socket)
	if err != nil {
		return err
	}
	if d.handler, err = inbound.New(inbound.Options{Snapshots: d.member.world.latest, Cluster: d.member.id, SessionTimeout: 2 * time.Second}); err != nil {
		return err
	}
	p := d.member.identity.peering(d.member.world.revoked)
	server, err := tunnel.NewServer(tunnel.ServerOptions{
		Listener: l, TLS: p.ServerConfig(), Identify: p.Identify, Revoked: p.Revoked, Handler: d.handler, DrainTimeout: drain, Linger: 2 * time.Second,
	})
	if err != nil {
		return err
	}
	d.server, d.run = server, start(server.Run)
	return nil
}

// exit is a gateway with outbound listeners, and its tunnels.
type exit struct {
	gateway *outbound.Gateway
	dialer  *tunnel.Dialer
	run     *run
}

// leave starts an exit, and returns when it works.
func (m *member) leave(drain time.Duration) (*exit, error) {
	p := m.identity.peering(m.world.revoked)
	dialer, err := tunnel.NewDialer(tunnel.Options{
		TLS: p.PeerConfig, Identify: p.Identify, Revoked: p.Revoked, Tunnels: 2, MaxAge: 15 * time.Second, DrainTimeout: drainTime, Linger: 2 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	dialer.SetPeers(m.world.peers(m.id))
	g, err := outbound.New(outbound.Options{
		Snapshots: m.world.latest, Cluster: m.id, Address: loopback, Sockets: m.sockets, Connect: connect.Options{Opener: dialer},
		SessionTimeout: time.Second, DrainTimeout: drain, Loops: 2,
	})
	if err != nil {
		dialer.Close()
		return nil, err
	}
	e := &exit{gateway: g, dialer: dialer}
	if !e.up() {
		dialer.Close()
		return nil, errors.New("the tunnels do not come up")
	}
	e.run = start(g.Run)
	<-g.Ready()
	return e, nil
}

// up waits until there are tunnels to every gateway.
func (e *exit) up() bool {
	for deadline := time.After(patience); ; {
		changed, missing := e.dialer.Changed(), false
		for _, s := range e.dialer.State() {
			missing = missing || s.Tunnels < s.Wanted
		}
		if !missing {
			return true
		}
		select {
		case <-changed:
		case <-deadline:
			return false
		}
	}
}

// stop lets connections go on for the time to drain, and ends.
func (e *exit) stop() error {
	err := e.run.stop()
	e.dialer.Close()
	return err
}

// passthrough starts the gateway for TLS.
func (m *member) passthrough() (*run, error) {
	s, err := gateway.New(gateway.Options{
		Addresses: []string{netip.AddrPortFrom(loopback, passPort).String()}, Loops: 2, DrainTimeout: drainTime, Pipes: 4,
		Listen: func(address string) (net.Listener, error) {
			return m.sockets.Listen("tcp", netip.MustParseAddrPort(address))
		},
		Router: gateway.NewLocal(gateway.LocalOptions{Snapshots: m.world.latest, Cluster: m.id, Opens: func(clusterset.Key, netip.Addr) bool { return true }}),
	})
	if err != nil {
		return nil, err
	}
	return start(s.Run), nil
}

// kept are the sockets of a member's gateways, which stay when one is replaced by another. It gives out copies.
type kept struct {
	mu  sync.Mutex
	tcp map[netip.AddrPort]*net.TCPListener // by what was asked for; the port is any free one
	udp map[netip.AddrPort]*net.UDPConn
}

func newKept(t *testing.T) *kept {
	t.Helper()
	k := &kept{tcp: map[netip.AddrPort]*net.TCPListener{}, udp: map[netip.AddrPort]*net.UDPConn{}}
	t.Cleanup(func() {
		for _, l := range k.tcp {
			_ = l.Close()
		}
		for _, c := range k.udp {
			_ = c.Close()
		}
	})
	return k
}

func (k *kept) Listen(_ string, addr netip.AddrPort) (net.Listener, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tcp[addr] == nil {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr.Addr(), 0)))
		if err != nil {
			return nil, err
		}
		k.tcp[addr] = l
	}
	return again(k.tcp[addr])
}

// again returns a copy of a socket.
func again(l *net.TCPListener) (net.Listener, error) {
	file, err := l.File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return net.FileListener(file)
}

func (k *kept) ListenPacket(_ string, addr netip.AddrPort) (net.PacketConn, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.udp[addr] == nil {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr.Addr(), 0)))
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

func (k *kept) Release(addr netip.AddrPort) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.tcp[addr]; l != nil {
		_ = l.Close()
		delete(k.tcp, addr)
	}
	if c := k.udp[addr]; c != nil {
		_ = c.Close()
		delete(k.udp, addr)
	}
}

// where returns where a port is served; nil: nowhere.
func (k *kept) where(port uint16) (tcp, udp net.Addr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	addr := netip.AddrPortFrom(loopback, port)
	if l := k.tcp[addr]; l != nil {
		tcp = l.Addr()
	}
	if c := k.udp[addr]; c != nil {
		udp = c.LocalAddr()
	}
	return tcp, udp
}
