package imports_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/imports"
)

var (
	httpPort = clusterset.Port{Name: "http", Protocol: "TCP", Port: 80}
	dnsPort  = clusterset.Port{Name: "dns", Protocol: "UDP", Port: 53}
)

func service(i int) clusterset.Key {
	return clusterset.Key{Namespace: "shop", Name: fmt.Sprintf("s%05d", i)}
}

// TestAllocation tells the life of the ports of one member.
func TestAllocation(t *testing.T) {
	a := imports.NewAllocation()
	first := a.Assign(web, []clusterset.Port{httpPort, dnsPort}, true)
	if len(first) != 2 || first[0].Name != "http" || first[1].Protocol != "UDP" {
		t.Fatalf("a service with two ports gets %v", first)
	}
	if again := a.Assign(web, []clusterset.Port{httpPort, dnsPort}, true); !slices.Equal(first, again) {
		t.Errorf("asked again, it gets %v, not %v", again, first)
	}
	if fewer := a.Assign(web, []clusterset.Port{dnsPort}, true); !slices.Equal(first[1:], fewer) {
		t.Errorf("with a port less, the other keeps its own: %v, not %v", fewer, first[1:])
	}
	if none := a.Assign(service(1), []clusterset.Port{httpPort}, false); none != nil {
		t.Errorf("where there are no gateways, nothing is given: %v", none)
	}
	if kept := a.Assign(web, []clusterset.Port{httpPort, dnsPort}, false); !slices.Equal(first, kept) {
		t.Errorf("what was given stays while gateways are gone: %v, not %v", kept, first)
	}

	restarted := imports.NewAllocation()
	if losers := restarted.See(web, first); losers != nil {
		t.Errorf("nobody loses a port by a restart: %v", losers)
	}
	if same := restarted.Assign(web, []clusterset.Port{httpPort, dnsPort}, true); !slices.Equal(first, same) {
		t.Errorf("after a restart it is %v, not %v", same, first)
	}
	if fresh := imports.NewAllocation().Assign(web, []clusterset.Port{httpPort, dnsPort}, true); !slices.Equal(first, fresh) {
		t.Errorf("a cluster that has lost everything gets %v again, not %v", first, fresh)
	}
}

// TestAllocationQuarrels lets people write what cannot be.
func TestAllocationQuarrels(t *testing.T) {
	port := func(n uint16) []clusterset.GatewayPort {
		return []clusterset.GatewayPort{{Name: "http", Protocol: "TCP", Port: n}}
	}
	tests := map[string]struct {
		reason string
		later  clusterset.Key
		says   uint16
		losers []clusterset.Key
	}{
		"Other":    {reason: "another port is nobody's business", later: service(2), says: 20002},
		"Behind":   {reason: "of two with one port, the second by name needs another", later: service(2), says: 20001, losers: []clusterset.Key{service(2)}},
		"Before":   {reason: "also if it was there first", later: service(0), says: 20001, losers: []clusterset.Key{service(1)}},
		"TooLow":   {reason: "ports of others on a node are not for services", later: service(2), says: 443, losers: []clusterset.Key{service(2)}},
		"NodePort": {reason: "nor are those of NodePorts", later: service(2), says: 30000, losers: []clusterset.Key{service(2)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := imports.NewAllocation()
			a.See(service(1), port(20001))
			if diff := cmp.Diff(test.losers, a.See(test.later, port(test.says))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.reason, diff)
			}
			mine, other := a.Assign(service(1), []clusterset.Port{httpPort}, true), a.Assign(test.later, []clusterset.Port{httpPort}, true)
			if len(mine) != 1 || len(other) != 1 || mine[0].Port == other[0].Port {
				t.Errorf("in the end they have %v and %v", mine, other)
			}
		})
	}
}

// TestAllocationIsUnique plays random lives: no port is ever two services', and TCP and UDP do not disturb each other.
func TestAllocationIsUnique(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	a := imports.NewAllocation()
	has := map[clusterset.Key][]clusterset.GatewayPort{}
	for range 20000 {
		key := service(random.IntN(4000))
		switch random.IntN(3) {
		case 0:
			a.Forget(key)
			delete(has, key)
		default:
			has[key] = a.Assign(key, []clusterset.Port{httpPort, dnsPort}, true)
		}
	}
	owner := map[string]clusterset.Key{}
	for key, ports := range has {
		for _, p := range ports {
			id := fmt.Sprint(p.Protocol, p.Port)
			if other, taken := owner[id]; taken {
				t.Fatalf("%s is that of %s and of %s", id, other, key)
			}
			owner[id] = key
		}
	}
}

// TestAllocationIsFinite gives all ports away: who comes later gets none, until one is given back.
func TestAllocationIsFinite(t *testing.T) {
	a := imports.NewAllocation()
	const all = imports.LastGatewayPort - imports.FirstGatewayPort + 1
	for i := range all {
		if got := a.Assign(service(i), []clusterset.Port{httpPort}, true); len(got) != 1 {
			t.Fatalf("service %d of %d gets %v", i, all, got)
		}
	}
	if got := a.Assign(service(all), []clusterset.Port{httpPort, dnsPort}, true); len(got) != 1 || got[0].Name != "dns" {
		t.Errorf("with all of TCP gone it gets %v", got)
	}
	a.Forget(service(7))
	if got := a.Assign(service(all), []clusterset.Port{httpPort}, true); len(got) != 1 {
		t.Errorf("with one given back it gets %v", got)
	}
}
