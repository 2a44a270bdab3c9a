package network

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/e2e/lab/wan"
)

// Names of devices in every namespace that has them.
const (
	nodesBridge = "nodes" // in a cluster's
	wanDevice   = "wan"   // in a cluster's
	nodeDevice  = "eth0"  // in a node's
)

// wiring is the namespaces of a lab with their devices.
type wiring struct {
	spec   Spec
	spaces map[string]namespace // by name of cluster or node
	ports  []wan.Port
}

// wire makes everything that spec describes, as seen from the namespace of the WAN, which is the process's.
func wire(spec Spec) (_ *wiring, err error) {
	w := &wiring{spec: spec, spaces: map[string]namespace{}}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if err := inUse(); err != nil {
		return nil, err
	}
	if err := apply(wanSettings); err != nil {
		return nil, err
	}
	for _, c := range spec.Clusters {
		if err := w.cluster(c); err != nil {
			return nil, fmt.Errorf("making the network of cluster %s: %w", c.Name, err)
		}
		for k, name := range c.Nodes {
			if err := w.node(c, k+1, name); err != nil {
				return nil, fmt.Errorf("making the network of node %s: %w", name, err)
			}
		}
	}
	return w, nil
}

// close lets the namespaces go, with all devices in them; those that processes are in live on.
func (w *wiring) close() {
	for _, space := range w.spaces {
		space.close()
	}
}

// inUse is an error if the namespace is not fresh: a host's must not get the devices of a lab.
func inUse() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("listing network devices: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagUp != 0 {
			return fmt.Errorf("the network namespace is in use: its device %s is up; run this in a namespace of its own", l.Attrs().Name)
		}
	}
	return nil
}

// space makes a namespace under a name and begins it by do.
func (w *wiring) space(name string, do func() error) (namespace, error) {
	space, err := newNamespace()
	if err != nil {
		return namespace{}, err
	}
	w.spaces[name] = space
	return space, space.enter(func() error {
		if err := apply(settings); err != nil {
			return err
		}
		if err := up("lo"); err != nil {
			return err
		}
		return do()
	})
}

// cluster makes the router of a cluster: the bridge of its nodes and the way out, to the WAN.
func (w *wiring) cluster(c Cluster) error {
	space, err := w.space(c.Name, func() error {
		// Without an address of its own it would take over that of one node's device.
		bridge := &netlink.Bridge{LinkAttrs: attributes(nodesBridge, mac(c.Index, 0))}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("making bridge %s: %w", nodesBridge, err)
		}
		return address(nodesBridge, RouterIP(c.Index))
	})
	if err != nil {
		return err
	}
	port := wan.Port{
		Name: c.Name, Device: "c" + strconv.Itoa(c.Index), Peer: mac(c.Index, 254), Ranges: []netip.Prefix{NodeRange(c.Index)},
	}
	if w.spec.Flat {
		port.Ranges = append(port.Ranges, PodRange(c.Index))
	}
	w.ports = append(w.ports, port)
	// On the side of the WAN, frames carry the address of their sender for both ends: the kernel there ignores them.
	if err := cable(attributes(port.Device, mac(c.Index, 255)), wanDevice, port.Peer, space); err != nil {
		return err
	}
	return space.enter(func() error { return wayOut(c.Index) })
}

// wayOut sets up the cluster's side of the WAN. The device asks for no neighbours: there is one at the other end.
func wayOut(cluster int) error {
	if err := withoutOffload(wanDevice); err != nil {
		return err
	}
	device, err := netlink.LinkByName(wanDevice)
	if err != nil {
		return fmt.Errorf("device %s: %w", wanDevice, err)
	}
	if err := netlink.LinkSetARPOff(device); err != nil {
		return fmt.Errorf("device %s: %w", wanDevice, err)
	}
	if err := up(wanDevice); err != nil {
		return err
	}
	err = netlink.RouteAdd(&netlink.Route{
		Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), LinkIndex: device.Attrs().Index,
		Scope: netlink.SCOPE_LINK, Src: RouterIP(cluster).AsSlice(),
	})
	if err != nil {
		return fmt.Errorf("routing to the WAN: %w", err)
	}
	// Pods that are not there are not looked for in the WAN.
	err = netlink.RouteAdd(&netlink.Route{Dst: ipNet(PodRange(cluster)), Type: unix.RTN_UNREACHABLE})
	if err != nil {
		return fmt.Errorf("routing %s: %w", PodRange(cluster), err)
	}
	return nil
}

