package network_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// short is how long an answer is waited for that must not come. A busy machine makes such a test weaker, not wrong.
const short = 150 * time.Millisecond

// pair is a client in one cluster and an echo in another, and the ends of the links between them.
type pair struct {
	client, server *net.UDPConn
	there, both    network.Ends
}

// ends01 has its client on the first node of c0 and its server on the first of c1.
func (l *lab) ends01(t *testing.T) pair {
	t.Helper()
	p := pair{
		client: l.udp(t, "c0-n1", network.NodeIP(0, 1)), server: l.udp(t, "c1-n1", network.NodeIP(1, 1)),
		there: network.Ends{From: []string{"c0"}, To: []string{"c1"}},
		both:  network.Ends{From: []string{"c0"}, To: []string{"c1"}, Both: true},
	}
	go echo(p.server)
	return p
}

// answered checks whether the server answers.
func (p pair) answered(t *testing.T, want bool, reason string) {
	t.Helper()
	wait := patience
	if !want {
		wait = short
	}
	if seen, _, err := ask(t, p.client, p.server, wait); (err == nil) != want {
		t.Fatalf("answer %q, %v: %s", seen, err, reason)
	}
}

func (l *lab) cut(t *testing.T, ends network.Ends) {
	t.Helper()
	if _, err := l.Cut(t.Context(), ends); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) heal(t *testing.T, ends network.Ends) {
	t.Helper()
	if _, err := l.Heal(t.Context(), ends); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) set(t *testing.T, change network.Change) {
	t.Helper()
	if _, err := l.SetLinks(t.Context(), change); err != nil {
		t.Fatal(err)
	}
}

func TestLinks(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := start(t, 3, 1, false)
		p := l.ends01(t)
		p.answered(t, true, "links are open at first")
		t.Run("cut", func(t *testing.T) { cutAndHeal(t, l, p) })
		t.Run("under way", func(t *testing.T) { cutUnderWay(t, l, p) })
		t.Run("delay", func(t *testing.T) { delay(t, l, p) })
		t.Run("loss", func(t *testing.T) { loss(t, l, p) })
		t.Run("bandwidth", func(t *testing.T) { bandwidth(t, l, p) })
	})
}

func cutAndHeal(t *testing.T, l *lab, p pair) {
	l.cut(t, p.both)
	p.answered(t, false, "the link is cut both ways")
	l.heal(t, p.there)
	p.answered(t, false, "the question arrives, the answer is cut")
	if before := l.link(t, "c1", "c0").Drops["cut"]; before == 0 {
		t.Error("the answer was not counted as dropped by the cut")
	}
	l.heal(t, p.both)
	p.answered(t, true, "the link is healed")

	l.cut(t, network.Ends{From: []string{"c2"}, Both: true})
	p.answered(t, true, "only c2 is cut off")
	other := l.udp(t, "c2-n1", network.NodeIP(2, 1))
	go echo(other)
	if _, _, err := ask(t, p.client, other, short); err == nil {
		t.Error("c2 answers, although it is cut off from all others")
	}
	l.heal(t, network.Ends{From: []string{"c0", "c1"}, Both: true})
	if _, _, err := ask(t, p.client, other, patience); err != nil {
		t.Errorf("c0 and c1 are healed from all others, but c2 does not answer: %v", err)
	}
}

