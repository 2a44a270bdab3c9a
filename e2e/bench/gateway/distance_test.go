package gateway_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	bench "github.com/hansa-dev/hansa/e2e/bench/gateway"
)

func TestJudge(t *testing.T) {
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		reason string
		took   []time.Duration
		want   bench.Fate
	}{
		"Nothing":  {"nobody called", nil, bench.Fate{}},
		"Well":     {"the worst is told, though it is well", []time.Duration{40 * ms, 60 * ms, 41 * ms}, bench.Fate{Worst: 60 * ms}},
		"Slow":     {"one slow call is a period of the pace", []time.Duration{40 * ms, 160 * ms, 41 * ms}, bench.Fate{Worst: 160 * ms, Slow: 20 * ms}},
		"Failed":   {"failed calls are slow too, and have no time", []time.Duration{40 * ms, -1, 41 * ms, 42 * ms}, bench.Fate{Failed: 1, Worst: 42 * ms, Slow: 20 * ms}},
		"WellInit": {"what was under way is counted apart; what is well between slow ones belongs to the slow time", []time.Duration{-1, 40 * ms, 300 * ms}, bench.Fate{CutOff: 1, Worst: 300 * ms, Slow: 60 * ms}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := bench.Judge(test.took, 20*ms); got != test.want {
				t.Errorf("%+v, want %+v: %s", got, test.want, test.reason)
			}
		})
	}
}

func TestBridgesVerifyEachOther(t *testing.T) {
	for _, secure := range []bool{false, true} {
		config := bench.BridgeConfig(netip.MustParseAddrPort("127.0.0.1:1"), secure, netip.MustParseAddrPort("127.0.0.1:2"), netip.MustParseAddrPort("127.0.0.1:3"))
		tls, plain := "    server s0 127.0.0.1:2 ssl", "    bind 127.0.0.1:1\n"
		if secure {
			tls, plain = "    bind 127.0.0.1:1 ssl", "    server s0 127.0.0.1:2 check"
		}
		for _, want := range []string{tls, plain, "verify required", "ssl-min-ver TLSv1.3", "backup"} {
			if !strings.Contains(config, want) {
				t.Errorf("secure %t: there is no %q in\n%s", secure, want, config)
			}
		}
	}
}
