package gateway_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	bench "github.com/hansa-dev/hansa/e2e/bench/gateway"
	"github.com/hansa-dev/hansa/eastwest/gateway"
)

// TestLoad holds that every connection is one through the gateway, and that octets are counted.
func TestLoad(t *testing.T) {
	for _, kind := range bench.Kinds() {
		t.Run(kind, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			done, octets, err := bench.Load(t.Context(), kind, 20, 300_000, func(plain, secure []netip.AddrPort) netip.AddrPort {
				s, err := gateway.New(gateway.Options{Addresses: []string{"127.0.0.1:0"}, Router: bench.Router(plain, secure)})
				if err != nil {
					t.Fatal(err)
				}
				go func() { ended <- s.Run(ctx) }()
				return s.Addrs()[0]
			})
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if err != nil || done != 20 {
				t.Errorf("%d of 20 connections did what they should: %v", done, err)
			}
			if kind == "bulk" && octets != 20*300_000 {
				t.Errorf("%d octets came, want %d", octets, 20*300_000)
			}
		})
	}
}

func TestLoadIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		reason string
		to     string
		count  int
	}{
		"Elsewhere": {"it floods nobody else", "192.0.2.1:443", 1},
		"Endless":   {"it ends", "127.0.0.1:9", 1 << 30},
		"Nothing":   {"there is something to do", "127.0.0.1:9", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := bench.Load(t.Context(), "plain", test.count, 1, func(_, _ []netip.AddrPort) netip.AddrPort {
				return netip.MustParseAddrPort(test.to)
			}); err == nil {
				t.Errorf("%s: no error", test.reason)
			}
		})
	}
}

func TestHAProxyChoosesByName(t *testing.T) {
	c := bench.HAProxyConfig(netip.MustParseAddrPort("127.0.0.1:1"))
	for _, want := range []string{
		"use_backend plain if { req.ssl_sni -i plain.bench.svc.clusterset.local }",
		"use_backend secure if { req.ssl_sni -i secure.bench.svc.clusterset.local }",
		"nbthread 2",
	} {
		if !strings.Contains(c, want) {
			t.Errorf("there is no %q in\n%s", want, c)
		}
	}
}
