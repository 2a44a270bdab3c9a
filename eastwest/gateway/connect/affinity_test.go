package connect_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
)

// TestConnectAffinity holds that a client stays where it was while that is only slow, moves when it breaks, and that only
// where affinity is asked for.
func TestConnectAffinity(t *testing.T) {
	who := route.ByName("somebody")
	ask := func(f *connect.Finder) string {
		l, err := f.Connect(context.Background(), connect.Client{Affinity: who})
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Reset()
		l.Release()
		return l.Way.Cluster
	}
	both := func(affinity bool) *connect.Routes {
		return &connect.Routes{Number: 80, Affinity: affinity, Priorities: [][]route.Candidate{{
			{Cluster: "m2", Gateways: []netip.AddrPort{m2}, Weight: 1}, {Cluster: "m3", Gateways: []netip.AddrPort{m3}, Weight: 1},
		}}}
	}
	synctest.Test(t, func(t *testing.T) {
		g := newGateways(map[netip.AddrPort]behavior{m2: {}, m3: {}})
		f := finder(g, nil)
		f.Follow(both(true))
		home := ask(f)
		at := map[string]netip.AddrPort{"m2": m2, "m3": m3}[home]
		for range 20 {
			if got := ask(f); got != home {
				t.Fatalf("the client of %s went to %s", home, got)
			}
		}
		g.set(at, behavior{after: 200 * ms})
		if got := ask(f); got != home {
			t.Errorf("the client of %s went to %s, which was faster once", home, got)
		}
		g.set(at, behavior{err: errors.New("broken")})
		if got := ask(f); got == home {
			t.Errorf("the client stays at what is broken")
		}
		g.set(at, behavior{})
		seen := map[string]bool{}
		f = finder(g, nil)
		f.Follow(both(false))
		for range 50 {
			seen[ask(f)] = true
		}
		if len(seen) != 2 {
			t.Errorf("without affinity, all connections went to %v", seen)
		}
	})
}