// cutUnderWay: what was sent before a cut and has not arrived never does, also if the link is healed before it is due.
func cutUnderWay(t *testing.T, l *lab, p pair) {
	l.set(t, network.Change{Ends: p.there, Delay: new("1s")})
	before := l.link(t, "c0", "c1")
	if _, err := p.client.WriteTo([]byte("?"), p.server.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	l.cut(t, p.there)
	l.heal(t, p.there)
	eventually(t, "the packet is dropped", func() error {
		now := l.link(t, "c0", "c1")
		if now.Packets != before.Packets {
			t.Fatal("a packet arrived that was under way when the link was cut")
		}
		if now.Drops["cut"] == before.Drops["cut"] {
			return errors.New("not yet")
		}
		return nil
	})
	l.set(t, network.Change{Ends: p.there, Delay: new("0s")})
	p.answered(t, true, "the link is healed")
}

// delay: no answer is early, and a few are nearly in time even if the machine is busy.
func delay(t *testing.T, l *lab, p pair) {
	l.set(t, network.Change{Ends: p.there, Delay: new("30ms")})
	l.set(t, network.Change{Ends: network.Ends{From: []string{"c1"}, To: []string{"c0"}}, Delay: new("20ms")})
	best := time.Hour
	for range 20 {
		_, took, err := ask(t, p.client, p.server, patience)
		if err != nil {
			t.Fatal(err)
		}
		best = min(best, took)
	}
	if best < 50*time.Millisecond || best > 65*time.Millisecond {
		t.Errorf("the fastest of 20 answers takes %s, want 50ms and a little", best)
	}
	l.set(t, network.Change{Ends: p.both, Delay: new("0s")})
	if _, took, err := ask(t, p.client, p.server, patience); err != nil || took > 50*time.Millisecond {
		t.Errorf("without delay an answer takes %s, %v", took, err)
	}
}

// loss counts what arrives, and compares with what was lost by the link's own account.
func loss(t *testing.T, l *lab, p pair) {
	before := l.link(t, "c0", "c1")
	l.set(t, network.Change{Ends: p.there, Loss: new(0.3)})
	sink := l.udp(t, "c1-n1", network.NodeIP(1, 1))
	const n, batch = 1000, 50 // a batch fits the receiver's queue
	const late = 5            // packets of what was asked before may still pass on a busy machine; they come to nobody here
	arrived := 0
	for sent := batch; sent <= n; sent += batch {
		for range batch {
			if _, err := p.client.WriteTo([]byte("?"), sink.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		var now network.Link
		eventually(t, "the batch has passed", func() error {
			now = l.link(t, "c0", "c1")
			if done := now.Packets + now.Dropped - before.Packets - before.Dropped; done < uint64(sent) {
				return fmt.Errorf("%d of %d packets", done, sent)
			}
			return nil
		})
		for arrived < int(now.Packets-before.Packets) {
			if err := sink.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				t.Fatal(err)
			}
			_, err := sink.Read(make([]byte, 10))
			if err != nil && arrived+late >= int(now.Packets-before.Packets) {
				break
			}
			if err != nil {
				t.Fatalf("%d packets of %d arrived: %v", arrived, now.Packets-before.Packets, err)
			}
			arrived++
		}
	}
	if lost := n - arrived; lost < 228 || lost > 372 { // five standard deviations
		t.Errorf("%d of %d packets are lost, want about 300", lost, n)
	}
	l.set(t, network.Change{Ends: p.there, Loss: new(0.0)})
	p.answered(t, true, "nothing is lost any more")
}

// bandwidth: a transfer takes as long as its packets on a line, less what may wait in the queue.
func bandwidth(t *testing.T, l *lab, p pair) {
	l.set(t, network.Change{Ends: p.there, Bandwidth: new("20Mbit")})
	before := l.link(t, "c0", "c1")
	const size = 2 << 20
	took := l.transfer(t, size)
	if least := time.Duration(size * 8 / 20 * 1000); took < least || took > 4*least {
		t.Errorf("%d bytes at 20 Mbit/s take %s, want %s and a little", size, took, least)
	}
	after := l.link(t, "c0", "c1")
	if bytes := after.Bytes - before.Bytes; bytes < size {
		t.Errorf("the link carried %d bytes of %d", bytes, size)
	}
	l.set(t, network.Change{Ends: p.there, Bandwidth: new("0")})
	t.Logf("without a limit %d bytes take %s", size, l.transfer(t, size))
}

// transfer sends bytes from a node of c0 to one of c1 by TCP, and returns how long that took.
func (l *lab) transfer(t *testing.T, size int64) time.Duration {
	t.Helper()
	var listener net.Listener
	l.enter(t, "c1-n1", func() (err error) {
		listener, err = net.Listen("tcp4", network.NodeIP(1, 1).String()+":0")
		return err
	})
	defer func() { _ = listener.Close() }()
	began := time.Now()
	l.enter(t, "c0-n1", func() error {
		conn, err := net.Dial("tcp4", listener.Addr().String())
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.CopyN(conn, zeros{}, size)
			_ = conn.Close()
		}()
		return nil
	})
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if n, err := io.Copy(io.Discard, conn); n != size || err != nil {
		t.Fatalf("%d of %d bytes arrived: %v", n, size, err)
	}
	return time.Since(began)
}

// zeros can be read without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestSources(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := start(t, 2, 2, false)
		home, address := l.pod(t, 0, 1)
		pod := udpIn(t, home, address)
		near, nearAddress := l.pod(t, 0, 2)
		away, awayAddress := l.pod(t, 1, 1)
		tests := []struct {
			reason, seen string
			to           *net.UDPConn
		}{
			{"the nodes of the own cluster see the pod", address.String(), l.udp(t, "c0-n2", network.NodeIP(0, 2))},
			{"so does the API server of the own cluster", address.String(), l.udp(t, "c0", network.RouterIP(0))},
			{"so do pods of other nodes", address.String(), udpIn(t, near, nearAddress)},
			{"other clusters see the node, for they know of no pods", "172.20.0.11", l.udp(t, "c1-n2", network.NodeIP(1, 2))},
			{"so does their API server", "172.20.0.11", l.udp(t, "c1", network.RouterIP(1))},
		}
		for _, test := range tests {
			go echo(test.to)
			if seen, _, err := ask(t, pod, test.to, patience); seen != test.seen {
				t.Errorf("seen as %q (%v), want %q: %s", seen, err, test.seen, test.reason)
			}
		}
		far := udpIn(t, away, awayAddress)
		go echo(far)
		if seen, _, err := ask(t, pod, far, short); err == nil {
			t.Errorf("a pod of another cluster answers %q, but its range is not routed", seen)
		}
		refused(t, l, "c0", "what went to a pod of another cluster")
	})
}

