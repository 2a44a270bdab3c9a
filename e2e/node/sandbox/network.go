package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// BridgeName is the device of a node that the pods' networks are connected to.
const BridgeName = "pods"

const mtu = 1500

// Bridge connects the pods of a node. It is their way to everywhere, also to each other: the pods' addresses stand for
// themselves and not for a range, so that all traffic passes the node's rules. Were a Service's answer to go from pod
// to pod directly, the client would not know the address that it comes from.
type Bridge struct {
	Gateway netip.Addr // the bridge's own address
	Range   netip.Prefix

	index int
}

// SetUpBridge makes the bridge in the network namespace of the calling process, or takes over the one that is there.
// Its address is the first one of the range.
func SetUpBridge(pods netip.Prefix) (*Bridge, error) {
	if err := beRouter(); err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = BridgeName, mtu
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("making the bridge %s: %w", BridgeName, err)
	}
	link, err := netlink.LinkByName(BridgeName)
	if err != nil {
		return nil, fmt.Errorf("finding the bridge %s: %w", BridgeName, err)
	}
	b := &Bridge{Gateway: pods.Masked().Addr().Next(), Range: pods.Masked(), index: link.Attrs().Index}
	// The bridge would take the lowest hardware address of its ports, so that it changed with every pod.
	if err := netlink.LinkSetHardwareAddr(link, hardwareAddr(b.Gateway)); err != nil {
		return nil, fmt.Errorf("setting the hardware address of the bridge %s: %w", BridgeName, err)
	}
	addr := &netlink.Addr{IPNet: ipNet(b.Gateway, pods.Bits())}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return nil, fmt.Errorf("giving the bridge %s its address: %w", BridgeName, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("starting the bridge %s: %w", BridgeName, err)
	}
	return b, nil
}

// beRouter has the network of the calling process forward packets.
func beRouter() error {
	devices, err := os.ReadDir("/proc/sys/net/ipv4/conf") // all, default, and those that are there already
	if err != nil {
		return fmt.Errorf("listing network devices: %w", err)
	}
	for _, device := range devices {
		for _, setting := range []string{
			"rp_filter",      // the way back of a packet may be another than its way, where rules change its addresses
			"send_redirects", // pods are not to learn a shorter way to each other
		} {
			if err := setNet("ipv4/conf/"+device.Name()+"/"+setting, "0"); err != nil {
				return err
			}
		}
	}
	if err := setNet("ipv4/ip_forward", "1"); err != nil {
		return err
	}
	return noIPv6()
}

// Connect makes a network namespace for a pod and connects it. The device on the node's side gets that name. The
// network lasts until the file is closed and no process is in it any more.
func (b *Bridge) Connect(addr netip.Addr, device string) (*os.File, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	if err := b.connect(ns, addr, device); err != nil {
		closeAll(ns)
		return nil, err
	}
	return ns, nil
}

func (b *Bridge) connect(ns *os.File, addr netip.Addr, device string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = device, mtu, b.index
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: "eth0", PeerMTU: mtu, PeerHardwareAddr: hardwareAddr(addr),
		PeerNamespace: netlink.NsFd(int(ns.Fd())),
	}
	// A pod that ended a moment ago may have left its device behind.
	err := netlink.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) {
		if err = Disconnect(device); err == nil {
			err = netlink.LinkAdd(veth)
		}
	}
	if err != nil {
		return fmt.Errorf("connecting a pod with %s: %w", device, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("starting %s: %w", device, err)
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("reaching a pod's network: %w", err)
	}
	defer h.Close()
	return b.configure(h, addr)
}

// configure gives a pod's end of the connection its address and its way out.
func (b *Bridge) configure(h *netlink.Handle, addr netip.Addr) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding a pod's lo: %w", err)
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("finding a pod's eth0: %w", err)
	}
	gateway := b.Gateway.AsSlice()
	for _, step := range []func() error{
		func() error { return h.LinkSetUp(lo) },
		func() error { return h.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(addr, addr.BitLen())}) },
		func() error { return h.LinkSetUp(eth) },
		func() error {
			return h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: ipNet(b.Gateway, b.Gateway.BitLen()), Scope: netlink.SCOPE_LINK})
		},
		func() error { return h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway}) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("configuring a pod's network with address %s: %w", addr, err)
		}
	}
	return nil
}

// Disconnect removes the device that Connect made, at once; the kernel does so by itself some time after the end of
// the pod's network. A device that is gone is no error.
func Disconnect(device string) error {
	link, err := netlink.LinkByName(device)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	var missing netlink.LinkNotFoundError
	if err == nil || errors.As(err, &missing) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("removing %s: %w", device, err)
}

// newNamespace makes a network namespace that nobody is in.
func newNamespace() (*os.File, error) {
	var ns *os.File
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		if err := noIPv6(); err != nil {
			return err
		}
		// Any pod may use any port and ping, whoever its processes are.
		if err := setNet("ipv4/ip_unprivileged_port_start", "0"); err != nil {
			return err
		}
		var err error
		ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return ns, err
}

// Host opens the network namespace of the calling process.
func Host() (*os.File, error) { return os.Open("/proc/self/ns/net") }

// DialIn connects to an address as a process in the network namespace would.
func DialIn(ns *os.File, dialer *net.Dialer, network string, addr netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := onThread(func() error {
		if err := join(ns, unix.CLONE_NEWNET, "network"); err != nil {
			return err
		}
		var err error
		conn, err = dialer.Dial(network, addr.String()) //nolint:noctx // the dialer has a timeout
		return err
	})
	return conn, err
}

// noIPv6 keeps devices that are made from now on in the network of the calling thread from talking IPv6, which nothing
// in the lab answers. The kernel may do without it altogether.
func noIPv6() error {
	err := setNet("ipv6/conf/default/disable_ipv6", "1")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func setNet(name, value string) error {
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
		return fmt.Errorf("setting net/%s: %w", name, err)
	}
	return nil
}

func ipNet(addr netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}
}

// hardwareAddr makes a locally administered address that is as unique as the IP address.
func hardwareAddr(addr netip.Addr) net.HardwareAddr {
	ip := addr.As4()
	return net.HardwareAddr{0x0a, 0x58, ip[0], ip[1], ip[2], ip[3]}
}
