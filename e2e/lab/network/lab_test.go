package network_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// lab is a running network and what tests need of it.
type lab struct {
	*network.Client
	spec  network.Spec
	host  network.Namespace // where the listeners are; stands for the host's
	ports []int             // that the listeners have
}

// start runs a network with clusters c0, c1, …, each with nodes c0-n1, c0-n2, …
func start(t *testing.T, clusters, nodes int, flat bool) *lab {
	t.Helper()
	l := &lab{spec: spec(t, clusters, nodes, flat), host: hostNamespace(t)}
	l.Client = network.NewClient(l.spec.Socket)
	var listeners []net.Listener
	for range clusters {
		listener := listenIn(t, l.host, "127.0.0.1:0")
		listeners = append(listeners, listener)
		l.ports = append(l.ports, listener.Addr().(*net.TCPAddr).Port)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- network.Run(ctx, l.spec, listeners, slog.New(slog.NewTextHandler(t.Output(), nil))) }()
	t.Cleanup(func() {
		cancel()
		if err := receive(t, done); err != nil {
			t.Errorf("the network ended: %v", err)
		}
	})
	eventually(t, "the network answers", func() error {
		select {
		case err := <-done:
			done <- nil
			t.Fatalf("the network ended: %v", err)
		default:
		}
		_, err := l.State(t.Context())
		return err
	})
	return l
}

// spec describes a lab; its socket has a path longer than the kernel takes.
func spec(t *testing.T, clusters, nodes int, flat bool) network.Spec {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := network.Spec{Socket: filepath.Join(dir, "control.sock"), Flat: flat, NFT: nft(t)}
	for i := range clusters {
		c := network.Cluster{Name: fmt.Sprintf("c%d", i), Index: i, Port: 6443}
		for k := range nodes {
			c.Nodes = append(c.Nodes, fmt.Sprintf("c%d-n%d", i, k+1))
		}
		s.Clusters = append(s.Clusters, c)
	}
	return s
}

func nft(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"nft", "/usr/sbin/nft", "/sbin/nft"} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Fatal("these tests need the program nft: install the package nftables")
	return ""
}

// hostNamespace is a namespace with a loopback device.
func hostNamespace(t *testing.T) network.Namespace {
	t.Helper()
	space, err := network.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { network.Close(space) })
	if err := network.Enter(space, func() error { return network.Up("lo") }); err != nil {
		t.Fatal(err)
	}
	return space
}

func listenIn(t *testing.T, space network.Namespace, address string) net.Listener {
	t.Helper()
	var listener net.Listener
	err := network.Enter(space, func() error {
		var err error
		listener, err = net.Listen("tcp4", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// enter runs do in the namespace of a cluster or node.
func (l *lab) enter(t *testing.T, name string, do func() error) {
	t.Helper()
	state, err := l.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(state.Namespaces[name])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := network.Enter(network.NamespaceOf(file), do); err != nil {
		t.Fatalf("in %s: %v", name, err)
	}
}

// udp opens a socket in a cluster or node.
func (l *lab) udp(t *testing.T, name string, address netip.Addr) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	l.enter(t, name, func() error {
		var err error
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// echo answers everything that comes to a socket with the address that it came from.
func echo(conn *net.UDPConn) {
	buffer := make([]byte, 2048)
	for {
		_, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		_, _ = conn.WriteToUDPAddrPort([]byte(from.Addr().String()), from)
	}
}

// ask sends a packet to an echo and returns how it looks from there, and how long that took.
func ask(t *testing.T, from, to *net.UDPConn, wait time.Duration) (string, time.Duration, error) {
	t.Helper()
	began := time.Now()
	if _, err := from.WriteTo([]byte("?"), to.LocalAddr()); err != nil {
		return "", 0, err
	}
	if err := from.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	n, err := from.Read(buffer)
	return string(buffer[:n]), time.Since(began), err
}

// pod makes a namespace with an address in the pod range of a node, as the programs of a node do.
func (l *lab) pod(t *testing.T, cluster, node int) (network.Namespace, netip.Addr) {
	t.Helper()
	space := hostNamespace(t)
	gateway := network.NodePodRange(cluster, node).Addr().Next()
	address := gateway.Next()
	l.enter(t, fmt.Sprintf("c%d-n%d", cluster, node), func() error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "pods"}}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("bridge: %w", err)
		}
		if err := give(bridge, gateway); err != nil {
			return err
		}
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "p1", MasterIndex: bridge.Index},
			PeerName:  "eth0", PeerNamespace: netlink.NsFd(network.FD(space)),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("veth: %w", err)
		}
		return network.Up("p1")
	})
	err := network.Enter(space, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := give(eth0, address); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()})
	})
	if err != nil {
		t.Fatal(err)
	}
	return space, address
}

func give(link netlink.Link, address netip.Addr) error {
	ip := &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(24, 32)}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ip}); err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	return netlink.LinkSetUp(link)
}

func udpIn(t *testing.T, space network.Namespace, address netip.Addr) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := network.Enter(space, func() error {
		var err error
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// eventually waits until there is no error.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("waiting until %s: %v", what, err)
		case <-tick.C:
		}
	}
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatal("nothing comes")
		panic("not reached")
	}
}

// link is one link of the lab.
func (l *lab) link(t *testing.T, from, to string) network.Link {
	t.Helper()
	state, err := l.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range state.Links {
		if link.From == from && link.To == to {
			return link
		}
	}
	t.Fatalf("no link from %s to %s", from, to)
	return network.Link{}
}

// quiet logs nothing.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