func TestFlat(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := start(t, 2, 1, true)
		home, address := l.pod(t, 0, 1)
		pod := udpIn(t, home, address)
		away, awayAddress := l.pod(t, 1, 1)
		far := udpIn(t, away, awayAddress)
		go echo(far)
		if seen, _, err := ask(t, pod, far, patience); seen != address.String() {
			t.Errorf("seen as %q (%v), want %s: pods of flat labs see one another as they are", seen, err, address)
		}
		node := l.udp(t, "c1-n1", network.NodeIP(1, 1))
		go echo(node)
		if seen, _, err := ask(t, pod, node, patience); seen != "172.20.0.11" {
			t.Errorf("seen as %q (%v), want the node: nodes know of no pods of other clusters", seen, err)
		}
	})
}

// TestNowhere: what no cluster has leads nowhere, least of all to the host.
func TestNowhere(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := start(t, 2, 1, false)
		node := l.udp(t, "c0-n1", network.NodeIP(0, 1))
		mistaken := network.NodeIP(1, 9)
		tests := []struct {
			reason, to string
			from       *net.UDPConn
		}{
			{"the Internet is not connected", "192.0.2.1", node},
			{"there is no such cluster", "172.20.77.1", node},
			{"virtual addresses of other clusters mean nothing", "10.97.0.10", node},
			{"pods of other clusters are not routed", "10.1.1.2", node},
			{"the source is another cluster's: an answer would not come back", network.RouterIP(1).String(), l.takeAddress(t, "c0-n1", mistaken)},
		}
		for _, test := range tests {
			before := l.refused(t, "c0").Unroutable
			if _, err := test.from.WriteTo([]byte("?"), &net.UDPAddr{IP: net.ParseIP(test.to), Port: 53}); err != nil {
				t.Errorf("sending to %s: %v", test.to, err)
				continue
			}
			eventually(t, "the packet to "+test.to+" is dropped", func() error {
				if after := l.refused(t, "c0").Unroutable; after != before+1 {
					return fmt.Errorf("%d are: %s", after-before, test.reason)
				}
				return nil
			})
		}
		if link := l.link(t, "c0", "c1"); link.Packets != 0 {
			t.Errorf("%d packets crossed", link.Packets)
		}
		l.enter(t, "c0-n1", func() error {
			_, err := net.DialTimeout("tcp4", "10.0.9.9:80", patience)
			if !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH) {
				t.Errorf("error %v: a pod of a node that there is not is known not to be there", err)
			}
			return nil
		})
	})
}