// node makes the namespace of a node, connects it to its cluster and sets up its masquerading.
func (w *wiring) node(c Cluster, k int, name string) error {
	space, err := w.space(name, func() error { return nil })
	if err != nil {
		return err
	}
	err = w.spaces[c.Name].enter(func() error {
		port := attributes("n"+strconv.Itoa(k), mac(c.Index, 100+k))
		bridge, err := netlink.LinkByName(nodesBridge)
		if err != nil {
			return fmt.Errorf("bridge %s: %w", nodesBridge, err)
		}
		port.MasterIndex = bridge.Attrs().Index
		return cable(port, nodeDevice, mac(c.Index, k), space)
	})
	if err != nil {
		return err
	}
	err = space.enter(func() error {
		if err := address(nodeDevice, NodeIP(c.Index, k)); err != nil {
			return err
		}
		if err := route(netip.PrefixFrom(netip.IPv4Unspecified(), 0), RouterIP(c.Index)); err != nil {
			return err
		}
		return load(w.spec.NFT, w.masquerading(c.Index, k))
	})
	if err != nil {
		return err
	}
	return w.spaces[c.Name].enter(func() error { return route(NodePodRange(c.Index, k), NodeIP(c.Index, k)) })
}

// masquerading is the rules by which a node gives its address to what its pods send out of their cluster: only addresses
// of nodes are known everywhere, and in flat labs those of pods among one another.
func (w *wiring) masquerading(cluster, k int) string {
	kept := []string{NodeRange(cluster).String(), PodRange(cluster).String()}
	for _, c := range w.spec.Clusters {
		if w.spec.Flat && c.Index != cluster {
			kept = append(kept, PodRange(c.Index).String())
		}
	}
	return fmt.Sprintf(`table ip hansa-lab {
	chain leaving {
		type nat hook postrouting priority srcnat; policy accept;
		oifname != %q accept
		ip saddr != %s accept
		ip daddr { %s } accept
		masquerade
	}
}
`, nodeDevice, NodePodRange(cluster, k), strings.Join(kept, ", "))
}

// load gives rules to the namespace of the calling thread.
func load(nft, rules string) error {
	var output bytes.Buffer
	cmd := exec.Command(nft, "-f", "-") //nolint:noctx // it ends by itself
	cmd.Stdin = strings.NewReader(rules)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("masquerading by %s: %w\n%s", nft, err, output.String())
	}
	return nil
}

// cable makes a pair of devices, of which the far one is in another namespace, and sets the near one up.
func cable(near netlink.LinkAttrs, far string, farMAC net.HardwareAddr, space namespace) error {
	err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: near, PeerName: far, PeerHardwareAddr: farMAC, PeerMTU: MTU, PeerNamespace: netlink.NsFd(space.fd()),
	})
	if err != nil {
		return fmt.Errorf("making devices %s and %s: %w", near.Name, far, err)
	}
	return up(near.Name)
}

// attributes are those of a new device.
func attributes(name string, mac net.HardwareAddr) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.HardwareAddr, a.MTU = name, mac, MTU
	return a
}

// mac is the address of a device of a cluster, the same in every lab.
func mac(cluster, device int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0, 172, 20, octet(cluster), octet(device)}
}

// address gives a device its address in the nodes' range and sets it up.
func address(device string, addr netip.Addr) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("device %s: %w", device, err)
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, NodeRange(0).Bits()))}); err != nil {
		return fmt.Errorf("giving %s to device %s: %w", addr, device, err)
	}
	return up(device)
}

func up(device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("device %s: %w", device, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting device %s up: %w", device, err)
	}
	return nil
}

func route(to netip.Prefix, via netip.Addr) error {
	if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(to), Gw: via.AsSlice()}); err != nil {
		return fmt.Errorf("routing %s via %s: %w", to, via, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// names lists the namespaces, clusters first, in the order of the spec.
func (s Spec) names() []string {
	var clusters, nodes []string
	for _, c := range s.Clusters {
		clusters, nodes = append(clusters, c.Name), append(nodes, c.Nodes...)
	}
	return slices.Concat(clusters, nodes)
}
