package listen_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/hansa-dev/hansa/dns/listen"
)

func TestEveryTransportAndFamily(t *testing.T) {
	for name, test := range map[string]struct {
		reason string
		listen string
		asked  []string // addresses of the host that reach it
	}{
		"IPv4":      {"one address", "127.0.0.1:0", []string{"127.0.0.1"}},
		"IPv6":      {"the other family", "[::1]:0", []string{"::1"}},
		"All":       {"all addresses of both, with one port", ":0", []string{"127.0.0.1", "127.0.0.2", "::1"}},
		"AllOfIPv4": {"answers come from the address that was asked, or the client does not take them", "0.0.0.0:0", []string{"127.0.0.1", "127.7.7.7"}},
		"AllOfIPv6": {"of IPv6 too", "[::]:0", []string{"::1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := start(t, listen.Options{UDP: []string{test.listen}, Engines: 2}, listen.HandlerFunc(echo))
			port := s.Addrs(listen.UDP)[0].Port()
			for _, addr := range append(s.Addrs(listen.UDP), s.Addrs(listen.TCP)...) {
				if addr.Port() != port {
					t.Errorf("%s: UDP listens on %v and TCP on %v", test.reason, s.Addrs(listen.UDP), s.Addrs(listen.TCP))
				}
			}
			for _, host := range test.asked {
				addr := netip.AddrPortFrom(netip.MustParseAddr(host), port)
				// A connected socket drops what comes from another address.
				if got, want := ask(t, dial(t, "udp", addr), "hello"), fmt.Sprintf("udp %s hello", addr); got != want {
					t.Errorf("%s: over UDP got %q, want %q", test.reason, got, want)
				}
				conn := dial(t, "tcp", addr)
				send(t, conn, "hello")
				if got, want := receive(t, conn), fmt.Sprintf("tcp %s hello", addr); got != want {
					t.Errorf("%s: over TCP got %q, want %q", test.reason, got, want)
				}
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	takenTCP, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = takenTCP.Close() }()
	shared, _ := start(t, listen.Options{UDP: []string{"127.0.0.1:0"}, TCP: []string{}, Engines: 2}, listen.HandlerFunc(echo))

	for name, test := range map[string]struct {
		reason  string
		options listen.Options
		want    []string // in the error
	}{
		"UDPTaken": {
			"the error names the address and the next step",
			listen.Options{UDP: []string{taken.LocalAddr().String()}},
			[]string{"udp " + taken.LocalAddr().String(), "address already in use", "ss -lunp"},
		},
		"TCPTaken": {
			"also when only TCP clashes",
			listen.Options{UDP: []string{takenTCP.Addr().String()}},
			[]string{"tcp " + takenTCP.Addr().String(), "address already in use", "ss -ltnp"},
		},
		"Shared": {
			"a server that shares its port among its own engines shares it with nobody else",
			listen.Options{UDP: []string{shared.Addrs(listen.UDP)[0].String()}, TCP: []string{}},
			[]string{"udp " + shared.Addrs(listen.UDP)[0].String(), "address already in use"},
		},
		"NotOurs":     {"an address of somebody else", listen.Options{UDP: []string{"192.0.2.1:0"}}, []string{"udp 192.0.2.1:0", "ip address"}},
		"Name":        {"names are not looked up", listen.Options{UDP: []string{"localhost:53"}}, []string{`"localhost:53"`, "no IP address"}},
		"NoPort":      {"a port is needed", listen.Options{UDP: []string{"127.0.0.1"}}, []string{`"127.0.0.1"`, "want IP:port"}},
		"BadPort":     {"a port is a number", listen.Options{UDP: []string{"127.0.0.1:domain"}}, []string{`"domain" is no port`}},
		"Nothing":     {"nobody wants a server that does not listen", listen.Options{}, []string{"no address"}},
		"Certificate": {"TLS needs one", listen.Options{TLS: []string{"127.0.0.1:0"}}, []string{"certificate", "TLSConfig"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.Engines = 1
			_, err := listen.New(test.options, listen.HandlerFunc(echo))
			if err == nil {
				t.Fatalf("%s: no error", test.reason)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %q does not say %q", test.reason, err, want)
				}
			}
		})
	}
}

// FuzzAddress takes what a configuration may say: each address is refused with its name, or stands for addresses with one
// port.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"", ":53", "127.0.0.1:53", "[::1]:0", "[fe80::1%eth0]:53", "[::ffff:192.0.2.1]:53", "::1:53", "[]:53", "host:53", "1.2.3.4:65536", "1.2.3.4:-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, written string) {
		addrs, err := listen.Parse(written)
		if err != nil {
			if !strings.Contains(err.Error(), fmt.Sprintf("%q", written)) {
				t.Errorf("%q does not name %q", err, written)
			}
			return
		}
		for _, addr := range addrs {
			if !addr.IsValid() || addr.Port() != addrs[0].Port() || addr.Addr().Is4In6() {
				t.Errorf("%q stands for %v", written, addrs)
			}
		}
		if len(addrs) == 0 {
			t.Errorf("%q stands for nothing", written)
		}
	})
}