// takeAddress opens a socket with an address that the node has not.
func (l *lab) takeAddress(t *testing.T, node string, address netip.Addr) *net.UDPConn {
	t.Helper()
	l.enter(t, node, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(32, 32)}})
	})
	return l.udp(t, node, address)
}

// refused is what became of a cluster's other packets.
func (l *lab) refused(t *testing.T, cluster string) network.Refused {
	t.Helper()
	state, err := l.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state.Refused[cluster]
}

func refused(t *testing.T, l *lab, cluster, what string) {
	t.Helper()
	eventually(t, what+" is counted", func() error {
		if l.refused(t, cluster).Unroutable == 0 {
			return errors.New("not yet")
		}
		return nil
	})
}

// TestDevices: the namespaces hold what the lab needs, and the WAN has no address that anything could be sent to.
func TestDevices(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := start(t, 2, 2, false)
		want := map[string][]string{
			"c0":    {"lo 127.0.0.1/8", "n1", "n2", "nodes 172.20.0.1/24", "wan"},
			"c1-n2": {"eth0 172.20.1.12/24", "lo 127.0.0.1/8"},
		}
		for name, want := range want {
			var got []string
			l.enter(t, name, func() (err error) { got, err = devices(); return err })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("devices of %s (-want +got):\n%s", name, diff)
			}
		}
		got, err := devices()
		if diff := cmp.Diff([]string{"c0", "c1", "lo"}, got); diff != "" || err != nil {
			t.Errorf("devices of the WAN (-want +got), %v:\n%s", err, diff)
		}
		if _, err := os.ReadDir("/proc/sys/net/ipv6"); err == nil {
			for name := range want {
				l.enter(t, name, func() error {
					_, err := net.ListenPacket("udp6", "[::1]:0")
					if err == nil {
						t.Errorf("%s has IPv6", name)
					}
					return nil
				})
			}
		}
	})
}

// devices lists the devices of the calling thread's namespace with their addresses. Those that some kernels put into
// every namespace are down, and left out.
func devices() ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, link := range links {
		if link.Attrs().Flags&net.FlagUp == 0 && link.Attrs().Name != "lo" {
			continue
		}
		text := []string{link.Attrs().Name}
		addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			text = append(text, a.IPNet.String())
		}
		all = append(all, strings.Join(text, " "))
	}
	slices.Sort(all)
	return all, nil
}

func TestRunRefuses(t *testing.T) {
	isolated(t, func(t *testing.T) {
		if err := network.Up("lo"); err != nil {
			t.Fatal(err)
		}
		s := spec(t, 1, 0, false)
		listener := listenIn(t, hostNamespace(t), "127.0.0.1:0")
		err := network.Run(t.Context(), s, []net.Listener{listener}, quiet())
		if err == nil || !strings.Contains(err.Error(), "in use: its device lo is up") {
			t.Errorf("error %v: a namespace that somebody uses, such as a host's, must be left alone", err)
		}
		if _, err := listener.Accept(); err == nil {
			t.Error("the listener is still open")
		}
	})
}

func TestRunFailsCleanly(t *testing.T) {
	isolated(t, func(t *testing.T) {
		s := spec(t, 1, 1, false)
		s.NFT = "/bin/false"
		listener := listenIn(t, hostNamespace(t), "127.0.0.1:0")
		err := network.Run(context.Background(), s, []net.Listener{listener}, quiet())
		if err == nil || !strings.Contains(err.Error(), "node c0-n1: masquerading by /bin/false") {
			t.Errorf("error %v: it must name the node and the program", err)
		}
	})
}
